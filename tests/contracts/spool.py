"""What the tests of every queue begin with."""

from collections.abc import Coroutine
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.interfaces import (
    IMessageBody,
    ISpool,
    IStagedMessage,
)
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.queued import QueuedMessage

BODY = b"Subject: a\r\n\r\nbody\r\n"
LARGE = bytes(range(256)) * 4096  # 1 MiB, each block different from what is beside it
ARRIVED = 1_000_000.0


def envelope(*recipients: str, sender: str | None = "from@sender.example") -> Envelope:
    """Ready to be committed."""
    return Envelope(
        None if sender is None else parse_address(sender),
        tuple(Recipient(parse_address(text)) for text in recipients or ("to@one.example",)),
    )


def delivered(queued: QueuedMessage) -> QueuedMessage:
    """As it is when nothing is pending any more."""
    return evolve(queued, pending=())


class SpoolCase(SynchronousTestCase):
    """With a queue that does all at once, without a reactor."""

    clock: Clock
    spool: ISpool

    def make_spool(self, clock: Clock, full: bool = False) -> ISpool:
        """@param full: it has no space for mail."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(ARRIVED)
        self.spool = self.make_spool(self.clock)

    def run_to_end(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def raised_by(self, work: Coroutine[Any, Any, Any], *classes: type[Exception]) -> Exception:
        value = self.failureResultOf(Deferred.fromCoroutine(work), *classes).value
        assert isinstance(value, Exception)
        return value

    def stage(self, message_id: str = "A.1", *chunks: bytes) -> IStagedMessage:
        staged: IStagedMessage = self.run_to_end(self.spool.stage(message_id))
        for chunk in chunks:
            self.run_to_end(staged.write(chunk))
        return staged

    def queue(self, message_id: str = "A.1", *recipients: str, body: bytes = BODY) -> str:
        staged = self.stage(message_id, body)
        queue_id: str = self.run_to_end(staged.commit(envelope(*recipients)))
        return queue_id

    def claim(self, limit: int = 100, **which: Any) -> list[QueuedMessage]:
        return list(self.run_to_end(self.spool.claim(self.clock.seconds(), limit, **which)))

    def claim_ids(self, limit: int = 100, **which: Any) -> list[str]:
        return [queued.id for queued in self.claim(limit, **which)]

    def settle(self, queued: QueuedMessage) -> None:
        self.run_to_end(self.spool.settle(queued))

    def next_due(self, *excluded: str) -> float | None:
        due: float | None = self.run_to_end(self.spool.next_due(excluded))
        return due

    def read(self, body: IMessageBody, length: int = 65536) -> bytes:
        pieces = []
        while piece := self.run_to_end(body.read(length)):
            pieces.append(piece)
        body.close()
        body.close()
        return b"".join(pieces)
