"""The durable queue: takes whatever no other plugin took, for delivery from here."""

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, IStagedMessage, Site, SpoolFull
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, TempFail, Verdict

NO_SPACE = Reply.of(452, "4.3.1", "Insufficient system storage, try later")


def load(_site: Site) -> "DurableQueue":
    """The message knows the spool it is staged in."""
    return DurableQueue()


@implementer(IQueueHook)
@frozen
class DurableQueue:
    """
    Commits every message to the spool. Asked after all plugins, whether listed or not.

    When it accepts, the message survives a crash.
    """

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """A spool without space asks the sender to come back (452, RFC 5321 section 4.2.2)."""
        try:
            await message.commit(transaction.envelope)
        except SpoolFull:
            return TempFail(NO_SPACE)
        return ACCEPT
