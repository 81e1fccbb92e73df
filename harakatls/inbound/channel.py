"""What a conversation needs of the connection it is held over."""

from typing import Protocol

from twisted.internet.defer import Deferred

from harakatls.connection import Connection, TLSSummary
from harakatls.smtp.reply import Reply


class HandshakeFailed(Exception):
    """
    The TLS handshake did not come to a good end; the text says why.

    @ivar ours: through a mistake of the server.
    """

    def __init__(self, reason: str, ours: bool = False) -> None:
        super().__init__(reason)
        self.ours = ours


class Channel(Protocol):
    """A connection to a peer. Nothing here raises when the peer has gone."""

    def write(self, octets: bytes) -> None:
        """Send."""

    def pause(self) -> None:
        """Take nothing more from the peer until `resume`. May be called twice."""

    def resume(self) -> None:
        """Take from the peer again."""

    def rest(self) -> Deferred[None]:
        """Fires when others have had their turn, and the peer takes what it is sent."""

    def now_from(self, host: str) -> Reply | None:
        """
        The peer speaks for *host*, an IP address, from now on, and is counted as that.

        @return: what it is sent away with.
        """

    def secure(self, connection: Connection) -> Deferred[TLSSummary]:
        """
        Shake hands as a TLS server; from then on all is inside of TLS.

        Fails with HandshakeFailed; the connection is of no use then.
        """

    def binding(self) -> bytes | None:
        """
        The channel binding C{tls-exporter} (RFC 9266), a secret; None in the clear, and where TLS
        has nothing that is of this connection alone.
        """

    def close(self, linger: bool, last: bytes = b"") -> None:
        """
        Close when all has been sent; what still comes is thrown away.

        @param last: sent before.
        @param linger: the peer may be in the middle of sending. Its octets are taken for a while,
            since otherwise the reset that they cause could overtake our last reply.
        """

    def abort(self) -> None:
        """Close now."""
