"""The queue runner: what it takes from the queue, and what it records of each attempt."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from harakatls.interfaces import SpoolDamaged, SpoolFull
from harakatls.outbound.claiming import LOOK_AGAIN
from harakatls.outbound.delivery import Result
from harakatls.queued import Delayed, Delivered, QueuedMessage
from harakatls.spool.listeners import Listeners
from harakatls.testing.values import ARRIVED, MESSAGE, NEXT_HOP, envelope
from tests.outbound.runner_case import LATER, OK, TRIAL, RunnerTestCase, delayed, delivered


class ClaimTests(RunnerTestCase):
    """When messages are taken."""

    def test_what_is_due_is_delivered_at_the_start(self) -> None:
        """After a restart the queue is worked off."""
        self.queue()
        self.queue()
        self.start()
        self.assertEqual(len(self.deliveries.tried), 2)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_new_mail_is_delivered_at_once(self) -> None:
        """Nobody waits for a timer."""
        self.start()
        self.queue()
        self.assertEqual(len(self.deliveries.tried), 1)
        self.stop()

    def test_what_is_delayed_is_tried_again_when_due(self) -> None:
        """After its interval, not before and not much after."""
        self.start(delayed, temp_fail_intervals=(10.0, 20.0))
        self.queue()
        self.clock.advance(9.9)
        self.assertEqual(len(self.deliveries.tried), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.deliveries.tried), 2)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_what_is_due_later_at_the_start(self) -> None:
        """The schedule survives a restart."""
        self.start(delayed, temp_fail_intervals=(50.0,))
        self.queue()
        self.stop()
        self.start()
        self.assertEqual(self.deliveries.tried, [])
        self.clock.advance(50.1)
        self.assertEqual(len(self.deliveries.tried), 1)
        self.stop()

    def test_not_more_than_concurrency_max_at_once(self) -> None:
        """A burst of mail does not open a thousand connections."""
        steps: list[Any] = [Deferred() for _ in range(5)]
        self.start(*steps, concurrency_max=2)
        for _ in range(5):
            self.queue()
        self.assertEqual(len(self.deliveries.tried), 2)
        steps[0].callback(delivered)
        self.assertEqual(len(self.deliveries.tried), 3)
        for step in steps[1:]:
            step.callback(delivered)
        self.assertEqual(len(self.deliveries.tried), 5)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_a_slow_delivery_holds_up_no_other(self) -> None:
        """One dead host keeps no mail from the living."""
        slow: Deferred[Any] = Deferred()
        self.start(slow)
        self.queue()
        self.queue()
        self.assertEqual(len(self.waiting()), 1)
        slow.callback(delivered)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_a_delivery_that_outlives_its_claim(self) -> None:
        """The spool takes it for forgotten; the host that is so slow does not get it once more."""
        slow: Deferred[Any] = Deferred()
        self.start(slow)
        self.queue()
        (row,) = self.spool._rows.values()
        row.claimed = False
        self.spool._wait(row)
        self.clock.advance(LOOK_AGAIN)
        self.assertEqual((row.claimed, len(self.deliveries.tried)), (True, 1))
        stopping = self.runner.stopService()
        self.assertNoResult(stopping)
        slow.callback(delivered)
        self.successResultOf(stopping)
        self.assertEqual(self.waiting(), [])

    def test_an_observer_that_is_slower_than_the_schedule(self) -> None:
        """The next attempt does not wait for a plugin, and is ended when the server stops."""
        plugin: Deferred[None] = Deferred()
        second: Deferred[Any] = Deferred()

        async def slow(queued: QueuedMessage, outcome: Delayed) -> None:
            await plugin

        self.observed.delayed = slow  # type: ignore[method-assign]
        self.start(delayed, second, temp_fail_intervals=(10.0,))
        self.queue()
        self.clock.advance(LOOK_AGAIN)
        self.assertEqual(len(self.deliveries.tried), 2)
        plugin.callback(None)
        stopping = self.runner.stopService()
        self.assertNoResult(stopping)
        self.clock.advance(30)
        self.successResultOf(stopping)
        self.assertEqual(self.only_waiting().attempts, 1)

    def test_held_while_it_is_recorded(self) -> None:
        """Once it is released it is as good as any other, and waits for nothing else."""
        disk, slow = Deferred[None](), Deferred[Any]()
        recalled: set[str] = set()
        settle = self.spool.settle

        async def settle_slowly(queued: QueuedMessage) -> None:
            await disk
            await settle(queued)

        self.spool.recalled = lambda: recalled  # type: ignore[method-assign]
        self.spool.settle = settle_slowly  # type: ignore[method-assign]
        self.start(delayed, slow, concurrency_max=1, temp_fail_intervals=(10.0,))
        self.queue()
        first = self.deliveries.tried[0].id
        recalled.add(first)
        self.queue()
        recalled.clear()  # it is released
        disk.callback(None)
        self.clock.advance(10)
        slow.callback(delivered)
        self.assertEqual([queued.id for queued in self.deliveries.tried][2:], [first])
        self.stop()

    def test_held_while_it_is_tried(self) -> None:
        """Where it turns out that there is no room for it, it is his at once."""
        recalled: set[str] = set()
        self.spool.recalled = lambda: recalled  # type: ignore[method-assign]
        slow = Deferred[Any]()

        def postponed(queued: QueuedMessage) -> Result:
            return Result((), postponed=True)

        self.start(slow, Deferred(), concurrency_max=2)
        self.queue()
        self.queue()
        first = self.deliveries.tried[0].id
        recalled.add(first)
        self.queue()  # another look
        recalled.clear()
        slow.callback(postponed)
        self.assertFalse(self.spool._rows[first].claimed)
        self.assertTrue(self.spool._rows[self.deliveries.tried[1].id].claimed)
        self.runner.stopService()
        self.clock.advance(30)

    def test_disabled(self) -> None:
        """disabled of outbound.ini: mail is taken and stays."""
        self.start(disabled=True)
        self.queue()
        self.clock.advance(1000)
        self.assertEqual(len(self.waiting()), 1)
        self.assertEqual(self.deliveries.tried, [])
        self.stop()

    def test_the_work_of_others_is_found(self) -> None:
        """Mail that another process has queued is found within a minute."""
        self.start()
        row = self.spool._rows
        self.queue()
        self.assertEqual(row, {})
        told, self.spool._listeners = self.spool._listeners, Listeners()
        self.queue()
        self.assertEqual(len(self.waiting()), 1)
        self.clock.advance(LOOK_AGAIN)
        self.assertEqual(self.waiting(), [])
        self.spool._listeners = told
        self.stop()

    def test_the_time_comes_while_the_spool_is_asked(self) -> None:
        """Mail that falls due just then is not forgotten until somebody sends the next one."""
        claim = self.spool.claim
        disk: list[Deferred[None]] = []

        async def slowly(now: float, limit: int, **which: Any) -> tuple[QueuedMessage, ...]:
            await disk[-1]
            return await claim(now, limit, **which)

        disk.append(Deferred())
        disk[0].callback(None)
        self.spool.claim = slowly  # type: ignore[method-assign]
        self.start(delayed, delayed, temp_fail_intervals=(10.0,))
        self.queue()  # due again at 10
        self.clock.advance(5)
        self.queue()  # due again at 15
        self.clock.advance(4.9)
        asked: Deferred[None] = Deferred()
        disk.append(asked)
        self.queue()  # asks the spool, which takes its time
        disk.append(disk[0])
        self.clock.advance(0.2)  # the first is due
        asked.callback(None)
        self.assertEqual(len(self.waiting()), 1)
        self.clock.advance(5)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_a_spool_that_fails_is_asked_again(self) -> None:
        """A moment's error of the disk does not stop delivery for good."""
        claim = self.spool.claim

        async def broken(now: float, limit: int, **which: Any) -> tuple[QueuedMessage, ...]:
            raise OSError("the disk is away")

        self.spool.claim = broken  # type: ignore[method-assign]
        self.queue()
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.spool.claim = claim  # type: ignore[method-assign]
        self.clock.advance(5)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_a_spool_that_says_due_and_gives_nothing(self) -> None:
        """Such a contradiction does not make the server spin."""
        asked: list[float] = []

        async def nothing(now: float, limit: int, **which: Any) -> tuple[QueuedMessage, ...]:
            asked.append(now)
            return ()

        self.spool.claim = nothing  # type: ignore[method-assign]
        self.queue()
        self.start()
        for _ in range(100):
            self.clock.advance(0.1)
        self.assertLess(len(asked), 15)
        self.stop()


class RecordTests(RunnerTestCase):
    """What is recorded."""

    def test_the_delivered_are_gone_and_the_delayed_wait(self) -> None:
        """One outcome for each recipient; nobody gets the message twice."""

        def both(queued: QueuedMessage) -> Result:
            first, second = queued.pending
            return Result((Delivered(first, OK, NEXT_HOP), Delayed(second, LATER)), (TRIAL,))

        self.start(both, delayed)
        self.queue(envelope(recipients=["ann@recipient.example", "bob@recipient.example"]))
        queued = self.only_waiting()
        self.assertEqual([str(r.address) for r in queued.pending], ["bob@recipient.example"])
        self.assertEqual(queued.attempts, 1)
        self.assertEqual(queued.due, ARRIVED + 64)
        self.assertEqual(queued.last_replies["bob@recipient.example"], LATER)
        self.assertEqual(queued.history[0].trials, (TRIAL,))
        self.assertEqual(queued.history[0].at, ARRIVED)
        self.stop()

    def test_observers_hear_of_each(self) -> None:
        """Plugins learn what became of a message, with the queue's state after it."""
        self.start(delayed)
        self.queue()
        self.clock.advance(64)
        (word, queued, _), (second, _, _) = self.observed.heard
        self.assertEqual((word, second), ("delayed", "delivered"))
        self.assertEqual(queued.due, ARRIVED + 64)
        self.stop()

    def test_a_mistake_of_ours_delays(self) -> None:
        """A bug in the delivery loses no mail, and does not try it over and over."""
        self.start(ZeroDivisionError())
        self.queue()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        queued = self.only_waiting()
        self.assertEqual(queued.due, ARRIVED + 64)
        self.clock.advance(64)
        self.assertEqual(self.waiting(), [])
        self.stop()

    def test_a_message_that_cannot_be_read_is_set_aside(self) -> None:
        """It waits for the operator and holds up nothing."""
        self.start(SpoolDamaged("half of it is gone"))
        self.queue()
        self.queue()
        self.assertEqual(list(self.spool.problems.values()), ["half of it is gone"])
        self.assertEqual(len(self.waiting()), 1)
        self.clock.advance(10_000)
        self.assertEqual(len(self.deliveries.tried), 2)
        self.stop()

    def test_a_full_disk_is_waited_for(self) -> None:
        """What was delivered is not delivered again because that could not be written down."""
        settle = self.spool.settle
        full = [SpoolFull("disk"), SpoolFull("disk")]

        async def sometimes(queued: QueuedMessage) -> None:
            if full:
                raise full.pop()
            await settle(queued)

        self.spool.settle = sometimes  # type: ignore[method-assign]
        self.start()
        self.queue()
        self.assertEqual(len(self.waiting()), 1)
        self.clock.advance(10)
        self.clock.advance(10)
        self.assertEqual(self.waiting(), [])
        self.assertEqual(len(self.deliveries.tried), 1)
        self.stop()


class EvolvedTests(RunnerTestCase):
    """The queue's own values."""

    def test_a_message_is_claimed_as_it_was_queued(self) -> None:
        """The delivery gets envelope, size and time of arrival."""
        self.start()
        self.queue()
        (queued,) = self.deliveries.tried
        self.assertEqual(queued, evolve(queued, arrived=ARRIVED, size=len(MESSAGE), attempts=0))
        self.stop()
