"""How the queue runner comes to its end."""

from typing import Any

from twisted.internet.defer import Deferred

from harakatls.outbound.claiming import LOOK_AGAIN
from harakatls.outbound.delivery import Result
from harakatls.queued import Delayed, Delivered, QueuedMessage
from harakatls.testing.values import ARRIVED, NEXT_HOP, envelope
from tests.outbound.runner_case import LATER, OK, RunnerTestCase, delivered


class StopTests(RunnerTestCase):
    """The server is told to stop."""

    def slow_disk(self) -> Deferred[None]:
        """Nothing is recorded before it fires."""
        settle = self.spool.settle
        disk: Deferred[None] = Deferred()

        async def slowly(queued: QueuedMessage) -> None:
            await disk
            await settle(queued)

        self.spool.settle = slowly  # type: ignore[method-assign]
        return disk

    def test_deliveries_under_way_may_finish(self) -> None:
        """Nothing is broken off that ends in time."""
        slow: Deferred[Any] = Deferred()
        self.start(slow)
        self.queue()
        stopped = self.runner.stopService()
        self.clock.advance(29)
        self.assertNoResult(stopped)
        slow.callback(delivered)
        self.successResultOf(stopped)
        self.assertEqual(self.waiting(), [])
        self.assertTrue(self.deliveries.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_takes_too_long_stays_queued(self) -> None:
        """As if it had not been tried: due at once, and no attempt is counted."""
        self.start(Deferred())
        self.queue()
        before = self.only_waiting()
        stopped = self.runner.stopService()
        self.clock.advance(31)
        self.successResultOf(stopped)
        self.assertEqual(self.only_waiting(), before)
        self.start()
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_no_patience(self) -> None:
        """Told to stop twice, deliveries end at once; what is being recorded is waited for."""
        settle = self.spool.settle
        disk: Deferred[None] = Deferred()

        async def slow(queued: QueuedMessage) -> None:
            await disk
            await settle(queued)

        self.start(Deferred())
        self.queue()
        self.runner.hurry()  # it is not stopping: nothing happens
        self.assertEqual(len(self.deliveries.tried), 1)
        self.spool.settle = slow  # type: ignore[method-assign]
        stopping = self.runner.stopService()
        self.assertNoResult(stopping)
        for _ in range(2):
            self.runner.hurry()
            self.assertNoResult(stopping)
        disk.callback(None)
        self.successResultOf(stopping)
        queued = self.only_waiting()
        self.assertEqual((queued.due, queued.attempts), (ARRIVED, 0))

    def test_what_was_delivered_of_it_counts(self) -> None:
        """The recipients that have it do not get it again after the restart."""

        def half(queued: QueuedMessage) -> Result:
            first, second = queued.pending
            return Result(
                (Delivered(first, OK, NEXT_HOP), Delayed(second, LATER)), interrupted=True
            )

        self.start(half)
        self.queue(envelope(recipients=["ann@recipient.example", "bob@recipient.example"]))
        queued = self.only_waiting()
        self.assertEqual([str(r.address) for r in queued.pending], ["bob@recipient.example"])
        self.assertEqual(queued.due, ARRIVED)

    def test_nothing_new_is_begun(self) -> None:
        """Mail that comes in the meantime waits for the next start."""
        slow: Deferred[Any] = Deferred()
        self.start(slow)
        self.queue()
        stopped = self.runner.stopService()
        self.queue()
        self.assertEqual(len(self.deliveries.tried), 1)
        slow.callback(delivered)
        self.successResultOf(stopped)
        self.assertEqual(len(self.waiting()), 1)

    def test_a_record_under_way_is_waited_for(self) -> None:
        """What was delivered is written down before the queue is closed."""
        disk = self.slow_disk()
        self.start()
        self.queue()
        stopped = self.runner.stopService()
        self.clock.advance(100)
        self.assertNoResult(stopped)
        disk.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.waiting(), [])

    def test_a_slow_disk_holds_deliveries_up(self) -> None:
        """What hosts have and the queue does not know of would be sent again after a crash."""
        disk = self.slow_disk()
        for _ in range(20):
            self.queue()
        self.start(concurrency_max=3)
        self.clock.advance(LOOK_AGAIN)
        self.assertEqual(len(self.deliveries.tried), 6)
        disk.callback(None)
        self.clock.advance(LOOK_AGAIN)
        self.assertEqual(len(self.deliveries.tried), 20)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_what_was_claimed_too_late_goes_back(self) -> None:
        """A claim that comes back after the word to stop is given up again."""
        claim = self.spool.claim
        disk: Deferred[None] = Deferred()

        async def slowly(now: float, limit: int, **which: Any) -> tuple[QueuedMessage, ...]:
            await disk
            return await claim(now, limit, **which)

        self.queue()
        self.spool.claim = slowly  # type: ignore[method-assign]
        self.start()
        stopped = self.runner.stopService()
        self.assertNoResult(stopped)
        disk.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.deliveries.tried, [])
        self.spool.claim = claim  # type: ignore[method-assign]
        self.start()
        self.assertEqual(self.waiting(), [])
        self.stop()
