"""Queues that older versions wrote."""

import sqlite3
import zlib
from pathlib import Path

from twisted.internet.task import Clock

from harakatls.queued import QueuedMessage
from harakatls.spool import migration
from harakatls.spool.codec import encode
from harakatls.spool.directory import locked, prepare
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.listing import broken
from harakatls.spool.salvage import Salvaged, salvage
from harakatls.spool.sqlite import SQLiteSpool
from tests.contracts import spool as contract
from tests.contracts.spool import ARRIVED, BODY, envelope
from tests.spool.support import new_directory, open_here

# What version 0.1 wrote, to the letter.
FORMAT_1 = """
PRAGMA page_size = 4096;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1214993484;
PRAGMA user_version = 1;
CREATE TABLE body (
    number INTEGER PRIMARY KEY,
    crc INTEGER NOT NULL,
    file TEXT,
    file_size INTEGER,
    file_crc INTEGER,
    content BLOB NOT NULL
);
CREATE UNIQUE INDEX body_file ON body (file) WHERE file IS NOT NULL;
CREATE TABLE message (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    domain TEXT NOT NULL,
    due REAL NOT NULL,
    claimed_by INTEGER,
    body INTEGER NOT NULL,
    shared INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    problem TEXT,
    message TEXT NOT NULL
);
CREATE INDEX message_due ON message (due) WHERE claimed_by IS NULL AND problem IS NULL;
CREATE INDEX message_claimed ON message (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX message_shared ON message (body) WHERE shared;
CREATE TABLE worker (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    slot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    until REAL NOT NULL
);
"""
COUNT = 1200  # more than are in memory at a time


def queued(number: int) -> QueuedMessage:
    """As it was queued in format 1."""
    sent = envelope("to@one.example")
    return QueuedMessage(
        f"{number}.1.1", sent, "one.example", ARRIVED + number, ARRIVED, len(BODY), sent.recipients
    )


class MigrationTests(contract.SpoolCase):
    """Starting on a queue of format 1."""

    def make_spool(self, clock: Clock, full: bool = False) -> SQLiteSpool:
        self.directory = new_directory(self.addCleanup)
        self.path = self.directory / "queue.db"
        (self.directory / "body").mkdir(parents=True)
        connection = sqlite3.connect(self.path)
        connection.executescript(FORMAT_1)
        connection.execute("PRAGMA journal_mode = WAL")
        for number in range(COUNT):
            connection.execute(
                "INSERT INTO body VALUES (?, ?, NULL, NULL, NULL, ?)",
                (number + 1, zlib.crc32(BODY), BODY),
            )
            connection.execute(
                "INSERT INTO message (id, domain, due, claimed_by, body, shared, streamed, "
                "problem, message) VALUES (?, 'one.example', ?, ?, ?, 0, 0, ?, ?)",
                (
                    f"{number}.1.1",
                    ARRIVED,
                    7 if number == 1 else None,
                    number + 1,
                    "its body was gone" if number == 2 else None,
                    "{}" if number == 3 else encode(queued(number)),
                ),
            )
        connection.execute("INSERT INTO worker (slot, pid, until) VALUES ('', 1, 1)")
        connection.commit()
        connection.close()
        return None  # type: ignore[return-value]

    def open(self) -> SQLiteSpool:
        spool = open_here(self.directory, self.clock)
        self.spool = spool
        self.addCleanup(lambda: self.run_to_end(spool.close()))
        return spool

    def schema(self, path: Path) -> set[tuple[str, str]]:
        connection = sqlite3.connect(path)
        self.addCleanup(connection.close)
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        indexes = {(name, sql) for name, sql in found if sql.startswith("CREATE INDEX")}
        columns = connection.execute("PRAGMA table_info(message)").fetchall()
        tables = {(str(column[1]), str(column[2:])) for column in columns}
        version = connection.execute("PRAGMA user_version").fetchone()
        return indexes | tables | {("version", str(version))}

    def test_all_is_delivered(self) -> None:
        """After an upgrade the mail that waited is delivered, in hand or not; nothing is lost."""
        self.open()
        claimed = self.claim(COUNT)
        expected = [queued(number) for number in range(COUNT) if number not in (2, 3)]
        self.assertEqual(claimed, expected)
        self.assertEqual(self.read(self.spool.open_body(claimed[0])), BODY)
        self.assertEqual([one.id for one in broken(self.directory)], ["2.1.1", "3.1.1"])

    def test_same_as_new(self) -> None:
        """A queue that was taken over is like one that was made by this version."""
        self.open()
        other = new_directory(self.addCleanup)
        locked(other).release()
        prepare(other)
        self.assertEqual(self.schema(self.path), self.schema(other / "queue.db"))

    def test_facts(self) -> None:
        """What is counted is known of the mail that waited."""
        self.open()
        self.assert_facts()

    def assert_facts(self) -> None:
        """They are as in the messages."""
        connection = sqlite3.connect(self.path)
        self.addCleanup(connection.close)
        found = connection.execute("SELECT arrived, size, held FROM message").fetchall()
        for number, facts in enumerate(found):
            expected = (ARRIVED, 0, 0) if number == 3 else (ARRIVED + number, len(BODY), 0)
            self.assertEqual(facts, expected)

    def test_twice(self) -> None:
        """The next start finds nothing to do."""
        self.run_to_end(self.open().close())
        before = self.path.read_bytes()
        locked(self.directory).release()
        prepare(self.directory)
        self.assertEqual(self.path.read_bytes(), before)

    def test_broken_off(self) -> None:
        """A failure in the middle leaves the queue as it was, for either version."""
        before = self.schema(self.path)

        def fails(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with self.assertRaises(SpoolUnusable) as caught:
            self.patch(migration, "_arrived_and_size", fails)
            self.open()
        self.assertIn("disk I/O error", str(caught.exception))
        self.assertEqual(self.schema(self.path), before)
        self.assertEqual(sqlite3.connect(self.path).execute("PRAGMA user_version").fetchone(), (1,))

    def test_salvage(self) -> None:
        """A damaged queue of the old format is saved into the new one."""
        self.assertEqual(salvage(self.directory), Salvaged(COUNT, 0))
        self.open()
        self.assert_facts()
        self.assertEqual(len(self.claim(COUNT)), COUNT - 2)
