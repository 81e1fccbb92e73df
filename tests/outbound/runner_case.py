"""A queue runner with the memory spool, and deliveries that do as they are told."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IStagedMessage
from harakatls.mail.envelope import Envelope
from harakatls.outbound.delivery import Admit, Result
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered, Failed, Outcome, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.spool.memory import MemorySpool
from harakatls.testing.values import ARRIVED, MESSAGE, NEXT_HOP, envelope
from harakatls.verdict import ACCEPT, CONTINUE, Verdict

ME = "mta.example"
OK = evolve(Reply.of(250, "2.0.0", "Kept"), heard=True)
LATER = evolve(Reply.of(451, "4.7.1", "Later"), heard=True)
NEVER = evolve(Reply.of(550, "5.1.1", "No such user"), heard=True)
TRIAL = Trial("mx.recipient.example [192.0.2.1]:25", "what it said")

Attempt = Callable[[QueuedMessage], Any]


def all_of(kind: type[Outcome], reply: Reply) -> Attempt:
    """The same for every recipient."""
    return lambda queued: Result(
        tuple(kind(recipient, reply, NEXT_HOP) for recipient in queued.pending), (TRIAL,)
    )


delivered, delayed, failed = (
    all_of(Delivered, OK),
    all_of(Delayed, LATER),
    all_of(Failed, NEVER),
)


class Deliveries:
    """
    In place of `Delivery`.

    @ivar plan: what the next attempts come to; then everything is delivered. A Deferred is
        waited for, an exception raised.
    """

    def __init__(self, *plan: Any) -> None:
        self.plan = list(plan)
        self.tried: list[QueuedMessage] = []
        self.closed = False
        self.forgotten = 0

    async def attempt(self, queued: QueuedMessage, admit: Admit) -> Result:
        self.tried.append(queued)
        step = self.plan.pop(0) if self.plan else delivered
        if isinstance(step, Deferred):
            try:
                step = await step
            except CancelledError:
                return Result(
                    tuple(Delayed(recipient, LATER) for recipient in queued.pending),
                    interrupted=True,
                )
        if isinstance(step, Exception):
            raise step
        result = step(queued)
        assert isinstance(result, Result)
        return result

    def forget_failures(self) -> None:
        self.forgotten += 1

    def close(self) -> None:
        self.closed = True


class Observed:
    """Hears of every outcome."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, QueuedMessage, Outcome]] = []
        self.verdict: Verdict = CONTINUE  # of the queue plugins
        self.taken: list[bytes] = []
        self.bounces = True  # what is said to bounces
        self.delays: list[float | Reply | None] = []  # and to delays, in order; then nothing
        self.asked: list[tuple[QueuedMessage, tuple[Delayed, ...]]] = []  # about delays

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        if self.verdict is CONTINUE:  # then the durable queue is asked
            await message.commit(transaction.envelope)
            return ACCEPT
        body = message.open()
        self.taken.append(await body.read(body.size))
        return self.verdict

    async def delay(
        self, queued: QueuedMessage, delayed: tuple[Delayed, ...]
    ) -> float | Reply | None:
        self.asked.append((queued, delayed))
        return self.delays.pop(0) if self.delays else None

    async def bounce(self, queued: QueuedMessage, failed: tuple[Failed, ...]) -> bool:
        return self.bounces

    async def delivered(self, queued: QueuedMessage, outcome: Delivered) -> None:
        self.heard.append(("delivered", queued, outcome))

    async def delayed(self, queued: QueuedMessage, outcome: Delayed) -> None:
        self.heard.append(("delayed", queued, outcome))

    async def failed(self, queued: QueuedMessage, outcome: Failed) -> None:
        self.heard.append(("failed", queued, outcome))


class RunnerTestCase(SynchronousTestCase):
    """A runner that is started when `start` is called."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(ARRIVED)
        self.spool = MemorySpool(self.clock)
        self.observed = Observed()
        self.ids = 0

    def start(self, *plan: Any, **settings: Any) -> QueueRunner:
        """@param settings: fields of `OutboundSettings`."""
        self.deliveries = Deliveries(*plan)
        self.runner = QueueRunner(
            self.spool,
            self.observed,
            self.deliveries,
            OutboundSettings(**settings),
            ME,
            self.clock,
            grace=30.0,
            new_id=self.new_id,
        )
        self.runner.startService()
        return self.runner

    def new_id(self) -> str:
        self.ids += 1
        return f"NEW{self.ids}"

    def stop(self) -> None:
        """Without anything in hand."""
        self.successResultOf(self.runner.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def queue(self, mail: Envelope | None = None, message: bytes = MESSAGE) -> str:
        """A message is accepted."""
        return self.successResultOf(Deferred.fromCoroutine(self._queue(mail, message)))

    async def _queue(self, mail: Envelope | None, message: bytes) -> str:
        staged = await self.spool.stage(f"TX{self.new_id()}")
        await staged.write(message)
        return await staged.commit(mail or envelope())

    def waiting(self) -> list[QueuedMessage]:
        """What stays in the queue."""
        return [row.queued for row in self.spool._rows.values()]

    def only_waiting(self) -> QueuedMessage:
        (queued,) = self.waiting()
        return queued
