"""What every queue must do."""

from collections.abc import Coroutine
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
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
from harakatls.queued import Attempt, Delayed, QueuedMessage, Trial
from harakatls.smtp.reply import Reply

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


class SpoolContract(SpoolCase):
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

    # ------------------------------------------------------------------------------- claiming

    def test_order_of_claims(self) -> None:
        """Who has waited longest is next; of those that came together, the first."""
        for number in range(5):
            self.queue(f"{number}.1")
        for queued in reversed(self.claim()):
            self.settle(evolve(queued, due=ARRIVED - 10 if queued.id == "3.1.1" else ARRIVED))
        self.assertEqual([q.id for q in self.claim(1)], ["3.1.1"])
        self.queue("5.1")
        self.clock.advance(1)
        self.queue("6.1")
        claimed = [q.id for q in self.claim(5)]
        self.assertEqual(sorted(claimed), ["0.1.1", "1.1.1", "2.1.1", "4.1.1", "5.1.1"])
        self.assertEqual([q.id for q in self.claim(5)], ["6.1.1"])

    def test_first_come_first_served(self) -> None:
        """Mail that comes in at the same moment leaves in the order of its coming."""
        for number in range(9):
            self.queue(f"{number}.1")
        first = [q.id for q in self.claim(4)]
        self.assertEqual(first + [q.id for q in self.claim(9)], [f"{n}.1.1" for n in range(9)])

    def test_claimed_once(self) -> None:
        """What is being delivered is not delivered at the same time once more."""
        self.queue()
        self.assertEqual(len(self.claim()), 1)
        self.assertEqual(self.claim(), [])
        self.assertIsNone(self.next_due())

    def test_not_yet_due(self) -> None:
        """A message that was delayed waits its time."""
        self.queue()
        [queued] = self.claim()
        self.settle(evolve(queued, due=ARRIVED + 60))
        self.assertEqual(self.claim(), [])
        self.assertEqual(self.next_due(), ARRIVED + 60)
        self.clock.advance(59)
        self.assertEqual(self.claim(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.claim()), 1)

    def test_claim_nothing(self) -> None:
        """An empty queue, or no room, gives nothing."""
        self.assertEqual(self.claim(), [])
        self.queue()
        self.assertEqual(self.claim(0), [])
        self.assertEqual(len(self.claim(1)), 1)

    def test_next_due(self) -> None:
        """The queue runner sleeps until the first message is due, not longer."""
        self.assertIsNone(self.next_due())
        self.queue("A.1")
        self.queue("B.1")
        self.assertEqual(self.next_due(), ARRIVED)
        one, two = self.claim()
        self.settle(evolve(one, due=ARRIVED + 20))
        self.assertEqual(self.next_due(), ARRIVED + 20)
        self.settle(evolve(two, due=ARRIVED + 10))
        self.assertEqual(self.next_due(), ARRIVED + 10)

    # ------------------------------------------------------------------------------- fairness

    def queue_each(self, **domains: str) -> None:
        """Messages by their ids, one after the other."""
        for message_id, domain in domains.items():
            self.queue(message_id, f"to@{domain}")
            self.clock.advance(1)

    def test_full_domain(self) -> None:
        """Mail for a domain at its limit stays; what came later for others goes."""
        self.queue_each(A="one.example", B="one.example", C="two.example", D="one.example")
        self.assertEqual(self.claim_ids(rooms={"one.example": 0}), ["C.1"])
        self.assertEqual(self.claim_ids(rooms={"one.example": 2}), ["A.1", "B.1"])
        self.assertEqual(self.claim_ids(), ["D.1"])

    def test_so_many_of_some_domains(self) -> None:
        """Of the domains of a group so many are taken in all, the longest due."""
        self.queue_each(A="one.example", B="two.example", C="three.example", D="two.example")
        self.queue_each(E="one.example", F="four.example", G="five.example")
        groups = [(2, ["one.example", "two.example"]), (0, ["four.example"]), (9, ["none.example"])]
        self.assertEqual(self.claim_ids(together=groups), ["A.1", "B.1", "C.1", "G.1"])
        self.assertEqual(
            self.claim_ids(together=groups, rooms={"two.example": 0}, per_domain=1), ["E.1"]
        )
        self.assertEqual(self.claim_ids(domains=["four.example"], together=groups), [])
        self.assertEqual(self.claim_ids(domains=["four.example"]), ["F.1"])

    def test_so_many_of_each_domain(self) -> None:
        """Of each domain so many are taken as were asked for, the longest due."""
        self.queue_each(A="one.example", B="one.example", C="two.example", D="two.example")
        self.queue_each(E="three.example", F="three.example")
        self.assertEqual(
            self.claim_ids(per_domain=1, rooms={"two.example": 2, "three.example": 0}),
            ["A.1", "C.1", "D.1"],
        )
        self.assertEqual(self.claim_ids(per_domain=1), ["B.1", "E.1"])
        self.assertEqual(self.claim_ids(per_domain=0), [])
        self.assertEqual(self.claim_ids(1, per_domain=5), ["F.1"])

    def test_some_domains(self) -> None:
        """Mail that has just come is taken, of no more than there is room for, and no other."""
        self.queue_each(A="two.example", B="one.example", C="two.example", D="two.example")
        self.queue_each(E="three.example", F="three.example")
        two = ["two.example"]
        self.assertEqual(self.claim_ids(2, domains=two), ["A.1", "C.1"])
        self.assertEqual(self.claim_ids(2, domains=two), ["D.1"])
        self.assertEqual(self.claim_ids(2, domains=two), [])
        self.assertEqual(self.claim_ids(2, domains=[]), [])
        self.assertEqual(self.claim_ids(2, domains=["example"]), [])
        others = ["three.example", "one.example"]
        self.assertEqual(self.claim_ids(0, domains=others), [])
        rooms = {"three.example": 1, "two.example": 5}
        self.assertEqual(self.claim_ids(domains=others, rooms=rooms, per_domain=0), ["E.1"])
        self.assertEqual(sorted(self.claim_ids(domains=others)), ["B.1", "F.1"])

    def test_some_domains_that_are_due(self) -> None:
        """What is to wait is not sent just because other mail has come."""
        self.queue("A.1")
        [queued] = self.claim()
        self.settle(evolve(queued, due=ARRIVED + 60))
        self.assertEqual(self.claim(domains=["one.example"]), [])

    def test_next_due_of_others(self) -> None:
        """While a domain is at its limit, the queue runner waits for the next message of others."""
        self.queue_each(A="one.example", B="two.example", C="three.example")
        self.assertEqual(self.next_due("one.example"), ARRIVED + 1)
        self.assertEqual(self.next_due("one.example", "two.example"), ARRIVED + 2)
        self.assertIsNone(self.next_due("one.example", "two.example", "three.example"))

    def test_flush(self) -> None:
        """The operator has delayed mail tried now, and who waits for a reason forgets it."""
        told: list[str] = []
        self.spool.when_added(lambda _: told.append("added"))
        self.queue_each(A="one.example", B="two.example")
        for queued in self.claim():
            self.settle(evolve(queued, due=ARRIVED + 600))
        self.queue("C.1", "to@three.example")
        told.clear()
        self.spool.when_flushed(lambda: told.append("flushed"))
        self.assertEqual(self.run_to_end(self.spool.flush("two.example")), 1)
        self.assertEqual(told, ["flushed", "added"])
        self.assertEqual(sorted(self.claim_ids()), ["B.1", "C.1.1"])
        self.assertEqual(self.run_to_end(self.spool.flush()), 1)
        self.assertEqual(self.claim_ids(), ["A.1"])
        self.assertEqual(self.run_to_end(self.spool.flush()), 0)

    # ------------------------------------------------------------------------------- settling

    def test_settled_for_good(self) -> None:
        """What was delivered is gone."""
        self.queue()
        [queued] = self.claim()
        self.settle(delivered(queued))
        self.clock.advance(1e6)
        self.assertEqual(self.claim(), [])
        self.assertIsNone(self.next_due())

    def test_outcome_is_kept(self) -> None:
        """The listing shows what the next hop said, and who is still to be served."""
        self.queue("A.1", "a@one.example", "b@one.example")
        [queued] = self.claim()
        trial = Trial("mx [192.0.2.1]:25", "450 4.2.0 Greylisted ü", "TLSv1.3", ("forced",))
        reply = Reply.of(450, "4.2.0", "Greylisted ü", "come back")
        after = queued.after_attempt(
            [Delayed(queued.pending[0], reply)], Attempt(ARRIVED, (trial,)), ARRIVED + 60
        )
        after = evolve(after, pending=after.pending[:1])
        self.settle(after)
        self.clock.advance(60)
        self.assertEqual(self.claim(), [after])

    def test_settle_what_is_not_claimed(self) -> None:
        """An outcome that comes too late changes nothing."""
        self.queue()
        [queued] = self.claim()
        self.settle(queued)
        self.settle(delivered(queued))
        self.assertEqual(self.claim(), [queued])

    def test_commit_and_settle(self) -> None:
        """A bounce is queued, and what it is about is gone, in one."""
        self.queue("A.1")
        [queued] = self.claim()
        staged = self.stage("B.1", b"bounce")
        self.run_to_end(staged.commit(envelope("from@x.example"), settling=delivered(queued)))
        [bounce] = self.claim()
        self.assertEqual(bounce.id, "B.1.1")
        self.assertEqual(self.read(self.spool.open_body(bounce)), b"bounce")
        self.assertRaises(SpoolDamaged, self.spool.open_body, queued)

    def test_commit_and_settle_with_more_to_do(self) -> None:
        """A bounce about one recipient leaves the others waiting."""
        self.queue("A.1", "a@one.example", "b@one.example")
        [queued] = self.claim()
        rest = evolve(queued, pending=queued.pending[1:], due=ARRIVED + 5, attempts=1)
        staged = self.stage("B.1", b"bounce")
        self.run_to_end(staged.commit(envelope("from@x.example"), settling=rest))
        self.assertEqual([q.id for q in self.claim()], ["B.1.1"])
        self.clock.advance(5)
        self.assertEqual(self.claim(), [rest])

    def test_set_aside(self) -> None:
        """A message that cannot be read is kept, and never tried again."""
        self.queue("A.1")
        self.queue("B.1")
        one, _ = self.claim()
        self.run_to_end(self.spool.set_aside(one, "its body is gone"))
        self.clock.advance(3600)
        self.assertEqual(self.claim(), [])
        self.assertIsNone(self.next_due())
        self.assertRaises(SpoolDamaged, self.spool.open_body, one)

    # ---------------------------------------------------------------------------------- others

    def test_told_of_new_messages(self) -> None:
        """New mail is delivered at once, not when somebody looks."""
        told: list[float | None] = []
        domains: list[object] = []
        self.spool.when_added(lambda _: told.append(self.next_due()))
        self.spool.when_added(domains.append)
        staged = self.stage("A.1", BODY)
        self.assertEqual(told, [])
        self.run_to_end(staged.commit(envelope("a@one.example", "b@two.example", "c@one.example")))
        self.assertEqual(told, [ARRIVED])
        self.assertEqual(domains, [{"one.example", "two.example"}])
        self.run_to_end(self.spool.flush())
        self.assertEqual(domains[1:], [None])

    def test_one_listener_fails(self) -> None:
        """A mistake in one listener neither loses the message nor keeps others from hearing."""
        told = []

        def fails(_: object) -> None:
            raise ZeroDivisionError

        self.spool.when_added(fails)
        self.spool.when_added(lambda _: told.append(1))
        self.assertEqual(self.queue(), "A.1")
        self.assertEqual(told, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_closed(self) -> None:
        """Mail that comes in after the queue was closed is refused, not lost."""
        staged = self.stage("A.1", BODY)
        self.run_to_end(self.spool.close())
        self.run_to_end(self.spool.close())
        self.raised_by(staged.commit(envelope()), SpoolDamaged)
        self.raised_by(self.spool.claim(ARRIVED, 1), SpoolDamaged)
