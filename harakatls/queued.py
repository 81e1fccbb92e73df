"""A message in the queue, and what became of it."""

from collections.abc import Iterable, Mapping

from attrs import evolve, frozen

from harakatls.connection import TLSSummary
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.mail.route import NextHop
from harakatls.smtp.reply import Reply

HISTORY = 30  # attempts that are kept with a message; older ones are in the log


@frozen
class Delivered:
    """
    The next hop has taken responsibility.

    @ivar secured: what the connection's TLS came to; None in the clear.
    @ivar will_report: it offers DSN, so it knows what the sender wants to be told (RFC 3461).
    """

    recipient: Recipient
    reply: Reply
    next_hop: NextHop
    secured: TLSSummary | None = None
    will_report: bool = False


@frozen
class Delayed:
    """
    Not now: to be tried again.

    @ivar reply: the next hop's words, or ours (4yz) where it said none.
    @ivar next_hop: who said so; None where no host was reached.
    """

    recipient: Recipient
    reply: Reply
    next_hop: NextHop | None = None
    secured: TLSSummary | None = None


@frozen
class Failed:
    """Never: the sender is told. Fields as in `Delayed`."""

    recipient: Recipient
    reply: Reply
    next_hop: NextHop | None = None
    secured: TLSSummary | None = None


Outcome = Delivered | Delayed | Failed


@frozen
class Trial:
    """
    One host of one attempt.

    @ivar host: what was connected to, "mx1.example.net [192.0.2.1]:25".
    @ivar result: the reply or failure that ended it, in one line.
    @ivar tls: the TLS of the connection, "TLSv1.3 TLS_AES_256_GCM_SHA384 verified", followed by
        ", resumed" where it was; "" in the clear.
    @ivar reasons: why TLS was wanted as it was, the first reason first.
    @ivar earlier: how many messages had been on the connection before.
    """

    host: str
    result: str
    tls: str = ""
    reasons: tuple[str, ...] = ()
    earlier: int = 0


@frozen
class Attempt:
    """@ivar at: seconds since the epoch. @ivar trials: in the order of the hosts tried."""

    at: float
    trials: tuple[Trial, ...]


@frozen
class QueuedMessage:
    """
    A message for the recipients of one domain, waiting for delivery.

    A message for several domains is queued as one of these for each, so that a slow domain
    holds up no other; they share their body in the spool.

    @ivar id: the transaction's id and a number, "…A1B2.1.2".
    @ivar domain: of all recipients; "" for postmaster alone.
    @ivar arrived: when it was accepted, seconds since the epoch.
    @ivar due: when it is to be tried next, seconds since the epoch.
    @ivar attempts: how many were made.
    @ivar pending: recipients that are neither delivered nor failed.
    @ivar size: octets of the message.
    @ivar last_replies: the last reply about a recipient, by its address as text.
    @ivar history: the last attempts, oldest first.
    @ivar warned: the sender knows that it is late.
    @ivar removed: when the operator removed a recipient, in seconds since the epoch, by its address
        as text.
    """

    id: str
    envelope: Envelope
    domain: str
    arrived: float
    due: float
    size: int
    pending: tuple[Recipient, ...]
    attempts: int = 0
    last_replies: Mapping[str, Reply] = {}
    history: tuple[Attempt, ...] = ()
    warned: bool = False
    removed: Mapping[str, float] = {}

    def after_attempt(
        self, outcomes: Iterable[Outcome], attempt: Attempt, due: float
    ) -> "QueuedMessage":
        """
        The message after one attempt.

        @param outcomes: for any of the pending recipients; one without stays pending.
        @param due: when to try next, if anything stays pending.
        """
        replies = dict(self.last_replies)
        settled = set()
        for outcome in outcomes:
            replies[str(outcome.recipient.address)] = outcome.reply
            if not isinstance(outcome, Delayed):
                settled.add(outcome.recipient)
        return evolve(
            self,
            attempts=self.attempts + 1,
            due=due,
            pending=tuple(r for r in self.pending if r not in settled),
            last_replies=replies,
            history=(*self.history, attempt)[-HISTORY:],
        )

    def without(self, recipients: Iterable[Recipient], at: float) -> "QueuedMessage":
        """
        The message after the operator has removed some of the pending recipients.

        @param at: when, in seconds since the epoch.
        """
        gone = frozenset(recipients)
        addresses = {str(recipient.address): at for recipient in gone}
        return evolve(
            self,
            pending=tuple(r for r in self.pending if r not in gone),
            last_replies={
                to: said for to, said in self.last_replies.items() if to not in addresses
            },
            removed={**self.removed, **addresses},
        )
