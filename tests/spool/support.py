"""Queues for tests: done in the thread of the test, or with the real threads."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from harakatls.spool.lock import QueueLock
from harakatls.spool.sqlite import SQLiteSpool, open_spool
from tests.contracts import spool as contract


def new_directory(add_cleanup: Callable[..., object]) -> Path:
    """An empty one that goes with the test; in memory where there is such a place."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    holder = tempfile.TemporaryDirectory(prefix="harakatls-spool-", dir=memory)
    add_cleanup(holder.cleanup)
    return Path(holder.name) / "queue"


def call(called: Callable[..., object], *arguments: Any) -> None:
    """For callFromThread."""
    called(*arguments)


async def here(blocking: Callable[..., Any], *arguments: Any) -> Any:
    """For a thread."""
    return blocking(*arguments)


def open_here(
    directory: Path,
    clock: Clock,
    *,
    lock: QueueLock | None = None,
    slot: str = "",
    reserve: int | None = 0,
) -> SQLiteSpool:
    """A queue that does all at once, in this thread."""
    return open_spool(
        directory, clock, call, here, lock=lock, slot=slot, reserve=reserve, threaded=False
    )


def failure(code: int, text: str) -> sqlite3.OperationalError:
    """As SQLite raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class FailingConnection:
    """Raises in the place of statements that begin with *statement*."""

    def __init__(self, real: sqlite3.Connection, statement: str, error: Exception) -> None:
        self.real = real
        self.statement = statement
        self.error = error
        self.times = 1

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement.startswith(self.statement) and self.times:
            self.times -= 1
            raise self.error
        return self.real.execute(statement, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class SQLiteCase(contract.SpoolCase):
    """With a directory that can be opened again."""

    directory: Path
    spool: SQLiteSpool

    def make_spool(self, clock: Clock, full: bool = False) -> SQLiteSpool:
        self.directory = new_directory(self.addCleanup)
        self.messages: list[LogEvent] = []
        observer: Any = self.messages.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return self.open(reserve=1 << 62 if full else 0)

    def open(self, **options: Any) -> SQLiteSpool:
        spool = open_here(self.directory, self.clock, **options)
        self.addCleanup(lambda: self.run_to_end(spool.close()))
        return spool

    def reopen(self) -> None:
        self.run_to_end(self.spool.close())
        self.spool = self.open()

    def logged(self, level: str) -> list[str]:
        return [
            str(event["log_format"]).format(**event)
            for event in self.messages
            if event["log_level"].name == level
        ]

    def body_files(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "body").iterdir())

    def failing(self, statement: str, error: Exception) -> FailingConnection:
        """The next such statement fails."""
        connection = FailingConnection(self.spool.writer._connection, statement, error)
        self.patch(self.spool.writer, "_connection", connection)
        return connection

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is asked for meanwhile makes up one group, or a few of the most that one holds."""
        self.spool.writer.held = True
        yield
        self.spool.writer.held = False
        while self.spool.writer._requests.qsize():
            self.spool.writer.work()

    @contextmanager
    def by_hand(self) -> Iterator[sqlite3.Connection]:
        """What an operator can do with sqlite3."""
        connection = sqlite3.connect(self.directory / "queue.db")
        with connection:
            yield connection
        connection.close()
