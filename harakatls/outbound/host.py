"""All transactions of one message with one host, and the outcome for each recipient."""

from collections.abc import Callable, Sequence

from attrs import Factory, define, evolve

from harakatls.connection import TLSSummary
from harakatls.interfaces import IMessageBody, ISpool
from harakatls.mail.envelope import RECIPIENTS, Recipient
from harakatls.mail.route import NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.connector import Opened
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.transaction import Transaction
from harakatls.queued import Delayed, Delivered, Failed, Outcome, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import CLOSED
from harakatls.tls.policy import Decision
from harakatls.tls.wishes import as_told

# RFC 5321 section 4.5.3.2 limits each answer. A server that takes all the time for each of a
# hundred recipients would have a message for half a day.
LONGEST = 3600.0  # seconds for the transactions of one message, ...
OCTETS_A_SECOND = 10_000  # ... and so much longer as it takes to send it at this rate
_TOO_MANY = (5, 3)  # RFC 3463 section 3.6: X.5.3, too many recipients
_REPLY_LINES = 10
_REPLY_CHARACTERS = 1000  # as many as a report tells


@define
class AtHost:
    """
    @ivar recipients: whom to deliver to.
    @ivar top: header fields to be put on top of the message.
    @ivar leave: what becomes of the connection when all is said.
    @ivar waiting: for whom the host allows no transaction on this connection any more.
    @ivar outcomes: at most one for each recipient.
    @ivar unsettled: the host may have the message, though it did not say so.
    @ivar strains: it broke off, or had no time for the sender: it may be asked too much.
    @ivar stale: the connection had been kept and was dead; nothing has been said of this message.
    """

    queued: QueuedMessage
    recipients: Sequence[Recipient]
    hop: NextHop
    opened: Opened
    spool: ISpool
    settings: OutboundSettings
    top: bytes
    leave: Callable[[Opened], None]
    waiting: list[Recipient] = Factory(list)
    outcomes: list[Outcome] = Factory(list)
    unsettled: bool = False
    strains: bool = False
    stale: bool = False
    _transaction: Transaction | None = None

    async def run(self) -> None:
        """
        Deliver.

        @raise SpoolDamaged: the message cannot be read.
        """
        protocol = self.opened.protocol
        protocol.allow(LONGEST + self.queued.size / OCTETS_A_SECOND)
        try:
            await self._transactions()
        except ConnectionBroken as problem:
            protocol.abort()
            if not self.stale:
                self._broken(str(problem))
        except BaseException:
            # A message of which a part was sent must never be ended with a dot.
            protocol.abort()
            raise
        else:
            self.leave(self.opened)

    def trial(self) -> Trial:
        """For the history of the message."""
        words = replies_in_words(self.outcomes) or "interrupted"
        opened = self.opened
        return trial(self.hop, words, opened.decision, opened.secured, opened.earlier)

    async def _transactions(self) -> None:
        """
        One for every hundred recipients, or as many as the server allows (RFC 9422); and another
        one for those whom it found too many (RFC 5321 section 4.5.3.1.10).
        """
        waiting = list(self.recipients)
        session = self.opened.protocol.session
        limits = session.capabilities.limits
        most = 1 if self.settings.always_split else min(RECIPIENTS, limits.recipients or RECIPIENTS)
        while waiting:
            if session.is_spent:
                self.waiting = waiting
                return
            batch, waiting = _batch(waiting, most, limits.domains)
            transaction = self._transaction = self._begin(batch)
            try:
                await transaction.run()
            except ConnectionBroken:
                self.strains = True
                raise
            finally:
                self.stale = self._is_stale(transaction)
            if transaction.mail is not None and transaction.mail.is_transient:
                self.strains = True
            self._transaction = None
            if self.stale:
                return
            waiting = self._take(transaction) + waiting
            if waiting and not session.is_spent:
                await self.opened.protocol.reset(self.settings.command_timeout)

    def _is_stale(self, transaction: Transaction) -> bool:
        """
        A server may close a connection just when the next message is sent on it. Where it has said
        nothing about that, the message has not been tried.
        """
        protocol = self.opened.protocol
        return (
            self.opened.earlier > 0
            and not self.outcomes
            and not transaction.answered
            and (protocol.lost or protocol.session.state is CLOSED)
        )

    def _begin(self, batch: Sequence[Recipient]) -> Transaction:
        def open_body() -> IMessageBody:
            return self.spool.open_body(self.queued)

        return Transaction(
            self.opened.protocol,
            self.settings,
            as_told(self.queued.envelope, self.opened.decision),
            batch,
            self.queued.size + len(self.top),
            self.top,
            open_body,
            # Some servers offer what they do not know; the message gets through without.
            chunking=self.settings.chunking and self.queued.attempts < 1,
            pipelining=self.queued.attempts < 2,
            kept=self.opened.earlier > 0,
        )

    # -- outcomes -------------------------------------------------------------------------------

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
                self._decide(recipient, bounded(reply))
        return too_many

    def _broken(self, problem: str) -> None:
        """The connection is gone; what was answered before counts."""
        if self._transaction is not None:
            self.unsettled = self._transaction.unsettled
            self._take(self._transaction)
        if self.unsettled:
            problem = f"{problem}; after the end of data, so it may arrive twice"
        reply = bounded(Reply.of(451, "4.4.2", f"{self.hop.name}: {problem}"))
        decided = {outcome.recipient for outcome in self.outcomes}
        for recipient in self.recipients:
            if recipient not in decided:
                self._decide(recipient, reply)

    def _decide(self, recipient: Recipient, reply: Reply) -> None:
        self.outcomes.append(decided(recipient, reply, self.hop, self.opened))


def decided(recipient: Recipient, reply: Reply, hop: NextHop, opened: Opened) -> Outcome:
    """What a reply means for a recipient. @param hop: who has given it, on *opened*."""
    if reply.accepts:
        return Delivered(recipient, reply, hop, opened.secured, offers_dsn(opened))
    kind = Failed if reply.is_permanent else Delayed
    return kind(recipient, reply, hop, opened.secured)


def offers_dsn(opened: Opened) -> bool:
    """The host does, so it has been told what the sender wants to hear of (RFC 3461)."""
    return "DSN" in opened.protocol.session.capabilities


def _batch(
    recipients: list[Recipient], most: int, domains: int
) -> tuple[list[Recipient], list[Recipient]]:
    """
    Those for one transaction, and the others, in order.

    @param domains: how many different ones there may be among the first; 0 for any number.
    """
    if not domains:
        return recipients[:most], recipients[most:]
    allowed: set[str] = set()
    batch: list[Recipient] = []
    others: list[Recipient] = []
    for recipient in recipients:
        domain = recipient.address.domain
        if len(batch) < most and (domain in allowed or len(allowed) < domains):
            allowed.add(domain)
            batch.append(recipient)
        else:
            others.append(recipient)
    return batch, others


# -- words ----------------------------------------------------------------------------------------


def _says_too_many(reply: Reply) -> bool:
    """452, or 552 from servers that follow older rules (RFC 5321 section 4.5.3.1.10)."""
    enhanced = reply.enhanced
    return reply.code in (452, 552) and (enhanced is None or enhanced[1:] == _TOO_MANY)


def bounded(reply: Reply) -> Reply:
    """What is kept of a reply: no server fills our queue, and no control character gets into it."""
    room = _REPLY_CHARACTERS
    lines: list[str] = []
    for line in reply.lines[:_REPLY_LINES]:
        lines.append(_printable(line[:room]))
        room -= len(lines[-1])
        if room <= 0:
            break
    kept = tuple(lines)
    return reply if kept == reply.lines else evolve(reply, lines=kept)


def _printable(line: str) -> str:
    return line if line.isprintable() else "".join(c if c.isprintable() else " " for c in line)


def replies_in_words(outcomes: Sequence[Outcome]) -> str:
    """The different replies, the first ones first."""
    replies = list(dict.fromkeys(str(outcome.reply) for outcome in outcomes))
    more = f"; and {len(replies) - 3} other replies" if len(replies) > 3 else ""
    return "; ".join(replies[:3]) + more


def trial(
    hop: NextHop | None,
    result: str,
    decision: Decision | None,
    secured: TLSSummary | None,
    earlier: int = 0,
) -> Trial:
    """
    @param hop: None where no host was found to try.
    @param earlier: messages that had been on the connection before.
    """
    place = ""
    if hop is not None:
        address = hop.host if hop.is_socket else f"[{hop.host}]:{hop.port}"
        place = f"{hop.mx_name} {address}" if hop.mx_name else address
    reasons = decision.reasons if decision is not None else ()
    return Trial(place, result, _tls_in_words(secured), reasons, earlier)


def _tls_in_words(secured: TLSSummary | None) -> str:
    if secured is None:
        return ""
    verified = "verified" if secured.verified else f"not verified: {secured.verify_error or '-'}"
    resumed = ", resumed" if secured.resumed else ""
    return f"{secured.protocol} {secured.cipher} {verified}{resumed}"
