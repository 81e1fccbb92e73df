"""Any order of events around the queue runner: nothing is forgotten, nothing runs wild."""

from collections.abc import Collection
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.delivery import Admit, Result
from harakatls.outbound.limits import Limits
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered, Outcome, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.spool.memory import MemorySpool
from harakatls.testing.values import ARRIVED, MESSAGE, NEXT_HOP, envelope
from harakatls.verdict import CONTINUE, Verdict

OK = Reply.of(250, "2.0.0", "Kept")
LATER = Reply.of(451, "4.7.1", "Later")


class SlowSpool(MemorySpool):
    """Answers only when it is let."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.slow = True
        self.waiting: list[Deferred[None]] = []
        self.claims = 0

    async def claim(self, now: float, limit: int, **which: Any) -> tuple[QueuedMessage, ...]:
        self.claims += 1
        await self.delay()
        return await super().claim(now, limit, **which)

    async def settle(self, queued: QueuedMessage) -> None:
        await self.delay()
        await super().settle(queued)

    async def next_due(self, excluded: Collection[str] = ()) -> float | None:
        due = await super().next_due(excluded)
        await self.delay()
        return due

    async def delay(self) -> None:
        """Until `let`."""
        if self.slow:
            self.waiting.append(Deferred())
            await self.waiting[-1]

    def let(self, newest: bool = False) -> None:
        """Answer one question: the oldest or the newest."""
        if self.waiting:
            self.waiting.pop(-1 if newest else 0).callback(None)


class SlowDeliveries:
    """Attempts that end when they are let: delayed or delivered."""

    def __init__(self) -> None:
        self.waiting: list[tuple[QueuedMessage, Deferred[bool]]] = []
        self.most = 0

    async def attempt(self, queued: QueuedMessage, admit: Admit) -> Result:
        ended: Deferred[bool] = Deferred()
        self.waiting.append((queued, ended))
        self.most = max(self.most, len(self.waiting))
        success = await ended
        outcomes: list[Outcome] = []
        for recipient in queued.pending:
            if success:
                outcomes.append(Delivered(recipient, OK, NEXT_HOP))
            else:
                outcomes.append(Delayed(recipient, LATER))
        return Result(tuple(outcomes))

    def let(self, success: bool) -> None:
        """End the oldest attempt."""
        if self.waiting:
            self.waiting.pop(0)[1].callback(success)

    def forget_failures(self) -> None:
        """Nothing is remembered."""

    def close(self) -> None:
        """Nothing is open."""


class Deaf:
    """Observers that do nothing."""

    async def delivered(self, queued: QueuedMessage, outcome: Any) -> None: ...

    delayed = failed = delivered

    async def delay(self, queued: QueuedMessage, delayed: Any) -> None:
        return None

    async def bounce(self, queued: QueuedMessage, failed: Any) -> bool:
        return True

    async def queue(self, connection: Any, transaction: Any, message: Any) -> Verdict:
        return CONTINUE


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("queue"), st.sampled_from([0.0, 1.0, 2.0])),
        st.tuples(st.just("spool"), st.sampled_from([0.0, 1.0])),
        st.tuples(st.just("attempt"), st.sampled_from([0.0, 1.0])),
        st.tuples(st.just("time"), st.sampled_from([0.5, 5.0, 10.0, 70.0])),
    ),
    min_size=10,
    max_size=60,
)


class QueueRunTests(SynchronousTestCase):
    """Random histories, then everything is let go."""

    @settings(max_examples=300)
    @given(STEPS)
    def test_everything_is_delivered_in_the_end(self, steps: list[tuple[str, float]]) -> None:
        """However slow disk and hosts are and whatever comes first, no mail is forgotten."""
        clock = Clock()
        clock.advance(ARRIVED)
        spool, deliveries = SlowSpool(clock), SlowDeliveries()
        outbound = OutboundSettings(
            concurrency_max=2, temp_fail_intervals=(10.0,) * 100, limits=Limits(usual=1)
        )
        runner = QueueRunner(spool, Deaf(), deliveries, outbound, "mta.example", clock)
        runner.startService()
        for step, value in steps:
            if step == "queue":
                self.queue(spool, f"d{value:g}.example")
            elif step == "spool":
                spool.let(bool(value))
            elif step == "attempt":
                deliveries.let(bool(value))
            else:
                clock.advance(value)
            if not (spool.waiting or deliveries.waiting):
                # Idle: then there is a time at which it will look again.
                self.assertTrue(clock.getDelayedCalls())
        claims = spool.claims
        spool.slow = False
        for _ in range(30):  # less than `LOOK_AGAIN`, which finds all that was forgotten
            while spool.waiting:
                spool.let()
            while deliveries.waiting:
                deliveries.let(True)
            clock.advance(1.0)
        self.assertEqual(spool._rows, {})
        self.assertLessEqual(deliveries.most, 2)
        self.assertLess(spool.claims - claims, 150)
        self.successResultOf(runner.stopService())
        self.assertEqual(clock.getDelayedCalls(), [])

    def queue(self, spool: SlowSpool, domain: str) -> None:
        """A message, committed at once."""

        async def commit() -> None:
            staged = await spool.stage(f"TX{spool._count}")
            await staged.write(MESSAGE)
            await staged.commit(envelope(recipients=[f"bob@{domain}"]))

        self.successResultOf(Deferred.fromCoroutine(commit()))
