"""Who broke the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harakatls.smtp.reply import Reply


class ProtocolError(Exception):
    """The protocol was broken."""


class LocalProtocolError(ProtocolError):
    """We asked a session for something that is not legal now: a mistake of ours."""


class RemoteProtocolError(ProtocolError):
    """
    The peer sent something that is not legal.

    @ivar reply: what a server answers; None on the client side, where the only answer is to
        close the connection.
    @ivar fatal: the connection cannot go on.
    """

    def __init__(self, problem: str, reply: Reply | None = None, fatal: bool = False) -> None:
        super().__init__(problem)
        self.reply = reply
        self.fatal = fatal or reply is None


class Injected(RemoteProtocolError):
    """Something stood where nothing but an attacker would put it (RFC 3207 section 6)."""
