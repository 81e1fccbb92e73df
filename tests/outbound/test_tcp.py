"""TCP connections to next hops, with a reactor in memory."""

from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.tcp import over_tcp


class OverTCPTests(SynchronousTestCase):
    """`over_tcp`."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.factory = Factory.forProtocol(Protocol)
        self.connecting = over_tcp(self.reactor)("192.0.2.1", 2525, self.factory, 7.0)

    def accept(self) -> Any:
        """As Twisted does: protocol and transport in one go."""
        factory = self.reactor.tcpClients[0][2]
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        return protocol

    def test_it_connects_as_it_is_told(self) -> None:
        """Address, port and time limit are those of the next hop and of connect_timeout."""
        host, port, _, seconds, _ = self.reactor.tcpClients[0]
        self.assertEqual((host, port, seconds), ("192.0.2.1", 2525, 7.0))

    def test_the_protocol_is_given_when_it_is_connected(self) -> None:
        """Not before it has a transport to write to."""
        protocol = self.accept()
        self.reactor.advance(0)
        self.assertIs(self.successResultOf(self.connecting), protocol)
        self.assertIsNotNone(protocol.transport)

    def test_a_failure_is_told(self) -> None:
        """With the reason of the operating system."""
        factory = self.reactor.tcpClients[0][2]
        reason: Exception = error.ConnectionRefusedError(111)
        failure = Failure(reason)
        factory.clientConnectionFailed(self.reactor.connectors[0], failure)
        self.failureResultOf(self.connecting, error.ConnectionRefusedError)

    def test_cancelling_is_no_failure_of_the_host(self) -> None:
        """A server that stops does not go on to the next host because this one "failed"."""
        factory = self.reactor.tcpClients[0][2]
        connector = self.reactor.connectors[0]
        stopped: list[object] = []

        def disconnect() -> None:
            stopped.append(connector)
            reason: Exception = error.UserError()
            factory.clientConnectionFailed(connector, Failure(reason))

        connector.disconnect = disconnect
        factory.startedConnecting(connector)
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertEqual(stopped, [connector])

    def test_cancelling_at_the_last_moment(self) -> None:
        """A connection that has just been made is closed again, and nothing is left over."""
        factory = self.reactor.tcpClients[0][2]
        connector = self.reactor.connectors[0]
        connector.disconnect = lambda: None
        factory.startedConnecting(connector)
        self.accept()
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
