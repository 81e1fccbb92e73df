"""
Gives reports of ours to the queue plugins, as accepted mail is given to them.

The sender may be at home here, where a plugin delivers (queue/maildir): no host in the world would
take the report for us.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol
from uuid import uuid4

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, Endpoint, Transaction
from harakatls.interfaces import (
    IMessageBody,
    ISpool,
    IStagedMessage,
    ISuccessReports,
    SpoolDamaged,
    SpoolFull,
)
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.outbound.dsn import Reporter, report_envelope
from harakatls.outbound.notices import Action, Notice, success
from harakatls.outbound.original import returned
from harakatls.queued import Delivered, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.verdict import Accept, Verdict

log = Logger()

DELIVERED = Reply.of(250, "2.0.0", "Delivered")
OURSELVES = Endpoint("127.0.0.1", 0)  # in place of a peer: the report comes from nobody else


class Takers(Protocol):
    """What is needed of `hooks.chain.HookChain`."""

    def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Awaitable[Verdict]: ...


def unique_id() -> str:
    """Not to be guessed."""
    return str(uuid4()).upper()


@implementer(ISuccessReports)
@frozen
class SuccessReports:
    """Tells senders of mail that a queue plugin has delivered or handed on."""

    spool: ISpool
    takers: Takers
    reporter: Reporter
    clock: IReactorTime
    new_id: Callable[[], str] = unique_id

    async def delivered(
        self, transaction: Transaction, recipients: Sequence[Recipient], message: IStagedMessage
    ) -> None:
        """As `ISuccessReports.delivered`."""
        told = [Notice(who, Action.DELIVERED, DELIVERED, DELIVERED) for who in recipients]
        await self._report(transaction, told, message)

    async def relayed(
        self, transaction: Transaction, handed_on: Sequence[Delivered], message: IStagedMessage
    ) -> None:
        """As `ISuccessReports.relayed`."""
        await self._report(
            transaction, [success(outcome, outcome) for outcome in handed_on], message
        )

    async def _report(
        self, transaction: Transaction, told: Sequence[Notice], message: IStagedMessage
    ) -> None:
        now = self.clock.seconds()
        about = QueuedMessage(
            transaction.id, transaction.envelope, "", now, now, message.size, pending=()
        )
        try:
            body = message.open()
            try:
                original = await returned(body, full=False)
            finally:
                body.close()
            report = self.reporter.report(about, told, original, now, self.new_id())
            await self._send(report, report_envelope(about, report))
        except (SpoolFull, SpoolDamaged) as problem:
            log.error(
                "the report that {id} was delivered cannot be queued: {problem}",
                id=transaction.id,
                problem=str(problem),
            )
        except Exception:
            log.failure("the report that {id} was delivered failed", id=transaction.id)

    async def _send(self, report: bytes, envelope: Envelope) -> None:
        staged = await self.spool.stage(f"{self.new_id()}.1")
        try:
            await staged.write(report)
            await hand_over(self.takers, staged, envelope, None)
        finally:
            await staged.abort()


async def hand_over(
    takers: Takers,
    staged: IStagedMessage,
    envelope: Envelope,
    settling: QueuedMessage | None,
    notes: dict[str, Any] | None = None,
) -> bool:
    """
    Have somebody take a report, or other mail of our own; the durable queue does it where nobody
    else will.

    @param staged: the report.
    @param settling: the message it is about, see `IStagedMessage.commit`; None where that is in
        no queue.
    @param notes: of the transaction, for plugins.
    @return: *settling* was settled in the transaction that queued the report; if not, a plugin has
        the report, and *settling* is still to be settled.
    @raise SpoolFull, SpoolDamaged: nobody has it.
    """
    report = _Report(staged, settling)
    connection = Connection(staged.id, OURSELVES, OURSELVES, relaying=True)
    transaction = Transaction(staged.id, envelope, relaying=True, notes=notes or {})
    verdict = await takers.queue(connection, transaction, report)
    if report.problem is not None:
        raise report.problem
    if report.committed:
        return True
    if isinstance(verdict, Accept):
        return False
    await staged.commit(envelope, settling)
    return True


@implementer(IStagedMessage)
class _Report:
    """
    A staged message whose commit settles another one.

    @ivar problem: why a commit failed.
    """

    def __init__(self, staged: IStagedMessage, settling: QueuedMessage | None) -> None:
        self._staged = staged
        self._settling = settling
        self.id = staged.id
        self.committed = False
        self.problem: Exception | None = None

    @property
    def size(self) -> int:
        """As `IStagedMessage.size`."""
        return self._staged.size

    def prepend(self, fields: bytes) -> None:
        """As `IStagedMessage.prepend`."""
        self._staged.prepend(fields)

    async def write(self, chunk: bytes) -> None:
        """As `IStagedMessage.write`."""
        await self._staged.write(chunk)

    async def commit(self, envelope: Envelope, settling: QueuedMessage | None = None) -> str:
        """As `IStagedMessage.commit`; what is settled is known here."""
        try:
            queue_id = await self._staged.commit(envelope, settling or self._settling)
        except Exception as problem:
            self.problem = problem
            raise
        self.committed = True
        return queue_id

    async def abort(self) -> None:
        """As `IStagedMessage.abort`."""
        await self._staged.abort()

    def open(self) -> IMessageBody:
        """As `IStagedMessage.open`."""
        return self._staged.open()
