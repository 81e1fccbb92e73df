"""Writes each message into a file of its own, and takes it (Haraka's queue/test)."""

import tempfile
from pathlib import Path

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, IStagedMessage, Site
from harakatls.plugins.files import CallInThread, refusal, write_message
from harakatls.verdict import ACCEPT, CONTINUE, TempFail, Verdict

log = Logger()


def load(site: Site) -> "TestQueue":
    """There is nothing to configure but the environment (TMPDIR)."""
    return TestQueue(Path(tempfile.gettempdir()), site.call_in_thread)


@implementer(IQueueHook)
@frozen
class TestQueue:
    """Mail of clients that may relay goes on."""

    directory: Path
    call_in_thread: CallInThread

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """For everybody who wants to see what would be delivered."""
        if transaction.relaying or transaction.notes.get("queue.wants", "test") != "test":
            return CONTINUE
        file = self.directory / f"mail_{transaction.id}.eml"
        try:
            await write_message(self.call_in_thread, file, message.open())
        except OSError as problem:
            log.error("{file}: {problem}", file=str(file), problem=problem.strerror)
            return TempFail(refusal(problem))
        log.info("{id} is in {file}", id=transaction.id, file=str(file))
        return ACCEPT
