"""Small bodies in the database, large ones in files."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from harakatls.interfaces import SpoolDamaged
from harakatls.spool.bodies import BLOCK
from harakatls.spool.gathering import GATHERED, GATHERED_IN_ALL
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

    def test_memory_of_many(self) -> None:
        """Of hundreds of large messages at once less of each stands in memory, and all arrive."""
        many, chunk = 400, bytes(range(256)) * 128
        staged = [self.stage(f"{number:03}.1") for number in range(many)]
        for _ in range(12):
            for one in staged:
                self.run_to_end(one.write(chunk))
            self.assertLessEqual(self.spool.held, GATHERED_IN_ALL + many * len(chunk))
        for one in staged[:-1]:
            self.run_to_end(one.abort())
        self.run_to_end(staged[-1].commit(envelope()))
        self.assertEqual(self.spool.held, 0)
        [queued] = self.claim()
        body, octets = self.spool.open_body(queued), b""
        while piece := self.run_to_end(body.read(1 << 30)):
            octets += piece
        self.assertEqual(octets, chunk * 12)
        # Alone it may have as much as ever.
        self.assertEqual(len(self.stage("B.1", bytes(GATHERED)).tail), GATHERED)  # type: ignore[attr-defined]

    def test_memory_when_many_come_at_once(self) -> None:
        """Those that came when they were few may hold more: in all it stays within bounds."""
        staged = []
        for number in range(600):
            staged.append(self.stage(f"{number:03}.1"))
            for _ in range(8):
                self.run_to_end(staged[-1].write(bytes(65536)))
        self.assertLess(self.spool.held, 4 * GATHERED_IN_ALL)
        for one in staged:
            self.run_to_end(one.abort())
        self.assertEqual(self.spool.held, 0)

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
