"""Tests for harakatls.tls.server."""

from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, TLSSummary
from harakatls.interfaces import IServerTLS
from harakatls.tls.clients import FailingClients
from harakatls.tls.files import PEMFile
from harakatls.tls.nogo import MemoryTLSMemory
from harakatls.tls.policy import ClientCertificate
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS, TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    VERSIONS,
    begun,
    chain_octets,
    client_on,
    key_octets,
    offered,
    peer_of,
    pem_files,
    plain_client,
    self_signed,
    shake_hands,
    to_us,
)
from tests.tls.server_case import (
    ANCHOR,
    DEFAULT,
    ME,
    NAMED,
    NAMES,
    RSA,
    SMALL_RSA,
    WILD,
    ServerTestCase,
    names_shown,
    summary_of,
)


class FailingTests(ServerTestCase):
    """disable_for_failed_hosts, for those who connect to us."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_763_870_460)

    def server(self, **settings: Any) -> ServerTLS:
        failing = FailingClients(MemoryTLSMemory(self.clock), 3600.0, self.clock)
        return ServerTLS(InboundTLS(**pem_files(DEFAULT), **settings), ME, failing=failing)

    def break_off(self, tls: ServerTLS, *connections: Connection) -> None:
        """Often enough, each of them."""
        for _ in range(3):
            self.clock.advance(300)
            for connection in connections:
                told = tls.handshake_failed(connection, "the peer broke off")
                self.successResultOf(Deferred.fromCoroutine(told))

    def test_not_offered(self) -> None:
        """A client with which TLS never works can send in the clear, for an hour."""
        tls = self.server()
        self.assertTrue(offered(self, tls, peer_of()))
        self.break_off(tls, peer_of())
        with capturedLogs() as events:
            self.assertFalse(offered(self, tls, peer_of()))
        (event,) = events
        self.assertEqual((event["peer"], event["when"][:4]), ("192.0.2.1:49152", "2025"))
        self.assertTrue(offered(self, tls, peer_of(peer="192.0.2.2")))
        self.clock.advance(3600)
        self.assertTrue(offered(self, tls, peer_of()))

    def test_submission(self) -> None:
        """Where passwords are sent, STARTTLS is always offered; and what fails there is no news."""
        tls = self.server()
        self.break_off(tls, peer_of(25))
        self.assertTrue(offered(self, tls, peer_of(587)))
        tls = self.server()
        self.break_off(tls, peer_of(587), peer_of(465, implicit_tls=True))
        self.assertTrue(offered(self, tls, peer_of(25)))

    def test_where_a_certificate_is_demanded(self) -> None:
        """A client without the right certificate does not get in without TLS instead."""
        tls = self.server(require_authorized=frozenset({2525}))
        self.break_off(tls, peer_of(2525))
        self.assertTrue(offered(self, tls, peer_of(25)))
        self.break_off(tls, peer_of(25))
        self.assertFalse(offered(self, tls, peer_of(25)))
        self.assertTrue(offered(self, tls, peer_of(2525)))

    def test_where_tls_is_required(self) -> None:
        """Somebody who has to use TLS is always offered it."""
        tls = self.server(require_tls_ports=frozenset({2525}))
        self.break_off(tls, peer_of(2525))
        self.assertTrue(offered(self, tls, peer_of(25)))
        self.break_off(tls, peer_of(25))
        self.assertTrue(offered(self, tls, peer_of(2525)))

    def test_off(self) -> None:
        """Without the switch STARTTLS is offered whatever happens."""
        tls = ServerTLS(InboundTLS(**pem_files(DEFAULT)), ME)
        self.break_off(tls, peer_of(), peer_of())
        self.assertTrue(offered(self, tls, peer_of()))

    def test_a_success(self) -> None:
        """One handshake that came to a good end, and its address is offered STARTTLS for good."""
        tls = self.server()
        outcome = to_us(tls, plain_client())
        summary_of(tls, outcome)
        self.break_off(tls, peer_of())
        self.assertTrue(offered(self, tls, peer_of()))


class OffersTests(ServerTestCase):
    """When there is TLS at all."""

    def test_interface(self) -> None:
        """The conversation may rely on the whole interface."""
        verifyObject(IServerTLS, ServerTLS(InboundTLS(), ME))

    def test_offers(self) -> None:
        """Offered in the clear; not inside of TLS, where it would break the session."""
        tls = ServerTLS(InboundTLS(**pem_files(DEFAULT)), ME)
        self.assertTrue(tls.ready())
        self.assertTrue(offered(self, tls, peer_of()))
        self.assertFalse(offered(self, tls, peer_of(465, implicit_tls=True)))
        secured = evolve(peer_of(), secured=TLSSummary("TLSv1.3", "x", 128))
        self.assertFalse(offered(self, tls, secured))

    def test_no_certificate(self) -> None:
        """Without a certificate, nothing is offered, and nobody runs into a handshake."""
        tls = ServerTLS(InboundTLS(), ME)
        self.assertFalse(tls.ready())
        self.assertFalse(offered(self, tls, peer_of()))
        with self.assertRaises(RuntimeError):
            tls.connection_creator(peer_of(), b"")

    def test_refused_pair(self) -> None:
        """A key that OpenSSL does not take is told; the other pair is shown."""
        small = PEMFile("small.pem", SMALL_RSA)
        files = pem_files(DEFAULT)
        settings = InboundTLS(keys=(small, *files["keys"]), certs=(small, *files["certs"]))
        tls = ServerTLS(settings, ME)
        self.assertTrue(tls.ready())
        self.assertEqual(len(tls.problems), 1)
        self.assertIn("small.pem", tls.problems[0])
        self.assertIn("key too small", tls.problems[0])
        tls = ServerTLS(InboundTLS(keys=(small,), certs=(small,)), ME)
        self.assertFalse(tls.ready())

    def test_handshake_failed(self) -> None:
        """A broken handshake can be found in the log: who, and why."""
        tls = ServerTLS(InboundTLS(), ME)
        with capturedLogs() as events:
            told = tls.handshake_failed(peer_of(), "the peer does not speak TLS")
            self.successResultOf(Deferred.fromCoroutine(told))
        (event,) = events
        self.assertEqual(event["peer"], "192.0.2.1:49152")
        self.assertEqual(event["reason"], "the peer does not speak TLS")


class NameTests(ServerTestCase):
    """Which certificate is shown under which server name (SNI)."""

    def test_names(self) -> None:
        """The exact name, a wildcard for one label, else the default; never a refusal."""
        tls = self.directory()
        self.assertEqual(tls.problems, ())
        for version in VERSIONS:
            for name, shown in NAMES.items():
                with self.subTest(version=version, name=name):
                    outcome = to_us(tls, plain_client(version, name))
                    self.assertTrue(outcome.succeeded)
                    self.assertEqual(names_shown(outcome), shown)
                    expected = None if name is None else name.lower().rstrip(".")
                    self.assertEqual(summary_of(tls, outcome).server_name, expected)

    def test_whole_chain(self) -> None:
        """Certificates of the directory come with their issuers (Haraka sends the first alone)."""
        outcome = to_us(self.directory(), plain_client(server_name="named.example"))
        self.assertEqual(len(outcome.client.get_peer_cert_chain() or ()), 2)

    def test_both_parsers_agree(self) -> None:
        """OpenSSL's own idea of the name leads to the same context as ours, and the same name."""
        tls = self.directory()
        for version in VERSIONS:
            for name in NAMES:
                by_us = to_us(tls, plain_client(version, name))
                by_openssl = to_us(tls, plain_client(version, name), hello=b"")
                self.assertTrue(by_openssl.succeeded)
                self.assertIs(by_us.server.get_context(), by_openssl.server.get_context())
                self.assertEqual(
                    summary_of(tls, by_us).server_name, summary_of(tls, by_openssl).server_name
                )

    def test_no_default_pair(self) -> None:
        """With the directory alone, the certificate for our own name is the default."""
        bundle = key_octets(DEFAULT) + chain_octets(DEFAULT)
        files = {"tls_key.pem": b"", "tls_cert.pem": b"", "tls/zz.pem": bundle}
        tls = self.directory(files)
        self.assertEqual(len(tls.problems), 2)  # the empty files
        self.assertEqual(names_shown(to_us(tls, plain_client())), (ME,))
        config = write_config(
            self,
            {
                "tls/b.pem": key_octets(NAMED) + chain_octets(NAMED),
                "tls/a.pem": key_octets(WILD) + chain_octets(WILD),
            },
        )
        tls = ServerTLS(TLSSettings.load(config).inbound, ME)
        self.assertEqual(tls.problems, ())
        self.assertTrue(offered(self, tls, peer_of()))
        self.assertEqual(names_shown(to_us(tls, plain_client())), ("*.wild.example",))

    def test_mismatch_in_the_directory(self) -> None:
        """A broken file of the directory takes no other name with it (H.20, H.25)."""
        tls = self.directory({"tls/broken.pem": key_octets(RSA) + chain_octets(WILD)})
        self.assertEqual(len(tls.problems), 0)  # the key of WILD is in another file
        tls = self.directory({"tls/named.pem": key_octets(RSA) + chain_octets(NAMED)})
        self.assertEqual(len(tls.problems), 1)
        self.assertIn("tls/named.pem", tls.problems[0])
        outcome = to_us(tls, plain_client(server_name="named.example"))
        self.assertEqual(names_shown(outcome), (ME,))
        outcome = to_us(tls, plain_client(server_name="a.wild.example"))
        self.assertEqual(names_shown(outcome), ("*.wild.example",))

    def test_garbage_hello(self) -> None:
        """Whatever comes instead of a hello, OpenSSL answers it, and nobody else is disturbed."""
        tls = self.directory()
        for octets in (b"", b"EHLO x\r\n", b"\x16\x03\x01\x00\x05garbage", bytes(1000)):
            creator = tls.connection_creator(peer_of(), octets)
            self.assertTrue(IOpenSSLServerConnectionCreator.providedBy(creator))
            server = begun(creator, octets + b"garbage")
            with self.assertRaises(SSL.Error):
                server.do_handshake()
            self.assertTrue(to_us(tls, plain_client()).succeeded)


class ReplaceTests(ServerTestCase):
    """Another configuration while the server runs."""

    def test_replace(self) -> None:
        """New connections see the new certificate; one in progress keeps its own."""
        tls = ServerTLS(InboundTLS(**pem_files(DEFAULT)), ME)
        creator = tls.connection_creator(peer_of(), b"")
        tls.replace(InboundTLS(**pem_files(NAMED)))
        self.assertEqual(names_shown(to_us(tls, plain_client()))[0], "named.example")
        server = creator.serverConnectionForTLS(None)  # type: ignore[arg-type]
        client = plain_client()
        client.set_connect_state()
        server.set_accept_state()
        self.assertEqual(names_shown(shake_hands(client, server)), (ME,))

    def test_mistake(self) -> None:
        """A value that OpenSSL refuses leaves the old configuration at work."""
        tls = ServerTLS(InboundTLS(**pem_files(DEFAULT)), ME)
        config = write_config(self, {"tls.ini": "ciphers=NONE\n"})
        with self.assertRaises(ConfigError):
            tls.replace(TLSSettings.load(config).inbound)
        self.assertTrue(to_us(tls, plain_client()).succeeded)


class SummaryTests(ServerTestCase):
    """What is known about a handshake."""

    def test_summary(self) -> None:
        """Version, cipher, group and name, as they go into logs and Received."""
        tls = self.directory()
        summary = summary_of(tls, to_us(tls, plain_client(TLS_1_3, "named.example")))
        self.assertEqual(
            summary,
            TLSSummary(
                protocol="TLSv1.3",
                cipher="TLS_AES_256_GCM_SHA384",
                bits=256,
                server_name="named.example",
                group="X25519MLKEM768",
            ),
        )
        summary = summary_of(tls, to_us(tls, plain_client(TLS_1_2)))
        self.assertEqual(summary.protocol, "TLSv1.2")
        self.assertEqual(summary.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384")

    def test_hostile_client_certificate(self) -> None:
        """Names of 10 kB, or with a NUL or a line end in them, end in no log."""
        tls = self.directory()
        for name in ("n" * 10_000, "a\0b", "a\r\n250 OK"):
            key, certificate = self_signed(None, name)
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.use_certificate(load_pem_x509_certificate(certificate))
            context.use_privatekey(load_pem_private_key(key, None))  # type: ignore[arg-type]
            outcome = to_us(tls, client_on(context))
            self.assertTrue(outcome.succeeded)
            summary = summary_of(tls, outcome)
            self.assertFalse(summary.verified)
            self.assertLess(sum(map(len, summary.peer_names)), 300)
            self.assertTrue(all(map(str.isprintable, summary.peer_names)))

    def test_demand(self) -> None:
        """Each port has the context of its own rule, all made before the first connection."""
        settings = InboundTLS(
            **pem_files(DEFAULT), require_authorized=frozenset({465}), anchors=(ANCHOR,)
        )
        tls = ServerTLS(settings, ME)
        demands = {demand for _, _, demand in tls._snapshot.contexts}
        self.assertEqual(demands, {ClientCertificate.ASKED_FOR, ClientCertificate.REQUIRED})
