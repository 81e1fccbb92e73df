"""That a peer waits for its turn, and asks for no more than it needs to give us a message."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import evolve

from harakatls.connection import Connection
from harakatls.inbound import replies
from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.reception import Reception
from harakatls.inbound.settings import InboundSettings
from harakatls.smtp.events import BodyReceived, ChunkReceived
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession

GO_ON = frozenset({BodyReceived, ChunkReceived})
"""Events behind which there is more without being asked for."""


class Patience:
    """
    Counts what is asked for in vain between two messages: what brings no message nearer, and what
    is refused. Errors are counted by the session.

    Recipients are counted apart: of one message there may be many. So is what the session refuses
    without calling it an error.
    """

    __slots__ = ("_commands", "_limit", "_max_recipients", "_messages", "_recipients")

    def __init__(self, limits: PeerLimits, max_recipients: int) -> None:
        self._limit = limits.commands_without_message
        self._max_recipients = max_recipients
        self._commands = self._recipients = self._messages = 0

    def is_over(self, messages: int, recipient: bool = False) -> bool:
        """
        One thing more: was it too many?

        @param messages: that have come to their end, in all.
        @param recipient: it counts with the recipients that were refused.
        """
        if messages != self._messages:
            self._messages = messages
            self._commands = self._recipients = 0
        if recipient:
            self._recipients += 1
        else:
            self._commands += 1
        too_many = self._commands > self._limit or self._recipients > self._max_recipients
        return too_many and self._limit > 0


class Manners(ABC):
    """What a dialogue minds besides its answers."""

    connection: Connection
    closing: bool
    _session: ServerSession
    _settings: InboundSettings
    _reception: Reception
    _patience: Patience

    @abstractmethod
    def end(self, reply: Reply | None, outcome: str, linger: bool = True) -> None:
        """See `Dialogue`."""

    def tire(self, recipient: bool = False) -> None:
        """Something was asked for in vain."""
        if self._patience.is_over(self._reception.messages.total, recipient) and not self.closing:
            self.end(replies.TOO_MANY_COMMANDS, "too many commands without a message")

    def talks_early(self) -> None:
        """The peer has said something before it was its turn."""
        if not self.connection.early_talker:
            self.connection = evolve(self.connection, early_talker=True)

    def _has_to_go(self, event: object) -> bool:
        """For speaking before its turn, where it had to wait for that."""
        if self._session.has_more and event.__class__ not in GO_ON:
            self.talks_early()
        if self._is_refused_as_early():
            self.end(replies.TALKS_TOO_SOON, "early talker")
        return self.closing

    def _is_refused_as_early(self) -> bool:
        return self.connection.early_talker and self._settings.peers.refuse_early_talkers


_Minding = TypeVar("_Minding", bound=Manners)
_Event = TypeVar("_Event")


def tiring(
    answer: Callable[[_Minding, _Event], Awaitable[None]],
) -> Callable[[_Minding, _Event], Awaitable[None]]:
    """What *answer* answers is asked for in vain."""

    async def answer_and_tire(dialogue: _Minding, event: _Event) -> None:
        await answer(dialogue, event)
        dialogue.tire()

    return answer_and_tire
