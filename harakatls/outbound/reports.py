"""
Gives a report of ours to the queue plugins, as accepted mail is given to them.

The sender may be at home here, where a plugin delivers (queue/maildir): no host in the world would
take the report for us.
"""

from collections.abc import Awaitable
from typing import Protocol

from zope.interface import implementer

from harakatls.connection import Connection, Endpoint, Transaction
from harakatls.interfaces import IMessageBody, IStagedMessage
from harakatls.mail.envelope import Envelope
from harakatls.queued import QueuedMessage
from harakatls.verdict import Accept, Verdict

OURSELVES = Endpoint("127.0.0.1", 0)  # in place of a peer: the report comes from nobody else


class Takers(Protocol):
    """What is needed of `hooks.chain.HookChain`."""

    def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Awaitable[Verdict]: ...


async def hand_over(
    takers: Takers, staged: IStagedMessage, envelope: Envelope, settling: QueuedMessage
) -> bool:
    """
    Have somebody take a report; the durable queue does it where nobody else will.

    @param staged: the report.
    @param settling: the message it is about, see `IStagedMessage.commit`.
    @return: *settling* was settled in the transaction that queued the report; if not, a plugin has
        the report, and *settling* is still to be settled.
    @raise SpoolFull, SpoolDamaged: nobody has it.
    """
    report = _Report(staged, settling)
    connection = Connection(staged.id, OURSELVES, OURSELVES, relaying=True)
    transaction = Transaction(staged.id, envelope, relaying=True)
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

    def __init__(self, staged: IStagedMessage, settling: QueuedMessage) -> None:
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
