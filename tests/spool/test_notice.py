"""What the operator does to the queue beside the running server."""

from attrs import evolve
from twisted.internet.defer import Deferred

from harakatls.spool.notice import ROUND, give_notice
from harakatls.spool.sqlite import LEASE
from tests.contracts.spool import ARRIVED, LARGE, delivered, envelope
from tests.spool.support import FailingConnection, SQLiteCase, failure


class NoticeTests(SQLiteCase):
    """The server is told."""

    def test_told(self) -> None:
        """Mail that the operator wants to be tried now does not wait for the next alarm."""
        told: list[str] = []
        self.spool.when_added(lambda _: told.append("added"))
        self.spool.when_flushed(lambda: told.append("flushed"))
        self.clock.advance(ROUND)
        self.assertEqual(told, [])
        with self.by_hand() as connection:
            give_notice(connection)
        self.clock.advance(ROUND)
        self.assertEqual(told, ["flushed", "added"])
        self.clock.advance(ROUND)
        self.assertEqual(told, ["flushed", "added"])

    def test_not_told_of_the_past(self) -> None:
        """A restart tries what is due anyhow."""
        told: list[str] = []
        with self.by_hand() as connection:
            give_notice(connection)
        self.reopen()
        self.spool.when_flushed(lambda: told.append("flushed"))
        self.clock.advance(ROUND)
        self.assertEqual(told, [])

    def test_queue_cannot_be_read(self) -> None:
        """A failure to look is followed by the next look."""
        told: list[str] = []
        self.spool.when_flushed(lambda: told.append("flushed"))
        with self.by_hand() as connection:
            give_notice(connection)
        failing = FailingConnection(self.spool._reading, "SELECT count", failure(5, "locked"))
        self.patch(self.spool._notice, "_reading", failing)
        self.clock.advance(ROUND)
        self.assertEqual((told, failing.times), ([], 0))
        self.clock.advance(ROUND)
        self.assertEqual(told, ["flushed"])


class HeldTests(SQLiteCase):
    """Messages on hold, and those that are to go."""

    def hold(self, message_id: str, held: int = 1) -> None:
        with self.by_hand() as connection:
            done = connection.execute(
                "UPDATE message SET held = ? WHERE id = ?", (held, message_id)
            )
            self.assertEqual(done.rowcount, 1)

    def ids(self) -> list[str]:
        with self.by_hand() as connection:
            return [i for (i,) in connection.execute("SELECT id FROM message ORDER BY id")]

    def bodies(self) -> int:
        with self.by_hand() as connection:
            count: int = connection.execute("SELECT count(*) FROM body").fetchone()[0]
            return count

    def test_held(self) -> None:
        """A message on hold is neither tried nor waited for, until it is released."""
        self.queue("A.1")
        self.queue("B.1")
        self.hold("A.1.1")
        self.assertEqual(self.claim_ids(rooms={"x": 0}), ["B.1.1"])
        self.assertEqual(self.claim_ids(domains=["one.example"]), [])
        self.assertIsNone(self.next_due())
        self.hold("A.1.1", 0)
        self.assertEqual(self.claim_ids(), ["A.1.1"])

    def test_held_in_hand(self) -> None:
        """A message that is put on hold while it is being delivered stays if it is delayed."""
        self.queue("A.1")
        [queued] = self.claim()
        self.hold("A.1.1")
        self.settle(evolve(queued, attempts=1))
        self.assertEqual(self.claim(), [])
        self.hold("A.1.1", 0)
        self.assertEqual(self.claim(), [evolve(queued, attempts=1)])

    def test_removed_in_hand(self) -> None:
        """What the operator removes while it is being delivered goes when the attempt has ended."""
        for message_id, body in (("A.1", b"small"), ("B.1", LARGE)):
            self.queue(message_id, "to@one.example", "to@two.example", body=body)
            one, two = self.claim()
            self.hold(f"{message_id}.1", 2)
            self.assertEqual(self.read(self.spool.open_body(one)), body)
            self.settle(evolve(one, attempts=1, due=ARRIVED + 60))
            self.assertEqual(self.ids(), [f"{message_id}.2"])
            self.assertEqual(self.bodies(), 1)
            self.hold(f"{message_id}.2", 2)
            self.run_to_end(self.spool.set_aside(two, "cannot be read"))
            self.assertEqual((self.ids(), self.bodies(), self.body_files()), ([], 0, []))
        self.assertEqual(self.logged("warn"), [])

    def test_removed_while_it_bounces(self) -> None:
        """The report that was on its way goes out; the message goes."""
        self.queue("A.1", "a@one.example", "b@one.example")
        [queued] = self.claim()
        self.hold("A.1.1", 2)
        staged = self.stage("B.1", b"bounce")
        rest = evolve(queued, pending=queued.pending[1:])
        self.run_to_end(staged.commit(envelope("from@x.example"), settling=rest))
        self.assertEqual(self.ids(), ["B.1.1"])

    def test_removed_among_others(self) -> None:
        """Those settled in the same transaction are not touched."""
        for number in range(4):
            self.queue(f"{number}.1")
        claimed = self.claim()
        self.hold("1.1.1", 2)
        with self.held():
            for queued in claimed:
                changed = delivered(queued) if queued.id == "2.1.1" else queued
                Deferred.fromCoroutine(self.spool.settle(changed))
        self.assertEqual(self.ids(), ["0.1.1", "3.1.1"])

    def test_removed_and_never_settled(self) -> None:
        """A crash during the attempt does not bring back what was removed."""
        self.queue("A.1", body=LARGE)
        self.queue("B.1")
        self.claim()
        self.hold("A.1.1", 2)
        self.reopen()
        self.assertEqual(self.claim_ids(), ["B.1.1"])
        self.clock.advance(LEASE)
        self.assertEqual(self.ids(), ["B.1.1"])
        self.assertEqual((self.bodies(), self.body_files()), (1, []))
