"""A delivery with all around it in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.interfaces import IMessageBody
from harakatls.mail.route import NextHop
from harakatls.outbound.connector import Connector
from harakatls.outbound.delivery import Delivery, Result
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.testing.network import MemoryNetwork, PretendedTLS
from harakatls.testing.peers import ScriptedPeer
from harakatls.testing.values import ARRIVED, MESSAGE, FixedBody, FixedResolver, queued_message
from harakatls.tls.nogo import MemoryTLSMemory
from harakatls.tls.settings import NoGoSettings, OutboundTLS

ME = "mta.example"
DOMAIN = "recipient.example"
FIRST, SECOND, THIRD = "192.0.2.1", "192.0.2.2", "192.0.2.3"
STEPS = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "end")
WORDS = {Delivered: "delivered", Delayed: "delayed", Failed: "failed"}


class NoPlugins:
    """Route hooks of which none has an opinion."""

    def __init__(self, hops: tuple[NextHop, ...] | None = None) -> None:
        self.hops = hops

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        return self.hops


class Bodies:
    """
    As much of a spool as a delivery needs.

    @ivar content: of every message, or what is to be raised.
    """

    def __init__(self, content: bytes | Exception = MESSAGE) -> None:
        self.content = content
        self.opened: list[IMessageBody] = []

    def open_body(self, queued: QueuedMessage) -> IMessageBody:
        if isinstance(self.content, Exception):
            raise self.content
        self.opened.append(FixedBody(self.content))
        return self.opened[-1]


class DeliveryTestCase(SynchronousTestCase):
    """
    The domain has three hosts, mx1 to mx3, in this order; each test says who answers there.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(ARRIVED)
        self.network = MemoryNetwork(self.clock)
        self.bodies = Bodies()
        self.tls = PretendedTLS()
        self.memory = MemoryTLSMemory(self.clock)
        self.exchangers: dict[str, Sequence[tuple[int, str]] | Exception] = {
            DOMAIN: [(10, "mx1.example"), (20, "mx2.example"), (30, "mx3.example")]
        }
        self.hosts: dict[str, Sequence[str] | Exception] = {
            "mx1.example": [FIRST],
            "mx2.example": [SECOND],
            "mx3.example": [THIRD],
        }
        self.hops: tuple[NextHop, ...] | None = None

    def serve(self, *peers: ScriptedPeer) -> None:
        """The first at mx1, the second at mx2, the third at mx3."""
        for host, peer in zip((FIRST, SECOND, THIRD), peers, strict=False):
            self.network.serve(host, peer)

    def connector(
        self,
        tls_settings: OutboundTLS | None = None,
        nogo: NoGoSettings | None = None,
        settings: OutboundSettings | None = None,
    ) -> Connector:
        """To the network in memory."""
        return Connector(
            self.network.connect,
            settings or OutboundSettings(received_header=None),
            ME,
            self.clock,
            self.tls,
            tls_settings or OutboundTLS(),
            nogo or NoGoSettings(),
            self.memory,
        )

    def delivery(
        self,
        tls_settings: OutboundTLS | None = None,
        nogo: NoGoSettings | None = None,
        **settings: Any,
    ) -> Delivery:
        """@param settings: fields of `OutboundSettings`."""
        usual = {"received_header": None, "pool_timeout": 0.0}
        outbound = OutboundSettings(**{**usual, **settings})
        routing = Routing(
            NoPlugins(self.hops),
            FixedResolver(self.exchangers, self.hosts),
            outbound,
            ME,
            is_ours=lambda address: False,
        )
        connector = self.connector(tls_settings, nogo, outbound)
        spool: Any = self.bodies
        return Delivery(routing, connector, spool, outbound, ME, self.clock)

    def begin(
        self, queued: QueuedMessage | None = None, delivery: Delivery | None = None
    ) -> "Deferred[Result]":
        """An attempt, as far as it goes without time passing."""
        attempt = (delivery or self.delivery()).attempt(queued or queued_message())
        running = Deferred.fromCoroutine(attempt)
        self.network.flush()
        return running

    def attempt(
        self, queued: QueuedMessage | None = None, delivery: Delivery | None = None
    ) -> Result:
        """An attempt that needs no time."""
        return self.successResultOf(self.begin(queued, delivery))

    def after(self, seconds: float, running: "Deferred[Result]") -> Result:
        """The result of an attempt that has a time limit to wait for."""
        self.assertNoResult(running)
        self.pass_time(seconds)
        return self.successResultOf(running)

    def pass_time(self, seconds: float) -> None:
        """And move what then is to be moved."""
        self.clock.advance(seconds)
        self.network.flush()

    def told(self, result: Result) -> dict[str, str]:
        """For each recipient: what became of it, and the reply."""
        return {
            str(outcome.recipient.address): f"{WORDS[type(outcome)]} {outcome.reply}"
            for outcome in result.outcomes
        }

    def only(self, result: Result) -> str:
        """The same for a single recipient."""
        (words,) = self.told(result).values()
        return words

    def assertNothingIsLeft(self) -> None:
        """After goodbyes, no connection is open and no timer runs."""
        self.pass_time(10)
        self.assertEqual([t.host for t in self.network.transports if t.connected], [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for body in self.bodies.opened:
            assert isinstance(body, FixedBody)
            self.assertTrue(body.closed)


Peers = Callable[[], ScriptedPeer]
Answers = Mapping[str, Any]
SUMMARY = TLSSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, verified=True)


def at(step: str, answer: Any) -> dict[str, Any]:
    """For `ObligingPeer`."""
    return {step: answer}


def three() -> QueuedMessage:
    """For ann, bob and cid."""
    return queued_message(recipients=[f"{name}@{DOMAIN}" for name in ("ann", "bob", "cid")])
