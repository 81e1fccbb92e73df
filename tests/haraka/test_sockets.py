"""Check 60: whatever goes wrong with a server twice."""

from itertools import product

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.smtp.client import ClientSession
from harakatls.smtp.events import Asked
from tests.inbound.transports import MemoryTransport, lost


class TwiceTests(SynchronousTestCase):
    def test_failures_in_any_order(self) -> None:
        """An error, a time limit, garbage, each after each: the first is told, none raises."""
        happenings = {
            "no answer within 10 seconds": lambda protocol, clock: clock.advance(11),
            "the connection broke": lambda protocol, clock: protocol.connectionLost(lost()),
            "no SMTP": lambda protocol, clock: protocol.dataReceived(b"garbage\r\n"),
            "the connection was given up": lambda protocol, clock: protocol.abort(),
        }
        for order in product(happenings.items(), repeat=3):
            clock = Clock()
            closed: list[OutboundProtocol] = []
            protocol = OutboundProtocol(ClientSession(), clock, closed.append)
            MemoryTransport().connect(protocol)
            waiting = Deferred.fromCoroutine(protocol.answer(Asked.GREETING, 10.0))
            for number, (_, happens) in enumerate(order):
                happens(protocol, clock)
                if number == 0:
                    problem = self.failureResultOf(waiting, ConnectionBroken).value
                    if order[0][0] != "no SMTP":
                        self.assertIn(order[0][0], str(problem))
            clock.advance(1000)
            again = Deferred.fromCoroutine(protocol.answer(Asked.GREETING, 10.0))
            self.failureResultOf(again, ConnectionBroken)
            self.assertEqual(clock.getDelayedCalls(), [])
