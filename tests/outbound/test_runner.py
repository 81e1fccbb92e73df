"""The queue runner, with the memory spool and deliveries that do as they are told."""

from collections.abc import Callable
from email import message_from_bytes
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IMessageBody, IStagedMessage, SpoolDamaged, SpoolFull
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope
from harakatls.outbound.claiming import LOOK_AGAIN
from harakatls.outbound.delivery import Admit, Result
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered, Failed, Outcome, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.spool.listeners import Listeners
from harakatls.spool.memory import MemorySpool
from harakatls.testing.values import ARRIVED, MESSAGE, NEXT_HOP, SENDER, envelope
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Reject, TempFail, Verdict

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


class ReportTests(RunnerTestCase):
    """Who is told of failures."""

    def report(self) -> tuple[QueuedMessage, Any]:
        """The report in the queue, and what it says."""
        queued = self.only_waiting()
        return queued, message_from_bytes(self.spool._rows[queued.id].body)

    def test_the_sender_is_told(self) -> None:
        """Of the failed recipient, by a message from nobody."""
        self.start(failed, Deferred())
        self.queue()
        queued, message = self.report()
        self.assertIsNone(queued.envelope.reverse_path)
        self.assertEqual(queued.domain, "sender.example")
        self.assertEqual(message["To"], "<alice@sender.example>")
        self.assertIn("550 5.1.1 No such user", str(message))
        self.assertIn("Subject: hello", str(message))
        self.assertEqual(queued.id.partition(".")[0], "NEW2")

    def test_record_and_report_are_one(self) -> None:
        """No crash can lose the report, or send it twice: one transaction holds both."""
        self.start(failed, Deferred())
        commits: list[tuple[Any, Any]] = []
        keep = self.spool.keep

        async def spy(staged: Any, messages: Any, settling: Any) -> None:
            commits.append((messages, settling))
            await keep(staged, messages, settling)

        self.spool.keep = spy  # type: ignore[method-assign]
        self.queue()
        (_, nothing), (reports, settled) = commits
        self.assertIsNone(nothing)
        self.assertEqual(len(reports), 1)
        self.assertEqual(settled.pending, ())
        self.assertEqual(settled.attempts, 1)

    def test_a_plugin_takes_the_report(self) -> None:
        """A sender who is at home here, in a Maildir, is told as well."""
        self.observed.verdict = Accept(recipients=frozenset([parse_address(SENDER)]))
        self.start(failed, Deferred())
        self.queue()
        self.assertEqual(self.waiting(), [])
        (taken,) = self.observed.taken
        self.assertIn(b"No such user", taken)
        self.assertEqual([word for word, _, _ in self.observed.heard], ["failed"])

    def test_a_plugin_that_does_not_take_the_report(self) -> None:
        """Whatever it says, the durable queue takes it then."""
        for verdict in (TempFail(), Reject()):
            self.setUp()
            self.observed.verdict = verdict
            self.start(failed, Deferred())
            self.queue()
            self.assertIsNone(self.only_waiting().envelope.reverse_path)

    def test_nobody_is_told_of_a_message_from_nobody(self) -> None:
        """Reports about reports do not run in circles; the message is removed."""
        self.start(failed)
        self.queue(envelope(None))
        self.assertEqual(self.waiting(), [])
        self.assertEqual([word for word, _, _ in self.observed.heard], ["failed"])
        self.stop()

    def test_after_the_last_interval(self) -> None:
        """The sender is told the last reason; the status is final."""
        self.start(delayed, delayed, delayed, Deferred(), temp_fail_intervals=(10.0, 20.0))
        self.queue()
        self.clock.advance(10)
        self.assertEqual(self.only_waiting().attempts, 2)
        self.clock.advance(20)
        queued, message = self.report()
        self.assertIsNone(queued.envelope.reverse_path)
        self.assertIn("Status: 5.7.1", str(message))
        self.assertIn("Diagnostic-Code: smtp; 451 4.7.1 Later", str(message))
        self.assertIn("Too many failures (451 4.7.1 Later)", str(message))
        self.assertEqual([w for w, _, _ in self.observed.heard], ["delayed", "delayed", "failed"])

    def test_one_report_for_all_who_failed(self) -> None:
        """Not one for each; and the delayed are not in it."""

        def three(queued: QueuedMessage) -> Result:
            ann, bob, cid = queued.pending
            return Result(
                (Failed(ann, NEVER, NEXT_HOP), Failed(bob, NEVER, NEXT_HOP), Delayed(cid, LATER)),
                (TRIAL,),
            )

        self.start(three, Deferred())
        names = ("ann", "bob", "cid")
        self.queue(envelope(recipients=[f"{name}@recipient.example" for name in names]))
        reports = [q for q in self.waiting() if q.envelope.reverse_path is None]
        self.assertEqual(len(reports), 1)
        text = self.spool._rows[reports[0].id].body
        self.assertEqual(text.count(b"Final-Recipient"), 2)
        self.assertNotIn(b"cid@recipient.example", text)

    def test_no_space_for_the_report(self) -> None:
        """Who cannot be told yet is told later; nothing is dropped in silence."""
        stage = self.spool.stage

        async def full(message_id: str) -> Any:
            raise SpoolFull("disk")

        self.queue()
        self.spool.stage = full  # type: ignore[method-assign]
        self.start(failed, failed, Deferred())
        queued = self.only_waiting()
        self.assertEqual((len(queued.pending), queued.attempts), (1, 0))
        self.assertEqual(self.observed.heard, [])
        self.spool.stage = stage  # type: ignore[method-assign]
        self.clock.advance(LOOK_AGAIN + 1)
        self.assertIsNone(self.only_waiting().envelope.reverse_path)

    def test_a_report_that_cannot_be_written(self) -> None:
        """Another fault of the disk: who has the message does not get it again because of it."""

        def two(queued: QueuedMessage) -> Result:
            first, second = queued.pending
            no_such_user = Reply.of(550, "5.1.1", "No such user")
            return Result((Delivered(first, OK, NEXT_HOP), Failed(second, no_such_user)))

        async def broken(message_id: str) -> Any:
            raise SpoolDamaged("input/output error")

        self.queue(envelope(recipients=["a@recipient.example", "b@recipient.example"]))
        self.spool.stage = broken  # type: ignore[method-assign]
        self.start(two, Deferred())
        (pending,) = self.only_waiting().pending
        self.assertEqual(str(pending.address), "b@recipient.example")

    def test_an_original_that_cannot_be_read_any_more(self) -> None:
        """The report comes without its header rather than not at all."""

        def gone(queued: QueuedMessage) -> IMessageBody:
            raise SpoolDamaged("gone")

        self.spool.open_body = gone  # type: ignore[method-assign]
        self.start(failed, Deferred())
        self.queue()
        _, message = self.report()
        self.assertIn("No such user", str(message))


class StopTests(RunnerTestCase):
    """The server is told to stop."""

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
        settle = self.spool.settle
        disk: Deferred[None] = Deferred()

        async def slowly(queued: QueuedMessage) -> None:
            await disk
            await settle(queued)

        self.spool.settle = slowly  # type: ignore[method-assign]
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
        settle = self.spool.settle
        disk: Deferred[None] = Deferred()

        async def slowly(queued: QueuedMessage) -> None:
            await disk
            await settle(queued)

        self.spool.settle = slowly  # type: ignore[method-assign]
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


class EvolvedTests(RunnerTestCase):
    """The queue's own values."""

    def test_a_message_is_claimed_as_it_was_queued(self) -> None:
        """The delivery gets envelope, size and time of arrival."""
        self.start()
        self.queue()
        (queued,) = self.deliveries.tried
        self.assertEqual(queued, evolve(queued, arrived=ARRIVED, size=len(MESSAGE), attempts=0))
        self.stop()
