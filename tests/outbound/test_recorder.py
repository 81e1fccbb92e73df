"""Which reports are queued, and what is written down with them."""

from email import message_from_bytes
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from harakatls.interfaces import SpoolFull
from harakatls.mail.envelope import Envelope, MailParameters
from harakatls.outbound.delivery import Result
from harakatls.outbound.recorder import NOT_MADE
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.testing.values import ARRIVED, MESSAGE, NEXT_HOP, SENDER, envelope
from tests.outbound.runner_case import LATER, NEVER, OK, TRIAL, RunnerTestCase, delayed, delivered


def asking(*notify: str, recipients: int = 1, **parameters: Any) -> Envelope:
    """Of a sender who wants to be told these."""
    mail = envelope(SENDER, [f"user{n}@recipient.example" for n in range(recipients)])
    told = tuple(evolve(r, notify=frozenset(notify)) for r in mail.recipients)
    return evolve(mail, recipients=told, parameters=MailParameters(**parameters))


def one_of_each(queued: QueuedMessage) -> Result:
    """The first is delivered, the second fails, the third has to wait."""
    first, second, third = queued.pending
    outcomes = (
        Delivered(first, OK, NEXT_HOP),
        Failed(second, NEVER, NEXT_HOP),
        Delayed(third, LATER, NEXT_HOP),
    )
    return Result(outcomes, (TRIAL,))


class RecorderTestCase(RunnerTestCase):
    def reports(self) -> list[Any]:
        """Those in the queue, parsed."""
        rows = self.spool._rows.values()
        return [
            message_from_bytes(row.body) for row in rows if row.queued.envelope.reverse_path is None
        ]

    def actions(self) -> list[list[str]]:
        """What each report says of each recipient."""
        return [
            [str(group["Action"]) for group in report.get_payload()[1].get_payload()[1:]]
            for report in self.reports()
        ]


class SuccessTests(RecorderTestCase):
    """NOTIFY=SUCCESS."""

    def test_relayed(self) -> None:
        """The sender learns that the mail went where no further report comes from."""
        self.start(delivered, Deferred())
        self.queue(asking("SUCCESS", ret="FULL", envid="E1"))
        self.assertEqual(self.actions(), [["relayed"]])
        report = self.reports()[0]
        self.assertEqual(report.get_payload()[1].get_payload()[0]["Original-Envelope-Id"], "E1")
        # RFC 3461 section 4.3: the message itself only where something failed.
        self.assertEqual(report.get_payload()[2].get_content_type(), "text/rfc822-headers")
        self.assertEqual(len(self.waiting()), 1)

    def test_the_next_hop_tells_it(self) -> None:
        """Nobody is told the same twice."""

        def knowing(queued: QueuedMessage) -> Result:
            (who,) = queued.pending
            return Result((Delivered(who, OK, NEXT_HOP, will_report=True),), (TRIAL,))

        self.start(knowing)
        self.queue(asking("SUCCESS"))
        self.assertEqual(self.waiting(), [])

    def test_no_space(self) -> None:
        """A message that was delivered is never sent again for want of a report."""
        self.start(delivered)

        async def full(message_id: str) -> Any:
            raise SpoolFull("no space")

        stage = self.spool.stage
        self.successResultOf(Deferred.fromCoroutine(self._queue_and_fill(full)))
        self.spool.stage = stage  # type: ignore[method-assign]
        self.assertEqual(self.waiting(), [])
        self.assertEqual(len(self.deliveries.tried), 1)
        self.clock.advance(3600)
        self.assertEqual(len(self.deliveries.tried), 1)
        self.flushLoggedErrors()

    async def _queue_and_fill(self, full: Any) -> None:
        staged = await self.spool.stage("TX")
        await staged.write(MESSAGE)
        self.spool.stage = full  # type: ignore[method-assign]
        await staged.commit(asking("SUCCESS"))


class MixedTests(RecorderTestCase):
    def test_one_report(self) -> None:
        """One attempt is one report, whatever became of each."""
        self.start(one_of_each, Deferred(), temp_fail_intervals=(100.0,))
        self.queue(asking("SUCCESS", "FAILURE", "DELAY", recipients=3, ret="FULL"))
        self.assertEqual(self.actions(), [["relayed", "failed"]])
        self.assertEqual(self.reports()[0].get_payload()[2].get_content_type(), "message/rfc822")
        (waiting,) = [q for q in self.waiting() if q.envelope.reverse_path is not None]
        self.assertEqual([r.address.local_part for r in waiting.pending], ["user2"])
        self.assertFalse(waiting.warned)

    def test_binary(self) -> None:
        """Of a BINARYMIME message only the header comes back: a report is text (RFC 3030)."""
        self.start(one_of_each, Deferred(), temp_fail_intervals=(100.0,))
        self.queue(asking("FAILURE", recipients=3, ret="FULL", body="BINARYMIME"))
        returned = self.reports()[0].get_payload()[2]
        self.assertEqual(returned.get_content_type(), "text/rfc822-headers")

    def test_never(self) -> None:
        """NOTIFY=NEVER: the failed message is gone, and nobody hears of it."""
        self.start(one_of_each, temp_fail_intervals=())
        self.queue(asking("NEVER", recipients=3))
        self.assertEqual(self.waiting(), [])


class DelayTests(RecorderTestCase):
    """delay_warning_time."""

    def test_off_by_default(self) -> None:
        """Without it nobody is told of delays, though NOTIFY allows it."""
        self.start(*[delayed] * 5, temp_fail_intervals=(3600.0,) * 5)
        self.queue(asking("DELAY"))
        self.clock.pump([3601.0] * 4)
        self.assertEqual(len(self.deliveries.tried), 5)
        self.assertEqual(self.actions(), [])

    def test_once(self) -> None:
        """The sender is told at the first failed attempt after that time, and not again."""
        plan = [delayed, delayed, Deferred()]
        self.start(*plan, temp_fail_intervals=(100.0, 7200.0, 60.0), delay_warning_time=60.0)
        self.queue()
        self.assertEqual(self.actions(), [])
        self.clock.advance(101)
        self.assertEqual(self.actions(), [["delayed"]])
        (group,) = self.reports()[0].get_payload()[1].get_payload()[1:]
        self.assertEqual(group["Will-Retry-Until"], "Wed, 15 Nov 2023 00:16:01 -0000")
        (waiting,) = [q for q in self.waiting() if q.envelope.reverse_path is not None]
        self.assertTrue(waiting.warned)
        self.assertEqual(waiting.attempts, 2)

    def test_not_twice(self) -> None:
        """After the warning there are only attempts, until it fails or gets through."""
        self.start(
            *[delayed, delayed, Deferred(), delayed, delayed],
            temp_fail_intervals=(100.0,) * 9,
            delay_warning_time=60.0,
        )
        self.queue()
        self.clock.pump([101.0] * 3)
        self.assertEqual(len(self.deliveries.tried), 5)
        self.assertEqual(self.actions(), [["delayed"]])

    def test_an_operator_who_shuts_down(self) -> None:
        """A delivery that is broken off for a shutdown is no delay."""
        self.start(Deferred(), delay_warning_time=1.0)
        self.queue()
        self.clock.advance(5)
        stopping = self.runner.stopService()
        self.clock.advance(60)
        self.successResultOf(stopping)
        self.assertEqual(self.actions(), [])
        self.assertFalse(self.only_waiting().warned)


class KeptFromTheSenderTests(RecorderTestCase):
    """Bounce hooks."""

    def test_kept(self) -> None:
        """A plugin that sees to failures in its own way keeps them from the sender; all else he
        hears."""
        self.observed.bounces = False
        self.start(one_of_each, Deferred())
        self.queue(asking("SUCCESS", "FAILURE", recipients=3))
        self.assertEqual(self.actions(), [["relayed"]])

    def test_nothing_to_tell(self) -> None:
        """No report at all, and the message is through."""
        self.observed.bounces = False
        self.start(one_of_each)
        self.queue(asking("FAILURE", recipients=3))
        self.assertEqual(self.actions(), [])
        kinds = [kind for kind, _, _ in self.observed.heard]
        self.assertEqual(kinds, ["delivered", "failed", "delayed"])
        (waiting,) = self.spool._rows.values()
        self.assertEqual(len(waiting.queued.pending), 1)


class MistakeTests(RecorderTestCase):
    """A report cannot be made, for a reason that nobody has thought of."""

    def test_who_has_it_does_not_get_it_again(self) -> None:
        """What was delivered is recorded; who failed is tried again, but not soon."""
        self.start(one_of_each, Deferred(), temp_fail_intervals=(100.0,))

        def mistaken(*_: Any) -> bytes:
            raise ZeroDivisionError

        reporter = type("Reporter", (), {"report": mistaken})()
        self.runner._recorder = evolve(self.runner._recorder, reporter=reporter)
        self.queue(asking("FAILURE", recipients=3))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        (waiting,) = self.waiting()
        self.assertEqual([r.address.local_part for r in waiting.pending], ["user1", "user2"])
        self.assertEqual(waiting.attempts, 0)
        self.assertEqual(waiting.due, ARRIVED + NOT_MADE)
        self.assertEqual([kind for kind, *_ in self.observed.heard], ["delivered", "delayed"])
