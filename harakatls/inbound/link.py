"""The transport of one connection, in the clear or inside of TLS."""

from typing import Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.tcp import Connection as TCPConnection

from harakatls.tls.layer import TLSBroken, TLSLayer


class Link:
    """
    What is said goes out at once where nothing waits to go out before it: to leave it to the
    reactor's next turn would cost a tenth of all that a short message costs.

    @ivar layer: None in the clear.
    """

    __slots__ = ("_direct", "_transport", "layer")

    def __init__(self, transport: Any) -> None:
        """@param transport: an ITCPTransport."""
        self._transport = transport
        self._direct = isinstance(transport, TCPConnection)
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
        self._send(octets)

    def start_tls(self, creator: IOpenSSLServerConnectionCreator) -> None:
        """From now on what comes is for `decrypt`."""
        # Our creators have no use for the layer; Twisted's type is for one of its own.
        layer: Any = None
        self.layer = TLSLayer(creator.serverConnectionForTLS(layer))

    def decrypt(self, octets: bytes) -> list[bytes]:
        """
        What the peer's octets say; the handshake's answers, and alerts, go out.

        @raise TLSBroken: see `TLSLayer.decrypt`; and whatever escapes from a callback.
        """
        layer = self.layer
        assert layer is not None
        if layer.established:
            try:
                pieces = layer.decrypt(octets)
            except TLSBroken:
                self._send(layer.outgoing())
                raise
            if layer.is_answering:
                layer.is_answering = False
                self._send(layer.outgoing())
            return pieces
        try:
            return layer.decrypt(octets)
        finally:
            self._send(layer.outgoing())

    def close(self, linger: bool) -> None:
        """
        Close when all has been sent.

        @param linger: only our side, so that what the peer still sends can be taken.
        """
        if self.layer is not None:
            self.layer.close()
            self._send(self.layer.outgoing())
        if linger:
            self._transport.loseWriteConnection()
        else:
            self._transport.loseConnection()

    def _send(self, octets: bytes) -> None:
        transport = self._transport
        if not octets:
            return
        # The last of these is no promise of Twisted's, but has been there since its beginning.
        if not self._direct or transport.dataBuffer or transport._tempDataBuffer:
            transport.write(octets)
            return
        sent = transport.writeSomeData(octets)
        if isinstance(sent, Exception):
            transport.write(octets)  # and the reactor finds out that the connection is lost
        elif sent < len(octets):
            transport.write(octets[sent:])
