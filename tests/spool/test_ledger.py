"""Several workers on one queue."""

from twisted.internet.defer import Deferred

from harakatls.queued import QueuedMessage
from harakatls.spool.directory import locked, prepare
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.lock import QueueLock
from harakatls.spool.sqlite import LEASE, listing
from tests.contracts.spool import ARRIVED, LARGE, delivered
from tests.spool.support import SQLiteCase


class LeaseTests(SQLiteCase):
    """Several workers on one queue."""

    def setUp(self) -> None:
        super().setUp()
        self.run_to_end(self.spool.close())
        self.lock: QueueLock = locked(self.directory)
        self.addCleanup(self.lock.release)
        prepare(self.directory)
        self.spool = self.open(lock=self.lock, slot="1")
        self.other = self.open(lock=self.lock, slot="2")

    def claim_other(self, limit: int = 100) -> list[QueuedMessage]:
        return list(self.run_to_end(self.other.claim(self.clock.seconds(), limit)))

    def test_exclusive(self) -> None:
        """Two workers never deliver the same message at the same time."""
        for number in range(10):
            self.queue(f"{number}.1")
        claimed = [[self.claim(2), self.claim_other(3)] for _ in range(3)]
        ids = [queued.id for both in claimed for some in both for queued in some]
        self.assertEqual(sorted(ids), [f"{number}.1.1" for number in range(10)])
        self.assertIsNone(self.run_to_end(self.other.next_due()))

    def test_any_worker_delivers(self) -> None:
        """What one worker has received another may deliver."""
        self.queue("A.1", body=LARGE)
        [queued] = self.claim_other()
        self.assertEqual(self.read(self.other.open_body(queued)), LARGE)
        self.run_to_end(self.other.settle(delivered(queued)))
        self.assertEqual(self.body_files(), [])

    def test_long_delivery(self) -> None:
        """A delivery may last for hours: its claim is renewed."""
        self.queue()
        [queued] = self.claim()
        for _ in range(100):
            self.clock.advance(LEASE / 3)
            self.assertEqual(self.claim_other(), [])
        self.settle(delivered(queued))
        self.assertEqual(list(listing(self.directory)), [])
        self.assertEqual(self.logged("warn"), [])

    def test_dead_worker(self) -> None:
        """What a dead worker had in hand is delivered by another, which is told of it."""
        self.queue()
        [queued] = self.claim()
        self.spool.upkeep.stop()  # it is dead
        told = []
        self.other.when_added(lambda _: told.append(self.run_to_end(self.other.next_due())))
        for _ in range(3):
            self.clock.advance(LEASE / 3)
            self.assertEqual((self.claim_other(), told), ([], []))
        self.clock.advance(LEASE / 3)
        self.assertEqual(told, [ARRIVED])
        self.assertEqual(self.claim_other(), [queued])
        # It was only asleep: what it records now must not touch the other's claim.
        self.settle(delivered(queued))
        self.assertEqual([one.id for one in listing(self.directory)], ["A.1.1"])
        self.assertIn("the claim on A.1.1 was lost", self.logged("warn")[-1])
        self.run_to_end(self.other.settle(delivered(queued)))
        self.assertEqual(list(listing(self.directory)), [])
        self.spool.upkeep._next = self.clock.callLater(1, lambda: None)

    def test_lost_claims_in_a_group(self) -> None:
        """Claims that were lost do not keep those that hold from being settled."""
        for number in range(4):
            self.queue(f"{number}.1")
        queued = self.claim()
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET claimed_by = 99 WHERE id IN ('1.1.1', '2.1.1')")
        with self.held():
            outcomes = [Deferred.fromCoroutine(self.spool.settle(delivered(q))) for q in queued]
        for outcome in outcomes:
            self.successResultOf(outcome)
        self.assertEqual([one.id for one in listing(self.directory)], ["1.1.1", "2.1.1"])
        self.assertEqual(len(self.logged("warn")), 2)

    def test_successor(self) -> None:
        """A worker that is replaced leaves its claims to its successor at once, and only those."""
        for number in range(2):
            self.queue(f"{number}.1")
        self.claim(1)
        self.claim_other(1)
        successor = self.open(lock=self.lock, slot="1")
        claimed = self.run_to_end(successor.claim(ARRIVED, 10))
        self.assertEqual([queued.id for queued in claimed], ["0.1.1"])

    def test_idle_worker(self) -> None:
        """A worker that was idle for long has its claims respected when it has some again."""
        for _ in range(10):
            self.clock.advance(LEASE)
        self.queue()
        [queued] = self.claim()
        for _ in range(10):
            self.clock.advance(LEASE / 3)
            self.assertEqual(self.claim_other(), [])
        self.settle(delivered(queued))
        self.assertEqual(self.logged("warn"), [])

    def test_stopped_worker(self) -> None:
        """A worker that stops in good order leaves nothing claimed."""
        self.queue()
        self.claim()
        self.run_to_end(self.spool.close())
        self.assertEqual(len(self.claim_other()), 1)
        # The lock is the parent's.
        self.assertRaises(SpoolUnusable, locked, self.directory)
