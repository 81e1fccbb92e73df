"""
The database file of the queue: its tables, how it is made and opened, and whether it is whole.

An operator may read it with ``sqlite3 queue.db``. A message that was set aside is tried again
after ``UPDATE message SET problem = NULL WHERE id = '…'``; all at once after
``UPDATE message SET due = 0``.
"""

import os
import sqlite3
from pathlib import Path

from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.picking import FREE

DATABASE = "queue.db"
BODIES = "body"

_APPLICATION = 0x486B544C  # "HkTL": tells file(1) and us what it is
VERSION = 2
_READ = (1, VERSION)  # formats that can be taken over, see migration.py
PAGE = 4096

COLUMNS_SINCE_2 = (
    # 1: not to be taken until the operator releases it; 2: to be removed as soon as nobody has it
    # in hand
    "held INTEGER NOT NULL DEFAULT 0",
    "arrived REAL NOT NULL DEFAULT 0",  # seconds since the epoch
    "size INTEGER NOT NULL DEFAULT 0",  # octets of the message
)
INDEXES_SINCE_2 = (
    f"CREATE INDEX message_due ON message (due, number, domain) WHERE {FREE}",
    f"CREATE INDEX message_domain ON message (domain, due) WHERE {FREE}",
    "CREATE INDEX message_held ON message (held) WHERE held <> 0",
)
TABLES_SINCE_2 = (
    # One row: how often the operator has changed the queue beside a server.
    "CREATE TABLE notice (count INTEGER NOT NULL)",
    "INSERT INTO notice (count) VALUES (0)",
)

# message.number is never used twice (AUTOINCREMENT), so a worker that lost a claim can never
# settle another message by mistake. Ids are not indexed: they are random, and keeping them
# sorted costs more than all the rest (measured: half of the time to commit a message).
_TABLES = f"""
PRAGMA page_size = {PAGE};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};

CREATE TABLE body (
    number INTEGER PRIMARY KEY,
    crc INTEGER NOT NULL,      -- CRC-32 of content
    file TEXT,                 -- in the directory body: what follows content; NULL for nothing
    file_size INTEGER,
    file_crc INTEGER,
    content BLOB NOT NULL
);
CREATE UNIQUE INDEX body_file ON body (file) WHERE file IS NOT NULL;

CREATE TABLE message (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    domain TEXT NOT NULL,
    due REAL NOT NULL,         -- seconds since the epoch
    claimed_by INTEGER,        -- worker.number; NULL where nobody has it in hand
    body INTEGER NOT NULL,     -- body.number
    shared INTEGER NOT NULL,   -- 1: other rows may have the same body
    streamed INTEGER NOT NULL, -- 1: the body has a file
    problem TEXT,              -- why it was set aside; NULL where it was not
    message TEXT NOT NULL,     -- JSON, see codec.py; due may be out of date in there
    {", ".join(COLUMNS_SINCE_2)}
);
{";".join(INDEXES_SINCE_2)};
{";".join(TABLES_SINCE_2)};
CREATE INDEX message_claimed ON message (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX message_shared ON message (body) WHERE shared;

CREATE TABLE worker (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    slot TEXT NOT NULL,        -- which of the workers of the instance
    pid INTEGER NOT NULL,
    until REAL NOT NULL        -- its claims hold until then, seconds since the epoch
);
"""

# "The Database Header" and "The WAL File Format" in https://www.sqlite.org/fileformat.html
_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")

_BUSY_SECONDS = 60.0  # how long one worker waits while others write
_CACHE_KIB = 8192
_SPARE_PAGES = 4096
_LOG_PAGES = (16, 1000)  # the least and the most before the log is moved into the database


def create(path: Path) -> None:
    """
    Make an empty database; it appears under its name only when it is whole and on disk.

    @raise OSError, sqlite3.Error: it cannot be written.
    """
    unfinished = path.with_name(path.name + ".new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
    # The files beside it (write-ahead log) get the permissions of this one.
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = _open(unfinished, "rw", 1.0)
    try:
        connection.executescript(_TABLES)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    finally:
        connection.close()
    sync(unfinished)
    unfinished.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect_to_write(path: Path, reserve: int = 1 << 30) -> sqlite3.Connection:
    """
    A connection whose COMMIT returns when the transaction is on disk.

    @param reserve: octets that are kept free (`FreeSpace`). The log stays well below: while the
        disk is full, it can still be moved into the database, and grow by what is recorded.
    """
    connection = _open(path, "rw", _BUSY_SECONDS)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    pages = max(_LOG_PAGES[0], min(_LOG_PAGES[1], reserve // 4 // PAGE))
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()
    connection.execute(f"PRAGMA journal_size_limit = {2 * pages * PAGE}").fetchall()
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing; a server may be running on the same file."""
    connection = _open(path, "ro", 1.0)
    connection.execute("PRAGMA query_only = ON")
    return connection


def unused_pages(connection: sqlite3.Connection, low: bool) -> int:
    """
    How many pages the file system should get back.

    @param low: it needs each of them; else some are left for mail to come.
    """
    unused = int(connection.execute("PRAGMA freelist_count").fetchall()[0][0])
    if low or not unused:
        return unused
    pages = int(connection.execute("PRAGMA page_count").fetchall()[0][0])
    return max(0, unused - max(_SPARE_PAGES, pages // 4))


def give_back(connection: sqlite3.Connection, low: bool, pages: int) -> bool:
    """
    Make the database smaller by up to so many unused pages.

    @return: there are more to be given back.
    """
    unused = unused_pages(connection, low)
    if unused:
        pages = min(unused, pages)
        connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
    return unused > pages


def examine(path: Path) -> None:
    """
    Look for damage that would show only later, or never.

    Bodies are not read: each has a checksum, which is looked at when it is delivered.

    @raise SpoolUnusable: it is damaged, is no queue of ours, or was written by a newer version.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if header and not header.startswith(_MAGIC):
        raise damaged(path, "it does not begin as a database does")
    if _is_cut(path, header):
        raise damaged(path, "the file is shorter than it was")
    if _has_garbage_for_log(path):
        raise damaged(path, f"{path}-wal is not a write-ahead log")
    try:
        # One that could write would move the log into the database when it is closed.
        connection = connect_to_read(path)
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application != _APPLICATION:
                raise SpoolUnusable(f"{path} is a database, but not a queue of harakatls")
            if version not in _READ:
                raise SpoolUnusable(
                    f"{path} is in format {version}, this version of harakatls reads formats "
                    f"{_READ[0]} to {VERSION}; nothing was changed. Start the version that wrote it"
                )
            found = connection.execute("PRAGMA quick_check('message')").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from None
    if found != b"ok":
        raise damaged(path, str(found, "utf-8", "replace"))


def damaged(path: Path, found: str) -> SpoolUnusable:
    """Tells what to do about a database that is not whole."""
    found = " ".join(found.split())[:200]
    return SpoolUnusable(
        f"the queue database {path} is damaged ({found}). Nothing was changed or deleted. Stop "
        f"all servers that use it and put a copy of it back, or save what can be read with "
        f"'python3 -m harakatls.spool.salvage {path.parent}', which keeps the damaged one, too"
    )


def _open(path: Path, mode: str, busy_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )
    # A damaged text must be met where its row is looked at, not while rows are fetched.
    connection.text_factory = bytes
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _is_cut(path: Path, header: bytes) -> bool:
    # SQLite itself reads nothing but zeros behind the end. While there is a log, the file may
    # lag behind.
    if len(header) < _HEADER:
        return True
    try:
        if Path(f"{path}-wal").stat().st_size > 0:
            return False
    except FileNotFoundError:
        pass
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return path.stat().st_size < pages * (65536 if page == 1 else page)


def _has_garbage_for_log(path: Path) -> bool:
    # SQLite takes a log that it does not know for an empty one. Zeros are what a crash leaves
    # of a log of which nothing had been synced.
    try:
        with Path(f"{path}-wal").open("rb") as file:
            header = file.read(32)
    except FileNotFoundError:
        return False
    return len(header) == 32 and header[:4] not in _LOG_MAGIC and any(header)
