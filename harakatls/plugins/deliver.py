"""Has mail of clients that may relay delivered from the queue (Haraka's queue/deliver)."""

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, IStagedMessage, Site
from harakatls.plugins import spool
from harakatls.verdict import CONTINUE, Verdict


def load(site: Site) -> "Delivery":
    """There is nothing to configure."""
    return Delivery(spool.load(site))


@implementer(IQueueHook)
@frozen
class Delivery:
    """
    Takes it before the plugins that are listed behind; without this one, the durable queue takes it
    behind all.
    """

    durable: spool.DurableQueue

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """All other mail is left to other plugins."""
        if not transaction.relaying or transaction.notes.get("queue.wants", "outbound") not in (
            "outbound",
            "deliver",
        ):
            return CONTINUE
        return await self.durable.queue(connection, transaction, message)
