"""
A server as its config directory makes it, with sockets in memory alone; and those who come to it.

What the tests of the TLS document share: tls.ini is a text as the document writes it, and all that
is between it and a handshake is ours.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import trustme
from attrs import define, field
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, TLSSummary
from harakatls.hooks.chain import HookChain
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.inbound.factory import InboundFactory
from harakatls.inbound.port import Port
from harakatls.interfaces import Site
from harakatls.plugins.spool import DurableQueue
from harakatls.service.settings import Settings
from harakatls.spool.memory import MemorySpool
from harakatls.tls.clients import FailingClients
from harakatls.tls.nogo import Direction, MemoryTLSMemory
from harakatls.tls.nogo_redis import RedisTLSMemory
from harakatls.tls.server import ServerTLS
from harakatls.tls.staples import Staples
from tests.config.files import write_config
from tests.hooks.plugins import Everything, loaded
from tests.inbound.support import EHLO
from tests.inbound.transports import MemoryTransport, TLSClient, lost
from tests.tls.peers import (
    VERSIONS,
    Configure,
    authority,
    chain_octets,
    client_context,
    issued,
    key_octets,
    serial_of_pem,
    with_chain,
)
from tests.tls.pretended_redis import PretendedRedis
from tests.tls.responding import NOW

ME = "mx.example.com"
SMTP, SMTPS, SUBMISSION, OTHER = 25, 465, 587, 2525
WAYS = {"STARTTLS": SMTP, "implicit TLS": SMTPS}
"""Both ways into TLS, by the port on which a client takes it."""

RSA = with_chain(ME, kind="RSA")
ECDSA = with_chain(ME)
FILES: Mapping[str, str | bytes] = {
    "me": f"{ME}\n",
    "smtp.ini": "listen=[::]:25,[::]:465,[::]:587,[::]:2525\n",
    "host_list": "a.example\n",
    "plugins": "tls\nrelay\nrcpt_to.in_host_list\n",
    "tls_key.pem": key_octets(ECDSA),
    "tls_cert.pem": chain_octets(ECDSA),
    "rsa.key": key_octets(RSA),
    "rsa.crt": chain_octets(RSA),
    "ca.pem": authority().cert_pem.bytes(),
}

GOOD_CLIENT = issued("client.example")
UNTRUSTED_CLIENT = issued("client.example", by="Other Trust")


@define
class Visit:
    """
    What a client of ours lives to see.

    @ivar offered: STARTTLS was, in the answer to EHLO; None where TLS comes first.
    @ivar client: the client's side of TLS; None where it was not begun.
    @ivar error: what was wrong with TLS, as the client sees it.
    @ivar answer: to EHLO inside of TLS, or to MAIL in the clear where there is none.
    @ivar secured: what plugins are told of TLS; None where there is none.
    """

    offered: bool | None = None
    client: SSL.Connection | None = None
    error: SSL.Error | None = None
    answer: str = ""
    secured: TLSSummary | None = None

    @property
    def succeeded(self) -> bool:
        """The client was served, inside of TLS, and the server knows it."""
        return self.secured is not None and self.answer[:4] in ("250-", "250 ")

    @property
    def tls(self) -> SSL.Connection:
        """The client's side."""
        assert self.client is not None, "TLS was not begun"
        return self.client

    @property
    def chain(self) -> list[x509.Certificate]:
        """The certificates that the client was shown."""
        return self.tls.get_peer_cert_chain(as_cryptography=True) or []

    @property
    def serial(self) -> int:
        """The serial number of the first of them."""
        return self.chain[0].serial_number


@define
class Documented:
    """
    One server.

    @ivar tls: what all its listeners have in common.
    @ivar redis: where failures of TLS are kept, if they are.
    """

    settings: Settings
    clock: Any
    staples: Staples
    tls: ServerTLS
    redis: PretendedRedis
    _hooks: Everything = field(factory=Everything)

    @classmethod
    def make(
        cls,
        test: SynchronousTestCase,
        ini: str | None = "",
        files: Mapping[str, str | bytes | None] | None = None,
    ) -> "Documented":
        """
        @param ini: the text of tls.ini; None for no such file.
        @param files: other files, or None for those that are not to be there.
        """
        given = {**FILES, "tls.ini": ini, **(files or {})}
        config = write_config(test, {n: text for n, text in given.items() if text is not None})
        return cls.of(config.path)

    @classmethod
    def of(cls, path: Path) -> "Documented":
        """@param path: the config directory."""
        settings = Settings.load(path)
        clock: Any = Clock()
        clock.advance(NOW.timestamp())
        redis: Any = PretendedRedis(clock)
        memory = RedisTLSMemory(redis, Direction.INBOUND, clock, MemoryTLSMemory(clock))
        nogo = settings.tls.nogo
        failing = FailingClients(memory, nogo.inbound_expiry, clock) if nogo.enabled else None
        staples = Staples(clock)
        tls = ServerTLS(settings.tls.inbound, settings.me, staples.octets, failing)
        return cls(settings, clock, staples, tls, redis)

    def connect(self, port: int, peer: str = "192.0.2.10") -> MemoryTransport:
        """A client at *peer* connects to our *port*; nothing has been said yet."""
        settings, clock = self.settings, self.clock
        (listener,) = (each for each in settings.inbound.listeners if each.port == port)
        spool, unused = MemorySpool(clock), object()
        site: Any = Site(settings.config, settings.me, clock, spool, self.tls, unused, unused)  # type: ignore[arg-type]
        plugins = [
            *load_plugins(site, settings.plugins, plugin_factories()),
            loaded(self._hooks),
        ]
        chain = HookChain(plugins, clock, DurableQueue())
        factory = InboundFactory(
            Port(listener, settings.inbound, chain, spool, self.tls, settings.me, clock)
        )
        transport = MemoryTransport(
            IPv4Address("TCP", peer, 49152), IPv4Address("TCP", "198.51.100.1", port)
        )
        transport.connect(factory.buildProtocol(None))
        return transport

    def visit(
        self,
        port: int = SMTP,
        version: int | None = None,
        name: str | None = None,
        configure: Configure | None = None,
        peer: str = "192.0.2.10",
        asks_for_staple: bool = False,
    ) -> Visit:
        """
        A client takes TLS if it is offered, and says EHLO, and leaves.

        @param version: the only one it speaks.
        @param name: the server name that it asks for.
        @param configure: what else there is to its context.
        """
        transport = self.connect(port, peer)
        visit = Visit()
        if not transport.protocol.factory.port.listener.implicit_tls:
            transport.text()
            transport.protocol.dataReceived(EHLO)
            visit.offered = "250-STARTTLS" in transport.text().replace("250 ", "250-")
            transport.protocol.dataReceived(b"STARTTLS\r\n")
            visit.answer = transport.text()
            if not visit.answer.startswith("220 "):
                transport.protocol.connectionLost(lost())
                return visit
        context = client_context(version, configure)
        client = TLSClient(transport, context, None if name is None else name.encode())
        if asks_for_staple:
            client.connection.request_ocsp()
        visit.client, visit.answer = client.connection, ""
        self._hooks.asked.clear()
        try:
            client.shake()
            client.pump()
            client.heard()  # the greeting, where TLS comes first
            visit.answer = client.say(EHLO)
        except SSL.Error as error:
            visit.error = error
        visit.secured = self._secured()
        transport.protocol.connectionLost(lost())
        return visit

    def _secured(self) -> TLSSummary | None:
        """As the plugins were told, with the EHLO inside of TLS."""
        connections = [arguments[0] for arguments in self._hooks.told("hello")]
        connection: Connection | None = connections[-1] if connections else None
        return None if connection is None else connection.secured


def trusting(anchor: bytes) -> Configure:
    """A client that refuses what this authority, in PEM, has not issued."""

    def configure(context: SSL.Context) -> None:
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.X509.from_cryptography(x509.load_pem_x509_certificate(anchor)))
        context.set_verify(SSL.VERIFY_PEER, lambda *arguments: bool(arguments[-1]))

    return configure


class DocumentTestCase(SynchronousTestCase):
    """What the tests of the document say."""

    def server(
        self,
        ini: str | None = "",
        files: Mapping[str, str | bytes | None] | None = None,
        warnings: int = 0,
    ) -> Documented:
        """One of whose files nothing is wrong. @param warnings: how many of these there are."""
        server = Documented.make(self, ini, files)
        self.assertEqual(server.tls.problems, ())
        self.assertEqual(len(server.settings.config.warnings), warnings)
        return server

    def each_way(self) -> Iterator[tuple[int, int]]:
        """Ports and versions: STARTTLS and implicit TLS, in TLS 1.2 and 1.3."""
        for port in WAYS.values():
            for version in VERSIONS:
                yield port, version

    def assert_served(self, visit: Visit) -> Visit:
        """Inside of TLS."""
        self.assertIsNone(visit.error)
        self.assertTrue(visit.succeeded, visit)
        return visit

    def assert_refused(self, visit: Visit, word: str = "") -> None:
        """The client gets an alert, and no answer."""
        self.assertIsNotNone(visit.error, visit)
        self.assertIn(word, repr(visit.error))
        self.assertFalse(visit.succeeded)
        self.assertEqual(visit.answer, "")

    def assert_shown(self, visit: Visit, leaf: trustme.LeafCert) -> None:
        """This certificate, with its chain."""
        self.assert_served(visit)
        shown = [found.serial_number for found in visit.chain]
        self.assertEqual(shown, [serial_of_pem(pem.bytes()) for pem in leaf.cert_chain_pems])
