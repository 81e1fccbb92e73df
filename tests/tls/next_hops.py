"""
Deliveries as the config directory makes them, to servers in memory whose TLS is OpenSSL's.

The client's side is all ours, from the next hop to the octets; but for the TCP connection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import trustme
from attrs import define
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
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
from harakatls.testing.values import ARRIVED, FixedBody, FixedResolver, queued_message
from harakatls.tls.client import ClientTLS
from harakatls.tls.nogo import Direction, MemoryTLSMemory
from harakatls.tls.nogo_redis import RedisTLSMemory
from tests.config.files import write_config
from tests.flows.tls_network import SecurePeer, TLSNetwork
from tests.tls.peers import Configure, authority, issued, server_context
from tests.tls.pretended_redis import PretendedRedis

MX = "mx.recipient.example"
ADDRESS = "192.0.2.1"

PEER = issued(MX)
UNTRUSTED = issued(MX, by="Other Trust")
OTHER_NAME = issued("else.example.net")


class SecuringPeer(SecurePeer):
    """A server whose TLS is given as for `server_context`."""

    def __init__(
        self,
        leaf: trustme.LeafCert = PEER,
        version: int | None = None,
        configure: Configure | None = None,
        **answers: Any,
    ) -> None:
        super().__init__(server_context(leaf, version, configure), **answers)

    @property
    def server(self) -> SSL.Connection:
        """Its side of TLS."""
        assert self.connection is not None, "TLS was not begun"
        return self.connection

    @property
    def in_the_clear(self) -> list[str]:
        """The commands that anybody could read on the way."""
        return [said.line.partition(" ")[0] for said in self.said if not said.secured]


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

    @ivar plugin: who delivers, in place of the outbound queue.
    @ivar is_odd: there is something to warn of in tls.ini.
    @ivar exchangers: the DNS, as C{FixedResolver} has it; likewise C{hosts}.
    """

    is_odd = False
    plugin: str | None = None

    def setUp(self) -> None:
        self.exchangers: dict[str, Sequence[tuple[int, str]]] = {"recipient.example": [(10, MX)]}
        self.hosts: dict[str, Sequence[str]] = {MX: [ADDRESS]}

    def sender(
        self, ini: str, files: Mapping[str, str | bytes] | None = None
    ) -> tuple[Delivery, TLSNetwork]:
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
        outbound, nogo = settings.outbound, settings.tls.nogo
        tls = settings.tls.outbound
        if self.plugin is not None:
            tls = settings.tls.plugins[self.plugin]
        network = TLSNetwork(self.clock)
        client = ClientTLS(tls)
        self.assertEqual(client.problems, ())
        connector = Connector(
            network.connect,
            outbound,
            settings.me,
            self.clock,
            client,
            tls,
            nogo,
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
        network: TLSNetwork,
        peer: SecuringPeer,
        host: str = ADDRESS,
        recipient: str = "bob@recipient.example",
        attempts: int = 0,
        *others: SecuringPeer,
    ) -> Sent:
        """
        @param peer: the server that is met next at *host*.
        @param attempts: how many there were before.
        @param others: who are met behind it.
        """
        network.serve(host, peer, *others)
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
