"""Takes queues that an older version wrote over into the format of this one."""

import sqlite3
from pathlib import Path

from twisted.logger import Logger

from harakatls.spool import database
from harakatls.spool.codec import UndecodableMessage, decode

log = Logger()

_SLICE = 500  # rows that are in memory at a time


def migrate(path: Path) -> None:
    """
    Bring a whole database (see `database.examine`) to the present format, or leave it as it is.

    One transaction does it: after a crash the database is in the one format or in the other.

    @raise sqlite3.Error: it cannot be written.
    """
    connection = database.connect_to_write(path)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == database.VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            _from_1(connection)
            connection.execute(f"PRAGMA user_version = {database.VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        log.info(
            "{path}: taken over from format {old} into format {new}",
            path=str(path),
            old=version,
            new=database.VERSION,
        )
    finally:
        connection.close()


def _from_1(connection: sqlite3.Connection) -> None:
    """Format 1 had no messages on hold, and what is counted stood in the JSON alone."""
    for column in database.COLUMNS_SINCE_2:
        connection.execute(f"ALTER TABLE message ADD COLUMN {column}")
    set_arrivals_and_sizes(connection)
    connection.execute("DROP INDEX message_due")
    for statement in (*database.INDEXES_SINCE_2, *database.TABLES_SINCE_2):
        connection.execute(statement)


def set_arrivals_and_sizes(connection: sqlite3.Connection) -> None:
    """In the transaction that is open: from the JSON of all messages."""
    number = 0
    while True:
        rows = connection.execute(
            "SELECT number, due, message FROM message WHERE number > ? ORDER BY number LIMIT ?",
            (number, _SLICE),
        ).fetchall()
        if not rows:
            break
        connection.executemany(
            "UPDATE message SET arrived = ?, size = ? WHERE number = ?",
            [(*_arrived_and_size(due, message), number) for number, due, message in rows],
        )
        number = rows[-1][0]


def _arrived_and_size(due: float, message: bytes) -> tuple[float, int]:
    try:
        queued = decode(message)
    except UndecodableMessage:  # it will be set aside when it is due
        return due, 0
    return queued.arrived, queued.size
