"""No space, and then space again."""

import errno
import os
import sqlite3

from twisted.internet.defer import Deferred

from harakatls.interfaces import SpoolDamaged, SpoolFull
from harakatls.spool import bodies
from harakatls.spool.bodies import BLOCK
from harakatls.spool.gathering import GATHERED
from harakatls.spool.sqlite import listing
from tests.contracts.spool import BODY, LARGE, delivered, envelope
from tests.spool.support import SQLiteCase, failure

_WRITE = bodies._write


class FullTests(SQLiteCase):
    """No space, and then space again."""

    def test_commit_fails(self) -> None:
        """Of a group whose COMMIT fails nothing is there, and every sender is told to come back."""
        self.failing("COMMIT", failure(sqlite3.SQLITE_FULL, "database or disk is full"))
        staged = [self.stage("A.1", BODY), self.stage("B.1", LARGE)]
        with self.held():
            outcomes = [Deferred.fromCoroutine(one.commit(envelope())) for one in staged]
        for outcome in outcomes:
            error = self.failureResultOf(outcome, SpoolFull).value
            self.assertIn("database or disk is full", str(error))
        self.assertEqual(self.body_files(), [])
        self.assertEqual(list(listing(self.directory)), [])
        self.assertEqual(len(self.logged("error")), 1)
        self.queue("C.1")
        self.assertEqual([queued.id for queued in self.claim()], ["C.1.1"])
        self.assertEqual(len([line for line in self.logged("info") if "again" in line]), 1)

    def test_settlements_go_through(self) -> None:
        """While the disk is too full for new mail, the queue can still be emptied."""
        self.queue("A.1")
        [queued] = self.claim()
        self.failing("COMMIT", failure(sqlite3.SQLITE_FULL, "database or disk is full"))
        staged = self.stage("B.1", BODY)
        with self.held():
            added = Deferred.fromCoroutine(staged.commit(envelope()))
            settled = Deferred.fromCoroutine(self.spool.settle(delivered(queued)))
        self.failureResultOf(added, SpoolFull)
        self.successResultOf(settled)
        self.assertEqual(list(listing(self.directory)), [])

    def test_full_for_real(self) -> None:
        """What does not fit is refused, what fits beside it is taken."""
        pages = self.spool.writer._connection.execute("PRAGMA page_count").fetchone()[0]
        self.spool.writer._connection.execute(f"PRAGMA max_page_count = {pages + 8}").fetchall()
        staged = [self.stage("A.1", BODY), self.stage("B.1", bytes(100_000)), self.stage("C.1")]
        with self.held():
            outcomes = [Deferred.fromCoroutine(one.commit(envelope())) for one in staged]
        self.assertEqual(self.successResultOf(outcomes[0]), "A.1")
        self.failureResultOf(outcomes[1], SpoolFull)
        self.assertEqual(self.successResultOf(outcomes[2]), "C.1")
        self.reopen()
        self.queue("D.1", body=bytes(100_000))
        self.assertEqual([queued.id for queued in self.claim()], ["A.1.1", "C.1.1", "D.1.1"])

    def test_input_output_error(self) -> None:
        """A failing disk is told as such; a message is lost to its sender, not to us."""
        self.failing("COMMIT", failure(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error"))
        staged = self.stage("A.1", BODY)
        error = self.raised_by(staged.commit(envelope()), SpoolDamaged)
        self.assertIn("disk I/O error", str(error))
        self.assertEqual(self.claim(), [])

    def test_input_output_error_without_space(self) -> None:
        """A quota shows itself as an error of the disk; the sender reads of no space."""
        self.patch(self.spool.writer, "_fits", lambda octets: octets < 10_000)
        self.failing("COMMIT", failure(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"))
        staged = self.stage("A.1", BODY)
        error = self.raised_by(staged.commit(envelope()), SpoolFull)
        self.assertIn("disk I/O error", str(error))

    def test_group_does_not_fit(self) -> None:
        """Messages that together would fill the disk are refused, but for those that fit."""
        self.queue("A.1")
        [queued] = self.claim()
        self.patch(self.spool.writer, "_fits", lambda octets: octets < 100_000)
        sizes = {"B.1": 50_000, "C.1": 60_000, "D.1": 30_000, "E.1": 120_000}
        staged = [self.stage(key, bytes(size)) for key, size in sizes.items()]
        with self.held():
            outcomes = [Deferred.fromCoroutine(one.commit(envelope())) for one in staged]
            settled = Deferred.fromCoroutine(self.spool.settle(delivered(queued)))
        self.assertEqual(self.successResultOf(outcomes[0]), "B.1")
        self.failureResultOf(outcomes[1], SpoolFull)
        self.assertEqual(self.successResultOf(outcomes[2]), "D.1")
        self.failureResultOf(outcomes[3], SpoolFull)
        self.successResultOf(settled)
        self.assertEqual([one.id for one in listing(self.directory)], ["B.1.1", "D.1.1"])

    def test_transaction_cannot_begin(self) -> None:
        """A database that another process keeps locked makes senders come back."""
        self.failing("BEGIN", failure(sqlite3.SQLITE_BUSY, "database is locked"))
        staged = self.stage("A.1", LARGE)
        self.raised_by(staged.commit(envelope()), SpoolDamaged)
        self.assertEqual(self.body_files(), [])
        self.queue("B.1")

    def _write_fails(self, number: int, after: int) -> None:
        written = [0]

        def write(descriptor: int, block: bytes | bytearray) -> None:
            written[0] += len(block)
            if written[0] > after:
                raise OSError(number, os.strerror(number))
            _WRITE(descriptor, block)

        self.patch(bodies, "_write", write)

    def test_body_does_not_fit(self) -> None:
        """A large message that does not fit is refused while it comes in, and leaves nothing."""
        for number in (errno.ENOSPC, errno.EDQUOT):
            self._write_fails(number, GATHERED + BLOCK)
            staged = self.stage("A.1", bytes(GATHERED + 1))
            error = self.raised_by(staged.write(bytes(GATHERED + 1)), SpoolFull)
            self.assertIn(os.strerror(number), str(error))
            self.raised_by(staged.write(b"more"), SpoolFull)
            self.raised_by(staged.commit(envelope()), SpoolFull)
            self.assertRaises(SpoolFull, staged.open)
            self.run_to_end(staged.abort())
            self.assertEqual(self.body_files(), [])
            self.assertEqual(self.claim(), [])

    def test_last_block_does_not_fit(self) -> None:
        """So when it is only the end that does not fit."""
        self._write_fails(errno.ENOSPC, BLOCK + 1)
        staged = self.stage("A.1", LARGE[: BLOCK + 1], b"end")
        self.raised_by(staged.commit(envelope()), SpoolFull)
        self.run_to_end(staged.abort())
        self.assertEqual(self.body_files(), [])
        self.assertEqual(self.claim(), [])

    def test_failing_disk(self) -> None:
        """An error that is not about space is not told as if it were."""
        self._write_fails(errno.EIO, 0)
        self.raised_by(self.stage("A.1").write(LARGE), SpoolDamaged)

    def test_sync_fails(self) -> None:
        """A body that did not reach the disk is not accepted."""

        def fsync(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        staged = self.stage("A.1", LARGE)
        self.patch(os, "fsync", fsync)
        self.raised_by(staged.commit(envelope()), SpoolDamaged)
        self.run_to_end(staged.abort())
        self.assertEqual((self.claim(), self.body_files()), ([], []))

    def test_reserve_while_receiving(self) -> None:
        """A large message does not eat up the reserve that was there when it began."""
        staged = self.stage("A.1")

        def full() -> None:
            raise SpoolFull("too little is free")

        self.patch(self.spool, "check_space", full)
        self.raised_by(staged.write(LARGE), SpoolFull)
