"""
Servers in memory with which TLS is spoken in earnest.

Theirs is OpenSSL's alone. The client's is that of the server: `tls.layer`.
"""

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocol

from harakatls.testing.network import MemoryNetwork, MemoryTransport
from harakatls.testing.peers import HANG_UP, ObligingPeer, ScriptedPeer

_SHAKES = b"\x16"  # the first octet of a handshake; of no command


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
    """As `MemoryTransport`, and with a `SecurePeer` the handshake is a real one."""

    def __init__(self, host: str, port: int, protocol: IProtocol, peer: ScriptedPeer) -> None:
        super().__init__(host, port, protocol, peer)
        self._secure: SecurePeer | None = None

    def _to_peer(self) -> bool:
        peer = self.peer
        if self._secure is None and isinstance(peer, SecurePeer) and self._output[:1] == _SHAKES:
            self._secure = peer
            peer.connect()
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

    make_transport = TLSTransport
