"""The transport of one connection, in the clear or inside of TLS."""

from socket import socket
from typing import Any

from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure

from harakatls.tls.layer import TLSBroken, TLSLayer

_DONE = Failure(CONNECTION_DONE)  # type: ignore[no-untyped-call]
_NO_LAYER: Any = None  # our creators have no use for one; Twisted's type is for a layer of its own


class Link:
    """
    What is said goes out at once where nothing waits to go out before it: to leave it to the
    reactor's next turn would cost a tenth of all that a short message costs.

    It serves either side; what differs is who begins a handshake.

    @ivar layer: None in the clear.
    """

    __slots__ = ("_has_more", "_socket", "_transport", "layer")

    def __init__(self, transport: Any) -> None:
        """@param transport: an ITCPTransport."""
        self._transport = transport
        is_tcp = isinstance(transport, TCPConnection)
        self._socket: socket | None = transport.getHandle() if is_tcp else None
        self._has_more = False  # TLS has something to send that goes with the next reply
        self.layer: TLSLayer | None = None

    def write(self, octets: bytes) -> None:
        """
        Send.

        @raise TLSBroken: nothing can be sent any more.
        """
        layer = self.layer
        if layer is not None:
            layer.encrypt(octets)
            octets = layer.outgoing()
            self._has_more = False
        self._send(octets)

    def start_tls(self, creator: IOpenSSLServerConnectionCreator) -> None:
        """As the server. From now on what comes is for `decrypt`."""
        self.layer = TLSLayer(creator.serverConnectionForTLS(_NO_LAYER))

    def connect_tls(self, creator: IOpenSSLClientConnectionCreator) -> None:
        """
        As the client, whose first step is sent. From now on what comes is for `decrypt`.

        @raise TLSBroken: there is nothing to offer, as no version or no cipher is left.
        """
        layer = self.layer = TLSLayer(creator.clientConnectionForTLS(_NO_LAYER), server=False)
        layer.begin()
        self._send(layer.outgoing())

    def decrypt(self, octets: bytes) -> list[bytes]:
        """
        What the peer's octets say.

        What TLS itself answers (the handshake, new keys) waits for `write` or `flush`, so that it
        goes along with the reply where there is one: a write that wakes the peer costs more than
        all else that is done here.

        @raise TLSBroken: see `TLSLayer.decrypt`; and whatever escapes from a callback. The alert
            has been sent.
        """
        layer = self.layer
        assert layer is not None
        shaking = not layer.established
        try:
            pieces = layer.decrypt(octets)
        except BaseException:
            self._send(layer.outgoing())
            raise
        self._has_more = shaking or layer.is_answering
        layer.is_answering = False
        return pieces

    def flush(self) -> None:
        """Send what no reply has taken along."""
        if self._has_more and self.layer is not None:
            self._has_more = False
            self._send(self.layer.outgoing())

    def close(self, linger: bool, last: bytes = b"") -> None:
        """
        Close when all has been sent.

        @param linger: only our side, so that what the peer still sends can be taken.
        @param last: is sent before, together with what TLS says at its end.
        """
        layer = self.layer
        if layer is not None:
            if last:
                try:
                    layer.encrypt(last)
                except TLSBroken:
                    pass  # there may be an alert to send
            layer.close()
            last = layer.outgoing()
            self._has_more = False
        self._send(last)
        transport = self._transport
        if linger:
            transport.loseWriteConnection()
        elif self._socket is not None and self._is_idle():
            # What the reactor would do at its next turn, without asking whether it may write.
            transport.connectionLost(_DONE)
        else:
            transport.loseConnection()

    def _send(self, octets: bytes) -> None:
        transport = self._transport
        if not octets:
            return
        if self._socket is None or not self._is_idle():
            transport.write(octets)
            return
        try:
            sent = self._socket.send(octets)
        except BlockingIOError:
            sent = 0
        except OSError:
            transport.write(octets)  # and the reactor finds out that the connection is lost
            return
        if sent < len(octets):
            transport.write(octets[sent:])

    def _is_idle(self) -> bool:
        """Nothing waits to go out."""
        # The last of these is no promise of Twisted's, but has been there since its beginning.
        return not (self._transport.dataBuffer or self._transport._tempDataBuffer)
