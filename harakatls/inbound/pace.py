"""How long a peer may take."""

from typing import NamedTuple

from harakatls.inbound import replies
from harakatls.inbound.limits import PeerLimits
from harakatls.smtp.reply import Reply

PERIOD = 60.0  # seconds between two looks, at most


class Overdue(NamedTuple):
    """@ivar outcome: for the log."""

    reply: Reply
    outcome: str


SILENT = Overdue(replies.TIMEOUT, "timeout")
TOO_SLOW = Overdue(replies.TOO_SLOW, "too slow")
NO_MESSAGE = Overdue(replies.NO_MESSAGE, "no message for too long")


class Pace:
    """
    Looks at a peer's time, now and then.

    - It may be silent for a while: between two commands, and in a message.
    - A command has to be complete by then: octets alone do not count, or one in each minute would
      hold a connection for ever.
    - A message may be slow for a while. From each second on a rate is owed, and what comes in pays
      for it; who owes as much as falls due in the time that it might be silent is too slow.
    - Who gives us no message at all has to go in the end.

    @ivar heard_at: when last a line has ended, some of a message has come, or the peer had its turn
        again.
    """

    __slots__ = (
        "_last_message",
        "_limits",
        "_looked",
        "_messages",
        "_octets",
        "_owed",
        "_receiving",
        "_silence",
        "heard_at",
    )

    def __init__(self, limits: PeerLimits, silence: float, now: float) -> None:
        """@param silence: seconds that a peer may be silent."""
        self._limits = limits
        self._silence = silence
        self.heard_at = self._looked = self._last_message = now
        self._owed = 0.0
        self._octets = self._messages = 0
        self._receiving = False

    def look(
        self, now: float, octets: int, messages: int, is_receiving: bool, is_ours: bool
    ) -> Overdue | None:
        """
        Is the peer too slow?

        @param octets: that have come, in all.
        @param messages: that have come to their end, in all.
        @param is_receiving: one is under way.
        @param is_ours: it is not the peer that is waited for.
        """
        elapsed = max(0.0, now - self._looked)  # the wall clock may have been set back
        paid = octets - self._octets
        is_the_same = self._receiving and is_receiving and messages == self._messages
        if is_receiving or messages != self._messages:
            self._last_message = now
        self._looked, self._octets, self._messages = now, octets, messages
        self._receiving = is_receiving
        if is_ours:
            self.heard_at = now
            return None
        if now - self.heard_at >= self._silence:
            return SILENT
        if not is_receiving:
            limit = self._limits.seconds_without_message
            return NO_MESSAGE if 0 < limit <= now - self._last_message else None
        due = self._limits.octets_per_minute / 60
        self._owed = max(0.0, self._owed + due * elapsed - paid) if is_the_same else 0.0
        return TOO_SLOW if 0 < due * self._silence <= self._owed else None

    def next_look(self, now: float) -> float:
        """In so many seconds."""
        return max(0.001, min(PERIOD, self._silence, self.heard_at + self._silence - now))
