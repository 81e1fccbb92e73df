"""The durable queue, done in one thread."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from harakatls.interfaces import SpoolDamaged, SpoolFull
from harakatls.queued import QueuedMessage
from harakatls.spool import database, picking, sqlite
from harakatls.spool.claims import LONGEST
from harakatls.spool.directory import locked
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.sqlite import LEASE, listing
from tests.contracts import claiming, staging
from tests.contracts.spool import ARRIVED, BODY, LARGE, delivered, envelope
from tests.spool.support import SQLiteCase, failure


class SQLiteSpoolTests(SQLiteCase, staging.StagingContract, claiming.ClaimingContract):
    """The contract."""


class DurabilityTests(SQLiteCase):
    """What is there after a restart."""

    def test_survives_a_restart(self) -> None:
        """What was accepted is delivered after a restart."""
        self.queue("A.1", "a@one.example", "b@two.example")
        self.queue("B.1", body=LARGE)
        self.reopen()
        queued = self.claim()
        self.assertEqual([one.id for one in queued], ["A.1.1", "A.1.2", "B.1.1"])
        found = [self.read(self.spool.open_body(one)) for one in queued]
        self.assertEqual(found, [BODY, BODY, LARGE])

    def test_claims_of_the_dead(self) -> None:
        """What a server had in hand when it was killed is delivered by the next one."""
        self.queue("A.1")
        self.claim()
        dead = self.spool
        assert dead._lock is not None
        dead._lock.release()  # all that is left to do after SIGKILL
        dead._lock = None
        self.spool = self.open()
        self.assertEqual(self.next_due(), ARRIVED)
        self.assertEqual(len(self.claim()), 1)

    def test_claims_of_the_stopped(self) -> None:
        """So with one that was stopped in good order."""
        self.queue("A.1")
        self.claim()
        self.reopen()
        self.assertEqual(len(self.claim()), 1)

    def test_stopped_in_good_order(self) -> None:
        """A queue that was closed is one file that can be copied, and its bodies."""
        self.queue("A.1")
        self.run_to_end(self.spool.close())
        found = sorted(path.name for path in self.directory.iterdir())
        self.assertEqual(found, ["body", "lock", "queue.db"])

    def test_unfinished_message(self) -> None:
        """A message that was being received when the server was killed leaves nothing."""
        staged = self.stage("A.1", LARGE)
        self.assertEqual(self.body_files(), ["A.1.eml"])
        dead = self.spool
        assert dead._lock is not None
        dead._lock.release()
        dead._lock = None
        self.spool = self.open()
        self.assertEqual(self.body_files(), [])
        self.assertEqual(self.claim(), [])
        del staged

    def test_second_server(self) -> None:
        """A second server on the same queue does not start, and the first one goes on."""
        error = self.assertRaises(SpoolUnusable, self.open)
        self.assertIn(f"in use by another server (process {os.getpid()})", str(error))
        self.queue()
        self.assertEqual(len(self.claim()), 1)

    def test_start_that_fails(self) -> None:
        """A server that cannot start says why, and does not keep the queue locked."""
        self.run_to_end(self.spool.close())
        error = failure(sqlite3.SQLITE_FULL, "database or disk is full")
        for name in ("register", "GroupWriter"):

            def fails(*arguments: Any, **options: Any) -> None:
                raise error

            self.patch(sqlite, name, fails)
            raised = self.assertRaises(SpoolUnusable, self.open)
            self.assertIn(f"{self.directory} cannot be used: database or disk is full", str(raised))
        self.patch(sqlite, "prepare", lambda directory: 1 / 0)
        self.assertRaises(ZeroDivisionError, self.open)
        locked(self.directory).release()

    def test_order_of_syncing(self) -> None:
        """
        A large body, and its name, are on disk before the row that says so, and that before 250.
        """
        steps = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
            real(descriptor)

        staged = self.stage("A.1", LARGE)
        self.patch(os, "fsync", fsync)
        self.spool.writer._connection.set_trace_callback(steps.append)
        self.patch(self.spool, "_call_from_thread", lambda *call: steps.append("answer"))
        Deferred.fromCoroutine(staged.commit(envelope()))
        statements = [step.split(" ")[0] for step in steps]
        self.assertEqual(
            statements, ["A.1.eml", "body", "BEGIN", "INSERT", "INSERT", "COMMIT", "answer"]
        )


class UnsettledTests(SQLiteCase):
    """Outcomes that could not be recorded."""

    def _cannot_settle(self) -> QueuedMessage:
        self.queue()
        [queued] = self.claim()
        self.failing("COMMIT", failure(sqlite3.SQLITE_FULL, "database or disk is full"))
        self.raised_by(self.spool.settle(delivered(queued)), SpoolFull)
        return queued

    def test_tried_again(self) -> None:
        """A runner that tries again succeeds, and nothing is delivered twice."""
        queued = self._cannot_settle()
        self.assertEqual(self.claim(), [])
        self.settle(delivered(queued))
        self.clock.advance(LEASE)
        self.assertEqual((list(listing(self.directory)), self.logged("warn")), ([], []))

    def test_given_up(self) -> None:
        """A runner that gives up does not leave the message claimed for ever."""
        queued = self._cannot_settle()
        told = []
        self.spool.when_added(lambda _: told.append(1))
        for _ in range(4):
            self.clock.advance(LEASE / 3)
        self.assertEqual(told, [1])
        self.assertEqual(self.claim(), [queued])
        self.assertIn("free again", self.logged("warn")[0])
        self.settle(delivered(queued))
        self.assertEqual(list(listing(self.directory)), [])

    def test_given_up_with_a_report(self) -> None:
        """So where it was the report about it that could not be written."""
        self.queue()
        [queued] = self.claim()
        staged = self.stage("R.1", b"report")
        self.failing("COMMIT", failure(sqlite3.SQLITE_IOERR, "disk I/O error"))
        self.raised_by(staged.commit(envelope(), delivered(queued)), SpoolDamaged)
        for _ in range(4):
            self.clock.advance(LEASE / 3)
        self.assertEqual(self.claim(), [queued])

    def test_forgotten(self) -> None:
        """So when it does not even try; but not while a delivery may still be under way."""
        self.queue()
        [queued] = self.claim()
        for _ in range(int(LONGEST / LEASE * 3) - 1):
            self.clock.advance(LEASE / 3)
        self.assertIsNone(self.next_due())
        self.clock.advance(LEASE / 3)
        self.assertEqual(self.claim(), [queued])

    def test_given_up_while_there_is_no_space(self) -> None:
        """So when the disk is still full then; it is free as soon as there is space."""
        queued = self._cannot_settle()
        connection = self.failing("COMMIT", failure(sqlite3.SQLITE_FULL, "disk is full"))
        connection.times = 1000
        for _ in range(5):
            self.clock.advance(LEASE / 3)
        connection.times = 0
        self.clock.advance(LEASE / 3)
        self.assertEqual(self.claim(), [queued])


class ShrinkingTests(SQLiteCase):
    """What a backlog leaves behind."""

    def test_given_back(self) -> None:
        """When a large queue has been emptied, the disk has its space back."""
        self.patch(database, "_SPARE_PAGES", 100)
        path = self.directory / "queue.db"
        with self.held():
            for number in range(20):
                staged = self.stage(f"{number}.1", bytes(100_000))
                Deferred.fromCoroutine(staged.commit(envelope()))
        claimed = self.claim(19)
        with self.held():
            for queued in claimed:
                Deferred.fromCoroutine(self.spool.settle(delivered(queued)))
        self.reopen()
        self.assertGreater(path.stat().st_size, 2_000_000)
        self.clock.advance(LEASE / 3)
        # Something is kept for mail to come.
        self.assertLess(path.stat().st_size, 1_000_000)
        self.assertGreater(path.stat().st_size, 400_000)
        self.patch(self.spool.upkeep._space, "is_low", lambda: True)
        self.clock.advance(LEASE / 3)
        self.assertLess(path.stat().st_size, 250_000)
        [queued] = self.claim()
        self.assertEqual(self.read(self.spool.open_body(queued)), bytes(100_000))

    def test_given_back_when_it_is_wanted(self) -> None:
        """A queue that has been emptied takes mail again when it is asked, not some time later."""
        path = self.directory / "queue.db"
        self.queue("A.1", body=bytes(200_000))
        [queued] = self.claim()
        self.settle(delivered(queued))
        self.patch(self.spool._space, "is_low", lambda: True)
        self.patch(self.spool._space, "_look", lambda: "too little is free")
        self.clock.advance(1)
        self.raised_by(self.spool.stage("B.1"), SpoolFull)
        self.assertLess(path.stat().st_size, 100_000)
        # There is nothing more to give back.
        self.raised_by(self.spool.stage("B.1"), SpoolFull)


# Tables of a few rows, whatever is in the queue.
SMALL = ("SCAN worker", "SCAN notice", "SCAN line", "SCAN CONSTANT")


class SpeedTests(SQLiteCase):
    """What must not grow with the queue."""

    def test_plans(self) -> None:
        """Claiming, and asking what is due, stay fast with any number of messages."""
        statements: list[str] = []
        self.spool.writer._connection.set_trace_callback(statements.append)
        self.spool._reading.set_trace_callback(statements.append)
        self.queue("A.1", "a@one.example", "b@two.example")
        self.next_due()
        self.patch(picking, "WINDOW", 1)
        self.assertEqual(self.claim_ids(rooms={"one.example": 0, "two.example": 0}), [])
        self.assertEqual(self.claim_ids(domains=["three.example"]), [])
        self.run_to_end(self.spool.flush("one.example"))
        self.run_to_end(self.spool.flush())
        one, two = self.claim()
        self.spool.open_body(one)
        self.settle(evolve(one, due=0.0))
        self.settle(delivered(two))
        self.clock.advance(LEASE)
        with self.by_hand() as connection:
            for statement in statements:
                if statement.split()[0] not in ("UPDATE", "DELETE", "SELECT", "WITH"):
                    continue
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                for *_, step in plan:
                    with self.subTest(statement=statement, step=step):
                        self.assertNotIn("TEMP B-TREE", step)
                        if step.startswith("SCAN") and not step.startswith(SMALL):
                            self.assertRegex(step, "USING (COVERING )?INDEX message_")
