"""
One attempt to deliver a queued message: the hosts in order, an outcome for each recipient.

Which host comes next:

- A host that cannot be reached, breaks off, or says 4yz leaves its recipients to the next one; so
  does one whose greeting or EHLO is 5yz. Where every host said 5yz there, the message fails.
- 5yz to MAIL, RCPT, DATA or the end of data is final for the recipients it is about
  (RFC 5321 section 4.2.1).
- When the connection breaks after the final dot, the host may have the message. No other host is
  asked in this attempt; the next attempt may deliver it twice, which is better than never.
"""

from collections.abc import Awaitable, Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol

from attrs import Factory, define, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from harakatls.connection import TLSSummary
from harakatls.interfaces import IMessageBody, ISpool
from harakatls.mail.envelope import Recipient
from harakatls.mail.header import field as header_field
from harakatls.mail.route import NextHop
from harakatls.outbound.connector import Opened, Unusable
from harakatls.outbound.log import log_hop, log_unusable
from harakatls.outbound.protocol import ConnectionBroken
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.transaction import RECIPIENTS, Transaction
from harakatls.queued import Delayed, Delivered, Failed, Outcome, QueuedMessage, Trial
from harakatls.smtp.events import Asked
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import CLOSED
from harakatls.tls.policy import Decision

MOST_TRIALS = 20  # hosts of one attempt
_REPLY_LINES = 10
_REPLY_CHARACTERS = 400

TOO_MANY_RECIPIENTS = (5, 3)  # RFC 3463 section 3.6
SHUT_DOWN = Reply.of(451, "4.3.2", "This server is being shut down")


class Opener(Protocol):
    """What is needed of `Connector`."""

    def open(self, hop: NextHop, earlier_attempts: int) -> Awaitable[Opened | Unusable]: ...
    def close(self) -> None: ...


@frozen
class Result:
    """
    What one attempt came to.

    @ivar outcomes: one for each recipient that was pending.
    @ivar trials: in the order of the hosts tried.
    @ivar interrupted: we were told to stop.
    """

    outcomes: tuple[Outcome, ...]
    trials: tuple[Trial, ...] = ()
    interrupted: bool = False


@frozen
class Delivery:
    """Makes attempts, any number at a time."""

    routing: Routing
    connector: Opener
    spool: ISpool
    settings: OutboundSettings
    me: str
    clock: IReactorTime

    async def attempt(self, queued: QueuedMessage) -> Result:
        """
        Cancelling ends it early; what has been settled by then counts.

        @raise SpoolDamaged: the message cannot be read.
        """
        attempt = _Attempt(self, queued, list(dict.fromkeys(queued.pending)))
        interrupted = False
        try:
            await attempt.run()
        except CancelledError:
            interrupted = True
        return attempt.result(interrupted)

    def close(self) -> None:
        """Nothing is sent any more; connections that wait for a goodbye are cut."""
        self.connector.close()

    def received_field(self) -> bytes:
        """What is put on top of the message as it leaves (Haraka's ``Received: (...)``)."""
        comment = self.settings.received_header
        if comment is None:
            return b""
        return _received_field(comment, int(self.clock.seconds()))


@define
class _Attempt:
    """
    The state of one attempt.

    @ivar left: recipients that are neither delivered nor failed.
    @ivar outcomes: the last one for each recipient.
    @ivar unusable: for each host that could not be used, why.
    """

    delivery: Delivery
    queued: QueuedMessage
    left: list[Recipient]
    outcomes: dict[Recipient, Outcome] = Factory(dict)
    trials: list[Trial] = Factory(list)
    unusable: list[tuple[NextHop | None, Reply]] = Factory(list)

    async def run(self) -> None:
        routing = self.delivery.routing
        route = await routing.route(self.queued)
        if route.refusal is not None:
            self._not_used(None, route.refusal)
        for group in route.groups:
            found = await routing.addresses(group)
            for skipped in found.skipped:
                self._not_used(skipped.hop, skipped.reply)
            for hop in found.hops:
                if len(self.trials) < MOST_TRIALS and await self._try(hop):
                    return
            if found.ends:
                return

    def result(self, interrupted: bool) -> Result:
        """@param interrupted: the rest was not tried for that reason."""
        undecided = [
            self._undecided(recipient, interrupted)
            for recipient in self.left
            if recipient not in self.outcomes
        ]
        if undecided:
            self.outcomes.update((outcome.recipient, outcome) for outcome in undecided)
            now = self.delivery.clock.seconds()
            log_hop(self.queued, undecided[0].next_hop, undecided, None, now)
        return Result(tuple(self.outcomes.values()), tuple(self.trials), interrupted)

    def _undecided(self, recipient: Recipient, interrupted: bool) -> Delayed | Failed:
        """No host was asked about the recipient: the reason is that of the hosts."""
        if interrupted or not self.unusable:
            return Delayed(recipient, SHUT_DOWN)
        passing = [(hop, reply) for hop, reply in self.unusable if not reply.is_permanent]
        if passing:
            hop, reply = passing[-1]
            return Delayed(recipient, reply, hop)
        hop, reply = self.unusable[-1]
        return Failed(recipient, reply, hop)

    # -- one host -----------------------------------------------------------------------------

    async def _try(self, hop: NextHop) -> bool:
        """@return: no further host is to be tried."""
        opened = await self.delivery.connector.open(hop, self.queued.attempts)
        if isinstance(opened, Unusable):
            self._not_used(hop, _bounded(opened.reply), opened.decision, opened.secured)
            return False
        connected = _AtHost(self, hop, opened)
        try:
            await connected.run()
        except ConnectionBroken as problem:
            opened.protocol.abort()
            connected.broken(str(problem))
        except BaseException:
            # A message of which a part was sent must never be ended with a dot.
            opened.protocol.abort()
            connected.problem = "interrupted"
            connected.record()
            raise
        else:
            opened.protocol.quit()
        connected.record()
        return not self.left or connected.unsettled

    def _not_used(
        self,
        hop: NextHop | None,
        reply: Reply,
        decision: Decision | None = None,
        secured: TLSSummary | None = None,
    ) -> None:
        self.unusable.append((hop, reply))
        log_unusable(self.queued, hop, reply, decision, secured)
        if hop is not None or not self.trials:
            self.trials.append(_trial(hop, str(reply), decision, secured))


@define
class _AtHost:
    """The transactions with one host, and what they came to."""

    attempt: _Attempt
    hop: NextHop
    opened: Opened
    outcomes: list[Outcome] = Factory(list)
    problem: str | None = None
    unsettled: bool = False
    _transaction: Transaction | None = None

    async def run(self) -> None:
        """
        One transaction for every hundred recipients; and another one for those whom the server
        found too many (RFC 5321 section 4.5.3.1.10).
        """
        waiting = list(self.attempt.left)
        most = 1 if self.attempt.delivery.settings.always_split else RECIPIENTS
        top = self.attempt.delivery.received_field()
        while waiting:
            batch, waiting = waiting[:most], waiting[most:]
            transaction = self._transaction = self._begin(batch, top)
            await transaction.run()
            self._transaction = None
            too_many = self._take(transaction)
            waiting = too_many + waiting
            if waiting:
                await self._clear_away()

    def _begin(self, batch: Sequence[Recipient], top: bytes) -> Transaction:
        queued, delivery = self.attempt.queued, self.attempt.delivery

        def open_body() -> IMessageBody:
            return delivery.spool.open_body(queued)

        return Transaction(
            self.opened.protocol,
            delivery.settings,
            queued.envelope,
            batch,
            queued.size + len(top),
            top,
            open_body,
        )

    async def _clear_away(self) -> None:
        """RSET, since the last transaction need not have ended with a message."""
        protocol = self.opened.protocol
        if protocol.session.state is CLOSED:
            raise ConnectionBroken("the server ended the conversation")
        protocol.send(protocol.session.reset())
        reply = await protocol.answer(Asked.RSET, self.attempt.delivery.settings.command_timeout)
        if reply.code != 250:
            raise ConnectionBroken(f"the server refused RSET: {reply}")

    def _take(self, transaction: Transaction) -> list[Recipient]:
        """
        Turn replies into outcomes.

        @return: the recipients that were too many, to be sent again on this connection.
        """
        progress = any(reply.is_positive for reply in transaction.replies.values())
        too_many = []
        for recipient, reply in transaction.replies.items():
            if progress and _says_too_many(reply):
                too_many.append(recipient)
            else:
                self._decide(recipient, _bounded(reply))
        return too_many

    def _decide(self, recipient: Recipient, reply: Reply) -> None:
        kind: type[Delivered] | type[Delayed] | type[Failed] = Delayed
        if 200 <= reply.code < 300:
            kind = Delivered
        elif reply.is_permanent:
            kind = Failed
        self.outcomes.append(kind(recipient, reply, self.hop, self.opened.secured))

    def broken(self, problem: str) -> None:
        """The connection is gone; what was answered before counts."""
        self.problem = problem
        if self._transaction is not None and self._transaction.unsettled:
            self.unsettled = True
            self.problem = f"{problem}; after the end of data, so it may arrive twice"
        reply = Reply.of(451, "4.4.2", f"{_name(self.hop)}: {self.problem}")
        if self._transaction is not None:
            self._take(self._transaction)
        decided = {outcome.recipient for outcome in self.outcomes}
        for recipient in self.attempt.left:
            if recipient not in decided:
                self._decide(recipient, reply)

    def record(self) -> None:
        """Tell the attempt and the log."""
        attempt = self.attempt
        for outcome in self.outcomes:
            attempt.outcomes[outcome.recipient] = outcome
        settled = {o.recipient for o in self.outcomes if not isinstance(o, Delayed)}
        attempt.left = [r for r in attempt.left if r not in settled]
        words = _in_one_line(self.outcomes) or self.problem or "nothing was said"
        attempt.trials.append(_trial(self.hop, words, self.opened.decision, self.opened.secured))
        now = attempt.delivery.clock.seconds()
        log_hop(attempt.queued, self.hop, self.outcomes, self.opened.secured, now)


# -- words --------------------------------------------------------------------------------------


@lru_cache(2)
def _received_field(comment: str, now: int) -> bytes:
    return header_field("Received", f"({comment}); {formatdate(now)}")


def _says_too_many(reply: Reply) -> bool:
    """452, or 552 from servers that follow older rules (RFC 5321 section 4.5.3.1.10)."""
    enhanced = reply.enhanced
    return reply.code in (452, 552) and (enhanced is None or enhanced[1:] == TOO_MANY_RECIPIENTS)


def _bounded(reply: Reply) -> Reply:
    """What is kept of a reply: no server fills our queue, and no control character gets into it."""
    lines = tuple(
        line
        if line.isprintable() and len(line) <= _REPLY_CHARACTERS
        else "".join(c if c.isprintable() else " " for c in line[:_REPLY_CHARACTERS])
        for line in reply.lines[:_REPLY_LINES]
    )
    return reply if lines == reply.lines else Reply(reply.code, reply.enhanced, lines)


def _in_one_line(outcomes: Iterable[Outcome]) -> str:
    """The different replies, the first ones first."""
    replies = list(dict.fromkeys(str(outcome.reply) for outcome in outcomes))
    more = f"; and {len(replies) - 3} other replies" if len(replies) > 3 else ""
    return "; ".join(replies[:3]) + more


def _trial(
    hop: NextHop | None, result: str, decision: Decision | None, secured: TLSSummary | None
) -> Trial:
    reasons = decision.reasons if decision is not None else ()
    return Trial("" if hop is None else _place(hop), result, _tls_in_words(secured), reasons)


def _place(hop: NextHop) -> str:
    host = f"[{hop.host}]:{hop.port}"
    return f"{hop.mx_name} {host}" if hop.mx_name else host


def _tls_in_words(secured: TLSSummary | None) -> str:
    if secured is None:
        return ""
    verified = "verified" if secured.verified else f"not verified: {secured.verify_error or '-'}"
    return f"{secured.protocol} {secured.cipher} {verified}"


def _name(hop: NextHop) -> str:
    return hop.mx_name or hop.host
