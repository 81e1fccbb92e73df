"""TCP to a host of which one address swallows what is sent to it."""

import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from harakatls.mail.route import NextHop
from harakatls.outbound.dead_hosts import DeadHosts
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.reach import Reach
from harakatls.outbound.tcp import over_tcp
from harakatls.smtp.events import Asked

reactor: Any = _reactor
WORKING, HANGING = "127.0.0.1", "127.0.0.2"
SECONDS = 10.0


class Greeter(Protocol):
    """Says hello, and keeps what it hears."""

    def connectionMade(self) -> None:
        self.heard = b""
        self.ended: Deferred[None] = Deferred()
        assert isinstance(self.factory, Greeters)
        self.factory.connections.append(self)
        assert self.transport is not None
        self.transport.write(b"220 peer.example ESMTP\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: object = None) -> None:
        self.ended.callback(None)


class Greeters(Factory):
    """@ivar connections: all that there were."""

    protocol = Greeter
    noisy = False

    def __init__(self) -> None:
        self.connections: list[Greeter] = []


class ReachTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.greeters = Greeters()
        self.port = reactor.listenTCP(0, self.greeters, interface=WORKING)
        self.addCleanup(self.port.stopListening)
        self.open: set[OutboundProtocol] = set()
        self.dead = DeadHosts(60.0, reactor.seconds)
        self.reach = Reach(
            *(over_tcp(reactor), SECONDS, reactor, self.dead),
            *(self.open.add, self.open.discard),
            head_start=0.2,
        )
        number = self.port.getHost().port
        self.working = NextHop(WORKING, "recipient.example", number, mx_name="mx1.example")
        self.hanging = NextHop(HANGING, "recipient.example", number, mx_name="mx1.example")

    def fill(self) -> None:
        """Listen at the other address with a queue that is full, so that no SYN is answered."""
        listening = socket.socket()
        self.addCleanup(listening.close)
        listening.bind((HANGING, self.hanging.port))
        listening.listen(0)
        for _ in range(4):
            waiting = socket.socket()
            self.addCleanup(waiting.close)
            waiting.setblocking(False)
            waiting.connect_ex((HANGING, self.hanging.port))

    async def assert_one_connection(self, protocol: OutboundProtocol) -> None:
        """It works, and nothing was said on any other."""
        greeting = await protocol.answer(Asked.GREETING, SECONDS)
        self.assertEqual(greeting.code, 220)
        (greeter,) = self.greeters.connections
        self.assertEqual(self.open, {protocol})
        self.assertEqual([type(r).__name__ for r in reactor.getWriters()], [])
        protocol.abort()
        await greeter.ended
        self.assertEqual(greeter.heard, b"")
        self.assertEqual(self.open, set())

    async def test_an_address_that_swallows(self) -> None:
        """The connection is made by the other one, long before the time is up."""
        self.fill()
        began = reactor.seconds()
        reached = await self.reach.either(self.hanging, self.working)
        self.assertLess(reactor.seconds() - began, SECONDS / 2)
        self.assertIs(reached.hop, self.working)
        self.assertIsNotNone(self.dead.problem(HANGING, self.hanging.port))
        await self.assert_one_connection(reached.protocol)

    async def test_the_other_one_swallows(self) -> None:
        """It is not even asked."""
        self.fill()
        reached = await self.reach.either(self.working, self.hanging)
        self.assertIs(reached.hop, self.working)
        self.assertIsNone(self.dead.problem(HANGING, self.hanging.port))
        await self.assert_one_connection(reached.protocol)
