"""Who is told what became of a message (RFC 3461 sections 4.1 and 5.2, RFC 3464); pure."""

from collections.abc import Iterable, Iterator
from enum import Enum

from attrs import frozen

from harakatls.mail.envelope import Recipient
from harakatls.mail.route import LMTP, NextHop
from harakatls.queued import Delivered, Failed, Outcome, QueuedMessage
from harakatls.smtp.reply import EnhancedStatus, Reply


class Action(Enum):
    """The words of RFC 3464 section 2.3.3. We expand no lists, so nothing is "expanded"."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"
    DELIVERED = "delivered"


_CLASSES = {Action.FAILED: 5, Action.DELAYED: 4, Action.RELAYED: 2, Action.DELIVERED: 2}


@frozen
class Notice:
    """
    What the sender is told about one recipient.

    @ivar reply: why it is so.
    @ivar words: the last reply about it; another one than `reply` where that came of many delays.
    @ivar next_hop: who was asked last; None where nobody was.
    """

    recipient: Recipient
    action: Action
    reply: Reply
    words: Reply
    next_hop: NextHop | None = None

    @property
    def status(self) -> EnhancedStatus:
        """Of the class that belongs to the action (RFC 3464 section 2.3.4)."""
        said = self.reply.enhanced
        severity = _CLASSES[self.action]
        return EnhancedStatus(severity, *(said[1:] if said is not None else (0, 0)))


def notices(
    queued: QueuedMessage, outcomes: Iterable[tuple[Outcome, Outcome]], warns: bool
) -> tuple[Notice, ...]:
    """
    All that one attempt gives the sender to know, for one report.

    None for a null reverse-path: no report about a report (RFC 5321 section 4.5.5).

    @param outcomes: each as it was and as it counts, see `retry.judged`.
    @param warns: who is delayed now is told of.
    """
    if queued.envelope.reverse_path is None:
        return ()
    return tuple(_told(outcomes, warns))


def _told(outcomes: Iterable[tuple[Outcome, Outcome]], warns: bool) -> Iterator[Notice]:
    for before, outcome in outcomes:
        recipient = outcome.recipient
        if isinstance(outcome, Delivered):
            # Who offers DSN has been told of the sender's wishes, and sees to them.
            if "SUCCESS" in recipient.notify and not outcome.will_report:
                yield success(before, outcome)
        elif isinstance(outcome, Failed):
            if wants(recipient, "FAILURE"):
                yield Notice(
                    recipient, Action.FAILED, outcome.reply, before.reply, outcome.next_hop
                )
        elif warns and wants(recipient, "DELAY"):
            yield Notice(recipient, Action.DELAYED, outcome.reply, before.reply, outcome.next_hop)


def success(before: Outcome, outcome: Delivered) -> Notice:
    """
    That a next hop has it.

    @param before: the outcome as it was, see `notices`.
    """
    last = outcome.next_hop.protocol == LMTP
    action = Action.DELIVERED if last else Action.RELAYED
    return Notice(outcome.recipient, action, outcome.reply, before.reply, outcome.next_hop)


def wants(recipient: Recipient, what: str) -> bool:
    """Who says nothing wants failures and, where we send them, delays told."""
    return not recipient.notify or what in recipient.notify


def warning_is_due(queued: QueuedMessage, after: float, now: float) -> bool:
    """
    One warning for each message.

    @param after: seconds in the queue; 0 is never.
    """
    return 0 < after <= now - queued.arrived and not queued.warned
