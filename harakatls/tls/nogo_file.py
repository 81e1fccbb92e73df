"""
Failures of TLS in a file beside the queue: a restart keeps them, and the operator can clear them.

The file is SQLite's, small, and not there until something has failed. It is asked in the reactor's
thread: a look-up takes some ten microseconds, and a commit waits for no disk (WAL, synchronous =
NORMAL), nor for another process that has the file in hand: then the process's memory does.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.interfaces import ITLSMemory
from harakatls.tls import nogo
from harakatls.tls.nogo import Direction

NAME = "nogo.db"

log = Logger()

_TABLE = """
CREATE TABLE IF NOT EXISTS failure (
    key TEXT PRIMARY KEY,      -- no_tls|<address>, and |inbound behind it
    failed_at REAL NOT NULL,   -- seconds since the epoch
    expires REAL NOT NULL
) WITHOUT ROWID
"""
_PRUNE_EVERY = 1000  # failures
_WAIT_OF_OPERATOR = 10.0  # seconds


@frozen
class Failure:
    """@ivar expires: None for one that is kept until somebody clears it."""

    key: str
    failed_at: float | None
    expires: float | None


class NoGoFile:
    """The file as the server uses it; all of it raises C{sqlite3.Error} and C{OSError}."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._kept = 0
        self._troubled = False

    def find(self, key: str, now: float) -> float | None:
        """@return: when it failed, unless that is forgotten by *now*."""
        if self._connection is None:
            if not self._path.exists():
                return None
            self._open(now)
        assert self._connection is not None
        rows = self._connection.execute(
            "SELECT failed_at FROM failure WHERE key = ? AND expires > ?", (key, now)
        ).fetchall()
        return float(rows[0][0]) if rows else None

    def keep(self, key: str, now: float, seconds: float) -> None:
        """It failed *now*, which counts for *seconds*."""
        if self._connection is None:
            self._open(now)
        assert self._connection is not None
        self._connection.execute(
            "INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", (key, now, now + seconds)
        )
        self._troubled = False
        self._kept += 1
        if self._kept % _PRUNE_EVERY == 0:
            self._prune(now)

    def tell(self, problem: Exception) -> None:
        """That it cannot be used is told once, until something could be kept in it again."""
        if not self._troubled:
            self._troubled = True
            log.warn(
                "failures of TLS are kept in memory alone: {name}: {problem}",
                name=self._path.name,
                problem=str(problem),
            )

    def close(self) -> None:
        """May be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, now: float) -> None:
        # Only for us: it tells with whom mail goes in the clear.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._prune(now)

    def _prune(self, now: float) -> None:
        assert self._connection is not None
        self._connection.execute("DELETE FROM failure WHERE expires <= ?", (now,))
        self._connection.execute(
            "DELETE FROM failure WHERE key IN "
            "(SELECT key FROM failure ORDER BY failed_at DESC LIMIT -1 OFFSET ?)",
            (nogo.MOST_HOSTS,),
        )


@implementer(ITLSMemory)
class FileTLSMemory:
    """In a L{NoGoFile}, or in this process as long as that cannot be used."""

    def __init__(self, file: NoGoFile, direction: Direction, clock: IReactorTime) -> None:
        self._file = file
        self._direction = direction
        self._clock = clock
        self._rest = nogo.MemoryTLSMemory(clock)

    async def failed_at(self, host: str) -> float | None:
        try:
            found = self._file.find(self._direction.key(host), self._clock.seconds())
        except (sqlite3.Error, OSError) as problem:
            self._file.tell(problem)
            found = None
        return await self._rest.failed_at(host) if found is None else found

    async def remember_failure(self, host: str, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            self._file.keep(self._direction.key(host), self._clock.seconds(), seconds)
        except (sqlite3.Error, OSError) as problem:
            self._file.tell(problem)
            await self._rest.remember_failure(host, seconds)


# -- for the operator --------------------------------------------------------------------------


def failures_in(path: Path, now: float) -> Iterator[Failure]:
    """
    What is kept in the file, the latest first; the server may be running.

    @raise sqlite3.Error, OSError: it cannot be read.
    """
    if not path.exists():
        return
    with closing(_connect(path)) as connection:
        rows = connection.execute(
            "SELECT key, failed_at, expires FROM failure WHERE expires > ? "
            "ORDER BY failed_at DESC, key",
            (now,),
        ).fetchall()
    for key, failed_at, expires in rows:
        yield Failure(key, failed_at, expires)


def clear_in(path: Path, keys: tuple[str, ...] | None) -> int:
    """
    @param keys: None for all.
    @return: how many there were.
    @raise sqlite3.Error, OSError: it cannot be written.
    """
    if not path.exists():
        return 0
    with closing(_connect(path)) as connection:
        if keys is None:
            return connection.execute("DELETE FROM failure").rowcount
        return sum(
            connection.execute("DELETE FROM failure WHERE key = ?", (key,)).rowcount for key in keys
        )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_WAIT_OF_OPERATOR,
        isolation_level=None,
    )
