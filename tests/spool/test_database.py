"""The database file, and what is done with a damaged one."""

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from harakatls.spool import database
from harakatls.spool.directory import locked, prepare
from harakatls.spool.errors import SpoolUnusable
from tests.spool.support import new_directory


def contents(directory: Path) -> dict[str, bytes]:
    """All files, but for an empty log and what SQLite keeps in memory shared by processes."""
    found = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }
    return {name: data for name, data in found.items() if data or name != "queue.db-wal"}


class DatabaseTests(SynchronousTestCase):
    """`prepare` on directories in all states."""

    def setUp(self) -> None:
        self.directory = new_directory(self.addCleanup)
        self.path = self.directory / "queue.db"

    def prepare(self) -> None:
        locked(self.directory).release()
        prepare(self.directory)

    def fill(self, rows: int = 500) -> None:
        """Rows that take some pages."""
        connection = database.connect_to_write(self.path)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO message (id, domain, due, body, shared, streamed, message) "
            "VALUES (?, 'one.example', ?, 0, 0, 0, ?)",
            [(f"{number}.1.1", number, "x" * 300) for number in range(rows)],
        )
        connection.execute("COMMIT")
        connection.close()

    def refused(self, *words: str) -> None:
        """Preparing says why it does not, and leaves all as it was."""
        before = contents(self.directory)
        error = self.assertRaises(SpoolUnusable, prepare, self.directory)
        for word in words:
            self.assertIn(word, str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual(contents(self.directory), before)

    # ------------------------------------------------------------------------------------ good

    def test_new(self) -> None:
        """A first start makes the queue, for the eyes of its owner alone."""
        self.prepare()
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.directory / "body").stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        connection = database.connect_to_write(self.path)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchall(), [(b"wal",)])
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchall(), [(2,)])
        connection.execute("DELETE FROM worker")
        log = Path(f"{self.path}-wal")
        self.assertEqual(log.stat().st_mode & 0o777, 0o600)

    def test_again(self) -> None:
        """A second start keeps what is there."""
        self.prepare()
        self.fill()
        before = contents(self.directory)
        self.prepare()
        after = contents(self.directory)
        self.assertEqual(after["queue.db"], before["queue.db"])

    def test_start_that_was_broken_off(self) -> None:
        """A crash while the database was being made does no harm."""
        self.directory.mkdir()
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}.new{suffix}").write_bytes(b"half")
        self.prepare()
        self.fill()
        self.assertEqual(sorted(path.name for path in self.directory.iterdir())[-1], "queue.db")

    def test_after_a_crash(self) -> None:
        """What stands in the log alone is there at the next start."""
        self.prepare()
        connection = database.connect_to_write(self.path)
        self.addCleanup(connection.close)
        connection.execute("INSERT INTO worker (slot, pid, until) VALUES ('', 1, 1)")
        copy = new_directory(self.addCleanup)
        copy.mkdir()
        for name in ("queue.db", "queue.db-wal"):
            (copy / name).write_bytes((self.directory / name).read_bytes())
        prepare(copy)
        found = database.connect_to_read(copy / "queue.db")
        self.addCleanup(found.close)
        self.assertEqual(found.execute("SELECT pid FROM worker").fetchall(), [(1,)])

    def test_log_that_a_crash_left_empty(self) -> None:
        """A log of zeros, or the first octets of one, is what a crash leaves."""
        for log in (bytes(4096), b"\x37\x7f"):
            self.prepare()
            Path(f"{self.path}-wal").write_bytes(log)
            prepare(self.directory)
            self.fill(1)

    # ------------------------------------------------------------------------------------- bad

    def test_garbage(self) -> None:
        """A file that is no database is left alone, and the operator told which one it is."""
        self.prepare()
        self.path.write_bytes(b"garbage" * 10_000)
        self.refused(str(self.path), "does not begin", "harakatls.spool.salvage", "put a copy")

    def test_empty_file(self) -> None:
        """A database that was emptied is not taken for a new one."""
        self.prepare()
        self.path.write_bytes(b"")
        self.refused(str(self.path), "shorter than it was")

    def test_cut(self) -> None:
        """A database that has lost its end is noticed at the start, not weeks later."""
        self.prepare()
        self.fill()
        whole = self.path.read_bytes()
        for length in (len(whole) - 1, len(whole) // 2, 4096, 99):
            self.path.write_bytes(whole[:length])
            self.refused(str(self.path), "shorter than it was")
        self.path.write_bytes(whole)
        self.prepare()

    def test_garbage_in_the_middle(self) -> None:
        """Rows that were overwritten are noticed at the start."""
        self.prepare()
        self.fill()
        whole = self.path.read_bytes()
        middle = len(whole) // 2 // 4096 * 4096
        self.path.write_bytes(whole[:middle] + b"\xa5" * 4096 + whole[middle + 4096 :])
        self.refused(str(self.path), "damaged")

    def test_garbage_beside_a_log(self) -> None:
        """What is in the log is not written over a damaged database: it may be all that is left."""
        self.prepare()
        self.fill()
        reader = database.connect_to_read(self.path)  # so that closing keeps the log
        reader.execute("SELECT 1 FROM worker").fetchall()
        self.fill()
        log = Path(f"{self.path}-wal").read_bytes()
        self.assertGreater(len(log), 4096)
        reader.close()
        whole = self.path.read_bytes()
        Path(f"{self.path}-wal").write_bytes(log)
        Path(f"{self.path}-shm").unlink(missing_ok=True)
        self.path.write_bytes(whole[: len(whole) // 8192 * 4096] + b"\xa5" * len(whole))
        self.refused(str(self.path), "damaged")

    def test_garbage_for_the_tables(self) -> None:
        """So is damage to what says which tables there are."""
        self.prepare()
        whole = bytearray(self.path.read_bytes())
        whole[100:4096] = b"\xff" * 3996
        self.path.write_bytes(bytes(whole))
        self.refused(str(self.path), "damaged")

    def test_garbage_for_a_log(self) -> None:
        """A log that was overwritten is not thrown away, with the mail in it."""
        self.prepare()
        Path(f"{self.path}-wal").write_bytes(b"garbage" * 1000)
        self.refused(f"{self.path}-wal is not a write-ahead log")

    def test_another_database(self) -> None:
        """A database of another program is not touched."""
        self.directory.mkdir()
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE message (text)")
        connection.close()
        self.refused(str(self.path), "not a queue of harakatls")

    def test_newer_version(self) -> None:
        """After going back to an older version, it says so instead of guessing."""
        self.prepare()
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA user_version = 3")
        connection.close()
        self.refused(str(self.path), "is in format 3", "reads formats 1 to 2")

    def test_lost_database(self) -> None:
        """A queue without its database is not begun anew: its bodies would be swept away."""
        self.prepare()
        body = self.directory / "body" / "A.1.eml"
        body.write_bytes(b"mail")
        self.path.unlink()
        self.refused(f"{self.path} is missing", str(body))

    def test_lost_database_with_log(self) -> None:
        """Nor one of which the log is left, which may hold mail."""
        self.prepare()
        self.path.unlink()
        Path(f"{self.path}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(100))
        self.refused(f"{self.path} is missing", f"{self.path}-wal")

    def test_directory_that_cannot_be_made(self) -> None:
        """The operator reads which directory cannot be made."""
        self.directory.write_bytes(b"a file")
        below = self.directory / "queue"
        error = self.assertRaises(SpoolUnusable, locked, below)
        self.assertIn(f"the queue directory {below} cannot be made", str(error))

    def test_directory_that_is_a_file(self) -> None:
        """So with a file in its place."""
        self.directory.write_bytes(b"a file")
        error = self.assertRaises(SpoolUnusable, locked, self.directory)
        self.assertIn(str(self.directory), str(error))

    def test_bodies_that_are_a_file(self) -> None:
        """And with a file in the place of the bodies."""
        self.directory.mkdir()
        (self.directory / "body").write_bytes(b"a file")
        self.refused(str(self.directory / "body"), "cannot be used")

    def test_sweeping(self) -> None:
        """What a crash left of unfinished messages does not fill the disk for ever."""
        self.prepare()
        bodies = self.directory / "body"
        connection = database.connect_to_write(self.path)
        connection.execute("INSERT INTO body (crc, file, content) VALUES (0, 'A.1.eml', '')")
        connection.close()
        for name in ("A.1.eml", "B.1.eml", "notes.txt"):
            (bodies / name).write_bytes(b"mail")
        (bodies / "directory.eml").mkdir()
        (bodies / "link.eml").symlink_to("notes.txt")
        self.prepare()
        self.assertEqual(
            sorted(path.name for path in bodies.iterdir()),
            ["A.1.eml", "directory.eml", "link.eml", "notes.txt"],
        )
