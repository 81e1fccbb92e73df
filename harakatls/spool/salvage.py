"""
Saves what can be read of a damaged queue: ``python3 -m harakatls.spool.salvage QUEUE_DIRECTORY``.

Nothing is deleted: the damaged database stays beside the new one, and bodies of which no message
is left go to the directory ``lost``.
"""

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from harakatls.spool import database
from harakatls.spool.bodies import SUFFIX, names
from harakatls.spool.database import BODIES, DATABASE
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.lock import QueueLock
from harakatls.spool.migration import set_arrivals_and_sizes

LOST = "lost"

_COLUMNS = {
    "body": ("number", "crc", "file", "file_size", "file_crc", "content"),
    "message": (
        *("number", "id", "domain", "due", "body", "shared", "streamed", "problem"),
        *("held", "arrived", "size", "message"),
    ),
}
_SINCE_2 = frozenset(("held", "arrived", "size"))
_SIDES = ("", "-wal", "-shm")


@frozen
class Salvaged:
    """@ivar messages: that are in the queue again. @ivar lost: bodies in the directory lost."""

    messages: int
    lost: int


def salvage(directory: Path) -> Salvaged:
    """
    Put a new database with all that can be read of the old one in its place.

    @raise SpoolUnusable: a server is running, or nothing can be read.
    """
    lock = QueueLock.acquire(directory)
    try:
        return _salvage(directory)
    except (sqlite3.Error, OSError) as error:
        raise SpoolUnusable(f"nothing could be saved of {directory}: {error}") from None
    finally:
        lock.release()


def _salvage(directory: Path) -> Salvaged:
    path, saved = directory / DATABASE, directory / f"{DATABASE}.salvaged"
    saved.unlink(missing_ok=True)
    old = database.connect_to_read(path)
    try:
        old.execute("SELECT 1 FROM message, body LIMIT 0").fetchall()  # there is something
        database.create(saved)
        new = database.connect_to_write(saved)
        try:
            new.execute("BEGIN")
            for table in _COLUMNS:
                _copy(old, new, table)
            if not _has(old, "message", "size"):
                set_arrivals_and_sizes(new)
            new.execute("COMMIT")
            result = _lose(new, directory)
        finally:
            new.close()
    finally:
        old.close()
    for side in _SIDES:
        damaged = Path(f"{path}{side}")
        if damaged.exists():
            damaged.rename(_free_name(Path(f"{path}.damaged{side}")))
    saved.rename(path)
    database.sync(directory)
    return result


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    columns = ", ".join(
        name for name in _COLUMNS[table] if name not in _SINCE_2 or _has(old, table, name)
    )
    marks = ", ".join("?" * len(columns.split(", ")))
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608
    for row in _rows(old, table, columns):
        try:
            # Text comes as octets, whether it is text or not.
            values = [str(v, "utf-8") if isinstance(v, bytes) else v for v in row[:-1]]
            last = row[-1] if table == "body" else str(row[-1], "utf-8", "replace")
            new.execute(insert, [*values, last])
        except (ValueError, TypeError, sqlite3.IntegrityError):
            continue  # not a row that was ever written


def _has(connection: sqlite3.Connection, table: str, column: str) -> bool:
    try:
        connection.execute(f"SELECT {column} FROM {table} LIMIT 0").fetchall()  # noqa: S608
    except sqlite3.Error:
        return False
    return True


def _rows(connection: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """From the first to the damage, from the last back to it, and what can be hit in between."""
    select = f"SELECT {columns} FROM {table} WHERE number"  # noqa: S608
    first, last = 0, (1 << 62)
    for step, order in ((">", "ASC"), ("<", "DESC")):
        number = first if step == ">" else last
        while True:
            try:
                found = connection.execute(
                    f"{select} {step} ? ORDER BY number {order} LIMIT 1", (number,)
                ).fetchone()
            except sqlite3.Error:
                break
            if found is None or not first < found[0] < last:
                return
            yield found
            number = found[0]
            if step == ">":
                first = number
            else:
                last = number
    for number in range(first + 1, last if last < 1 << 62 else first):
        try:
            found = connection.execute(f"{select} = ?", (number,)).fetchone()
        except sqlite3.Error:
            continue
        if found is not None:
            yield found


def _lose(new: sqlite3.Connection, directory: Path) -> Salvaged:
    """Bodies that no message refers to would be swept away at the next start."""
    lost, count = directory / LOST, 0
    orphans = new.execute(
        "SELECT number, content FROM body WHERE file IS NULL "
        "AND number NOT IN (SELECT body FROM message)"
    ).fetchall()
    kept = {
        str(file, "utf-8")
        for (file,) in new.execute(
            "SELECT file FROM body WHERE file IS NOT NULL AND number IN (SELECT body FROM message)"
        )
    }
    files = [name for name in names(directory / BODIES) if name not in kept]
    if orphans or files:
        lost.mkdir(mode=0o700, exist_ok=True)
    for number, content in orphans:
        _free_name(lost / f"{number}{SUFFIX}").write_bytes(content)
        count += 1
    for name in files:
        (directory / BODIES / name).rename(_free_name(lost / name))
        count += 1
    new.execute("DELETE FROM body WHERE number NOT IN (SELECT body FROM message)")
    messages = new.execute("SELECT count(*) FROM message").fetchone()[0]
    return Salvaged(messages, count)


def _free_name(path: Path) -> Path:
    number = 0
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def main() -> None:
    """The command."""
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m harakatls.spool.salvage QUEUE_DIRECTORY")
    try:
        done = salvage(Path(sys.argv[1]))
    except SpoolUnusable as problem:
        sys.exit(str(problem))
    sys.stdout.write(
        f"{done.messages} messages are in the queue again; {done.lost} bodies without a message "
        f"are in {Path(sys.argv[1]) / LOST}\n"
    )


if __name__ == "__main__":
    main()
