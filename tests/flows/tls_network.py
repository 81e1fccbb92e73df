"""Servers in memory with which TLS is spoken in earnest."""

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from harakatls.testing.network import MemoryNetwork, MemoryTransport
from harakatls.testing.peers import HANG_UP, ObligingPeer
from harakatls.tls.layer import TLSBroken, TLSLayer


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
        return self.connection


class TLSTransport(MemoryTransport):
    """As `MemoryTransport`, and with a `SecurePeer` the handshake is a real one."""

    _ours: TLSLayer | None = None
    _theirs: TLSLayer | None = None
    _told_us = _told_them = False

    def startTLS(self, contextFactory: Any, normal: bool = True) -> bool:
        if not isinstance(self.peer, SecurePeer):
            return super().startTLS(contextFactory, normal)
        self.creator = contextFactory
        self._ours = TLSLayer(contextFactory.clientConnectionForTLS(None), server=False)
        self._theirs = TLSLayer(self.peer.connect())
        self._ours.begin()
        return True

    def getHandle(self) -> SSL.Connection:
        """As Twisted's TLS transports have it."""
        assert self._ours is not None
        return self._ours.connection

    def loseConnection(self) -> None:
        super().loseConnection()
        if self._ours is not None and not self._output:
            self._ours.close()

    def _to_peer(self) -> bool:
        ours, theirs = self._ours, self._theirs
        if ours is None or theirs is None:
            return super()._to_peer()
        if self._output:
            data, self._output = bytes(self._output), bytearray()
            ours.encrypt(data)
        octets = ours.outgoing()
        if not octets or self.peer.ending:
            return False
        try:
            pieces = theirs.decrypt(octets)
        except TLSBroken:
            self.peer.ending = HANG_UP  # behind the alert
            return True
        if theirs.established and not self._told_them:
            self._told_them = True
            self.peer.started_tls()
        for piece in pieces:
            self.peer.received(piece)
        return True

    def _from_peer(self) -> bool:
        ours, theirs = self._ours, self._theirs
        if ours is None or theirs is None:
            return super()._from_peer()
        if self.peer.output and theirs.established:
            data, self.peer.output = bytes(self.peer.output), bytearray()
            theirs.encrypt(data)
        octets = theirs.outgoing()
        if not octets:
            return False
        protocol: Any = self.protocol
        try:
            pieces = ours.decrypt(octets)
        except TLSBroken as problem:
            alert = ours.outgoing()
            if alert:
                self._hear(theirs.decrypt, alert)
            self._end(problem)
            return True
        if ours.established and not self._told_us:
            self._told_us = True
            protocol.handshakeCompleted()
        for piece in pieces:
            protocol.dataReceived(piece)
        return True

    def _hear(self, decrypt: Callable[[bytes], object], alert: bytes) -> None:
        try:
            decrypt(alert)
        except TLSBroken:
            pass


class TLSNetwork(MemoryNetwork):
    """As `MemoryNetwork`, for peers of both kinds."""

    make_transport = TLSTransport
