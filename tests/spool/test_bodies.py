"""Small bodies in the database, large ones in files."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from harakatls.interfaces import SpoolDamaged
from harakatls.spool.bodies import BLOCK
from harakatls.spool.staged import GATHERED
from tests.contracts.spool import LARGE, delivered, envelope
from tests.spool.support import SQLiteCase


class BodyTests(SQLiteCase):
    """Small bodies in the database, large ones in files."""

    def test_limit(self) -> None:
        """Up to 256 KiB stand in the database, more in a file that only the owner reads."""
        self.queue("A.1", body=bytes(BLOCK))
        self.assertEqual(self.body_files(), [])
        self.queue("B.1", body=bytes(BLOCK + 1))
        self.assertEqual(self.body_files(), ["B.1.eml"])
        status = (self.directory / "body" / "B.1.eml").stat()
        self.assertEqual(status.st_mode & 0o777, 0o600)

    def test_memory(self) -> None:
        """However large a message, no more than a part of fixed size stands in memory."""
        staged = self.stage()
        chunk = bytes(65536)
        for _ in range(400):
            self.run_to_end(staged.write(chunk))
            self.assertLessEqual(len(staged.tail), GATHERED)  # type: ignore[attr-defined]
        self.run_to_end(staged.commit(envelope()))
        [queued] = self.claim()
        body = self.spool.open_body(queued)
        total = 0
        while piece := self.run_to_end(body.read(1 << 30)):
            self.assertLessEqual(len(piece), BLOCK)
            total += len(piece)
        self.assertEqual(total, 400 * 65536)

    def test_files_go(self) -> None:
        """A file goes with the last message that needs it, or with a message that is refused."""
        self.queue("A.1", "a@one.example", "b@two.example", body=LARGE)
        self.run_to_end(self.stage("B.1", LARGE).abort())
        self.assertEqual(self.body_files(), ["A.1.eml"])
        one, two = self.claim()
        self.settle(delivered(one))
        self.assertEqual(self.body_files(), ["A.1.eml"])
        self.settle(evolve(two, due=0.0))
        [two] = self.claim()
        self.settle(delivered(two))
        self.assertEqual(self.body_files(), [])

    def test_file_of_a_settled_message(self) -> None:
        """So when the message goes because its bounce was queued."""
        self.queue("A.1", body=LARGE)
        [queued] = self.claim()
        staged = self.stage("B.1", LARGE)
        self.run_to_end(staged.commit(envelope(), settling=delivered(queued)))
        self.assertEqual(self.body_files(), ["B.1.eml"])

    def test_nothing_is_left(self) -> None:
        """A queue that was emptied holds nothing any more."""
        self.queue("A.1", "a@one.example", "b@two.example", "c@three.example")
        self.queue("B.1", body=LARGE)
        self.queue("C.1")
        for queued in self.claim():
            self.settle(delivered(queued))
        with self.by_hand() as connection:
            for table in ("message", "body"):
                found = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
                self.assertEqual(found, [(0,)])

    def test_forgotten_message(self) -> None:
        """A message that nobody aborts does not fill the disk for the life of the server."""
        staged = self.stage("A.1", LARGE)
        self.assertEqual(self.body_files(), ["A.1.eml"])
        del staged
        self.assertEqual(self.body_files(), [])

    def test_existing_file(self) -> None:
        """A file that is there already is never written over."""
        path = self.directory / "body" / "A.1.eml"
        path.write_bytes(b"other")
        staged = self.stage("A.1")
        error = self.raised_by(staged.write(LARGE), SpoolDamaged)
        self.assertIn(str(path), str(error))
        self.run_to_end(staged.abort())
        self.assertEqual(path.read_bytes(), b"other")

    def test_dangling_link(self) -> None:
        """Nor is a link followed to somewhere else."""
        path = self.directory / "body" / "A.1.eml"
        path.symlink_to(self.directory / "elsewhere")
        self.raised_by(self.stage("A.1").write(LARGE), SpoolDamaged)
        self.assertFalse((self.directory / "elsewhere").exists())

    def test_sender_that_left_while_writing(self) -> None:
        """A block that is written late, when its sender has gone, brings no file back."""
        for late_by in (0, 1):
            self.late: list[Callable[[], object]] = []
            self.patch(self.spool, "in_thread", self._later)
            staged = self.stage("A.1")
            writing = Deferred.fromCoroutine(staged.write(LARGE))
            if not late_by:
                self.late.pop(0)()
            writing.cancel()
            self.failureResultOf(writing, CancelledError)
            self.raised_by(staged.write(b"more"), SpoolDamaged)
            self.raised_by(staged.commit(envelope()), SpoolDamaged)
            aborting = Deferred.fromCoroutine(staged.abort())
            for call in reversed(self.late):  # the threads may come in any order
                call()
            self.assertNoResult(aborting)
            self.assertEqual(self.body_files(), [])

    def _later(self, blocking: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
        self.late.append(lambda: blocking(*arguments))
        return Deferred()

    def test_sender_that_left_while_syncing(self) -> None:
        """A large message whose sender left before its commit began is not queued."""
        staged = self.stage("A.1", LARGE)
        self.late = []
        self.patch(self.spool, "in_thread", self._later)
        commit = Deferred.fromCoroutine(staged.commit(envelope()))
        commit.cancel()
        self.failureResultOf(commit, CancelledError)
        aborting = Deferred.fromCoroutine(staged.abort())
        for call in reversed(self.late):
            call()
        self.assertNoResult(aborting)
        self.assertEqual((self.claim(), self.body_files()), ([], []))
