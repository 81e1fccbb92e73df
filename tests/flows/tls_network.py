"""
Servers in memory with which TLS is spoken in earnest.

Theirs is OpenSSL's alone. The client's goes through Twisted's layer, as on a TCP connection.
"""

from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet._newtls import _BypassTLS
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from harakatls.testing.network import MemoryNetwork, MemoryTransport
from harakatls.testing.peers import HANG_UP, ObligingPeer, ScriptedPeer


class SecurePeer(ObligingPeer):
    """
    A server that says yes to everything, with TLS by OpenSSL.

    @ivar connection: what OpenSSL has of it; None before the handshake.
    """

    def __init__(self, context: SSL.Context, **answers: Any) -> None:
        """@param answers: as for `ObligingPeer`."""
        super().__init__("STARTTLS", **answers)
        self._context = context
        self.connection: SSL.Connection | None = None

    def connect(self) -> SSL.Connection:
        """For one connection."""
        self.connection = SSL.Connection(self._context, None)
        self.connection.set_accept_state()
        return self.connection

    def decrypt(self, octets: bytes) -> None:
        """From the client, cut anywhere; to be obeyed."""
        assert self.connection is not None
        self.connection.bio_write(octets)
        try:
            if not self.secured:
                self.connection.do_handshake()
                self.started_tls()
            while True:
                self.received(self.connection.recv(1 << 16))
        except (SSL.WantReadError, SSL.ZeroReturnError):
            pass
        except SSL.Error:
            self.ending = HANG_UP  # behind the alert
            self.output.clear()

    def encrypted(self) -> bytes:
        """All that it has to say by now; b"" for nothing."""
        assert self.connection is not None
        if self.secured and self.output:
            self.connection.sendall(bytes(self.output))
            self.output.clear()
        try:
            return self.connection.bio_read(1 << 24)
        except SSL.WantReadError:
            return b""


class TLSTransport(MemoryTransport):
    """
    As `MemoryTransport`, and with a `SecurePeer` the handshake is a real one.

    @ivar client: what uses it.
    """

    def __init__(
        self, host: str, port: int, protocol: IProtocol, peer: ScriptedPeer, clock: Clock
    ) -> None:
        super().__init__(host, port, protocol, peer)
        self.client = protocol
        self._clock: Any = clock
        self._tls: TLSMemoryBIOProtocol | None = None
        self._secure: SecurePeer | None = None

    def startTLS(self, contextFactory: Any, normal: bool = True) -> bool:
        if not isinstance(self.peer, SecurePeer):
            return super().startTLS(contextFactory, normal)
        self.creator = contextFactory
        self._secure = self.peer
        self._secure.connect()
        factory = TLSMemoryBIOFactory(contextFactory, True, Factory(), self._clock)
        self._tls = TLSMemoryBIOProtocol(factory, self.protocol, False)
        self.protocol = self._tls
        self._tls.makeConnection(_BypassTLS(MemoryTransport, self))
        return True

    def getHandle(self) -> SSL.Connection:
        """As Twisted's TLS transports have it."""
        assert self._tls is not None
        handle: SSL.Connection = self._tls.getHandle()
        return handle

    def write(self, data: bytes) -> None:
        if self._tls is None:
            super().write(data)
        else:
            self._tls.write(data)

    def loseConnection(self) -> None:
        if self._tls is None:
            super().loseConnection()
        else:
            self._tls.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._tls is None:
            super().registerProducer(producer, streaming)
        else:
            self._tls.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self._tls is None:
            super().unregisterProducer()
        else:
            self._tls.unregisterProducer()

    def _to_peer(self) -> bool:
        if self._secure is None:
            return super()._to_peer()
        if not self._output or self.peer.ending:
            return False
        data, self._output = bytes(self._output), bytearray()
        self._secure.decrypt(data)
        return True

    def _from_peer(self) -> bool:
        if self._secure is None:
            return super()._from_peer()
        octets = self._secure.encrypted()
        if octets:
            self.protocol.dataReceived(octets)
        return bool(octets)


class TLSNetwork(MemoryNetwork):
    """As `MemoryNetwork`, for peers of both kinds."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.make_transport = partial(TLSTransport, clock=clock)
