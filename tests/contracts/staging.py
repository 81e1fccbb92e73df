"""What every queue does with mail that comes in: staging and committing."""

from attrs import evolve
from zope.interface.verify import verifyObject

from harakatls.interfaces import (
    IMessageBody,
    ISpool,
    IStagedMessage,
    SpoolDamaged,
    SpoolFull,
)
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient
from harakatls.queued import QueuedMessage
from tests.contracts.spool import ARRIVED, BODY, LARGE, SpoolCase, delivered, envelope


class StagingContract(SpoolCase):
    """
    To be subclassed for each queue, which says how one is made.

    Import the module, not the class: trial runs every class that it finds.
    """

    # -------------------------------------------------------------------------------- staging

    def test_provides_its_interfaces(self) -> None:
        """A plugin that was written for the interface works with this queue."""
        staged = self.stage()
        verifyObject(ISpool, self.spool)
        verifyObject(IStagedMessage, staged)
        verifyObject(IMessageBody, staged.open())
        self.run_to_end(staged.commit(envelope()))
        [queued] = self.claim()
        verifyObject(IMessageBody, self.spool.open_body(queued))

    def test_what_was_written_is_delivered(self) -> None:
        """The next hop gets the octets that the peer sent."""
        staged = self.stage("A.1", b"Subject: a\r\n", b"\r\nbo", b"dy\r\n")
        self.assertEqual(self.run_to_end(staged.commit(envelope())), "A.1")
        [queued] = self.claim()
        body = self.spool.open_body(queued)
        self.assertEqual(body.size, len(BODY))
        self.assertEqual(self.read(body), BODY)

    def test_queued_facts(self) -> None:
        """The queue listing shows who sent what when to whom."""
        sent = Envelope(
            parse_address("from@sender.example"),
            (Recipient(parse_address("a@one.example"), "rfc822;b@c", frozenset({"NEVER"})),),
            MailParameters(size=5, smtputf8=True, envid="x"),
        )
        staged = self.stage("A.1", BODY)
        self.run_to_end(staged.commit(sent))
        self.assertEqual(
            self.claim(),
            [
                QueuedMessage(
                    id="A.1.1",
                    envelope=sent,
                    domain="one.example",
                    arrived=ARRIVED,
                    due=ARRIVED,
                    size=len(BODY),
                    pending=sent.recipients,
                )
            ],
        )

    def test_fields_on_top(self) -> None:
        """The Received field comes first, and what was put there last stands on top."""
        staged = self.stage()
        staged.prepend(b"Received: by us\r\n")
        self.run_to_end(staged.write(BODY))
        staged.prepend(b"X-A: 1\r\nX-B: 2\r\n")
        expected = b"X-A: 1\r\nX-B: 2\r\nReceived: by us\r\n" + BODY
        self.assertEqual(staged.size, len(expected))
        self.assertEqual(self.read(staged.open()), expected)
        self.run_to_end(staged.commit(envelope()))
        [queued] = self.claim()
        self.assertEqual(queued.size, len(expected))
        self.assertEqual(self.read(self.spool.open_body(queued)), expected)

    def test_fields_on_top_of_a_large_message(self) -> None:
        """A field put on top of a large message after it has come in stands there."""
        staged = self.stage("A.1", b"Received: by us\r\n", LARGE[:700_000], LARGE[700_000:])
        staged.prepend(b"X-A: 1\r\n")
        expected = b"X-A: 1\r\nReceived: by us\r\n" + LARGE
        self.assertEqual(staged.size, len(expected))
        self.assertEqual(self.read(staged.open()), expected)
        self.run_to_end(staged.commit(envelope()))
        [queued] = self.claim()
        body = self.spool.open_body(queued)
        self.assertEqual(body.size, len(expected))
        self.assertEqual(self.read(body, 10_000), expected)

    def test_reading_while_receiving(self) -> None:
        """A plugin reads what is there, and the rest still arrives."""
        staged = self.stage("A.1", b"Subject: a\r\n")
        self.assertEqual(self.read(staged.open()), b"Subject: a\r\n")
        self.run_to_end(staged.write(b"\r\n" + LARGE))
        self.assertEqual(self.read(staged.open(), 300_000), b"Subject: a\r\n\r\n" + LARGE)
        self.run_to_end(staged.write(b"end\r\n"))
        self.assertEqual(self.read(staged.open()), b"Subject: a\r\n\r\n" + LARGE + b"end\r\n")

    def test_two_readers(self) -> None:
        """Two plugins that read a message in turns both see all of it."""
        staged = self.stage("A.1", LARGE)
        one, two = staged.open(), staged.open()
        pieces = [(self.run_to_end(one.read(4096)), self.run_to_end(two.read(4096)))] * 2
        for first, second in pieces:
            self.assertEqual(first, LARGE[:4096])
            self.assertEqual(second, LARGE[:4096])
        self.assertEqual(self.read(one), LARGE[4096:])
        self.assertEqual(self.read(two), LARGE[4096:])

    def test_reading_after_commit(self) -> None:
        """A message can be read after it was queued, even when it has been delivered."""
        for message_id, body in (("A.1", BODY), ("B.1", LARGE)):
            staged = self.stage(message_id, body)
            self.run_to_end(staged.commit(envelope()))
            self.assertEqual(self.read(staged.open()), body)
            [queued] = self.claim()
            self.settle(delivered(queued))
            self.assertEqual(self.read(staged.open()), body)

    def test_empty_message(self) -> None:
        """A message of no octets is one, too."""
        staged = self.stage("A.1")
        self.run_to_end(staged.commit(envelope()))
        [queued] = self.claim()
        self.assertEqual(self.read(self.spool.open_body(queued)), b"")

    def test_abort(self) -> None:
        """A message that was refused is not delivered."""
        staged = self.stage("A.1", BODY)
        self.run_to_end(staged.abort())
        self.run_to_end(staged.abort())
        self.assertEqual(self.claim(), [])
        self.assertIsNone(self.next_due())
        self.assertRaises(SpoolDamaged, staged.open)
        self.raised_by(staged.commit(envelope()), RuntimeError)
        self.assertEqual(self.claim(), [])

    def test_abort_after_commit(self) -> None:
        """Cleaning up after a message was queued does not take it back."""
        for message_id, body in (("A.1", BODY), ("B.1", LARGE)):
            staged = self.stage(message_id, body)
            self.run_to_end(staged.commit(envelope()))
            self.run_to_end(staged.abort())
            [queued] = self.claim()
            self.assertEqual(self.read(self.spool.open_body(queued)), body)

    def test_what_is_held(self) -> None:
        """All octets of messages under way, and none of those that are over in whatever way."""
        self.assertEqual(self.spool.held, 0)
        first, second, third = (self.stage(name, BODY) for name in ("A.1", "B.1", "C.1"))
        self.assertEqual(self.spool.held, 3 * len(BODY))
        self.run_to_end(first.commit(envelope()))
        self.run_to_end(first.abort())
        self.assertEqual(self.spool.held, 2 * len(BODY))
        self.run_to_end(second.abort())
        self.run_to_end(second.abort())
        self.raised_by(third.commit(Envelope(None, ())), ValueError)
        self.run_to_end(third.abort())
        self.run_to_end(self.stage("D.1", LARGE).commit(envelope()))
        self.assertEqual(self.spool.held, 0)

    def test_commit_twice(self) -> None:
        """No message is queued twice."""
        staged = self.stage("A.1", BODY)
        self.run_to_end(staged.commit(envelope()))
        self.raised_by(staged.commit(envelope()), RuntimeError)
        self.raised_by(staged.write(b"more"), RuntimeError)
        self.assertRaises(RuntimeError, staged.prepend, b"X: y\r\n")
        self.assertEqual(len(self.claim()), 1)

    def test_no_recipients(self) -> None:
        """A message for nobody is a mistake of ours, and never swallowed as if it were sent."""
        staged = self.stage("A.1", BODY)
        self.raised_by(staged.commit(Envelope(None)), ValueError)
        self.assertEqual(self.claim(), [])
        self.run_to_end(staged.commit(envelope()))
        self.assertEqual(len(self.claim()), 1)

    def test_ids_that_are_no_file_names(self) -> None:
        """No id can name a file outside of the queue."""
        for message_id in ("", "../x", "a/b", ".hidden", "a\0b", "a\n", "é", "x" * 200):
            self.raised_by(self.spool.stage(message_id), ValueError)

    def test_full(self) -> None:
        """Without space a message is refused before it is sent."""
        self.spool = self.make_spool(self.clock, full=True)
        self.raised_by(self.spool.stage("A.1"), SpoolFull)

    # -------------------------------------------------------------------------------- domains

    def test_one_for_each_domain(self) -> None:
        """A domain that cannot be reached holds up no other."""
        self.queue("A.1", "a@one.example", "b@two.example", "c@one.example", "d@[192.0.2.1]")
        queued = self.claim()
        self.assertEqual([q.id for q in queued], ["A.1.1", "A.1.2", "A.1.3"])
        self.assertEqual([q.domain for q in queued], ["one.example", "two.example", "[192.0.2.1]"])
        self.assertEqual(
            [[str(r.address) for r in q.pending] for q in queued],
            [["a@one.example", "c@one.example"], ["b@two.example"], ["d@[192.0.2.1]"]],
        )
        for one in queued:
            self.assertEqual(one.envelope.recipients, one.pending)

    def test_shared_body(self) -> None:
        """The last of several domains still gets the message when the others have it."""
        for message_id, body in (("A.1", BODY), ("B.1", LARGE)):
            self.queue(message_id, "a@one.example", "b@two.example", "c@three.example", body=body)
            queued = self.claim()
            while queued:
                for one in queued:
                    self.assertEqual(self.read(self.spool.open_body(one)), body)
                self.settle(delivered(queued.pop()))
            self.assertIsNone(self.next_due())

    def test_postmaster_without_domain(self) -> None:
        """Mail for <postmaster> alone is queued under the empty domain."""
        staged = self.stage("A.1", BODY)
        to = Recipient(evolve(parse_address("postmaster@x.example"), domain=""))
        self.run_to_end(staged.commit(Envelope(None, (to,))))
        [queued] = self.claim()
        self.assertEqual((queued.domain, queued.pending), ("", (to,)))
