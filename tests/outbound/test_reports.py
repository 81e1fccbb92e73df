"""What senders are told when the queue runner has recorded an attempt."""

from email import message_from_bytes
from typing import Any

from twisted.internet.defer import Deferred

from harakatls.interfaces import IMessageBody, SpoolDamaged, SpoolFull
from harakatls.mail.address import parse_address
from harakatls.outbound.claiming import LOOK_AGAIN
from harakatls.outbound.delivery import Result
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.testing.values import NEXT_HOP, SENDER, envelope
from harakatls.verdict import Accept, Reject, TempFail
from tests.outbound.runner_case import LATER, NEVER, OK, TRIAL, RunnerTestCase, delayed, failed


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
