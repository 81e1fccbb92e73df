"""Tests for ``harakatls queue flush|hold|release|requeue|remove``."""

from attrs import evolve

from harakatls.queued import Trial
from harakatls.service import command_queue_change
from harakatls.spool.notice import ROUND
from tests.contracts.spool import ARRIVED, BODY, LARGE, delivered
from tests.service.queue_case import QueueCase

TRIAL = Trial("mx.one.example [192.0.2.1]:25", "451 4.4.1 no connection")
LATER = 5e9  # due, in a time that this test will not see


class ChangeCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("A.1", "a@one.example", "b@two.example")
        self.add("B.1", "c@one.example", sender=None)
        self.told: list[str] = []
        self.spool.when_flushed(lambda: self.told.append("flushed"))

    def delay_all(self, attempts: int = 1) -> None:
        for queued in self.claim():
            self.settle(evolve(queued, attempts=attempts, due=LATER))

    def said(self, *arguments: object) -> str:
        done = self.command(*arguments)
        self.assertEqual((done.status, done.err), (0, ""))
        return done.text

    def refused(self, *arguments: object) -> str:
        """@return: what is said on stderr."""
        before = self.rows()
        done = self.command(*arguments)
        self.assertEqual((done.status, done.text), (2, ""))
        self.assertEqual(self.rows(), before)
        return done.err

    def rows(self) -> list[object]:
        with self.by_hand() as connection:
            return connection.execute("SELECT * FROM message ORDER BY number").fetchall()


class FlushTests(ChangeCase):
    def test_all(self) -> None:
        """Delayed mail is tried now, and the running server knows within a second."""
        self.delay_all()
        self.assertEqual(self.claim(), [])
        self.assertEqual(self.said("flush", "--all"), "3 messages: to be tried now\n")
        self.clock.advance(ROUND)
        self.assertEqual(self.told, ["flushed"])
        self.clock.advance(2e9)  # the clock of this server is behind
        self.assertEqual(len(self.claim()), 3)

    def test_some(self) -> None:
        """The rest waits as before."""
        self.delay_all()
        self.assertEqual(
            self.said("flush", "--domain", "one.*", "--json"), '{"to be tried now": 2}\n'
        )
        self.clock.advance(2e9)
        self.assertEqual(self.claim_ids(), ["A.1.1", "B.1.1"])

    def test_what_is_not_flushed(self) -> None:
        """Nothing is tried that is in hand, held or set aside, and the operator is told."""
        one, two, three = self.claim()
        self.run_to_end(self.spool.set_aside(two, "its body is gone"))
        self.settle(evolve(three, due=LATER))
        self.command("hold", three.id)
        said = self.said("flush", "--all")
        for outcome in ("in hand already", "set aside, so not", "held, so not"):
            self.assertIn(f"1 message: {outcome}", said)
        self.settle(evolve(one, due=LATER))
        self.clock.advance(2e9)
        self.assertEqual(self.claim(), [])


class HoldTests(ChangeCase):
    def test_hold_and_release(self) -> None:
        """What is on hold is not tried, and a list tells so, until it is released."""
        self.assertEqual(self.said("hold", "A.1"), "2 messages: held\n")
        self.assertEqual(self.claim_ids(), ["B.1.1"])
        self.assertEqual(self.ids("--state", "held"), ["A.1.1", "A.1.2"])
        self.assertIn("held until it is released", self.command("list", "A.1.1").text)
        self.assertEqual(self.said("release", "A.1.1"), "1 message: released\n")
        self.clock.advance(ROUND)
        self.assertEqual(self.told, ["flushed"])
        self.assertEqual(self.claim_ids(), ["A.1.1"])
        self.assertEqual(self.said("release", "B.1"), "1 message: not held\n")

    def test_in_hand(self) -> None:
        """An attempt under way is not broken off; there is no other one after it."""
        [queued] = self.claim(1)
        self.assertIn("in hand now, held as soon as", self.said("hold", queued.id))
        self.assertIn("in hand now, then held", self.command("list", queued.id).text)
        self.settle(queued)
        self.assertEqual(self.claim_ids(), ["A.1.2", "B.1.1"])

    def test_after_a_restart(self) -> None:
        """A restart releases nothing."""
        self.command("hold", "--all")
        self.reopen()
        self.assertEqual(self.claim(), [])
        self.command("release", "--all")
        self.assertEqual(len(self.claim()), 3)


class RequeueTests(ChangeCase):
    def test_from_the_start(self) -> None:
        """The schedule begins anew; what has happened stays to be seen."""
        [queued] = self.claim(1)
        after = self.delay(queued, TRIAL, LATER)
        self.assertEqual(self.said("requeue", queued.id), "1 message: requeued\n")
        self.clock.advance(2e9)
        [found] = [q for q in self.claim() if q.id == queued.id]
        self.assertEqual(found, evolve(after, attempts=0, due=found.due))
        self.assertLess(found.due, LATER)
        shown = self.command("show", queued.id).text
        self.assertIn("0 attempts", shown)
        self.assertIn(TRIAL.host, shown)

    def test_set_aside(self) -> None:
        """What was set aside is tried again, when the operator has mended the cause."""
        [queued] = self.claim(1)
        self.run_to_end(self.spool.set_aside(queued, "its body could not be opened"))
        self.assertEqual(self.said("requeue", "--state", "set-aside"), "1 message: requeued\n")
        self.clock.advance(2e9)
        self.assertIn(queued.id, self.claim_ids())

    def test_not_those_in_hand(self) -> None:
        """An attempt under way counts."""
        [queued] = self.claim(1)
        self.assertIn("in hand now, left as it is", self.said("requeue", queued.id))
        self.settle(evolve(queued, attempts=4))
        self.assertEqual(self.claim(1)[0].attempts, 4)

    def test_undecodable(self) -> None:
        """What cannot be read stays for those who can."""
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET message = '{\"x\"' WHERE id = 'A.1.1'")
        before = self.rows()
        self.assertIn("cannot be read, left as it is", self.said("requeue", "A.1.1"))
        self.assertEqual(self.rows(), before)


class RemoveTests(ChangeCase):
    def bodies(self) -> int:
        with self.by_hand() as connection:
            count: int = connection.execute("SELECT count(*) FROM body").fetchone()[0]
            return count

    def test_with_bodies(self) -> None:
        """The space is free again; a body that others share stays for them."""
        self.add("L.1", "a@one.example", body=LARGE)
        self.assertEqual(self.said("remove", "--yes", "A.1.1", "L.1"), "2 messages: removed\n")
        self.assertEqual(self.ids(), ["A.1.2", "B.1.1"])
        self.assertEqual((self.bodies(), self.body_files()), (2, []))
        two = self.claim()[0]
        self.assertEqual(self.read(self.spool.open_body(two)), BODY)
        self.settle(delivered(two))
        self.said("remove", "-y", "--all")  # one is in hand
        self.assertEqual((self.ids(), self.bodies()), (["B.1.1"], 1))

    def test_in_hand(self) -> None:
        """An attempt under way is not broken off; what it leaves is removed."""
        one, two, three = self.claim()
        self.assertIn("in hand now, removed as soon as", self.said("remove", "-y", "--all"))
        self.assertIn("in hand now, then removed", self.command("list", one.id).text)
        self.settle(evolve(one, due=ARRIVED))
        self.settle(delivered(two))
        self.assertEqual(self.ids(), [three.id])
        self.said("release", three.id)  # just in time
        self.settle(three)
        self.assertEqual(self.claim(), [three])

    def test_asked(self) -> None:
        """A slip of the finger removes nothing."""
        for answer in ("", "n\n", "yikes\n"):
            done = self.command("remove", "--all", answer=answer)
            self.assertEqual(done.status, 2)
            self.assertIn("Remove 3 messages for good? Nobody is told. [y/N]", done.err)
            self.assertIn("nothing was removed", done.err)
        self.assertEqual(len(self.ids()), 3)
        self.assertEqual(self.command("remove", "A.1", answer="y\n").status, 0)
        self.assertEqual(self.ids(), ["B.1.1"])

    def test_without_a_terminal(self) -> None:
        """A script has to say that it means it."""
        self.assertIn("3 messages would be removed for good; say", self.refused("remove", "--all"))

    def test_many(self) -> None:
        """More than fit into one transaction, and some of them in hand."""
        for number in range(600):
            self.add(f"M{number}.1", "x@many.example")
        self.claim(3)
        done = self.command("remove", "--yes", "--json", "--all")
        self.assertEqual(
            done.json,
            [{"removed": 600, "in hand now, removed as soon as no attempt is under way": 3}],
        )
        self.assertEqual(len(self.ids()), 3)
        self.assertEqual(self.claim(), [])

    def test_one_of_several_recipients(self) -> None:
        """The others get the message, and what happened to this one can be seen."""
        self.add("C.1", "a@one.example", "b@one.example", "x@two.example")
        [queued] = [q for q in self.claim() if q.id == "C.1.1"]
        self.delay(queued, TRIAL, LATER)
        said = self.said("remove", "-y", "--recipient", "B@one.example", "C.1")
        self.assertEqual(said, "1 message: kept for its other recipients\n")
        shown = self.command("show", "C.1.1")
        self.assertRegex(shown.text, r"to +<b@one.example>  removed by the operator 20\d\d-")
        self.assertIn("to        <a@one.example>  waits", shown.text)
        self.assertIn(TRIAL.host, shown.text)
        one, two = self.command("show", "--json", "C.1.1").json[0]["recipients"]
        self.assertEqual((one["state"], one["removed_at"]), ("waits", None))
        self.assertEqual((two["state"], two["reply"]), ("removed", ""))
        self.assertGreater(two["removed_at"], 1.6e9)
        self.clock.advance(5e9)
        [found] = [q for q in self.claim() if q.id == "C.1.1"]
        self.assertEqual([str(one.address) for one in found.pending], ["a@one.example"])
        self.assertEqual((found.attempts, len(found.history)), (1, 1))

    def test_all_recipients(self) -> None:
        """Of a message whose recipients are all removed nothing stays."""
        self.add("C.1", "a@one.example", "b@one.example", "x@two.example")
        said = self.said("remove", "-y", "--recipient", "[ab]@one.example")
        self.assertEqual(said, "2 messages: removed\n")
        self.assertEqual(self.ids(), ["A.1.2", "B.1.1", "C.1.2"])

    def test_one_of_several_in_hand(self) -> None:
        """What an attempt under way comes to would undo it: so it is said that it was not done."""
        self.add("C.1", "a@three.example", "b@three.example", "c@three.example")
        queued = next(q for q in self.claim() if q.id == "C.1.1")
        remove = ("remove", "-y", "--recipient", "a@three.example")
        self.assertIn("for others as well, left as it is (hold it first", self.said(*remove))
        self.said("hold", "C.1")
        self.settle(queued)
        self.said(*remove)
        self.said("release", "C.1")
        [found] = self.claim()
        self.assertEqual(len(found.pending), 2)

    def test_changed_while_asked(self) -> None:
        """What the operator has not seen is not removed, however long he thinks about it."""
        self.delay_all()

        def slowly(*_: object) -> None:
            self.clock.advance(5e9)
            one = self.claim(1)[0]
            self.settle(evolve(one, attempts=2, due=1.5e9))

        self.patch(command_queue_change, "_ask", slowly)
        said = self.said("remove", "--state", "delayed")
        self.assertIn("2 messages: removed\n", said)
        self.assertIn("1 message: changed meanwhile and left", said)
        self.assertEqual(self.ids(), ["A.1.1"])

    def test_asked_about_recipients(self) -> None:
        """Whoever removes recipients is not asked about messages."""
        done = self.command("remove", "--recipient", "one.example", answer="n\n")
        self.assertIn("Remove the recipients one.example of 2 messages for good?", done.err)


class MisuseTests(ChangeCase):
    def test_all_must_be_said(self) -> None:
        """Whoever forgets the filter changes nothing."""
        for verb in ("flush", "hold", "release", "requeue", "remove"):
            self.assertIn("or say --all", self.refused(verb))
            self.assertIn("does not go together", self.refused(verb, "--all", "A.1"))

    def test_unknown_id(self) -> None:
        """One id that is mistyped, and none of the others is touched either."""
        for verb in ("flush", "hold", "release", "requeue"):
            self.assertIn("no message Z.1 in the queue", self.refused(verb, "A.1", "Z.1"))
        self.assertIn("no message Z.1 in", self.refused("remove", "--yes", "A.1", "Z.1"))

    def test_nothing_fits(self) -> None:
        """A filter that fits nothing is no error."""
        self.assertEqual(self.said("remove", "--domain", "nowhere.example"), "no message fits\n")
        self.assertEqual(self.said("flush", "Z*"), "no message fits\n")

    def test_delivered_meanwhile(self) -> None:
        """What is gone when its turn comes is told, and nothing else suffers."""
        choose = command_queue_change.choose

        def slowly(*arguments: object) -> object:
            chosen = choose(*arguments)  # type: ignore[arg-type]
            for queued in self.claim(1):
                self.settle(delivered(queued))
            return chosen

        self.patch(command_queue_change, "choose", slowly)
        said = self.said("hold", "--all")
        self.assertIn("2 messages: held\n", said)
        self.assertIn("1 message: delivered or returned meanwhile\n", said)
