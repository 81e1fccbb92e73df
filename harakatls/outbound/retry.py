"""When a message is tried again, and when it is given up; pure."""

from collections.abc import Iterable, Sequence

from harakatls.queued import Delayed, Failed, Outcome
from harakatls.smtp.reply import EnhancedStatus, Reply

# RFC 3463 section 3.5: "delivery time expired", where nobody gave a better reason.
_EXPIRED = EnhancedStatus(5, 4, 7)


def next_attempt(attempts: int, intervals: Sequence[float], now: float) -> float | None:
    """
    When to try again what has just been delayed.

    @param attempts: how many were made, with the one just made: 1 or more.
    @param intervals: seconds to wait after the first, second, ... failed attempt.
    @return: seconds since the epoch; None to give up.
    """
    return now + intervals[attempts - 1] if attempts <= len(intervals) else None


def last_attempt(attempts: int, intervals: Sequence[float], due: float) -> float:
    """
    When what is tried next at *due* is tried for the last time, if it never gets through.

    @param attempts: how many were made.
    """
    return due + sum(intervals[attempts:])


def given_up(outcome: Delayed) -> Failed:
    """
    What a delay becomes when no further attempt is made.

    A report must not say "4.y.z" of what is final (RFC 3464 section 2.3.4), so the class
    becomes 5; what the last host said stays in the text.
    """
    said = outcome.reply.enhanced
    status = EnhancedStatus(5, said.subject, said.detail) if said else _EXPIRED
    reply = Reply(554, status, (f"Too many failures ({outcome.reply})",))
    return Failed(outcome.recipient, reply, outcome.next_hop, outcome.secured)


def judged(outcomes: Iterable[Outcome], due: float | None) -> tuple[Outcome, ...]:
    """
    The outcomes of one attempt as they count.

    @param due: from `next_attempt`; with None every delay has become a failure.
    """
    if due is not None:
        return tuple(outcomes)
    return tuple(given_up(o) if isinstance(o, Delayed) else o for o in outcomes)
