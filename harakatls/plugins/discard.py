"""Takes messages and throws them away (Haraka's queue/discard)."""

import os

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, IStagedMessage, Site
from harakatls.verdict import ACCEPT, CONTINUE, Verdict

log = Logger()
DISCARD_ALL = "YES_REALLY_DO_DISCARD"  # Haraka's environment variable


def load(_site: Site) -> "Discard":
    """There is nothing to configure but the environment."""
    everything = bool(os.environ.get(DISCARD_ALL))
    if everything:
        log.warn("{variable} is set: every message is accepted and lost", variable=DISCARD_ALL)
    return Discard(everything)


@implementer(IQueueHook)
@frozen
class Discard:
    """
    Discards what another plugin marked: ``notes["discard"]`` of the connection or the
    transaction, or ``notes["queue.wants"] = "discard"`` of the transaction.
    """

    everything: bool = False

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """The sender is told that all is well."""
        if not (
            self.everything
            or connection.notes.get("discard")
            or transaction.notes.get("discard")
            or transaction.notes.get("queue.wants") == "discard"
        ):
            return CONTINUE
        log.info("discarded {id}", id=transaction.id, size=message.size)
        return ACCEPT
