"""TCP connections to next hops, and those to Unix sockets."""

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConnector, IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure


class Connect(Protocol):
    """Connects to (address, port), or to a Unix socket, with a factory's protocol, in seconds."""

    def __call__(
        self,
        host: str,
        port: int,
        factory: IProtocolFactory,
        seconds: float,
        bind: str | None = None,
    ) -> Deferred[IProtocol]:
        """
        @param host: an IP address, or the absolute path of a Unix socket.
        @param bind: the address of ours to connect from; None leaves it to the system.
        """


class _Connecting(ClientFactory):
    """One TCP connection that is being made. Leaner than an endpoint, which wraps the protocol."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, clock: IReactorTime) -> None:
        self._factory = factory
        self._clock = clock
        self._connector: IConnector | None = None
        self._given_up = False
        self.connected: Deferred[IProtocol] = Deferred(self._cancelled)

    def startedConnecting(self, connector: IConnector) -> None:
        self._connector = connector

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self._factory.buildProtocol(addr)
        # Twisted connects it to its transport right behind this.
        self._clock.callLater(0, self._made, protocol)
        return protocol

    def _made(self, protocol: IProtocol) -> None:
        if not self._given_up:
            self.connected.callback(protocol)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        if not self._given_up:
            self.connected.errback(reason)

    def _cancelled(self, _: object) -> None:
        # Before anything else, since the connector may answer with a failure of its own at once.
        self._given_up = True
        if self._connector is not None:
            self._connector.disconnect()


def over_tcp(reactor: Any) -> Connect:
    """
    To IPv4 and IPv6 addresses, over TCP; and to Unix sockets.

    @param reactor: provides TCP, Unix sockets and time.
    """

    def connect(
        host: str,
        port: int,
        factory: IProtocolFactory,
        seconds: float,
        bind: str | None = None,
    ) -> Deferred[IProtocol]:
        connecting = _Connecting(factory, reactor)
        if host.startswith("/"):
            reactor.connectUNIX(host, connecting, timeout=seconds)
            return connecting.connected
        ours = None if bind is None else (bind, 0)
        reactor.connectTCP(host, port, connecting, timeout=seconds, bindAddress=ours)
        return connecting.connected

    return connect


def why_lost(reason: Failure) -> str:
    """Why a connection is gone, for logs and reports."""
    problem = reason.value
    if isinstance(problem, ConnectionDone):
        return "the server closed the connection"
    if problem is None or isinstance(problem, ConnectionLost | ConnectionAborted):
        return "the connection broke"
    return str(problem) or type(problem).__name__
