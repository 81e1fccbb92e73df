"""Transports in memory: one that records, and one over which real TLS can be spoken."""

from functools import cache
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from harakatls.connection import Connection, TLSSummary
from harakatls.interfaces import HasHandle
from tests.inbound.support import SUMMARY


class MemoryTransport:
    """
    As much of a TCP transport as the protocol uses.

    @ivar written: one entry for each write.
    @ivar reading: it would be read from.
    @ivar closed: "lose", "half" or "abort", the gravest.
    """

    def __init__(
        self,
        peer: IPv4Address | IPv6Address | None = None,
        host: IPv4Address | IPv6Address | None = None,
    ) -> None:
        self.peer = peer or IPv4Address("TCP", "192.0.2.10", 49152)
        self.host = host or IPv4Address("TCP", "198.51.100.1", 25)
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.reading = True
        self.closed = ""
        self.options: dict[str, bool] = {}
        self.producer: Any = None

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

    # -- for tests --------------------------------------------------------------------------

    def connect(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    def text(self) -> str:
        """All that was written since the last call, as text."""
        return self.taken().decode()

    def taken(self) -> bytes:
        """All that was written since the last call."""
        octets = b"".join(self.written)
        self.written.clear()
        return octets


@cache
def certified() -> SSL.Context:
    """A server's context."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    trustme.CA().issue_cert("mx.example").configure_cert(context)
    return context


class RecordingTLS:
    """An `IServerTLS` that remembers what it was told."""

    def __init__(self) -> None:
        self.hellos: list[bytes] = []
        self.failures: list[str] = []
        self.broken: Exception | None = None
        self.refusal: Exception | None = None

    def ready(self) -> bool:
        return True

    async def offers(self, connection: Connection) -> bool:
        return True

    def requires(self, connection: Connection) -> bool:
        return False

    def connection_creator(self, connection: Connection, client_hello: bytes) -> Any:
        self.hellos.append(client_hello)
        if self.broken is not None:
            raise self.broken
        return self

    def serverConnectionForTLS(self, layer: object) -> SSL.Connection:
        return SSL.Connection(certified(), None)

    def summary(self, transport: HasHandle) -> TLSSummary:
        if self.refusal is not None:
            raise self.refusal
        return SUMMARY

    async def handshake_failed(self, connection: Connection, reason: str) -> None:
        self.failures.append(reason)


class TLSClient:
    """The client's side of TLS over a `MemoryTransport`, by OpenSSL itself."""

    def __init__(
        self,
        transport: MemoryTransport,
        context: SSL.Context | None = None,
        server_name: bytes | None = b"mx.example",
    ) -> None:
        """What was written in the clear is thrown away."""
        transport.written.clear()
        self._transport = transport
        self.connection = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        if server_name is not None:
            self.connection.set_tlsext_host_name(server_name)
        self.connection.set_connect_state()

    def hello(self) -> bytes:
        """The first flight, which is not sent."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            pass
        return self.connection.bio_read(1 << 16)

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
        octets = self._transport.taken()
        if octets:
            self.connection.bio_write(octets)

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
