"""Transports in memory: one that records, and one over which real TLS can be spoken."""

from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.connection import Connection, TLSSummary
from tests.inbound.support import SUMMARY


class MemoryTransport:
    """
    As much of a TCP transport as the protocol uses, with TLS that is only pretended.

    @ivar written: one entry for each write; "TLS" stands where TLS was started.
    @ivar reading: it would be read from.
    @ivar closed: "lose", "half" or "abort", the gravest.
    """

    TLS = False
    disconnecting = False

    def __init__(
        self,
        peer: IPv4Address | IPv6Address | None = None,
        host: IPv4Address | IPv6Address | None = None,
    ) -> None:
        self.peer = peer or IPv4Address("TCP", "192.0.2.10", 49152)
        self.host = host or IPv4Address("TCP", "198.51.100.1", 25)
        self.protocol: Any = None
        self.written: list[bytes | str] = []
        self.reading = True
        self.closed = ""
        self.options: dict[str, bool] = {}
        self.producer: Any = None
        self.handed_over: list[bytes] = []

    def getPeer(self) -> Any:
        return self.peer

    def getHost(self) -> Any:
        return self.host

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options["nodelay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options["keepalive"] = enabled

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def write(self, octets: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written.append(octets)

    def loseConnection(self) -> None:
        assert self.producer is None, "a registered producer keeps a connection open for ever"
        self.closed = self.closed or "lose"

    def loseWriteConnection(self) -> None:
        self.closed = self.closed or "half"

    def abortConnection(self) -> None:
        self.closed = "abort"

    def startTLS(self, creator: object, normal: bool = True) -> None:
        """Only remembers; see `RecordingTLS.shake`."""
        self.written.append("TLS")
        self.TLS = True
        self.protocol = self

    def dataReceived(self, octets: bytes) -> None:
        """What the pretended TLS layer is handed."""
        self.handed_over.append(octets)

    # -- for tests --------------------------------------------------------------------------

    def connect(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    def text(self) -> str:
        """All that was written since the last call, as text."""
        octets = b"".join(piece for piece in self.written if isinstance(piece, bytes))
        self.written.clear()
        return octets.decode()


class RecordingTLS:
    """An `IServerTLS` whose handshakes a test ends as it likes."""

    def __init__(self) -> None:
        self.hellos: list[bytes] = []
        self.failures: list[str] = []
        self.broken: Exception | None = None

    def ready(self) -> bool:
        return True

    def offers(self, connection: Connection) -> bool:
        return True

    def connection_creator(self, connection: Connection, client_hello: bytes) -> Any:
        self.hellos.append(client_hello)
        if self.broken is not None:
            raise self.broken
        return object()

    def summary(self, transport: ITCPTransport) -> TLSSummary:
        return SUMMARY

    async def handshake_failed(self, connection: Connection, reason: str) -> None:
        self.failures.append(reason)


class TLSTransport(MemoryTransport):
    """Over this one TLS is spoken indeed; as `twisted.internet._newtls` does it for TCP."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self.raw: list[bytes] = []

    def startTLS(self, creator: Any, normal: bool = True) -> None:
        producer, self.producer = self.producer, None
        factory = TLSMemoryBIOFactory(creator, False, None, self._clock)  # type: ignore[arg-type]
        layer: Any = factory.protocol(factory, self.protocol, False)
        self.protocol = layer
        self.TLS = True
        layer.makeConnection(_BelowTLS(self))
        if producer is not None:
            self.registerProducer(producer, True)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.TLS:
            self.protocol.registerProducer(producer, streaming)
        else:
            super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self.TLS:
            self.protocol.unregisterProducer()
        else:
            super().unregisterProducer()

    def write(self, octets: bytes) -> None:
        if self.TLS:
            self.protocol.write(octets)
        else:
            super().write(octets)
            self.raw.append(octets)

    def loseConnection(self) -> None:
        if self.TLS:
            self.protocol.loseConnection()
        else:
            super().loseConnection()

    def getHandle(self) -> Any:
        return self.protocol.getHandle()


@implementer(ITCPTransport)
class _BelowTLS:
    """What the TLS layer writes to."""

    def __init__(self, transport: TLSTransport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, octets: bytes) -> None:
        self._transport.raw.append(octets)

    def loseConnection(self) -> None:
        self._transport.closed = self._transport.closed or "lose"

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._transport.producer = producer

    def unregisterProducer(self) -> None:
        self._transport.producer = None


class TLSClient:
    """The client's side of TLS over a `TLSTransport`, by OpenSSL itself."""

    def __init__(self, transport: TLSTransport, clock: Any, context: SSL.Context) -> None:
        self._transport = transport
        self._clock = clock
        self.connection = SSL.Connection(context, None)
        self.connection.set_tlsext_host_name(b"mx.example")
        self.connection.set_connect_state()

    def shake(self) -> None:
        """The handshake, to its end."""
        for _ in range(10):
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                self.pump()
            else:
                self.pump()
                return
        raise AssertionError("the handshake does not end")

    def pump(self) -> None:
        """Carry the octets over, in both directions."""
        while True:
            try:
                octets = self.connection.bio_read(1 << 16)
            except SSL.WantReadError:
                break
            self._transport.protocol.dataReceived(octets)
        self._clock.advance(0)
        for octets in self._transport.raw:
            self.connection.bio_write(octets)
        self._transport.raw.clear()

    def say(self, octets: bytes) -> str:
        """@return: the answer."""
        self.connection.sendall(octets)
        self.pump()
        return self.heard()

    def heard(self) -> str:
        """What has come."""
        found = b""
        while True:
            try:
                found += self.connection.recv(1 << 16)
            except (SSL.WantReadError, SSL.ZeroReturnError):
                return found.decode()


def lost(reason: Exception | None = None) -> Failure:
    """The reason of a lost connection."""
    return Failure(reason or ConnectionLost())


CLOSED, ABORTED = ConnectionDone(), ConnectionAborted()
