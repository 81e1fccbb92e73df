"""
Deliveries as the config directory makes them, to servers in memory whose TLS is OpenSSL's.

The client's side is all ours, from the next hop to the octets; below it is Twisted's layer of TLS,
as on a TCP connection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import trustme
from attrs import define
from OpenSSL import SSL
from twisted.internet._newtls import _BypassTLS
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.hooks.chain import HookChain
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.interfaces import Site
from harakatls.outbound.connector import Connector
from harakatls.outbound.delivery import Delivery
from harakatls.outbound.routing import Routing
from harakatls.plugins.spool import DurableQueue
from harakatls.queued import Delayed, Delivered, Outcome
from harakatls.service.settings import Settings
from harakatls.testing.network import MemoryTransport
from harakatls.testing.peers import BREAK_OFF, ObligingPeer
from harakatls.testing.values import ARRIVED, FixedBody, FixedResolver, queued_message
from harakatls.tls.client import ClientTLS
from harakatls.tls.nogo import Direction, MemoryTLSMemory
from harakatls.tls.nogo_redis import RedisTLSMemory
from tests.config.files import write_config
from tests.tls.documented import Configure
from tests.tls.peers import authority, issued, plain_server
from tests.tls.test_nogo_redis import PretendedRedis

MX = "mx.recipient.example"
ADDRESS = "192.0.2.1"

PEER = issued(MX)
UNTRUSTED = issued(MX, by="Other Trust")
OTHER_NAME = issued("else.example.net")


class SecuringPeer(ObligingPeer):
    """
    A server that offers STARTTLS and can do it.

    @ivar server: its side of TLS.
    @ivar error: what was wrong with TLS, as it sees it.
    """

    def __init__(
        self,
        leaf: trustme.LeafCert = PEER,
        version: int | None = None,
        configure: Configure | None = None,
        **answers: Any,
    ) -> None:
        super().__init__("STARTTLS", **answers)
        self.server = plain_server(leaf, version, configure)
        self.server.set_accept_state()
        self.error: SSL.Error | None = None

    @property
    def in_the_clear(self) -> list[str]:
        """The commands that anybody could read on the way."""
        return [said.line.partition(" ")[0] for said in self.said if not said.secured]


class SecuringTransport(MemoryTransport):
    """
    To one of these.

    @ivar client: what uses it.
    @ivar tls: Twisted's layer, once TLS was begun.
    """

    def __init__(
        self, host: str, port: int, protocol: IProtocol, peer: SecuringPeer, clock: Clock
    ) -> None:
        super().__init__(host, port, protocol, peer)
        self.client = protocol
        self.tls: TLSMemoryBIOProtocol | None = None
        self._other = peer
        self._clock: Any = clock

    def startTLS(self, contextFactory: object, normal: bool = True) -> bool:
        creator: Any = contextFactory
        factory = TLSMemoryBIOFactory(creator, True, Factory(), self._clock)
        self.tls = TLSMemoryBIOProtocol(factory, self.protocol, False)
        self.protocol = self.tls
        self.tls.makeConnection(_BypassTLS(MemoryTransport, self))
        return True

    def getHandle(self) -> SSL.Connection:
        """As Twisted's TLS transports have it."""
        assert self.tls is not None
        handle: SSL.Connection = self.tls.getHandle()
        return handle

    def write(self, data: bytes) -> None:
        if self.tls is None:
            super().write(data)
        else:
            self.tls.write(data)

    def loseConnection(self) -> None:
        if self.tls is None:
            super().loseConnection()
        else:
            self.tls.loseConnection()

    def _to_peer(self) -> bool:
        if self.tls is None:
            return super()._to_peer()
        data, self._output = bytes(self._output), bytearray()
        if not data:
            return False
        server = self._other.server
        server.bio_write(data)
        try:
            if not self._other.secured:
                server.do_handshake()
                self._other.started_tls()
            while True:
                self._other.received(server.recv(1 << 16))
        except (SSL.WantReadError, SSL.ZeroReturnError):
            pass
        except SSL.Error as error:
            self._other.error, self._other.ending = error, BREAK_OFF
        return True

    def _from_peer(self) -> bool:
        if self.tls is None:
            return super()._from_peer()
        server, output = self._other.server, self.peer.output
        if output and self._other.secured and self._other.error is None:
            server.sendall(bytes(output))
        output.clear()
        try:
            octets = server.bio_read(1 << 20)
        except SSL.WantReadError:
            return False
        self.protocol.dataReceived(octets)
        return True


class SecuringNetwork:
    """Servers by address; each connection is answered by the next of them."""

    def __init__(self, clock: Clock) -> None:
        self.peers: dict[str, list[SecuringPeer]] = {}
        self.transports: list[SecuringTransport] = []
        self._clock = clock

    def connect(
        self, host: str, port: int, factory: IProtocolFactory, seconds: float
    ) -> "Deferred[IProtocol]":
        """As `outbound.connector.Connect`."""
        if not self.peers.get(host):
            return fail(ConnectError())
        protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        assert protocol is not None
        peer = self.peers[host].pop(0)
        self.transports.append(SecuringTransport(host, port, protocol, peer, self._clock))
        protocol.makeConnection(self.transports[-1])
        peer.connected()
        return succeed(protocol)

    def flush(self) -> None:
        """Move octets until all is quiet; no time passes."""
        quiet = False
        while not quiet:
            self._clock.advance(0)
            moved = [transport.pump() for transport in self.transports]
            quiet = not any(moved)


@define
class Sent:
    """
    What a message came to that one server was to get.

    @ivar outcome: for its only recipient.
    @ivar peer: the server.
    @ivar reasons: why TLS was used as it was.
    """

    outcome: Outcome
    peer: SecuringPeer
    reasons: tuple[str, ...]

    @property
    def secured(self) -> TLSSummary | None:
        """What its TLS came to, if it was delivered."""
        return self.outcome.secured if isinstance(self.outcome, Delivered) else None

    @property
    def delivered(self) -> bool:
        """The server has the message."""
        return isinstance(self.outcome, Delivered) and len(self.peer.messages) == 1

    @property
    def in_the_clear(self) -> bool:
        """Anybody could read it on its way."""
        return "MAIL" in self.peer.in_the_clear


class NextHopTestCase(SynchronousTestCase):
    """
    Messages for bob@recipient.example, whose MX is mx.recipient.example at 192.0.2.1.

    @ivar is_odd: there is something to warn of in tls.ini.
    @ivar exchangers: the DNS, as C{FixedResolver} has it; likewise C{hosts}.
    """

    is_odd = False

    def setUp(self) -> None:
        self.exchangers: dict[str, Sequence[tuple[int, str]]] = {"recipient.example": [(10, MX)]}
        self.hosts: dict[str, Sequence[str]] = {MX: [ADDRESS]}

    def sender(
        self, ini: str, files: Mapping[str, str | bytes] | None = None
    ) -> tuple[Delivery, SecuringNetwork]:
        """Deliveries as tls.ini and the other files in config/ have them."""
        usual: dict[str, str | bytes] = {
            "me": "mta.example\n",
            "plugins": "relay\n",
            "ca.pem": authority().cert_pem.bytes(),
            "tls.ini": ini,
        }
        settings = Settings.load(write_config(self, {**usual, **(files or {})}).path)
        if not self.is_odd:
            self.assertEqual(settings.config.warnings, ())
        self.clock: Any = Clock()
        self.clock.advance(ARRIVED)
        redis: Any = PretendedRedis(self.clock)
        self.redis = redis
        beside = MemoryTLSMemory(self.clock)
        memory = RedisTLSMemory(redis, Direction.OUTBOUND, self.clock, beside)
        resolver = FixedResolver(self.exchangers, self.hosts)
        unused: Any = object()
        site = Site(settings.config, settings.me, self.clock, unused, unused, resolver, unused)
        plugins = load_plugins(site, settings.plugins, plugin_factories())
        outbound, tls = settings.outbound, settings.tls
        network = SecuringNetwork(self.clock)
        client = ClientTLS(tls.outbound)
        self.assertEqual(client.problems, ())
        connector = Connector(
            network.connect,
            outbound,
            settings.me,
            self.clock,
            client,
            tls.outbound,
            tls.nogo,
            memory,
        )
        chain = HookChain(plugins, self.clock, DurableQueue())
        routing = Routing(chain, resolver, outbound, settings.me, is_ours=lambda _: False)
        spool: Any = _OneMessage()
        return Delivery(routing, connector, spool, outbound, settings.me, self.clock), network

    def send(
        self,
        ini: str,
        peer: SecuringPeer | None = None,
        files: Mapping[str, str | bytes] | None = None,
        host: str = ADDRESS,
        recipient: str = "bob@recipient.example",
    ) -> Sent:
        """
        One attempt to deliver.

        @param peer: the server at *host*.
        """
        delivery, network = self.sender(ini, files)
        return self.attempt(delivery, network, peer or SecuringPeer(), host, recipient)

    def attempt(
        self,
        delivery: Delivery,
        network: SecuringNetwork,
        peer: SecuringPeer,
        host: str = ADDRESS,
        recipient: str = "bob@recipient.example",
        attempts: int = 0,
    ) -> Sent:
        """
        @param peer: the server that is met first at *host*.
        @param attempts: how many there were before.
        """
        network.peers.setdefault(host, [])
        if peer not in network.peers[host]:
            network.peers[host].insert(0, peer)
        queued = queued_message(recipients=[recipient], attempts=attempts)
        running = Deferred.fromCoroutine(delivery.attempt(queued))
        network.flush()
        result = self.successResultOf(running)
        (outcome,) = result.outcomes
        return Sent(outcome, peer, result.trials[0].reasons if result.trials else ())

    def assert_delivered(self, sent: Sent, in_the_clear: bool = False) -> TLSSummary | None:
        """Over TLS, unless said otherwise."""
        self.assertTrue(sent.delivered, sent)
        self.assertEqual(sent.in_the_clear, in_the_clear)
        self.assertEqual(sent.secured is None, in_the_clear)
        return sent.secured

    def assert_kept_back(self, sent: Sent, *words: str) -> None:
        """The message waits, nothing of it was sent, and it is told why."""
        self.assertIsInstance(sent.outcome, Delayed)
        self.assertEqual(sent.peer.messages, [])
        commands = {said.line.partition(" ")[0] for said in sent.peer.said}
        self.assertLessEqual(commands, {"EHLO", "STARTTLS", "QUIT"})
        for word in words:
            self.assertIn(word, str(sent.outcome.reply))


class _OneMessage:
    """As much of a spool as a delivery needs."""

    def open_body(self, _: object) -> FixedBody:
        return FixedBody()
