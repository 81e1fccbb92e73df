"""From a peer to the queue, with all rooms between as they are: TLS, hooks, session, spool."""

from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.hooks.chain import HookChain
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.inbound.factory import InboundFactory
from harakatls.inbound.port import Port
from harakatls.inbound.protocol import InboundProtocol
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from harakatls.interfaces import Site
from harakatls.plugins.spool import DurableQueue
from harakatls.spool.memory import MemorySpool
from harakatls.tls.clients import FailingClients
from harakatls.tls.nogo import MemoryTLSMemory
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, QUIT, RCPT, queued
from tests.inbound.transports import MemoryTransport, TLSClient, lost
from tests.tls.peers import self_signed

AUTHORITY = trustme.CA()
PAIR = AUTHORITY.issue_cert("mx.example")
FILES = {
    "me": b"mx.example\n",
    "host_list": b"a.example\n",
    "plugins": b"tls\nrelay\nrcpt_to.in_host_list\n",
    "tls.ini": b"[redis]\ndisable_for_failed_hosts=false\n",
    "tls_key.pem": PAIR.private_key_pem.bytes(),
    "tls_cert.pem": b"".join(pem.bytes() for pem in PAIR.cert_chain_pems),
}


class ReceivingTests(SynchronousTestCase):
    """The server as its configuration makes it, but for the sockets."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        for name, content in FILES.items():
            (directory / name).write_bytes(content)
        self.clock: Any = Clock()
        self.clock.advance(1_763_870_460)
        self.spool = MemorySpool(self.clock)
        config = ConfigDirectory(directory)
        failing = FailingClients(MemoryTLSMemory(self.clock), 3600.0, self.clock)
        self.server_tls = ServerTLS(TLSSettings.load(config).inbound, config.me, failing=failing)
        self.assertEqual(self.server_tls.problems, ())
        unused: Any = object()
        site = Site(config, config.me, self.clock, self.spool, self.server_tls, unused, unused)
        plugins = load_plugins(site, config.lines("plugins"), plugin_factories())
        self.chain = HookChain(plugins, self.clock, DurableQueue())
        self.settings = InboundSettings.load(config)

    def connect(self, implicit_tls: bool = False) -> tuple[InboundProtocol, MemoryTransport]:
        port = Port(
            ListenerSettings("198.51.100.1", 25, implicit_tls),
            self.settings,
            self.chain,
            self.spool,
            self.server_tls,
            self.settings.me,
            self.clock,
        )
        factory = InboundFactory(port)
        transport = MemoryTransport()
        protocol = factory.buildProtocol(None)
        assert isinstance(protocol, InboundProtocol)
        transport.connect(protocol)
        return protocol, transport

    def client(
        self, transport: MemoryTransport, certificate: tuple[bytes, bytes] | None = None
    ) -> TLSClient:
        """@param certificate: the client's own: key and certificate, as PEM."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        AUTHORITY.configure_trust(context)
        if certificate is not None:
            context.use_certificate(load_pem_x509_certificate(certificate[1]))
            context.use_privatekey(load_pem_private_key(certificate[0], None))  # type: ignore[arg-type]
        context.set_verify(SSL.VERIFY_PEER, lambda *arguments: bool(arguments[-1]))
        return TLSClient(transport, context)

    def started(self, *injected: bytes) -> tuple[InboundProtocol, MemoryTransport, TLSClient]:
        """A client behind its STARTTLS and the handshake."""
        protocol, transport = self.connect()
        transport.protocol.dataReceived(EHLO)
        self.assertIn("STARTTLS", transport.text())
        transport.protocol.dataReceived(b"STARTTLS\r\n" + b"".join(injected))
        self.assertEqual(transport.text(), "220 2.0.0 Go ahead.\r\n")
        client = self.client(transport)
        client.shake()
        return protocol, transport, client

    def test_plain(self) -> None:
        """Mail for our own domain is queued, for others it is refused."""
        _, transport = self.connect()
        transport.protocol.dataReceived(EHLO + MAIL + b"RCPT TO:<x@elsewhere.example>\r\n")
        self.assertEqual(transport.text().splitlines()[-1][:9], "550 5.7.1")
        transport.protocol.dataReceived(RCPT + DATA + MESSAGE + END + QUIT)
        codes = [line[:3] for line in transport.text().splitlines()]
        self.assertEqual(codes, ["250", "354", "250", "221"])
        self.assertEqual(transport.closed, "lose")
        ((sender, recipients, octets),) = queued(self.spool)
        self.assertEqual((sender, recipients), ("alice@sender.example", ["bob@a.example"]))
        self.assertIn(b" with ESMTP id ", octets)
        self.assertNotIn(b"\ttls ", octets)

    def test_starttls(self) -> None:
        """A message over STARTTLS: the certificate is ours, the Received field names the cipher."""
        _, _, client = self.started()
        self.assertNotIn("STARTTLS", client.say(EHLO))
        answers = client.say(MAIL + RCPT + DATA).splitlines()
        self.assertEqual([line[:3] for line in answers], ["250", "250", "354"])
        self.assertIn("Message Queued", client.say(MESSAGE + END))
        self.assertEqual(client.say(QUIT)[:3], "221")
        ((_, _, octets),) = queued(self.spool)
        self.assertIn(b" with ESMTPS id ", octets)
        self.assertRegex(octets, rb"\r\n\ttls TLS_\w+ \(TLSv1\.3 \w+ sni=mx\.example\);\r\n")
        self.assertTrue(octets.endswith(b"\r\n" + MESSAGE))

    def test_certificate_of_client(self) -> None:
        """The Received field tells whose certificate it was and why not to believe it."""
        hostile = ") by evil.example (cert=verified"
        shown = self_signed(None, "client.example", hostile)
        _, transport = self.connect(implicit_tls=True)
        client = self.client(transport, shown)
        client.shake()
        client.say(EHLO + MAIL + RCPT + DATA)
        self.assertIn("Message Queued", client.say(MESSAGE + END))
        field = b" ".join(queued(self.spool)[0][2].split(b"\r\nSubject:")[0].split())
        fingerprint = load_pem_x509_certificate(shown[1]).fingerprint(SHA256()).hex().encode()
        self.assertRegex(
            field,
            rb"tls TLS_\w+ \(TLSv1\.3 \w+ sni=mx\.example "
            rb'cert="self[ -]signed certificate \\\(18\\\)" '
            rb"names=client\.example, \?\?by\?evil\.example\?\?cert\?verified sha256="
            + fingerprint
            + rb"\); ",
        )

    def test_several_records_at_once(self) -> None:
        """Commands that come together are answered in one, in however many records they are."""
        _, transport, client = self.started()
        client.say(EHLO)
        for command in (MAIL, RCPT, DATA):
            client.connection.sendall(command)
        transport.protocol.dataReceived(client.connection.bio_read(1 << 16))
        self.assertEqual(len(transport.written), 1)

    def test_implicit_tls(self) -> None:
        """The same on an SMTPS port, where the greeting is inside of TLS."""
        _, transport = self.connect(implicit_tls=True)
        self.assertEqual(transport.written, [])
        client = self.client(transport)
        client.shake()
        client.pump()
        self.assertEqual(client.heard()[:4], "220 ")
        self.assertNotIn("STARTTLS", client.say(EHLO))
        client.say(MAIL + RCPT + DATA)
        self.assertIn("Message Queued", client.say(MESSAGE + END))
        self.assertIn(b" with ESMTPS id ", queued(self.spool)[0][2])

    def test_injection(self) -> None:
        """Commands put behind STARTTLS in the clear are never obeyed inside of TLS."""
        _, _, client = self.started(b"EHLO evil.example\r\n", MAIL, RCPT, DATA, MESSAGE, END)
        self.assertEqual(client.heard(), "")
        self.assertEqual(client.say(MAIL)[:3], "503")
        self.assertEqual(client.say(EHLO)[:3], "250")
        self.assertEqual(queued(self.spool), [])

    def test_large_message(self) -> None:
        """A message of many TLS records arrives whole."""
        _, _, client = self.started()
        client.say(EHLO + MAIL + RCPT + DATA)
        body = b"".join(b"%08d\r\n" % number for number in range(100_000))
        for start in range(0, len(body), 100_000):
            self.assertEqual(client.say(body[start : start + 100_000]), "")
        self.assertIn("Message Queued", client.say(END))
        self.assertTrue(queued(self.spool)[0][2].endswith(b"\r\n" + body))

    def test_garbage_in_place_of_a_hello(self) -> None:
        """What is no TLS ends the connection, without another word in the clear."""
        protocol, transport = self.connect()
        transport.protocol.dataReceived(EHLO)
        transport.protocol.dataReceived(b"STARTTLS\r\n")
        transport.written.clear()
        transport.protocol.dataReceived(b"MAIL FROM:<a@b.example>\r\n")
        self.assertEqual(transport.taken()[:1].strip(b"\x15"), b"")  # at most an alert
        self.assertEqual(transport.closed, "half")
        transport.protocol.connectionLost(lost())
        self.assertEqual(protocol.factory.connections, set())

    def offered(self) -> bool:
        """Whether the next connection is offered STARTTLS."""
        _, transport = self.connect()
        transport.protocol.dataReceived(EHLO)
        offered = "STARTTLS" in transport.text()
        transport.protocol.dataReceived(QUIT)
        transport.protocol.connectionLost(lost())
        return offered

    def fail_handshakes(self) -> None:
        """Each in another way, minutes apart."""
        for said in (b"MAIL FROM:<a@b.example>\r\n", b"\x16\x03\x01\x00\x05\x01", b""):
            self.assertTrue(self.offered())
            _, transport = self.connect()
            transport.protocol.dataReceived(EHLO)
            transport.protocol.dataReceived(b"STARTTLS\r\n")
            transport.protocol.dataReceived(said)
            transport.protocol.connectionLost(lost())
            self.clock.advance(300)

    def test_a_client_whose_tls_is_broken(self) -> None:
        """After three attempts it can send in the clear; an hour later TLS is offered again."""
        self.fail_handshakes()
        self.assertFalse(self.offered())
        _, transport = self.connect()
        transport.protocol.dataReceived(EHLO + MAIL + RCPT + DATA + MESSAGE + END + QUIT)
        self.assertEqual(len(queued(self.spool)), 1)
        self.clock.advance(3600)
        self.assertTrue(self.offered())

    def test_a_client_that_somebody_cuts_off(self) -> None:
        """A client that has used TLS here before is never talked out of it."""
        self.started()
        self.fail_handshakes()
        self.assertTrue(self.offered())

    def test_close_notify(self) -> None:
        """QUIT is answered inside of TLS, and TLS is closed in order."""
        _, transport, client = self.started()
        client.say(EHLO)
        self.assertEqual(client.say(QUIT)[:3], "221")
        with self.assertRaises(SSL.ZeroReturnError):
            client.connection.recv(1)
        self.assertEqual(transport.closed, "lose")
        transport.protocol.connectionLost(lost())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peer_says_close_notify(self) -> None:
        """A client that ends TLS without QUIT is answered, and the connection ends."""
        _, transport, client = self.started()
        client.connection.sendall(EHLO)
        client.connection.shutdown()
        client.pump()
        self.assertIn("250 ", client.heard())
        self.assertEqual(transport.closed, "lose")

    def test_broken_record(self) -> None:
        """A record that was changed on its way ends the connection, and the peer reads why."""
        protocol, transport, client = self.started()
        client.say(EHLO + MAIL)
        client.connection.sendall(RCPT)
        octets = bytearray(client.connection.bio_read(1 << 16))
        octets[-1] ^= 1
        protocol.dataReceived(bytes(octets))
        self.assertEqual(transport.closed, "half")
        client.connection.bio_write(transport.taken())
        problem = self.assertRaises(SSL.Error, client.connection.recv, 1)
        self.assertIn("alert bad record mac", str(problem))
        protocol.write(b"250 2.1.5 an answer that came late\r\n")
        self.assertEqual((transport.written, transport.closed), ([], "abort"))

    def test_peer_that_does_not_take_the_last_reply(self) -> None:
        """A client that goes silent while its connection is closed does not stay for ever."""
        _, transport, client = self.started()
        client.say(EHLO + QUIT)
        self.clock.advance(11)
        self.assertEqual(transport.closed, "abort")

    def test_shutdown_over_tls(self) -> None:
        """Whoever is idle hears 421 inside of TLS."""
        protocol, _, client = self.started()
        client.say(EHLO)
        drained = Deferred.fromCoroutine(protocol.factory.drain(5))
        client.pump()
        self.assertEqual(client.heard()[:9], "421 4.3.2")
        protocol.transport.protocol.connectionLost(lost())
        self.successResultOf(drained)
