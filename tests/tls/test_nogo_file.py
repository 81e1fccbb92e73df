"""Tests for harakatls.tls.nogo_file."""

import os
import sqlite3
import stat
from pathlib import Path

from twisted.logger import capturedLogs

from harakatls.interfaces import ITLSMemory
from harakatls.tls import nogo, nogo_file
from harakatls.tls.nogo import Direction
from harakatls.tls.nogo_file import Failure, FileTLSMemory, NoGoFile, clear_in, failures_in
from tests.contracts import tls_memory
from tests.contracts.tls_memory import BEGIN


class FileTLSMemoryTests(tls_memory.TLSMemoryContract):
    def make_memory(self) -> ITLSMemory:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / nogo_file.NAME
        return self.restarted()

    def restarted(self, direction: Direction = Direction.OUTBOUND) -> FileTLSMemory:
        """The memory of a server that has been started on this file."""
        file = NoGoFile(self.path)
        self.addCleanup(file.close)
        return FileTLSMemory(file, direction, self.clock)

    def hosts(self) -> list[str]:
        return [failure.key for failure in failures_in(self.path, self.clock.seconds())]

    def test_restart(self) -> None:
        """What has failed is known to the next server, for the rest of its time."""
        self.remember("192.0.2.1", 60)
        later = self.restarted()
        self.assertEqual(self.failed_at("192.0.2.1", later), BEGIN)
        self.clock.advance(60)
        self.assertIsNone(self.failed_at("192.0.2.1", later))

    def test_directions(self) -> None:
        """A client that cannot do TLS does not lay open what is sent to its address."""
        self.remember("192.0.2.1", 60, self.restarted(Direction.INBOUND))
        self.assertIsNone(self.failed_at("192.0.2.1"))
        self.assertEqual(self.hosts(), ["no_tls|192.0.2.1|inbound"])

    def test_no_file_for_nothing(self) -> None:
        """As long as nothing has failed there is no file; then it is for our eyes alone."""
        self.assertIsNone(self.failed_at("192.0.2.1"))
        self.assertEqual(list(failures_in(self.path, BEGIN)), [])
        self.assertEqual(clear_in(self.path, None), 0)
        self.assertFalse(self.path.exists())
        self.remember("192.0.2.1", 60)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_listed(self) -> None:
        """The operator sees all that counts, the latest first."""
        self.remember("192.0.2.1", 10)
        self.remember("192.0.2.2", 60)
        self.clock.advance(10)
        self.remember("192.0.2.3", 60)
        self.assertEqual(
            list(failures_in(self.path, self.clock.seconds())),
            [
                Failure("no_tls|192.0.2.3", BEGIN + 10, BEGIN + 70),
                Failure("no_tls|192.0.2.2", BEGIN, BEGIN + 60),
            ],
        )

    def test_cleared(self) -> None:
        """The running server forgets what the operator clears, one host or all."""
        for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            self.remember(host, 60)
        self.assertEqual(clear_in(self.path, ("no_tls|192.0.2.2", "no_tls|192.0.2.9")), 1)
        self.assertIsNone(self.failed_at("192.0.2.2"))
        self.assertEqual(self.failed_at("192.0.2.1"), BEGIN)
        self.assertEqual(clear_in(self.path, None), 2)
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_bounded(self) -> None:
        """Ever new hosts do not fill the disk, and what has expired goes."""
        self.patch(nogo, "MOST_HOSTS", 3)
        self.patch(nogo_file, "_PRUNE_EVERY", 5)
        self.remember("192.0.2.100", 1)
        for number in range(1, 5):
            self.clock.advance(1)
            self.remember(f"192.0.2.{number}", 60)
        rows = sqlite3.connect(self.path).execute("SELECT key FROM failure ORDER BY key").fetchall()
        self.assertEqual([key for (key,) in rows], [f"no_tls|192.0.2.{n}" for n in (2, 3, 4)])

    def trouble(self) -> None:
        """The memory of the process does, and that is told once."""
        with capturedLogs() as events:
            for host in ("192.0.2.1", "192.0.2.2"):
                self.remember(host, 60)
                self.assertEqual(self.failed_at(host), BEGIN)
        self.assertEqual(len(events), 1, events)
        self.assertIn("memory alone", events[0]["log_format"])

    def test_busy(self) -> None:
        """Mail does not wait for another process that holds the file."""
        self.remember("192.0.2.9", 60)
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        self.trouble()
        self.assertEqual(self.failed_at("192.0.2.9"), BEGIN)

    def test_no_file(self) -> None:
        """A file that is something else, or cannot be written, does not stop mail."""
        self.path.write_bytes(b"not a database at all, but something that an operator left" * 99)
        self.trouble()
        self.path.unlink()
        os.rmdir(self.path.parent)
        self.memory = self.restarted()
        self.trouble()
