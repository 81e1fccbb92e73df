"""What every queue does with mail that goes out: claiming, settling, telling."""

from attrs import evolve

from harakatls.interfaces import (
    SpoolDamaged,
)
from harakatls.queued import Attempt, Delayed, Trial
from harakatls.smtp.reply import Reply
from tests.contracts.spool import ARRIVED, BODY, SpoolCase, delivered, envelope


class ClaimingContract(SpoolCase):
    """
    To be subclassed for each queue, which says how one is made.

    Import the module, not the class: trial runs every class that it finds.
    """

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
