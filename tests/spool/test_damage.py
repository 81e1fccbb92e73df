"""What cannot be read stops nothing else."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from harakatls.interfaces import SpoolDamaged
from harakatls.queued import QueuedMessage
from harakatls.spool.bodies import BLOCK
from harakatls.spool.requests import SetAside
from harakatls.spool.sqlite import LEASE, broken, listing
from tests.contracts.spool import ARRIVED, BODY, LARGE, delivered, envelope
from tests.spool.support import FailingConnection, SQLiteCase, failure


class DamageTests(SQLiteCase):
    """What cannot be read stops nothing else."""

    def test_undecodable_row(self) -> None:
        """A row that was damaged is set aside with one line in the log; the others go out."""
        for number in range(6):
            self.queue(f"{number}.1")
        with self.by_hand() as connection:
            for number, value in enumerate(
                ("garbage", b"\xff\xfe\x00", 5, '{"format":2}', sqlite3.Binary(b""))
            ):
                connection.execute(
                    "UPDATE message SET message = ? WHERE id = ?", (value, f"{number}.1.1")
                )
        self.assertEqual([queued.id for queued in self.claim(1)], ["5.1.1"])
        self.assertIsNone(self.next_due())
        errors = self.logged("error")
        self.assertEqual(len(errors), 5)
        self.assertIn("0.1.1 is set aside: ", errors[0])
        self.assertIn("it is in format 2", errors[3])
        self.assertEqual(self.claim(), [])
        self.assertEqual(
            [found.id for found in broken(self.directory)], [f"{n}.1.1" for n in range(5)]
        )
        self.reopen()
        self.assertEqual([queued.id for queued in self.claim()], ["5.1.1"])

    def test_retried_by_the_operator(self) -> None:
        """What was set aside is tried again when the operator says so."""
        self.queue()
        [queued] = self.claim()
        self.run_to_end(self.spool.set_aside(queued, "its body is gone"))
        self.assertEqual(list(broken(self.directory)), [SetAside("A.1.1", "its body is gone")])
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET problem = NULL WHERE id = 'A.1.1'")
        self.assertEqual(self.claim(), [queued])

    def _one_large(self) -> tuple[QueuedMessage, Path]:
        self.queue("A.1", body=LARGE)
        [queued] = self.claim()
        return queued, self.directory / "body" / "A.1.eml"

    def test_body_file_gone(self) -> None:
        """A body that was deleted is told as such."""
        queued, path = self._one_large()
        path.unlink()
        error = self.assertRaises(SpoolDamaged, self.spool.open_body, queued)
        self.assertIn(f"{path}: No such file", str(error))

    def test_body_that_cannot_be_opened_now(self) -> None:
        """A server that has too many files open does not take its mail for damaged."""
        queued, path = self._one_large()
        real = os.open

        def fails(name: Any, *arguments: Any) -> int:
            if name == path:
                raise OSError(errno.EMFILE, "Too many open files")
            return real(name, *arguments)

        self.patch(os, "open", fails)
        self.assertRaises(OSError, self.spool.open_body, queued)
        self.patch(os, "open", real)
        self.assertEqual(self.read(self.spool.open_body(queued)), LARGE)

    def test_body_file_cut(self) -> None:
        """No half message is delivered."""
        queued, path = self._one_large()
        os.truncate(path, 1000)
        error = self.assertRaises(SpoolDamaged, self.spool.open_body, queued)
        self.assertIn("has 1000 octets, 1048576 were written", str(error))

    def test_body_file_cut_while_read(self) -> None:
        """Nor when it is cut in mid-delivery."""
        queued, path = self._one_large()
        body = self.spool.open_body(queued)
        self.run_to_end(body.read(100))
        os.truncate(path, BLOCK + 5)
        with self.assertRaises(SpoolDamaged):
            self.read_all(body)

    def test_body_file_changed(self) -> None:
        """A body that was written over is not delivered to its end."""
        queued, path = self._one_large()
        with path.open("r+b") as file:
            file.seek(500_000)
            file.write(b"garbage")
        body = self.spool.open_body(queued)
        with self.assertRaises(SpoolDamaged) as raised:
            self.read_all(body)
        self.assertIn("checksum", str(raised.exception))

    def read_all(self, body: Any) -> None:
        total = 0
        while True:
            outcome = Deferred.fromCoroutine(body.read(65536))
            if isinstance(getattr(outcome, "result", None), bytes):
                total += len(self.successResultOf(outcome))
                self.assertLess(total, len(LARGE))
                continue
            raise self.failureResultOf(outcome).value

    def test_small_body_changed(self) -> None:
        """So with one in the database."""
        self.queue()
        [queued] = self.claim()
        for content in (b"Subject: b\r\n\r\nbody\r\n", b"", "Subject: a\r\n\r\nbody\r\n", 7):
            with self.by_hand() as connection:
                connection.execute("UPDATE body SET content = ?", (content,))
            if isinstance(content, str):
                continue  # the same octets, whatever SQLite calls them
            self.assertRaises(SpoolDamaged, self.spool.open_body, queued)

    def test_small_body_that_cannot_be_read(self) -> None:
        """An error of the moment is not taken for damage; damage is."""
        self.queue()
        [queued] = self.claim()
        real = self.spool._reading
        for error, expected in (
            (failure(sqlite3.SQLITE_CORRUPT, "malformed"), SpoolDamaged),
            (failure(sqlite3.SQLITE_NOMEM, "out of memory"), OSError),
        ):
            self.patch(self.spool, "_reading", FailingConnection(real, "SELECT", error))
            self.assertRaises(expected, self.spool.open_body, queued)
        self.assertEqual(self.read(self.spool.open_body(queued)), BODY)

    def test_body_row_gone(self) -> None:
        """And with one of which nothing is left."""
        self.queue()
        [queued] = self.claim()
        with self.by_hand() as connection:
            connection.execute("DELETE FROM body")
        error = self.assertRaises(SpoolDamaged, self.spool.open_body, queued)
        self.assertEqual(str(error), "the body of A.1.1 is gone")

    def test_settled_with_damaged_body(self) -> None:
        """What was set aside, and deleted by hand, stops no outcome from being recorded."""
        queued, path = self._one_large()
        path.unlink()
        with self.by_hand() as connection:
            connection.execute("DELETE FROM body")
        self.settle(delivered(queued))
        self.assertEqual(list(listing(self.directory)), [])

    def test_pages_overwritten_while_running(self) -> None:
        """Damage that is met while running is told to who asked; the server stands."""
        for number in range(200):
            self.queue(f"{number}.1")
        self.reopen()  # the log is in the database now, and nothing in memory
        path = self.directory / "queue.db"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        claimed = Deferred.fromCoroutine(self.spool.claim(ARRIVED, 10))
        error = self.failureResultOf(claimed, SpoolDamaged).value
        self.assertIn(str(path), str(error))
        staged = self.stage("x.1", BODY)
        self.raised_by(staged.commit(envelope()), SpoolDamaged)
        self.raised_by(self.spool.next_due(), SpoolDamaged)
        self.clock.advance(LEASE)
        self.assertIn("cannot write to the queue", self.logged("error")[0])

    def test_database_removed_while_running(self) -> None:
        """No message is accepted into a file that has lost its name."""
        self.queue("A.1")
        path = self.directory / "queue.db"
        for lost in (path, Path(f"{path}-wal")):
            saved = self.directory / "saved"
            lost.rename(saved)
            staged = self.stage("B.1", BODY)
            error = self.raised_by(staged.commit(envelope()), SpoolDamaged)
            self.assertIn(f"{path} or its -wal was removed", str(error))
            saved.rename(lost)
        self.queue("C.1")
        self.assertEqual([queued.id for queued in self.claim()], ["A.1.1", "C.1.1"])
