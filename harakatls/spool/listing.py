"""The queue for the operator: read from another process, beside the running server."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from attrs import evolve, frozen

from harakatls.queued import QueuedMessage
from harakatls.spool import database
from harakatls.spool.codec import UndecodableMessage, decode
from harakatls.spool.database import DATABASE
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.ledger import text
from harakatls.spool.requests import SetAside
from harakatls.spool.statements import messages_by_number

_SLICE = 500  # rows of one read; a long one would keep the server's log from being cleared

# The claims of a worker hold while its lease does.
_COLUMNS = (
    "number, id, domain, due, arrived, size, held, problem, message, claimed_by IS NOT NULL, "
    "EXISTS (SELECT 1 FROM worker WHERE worker.number = claimed_by AND until >= ?)"
)


class State(Enum):
    """What is being done with a message."""

    WAITING = "waiting"
    IN_HAND = "in hand"
    LEFT = "left by a server that has died"
    HELD = "held"
    SET_ASIDE = "set aside"


@frozen
class Entry:
    """
    A row of the queue.

    @ivar due: seconds since the epoch; so is *arrived*.
    @ivar size: octets.
    @ivar held: it stays when nobody has it in hand.
    @ivar doomed: it goes when nobody has it in hand.
    @ivar problem: why it was set aside; None where it was not.
    @ivar message: its JSON.
    """

    number: int
    id: str
    domain: str
    due: float
    arrived: float
    size: int
    state: State
    held: bool
    doomed: bool
    problem: str | None
    message: bytes

    @property
    def in_hand(self) -> bool:
        """A server has it, or had it when it died."""
        return self.state in (State.IN_HAND, State.LEFT)

    def queued(self) -> QueuedMessage:
        """@raise UndecodableMessage: it cannot be read."""
        queued = decode(self.message)
        return queued if queued.due == self.due else evolve(queued, due=self.due)


@contextmanager
def opened(directory: Path, to_write: bool = False) -> Iterator[sqlite3.Connection]:
    """
    A connection to the queue, beside a server or without one.

    @raise SpoolUnusable: there is no queue, or it cannot be used, now or within the block.
    """
    path = directory / DATABASE
    what = "changed" if to_write else "read"
    try:
        connection = _connect(path, to_write)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SpoolUnusable(f"{path} cannot be {what}: {error}") from None


def _connect(path: Path, to_write: bool) -> sqlite3.Connection:
    try:
        exists = path.exists()
    except OSError as error:
        raise SpoolUnusable(f"{path} cannot be read: {error.strerror}") from None
    if not exists:
        raise SpoolUnusable(f"there is no queue in {path.parent}: {path} is missing")
    connection = (database.connect_to_write if to_write else database.connect_to_read)(path)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != database.VERSION:
            raise SpoolUnusable(_another_version(path, version))
    except BaseException:
        connection.close()
        raise
    return connection


def entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """All rows, in the order of their arrival, in slices."""
    number = 0
    while True:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM message WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608
            (time.time(), number, _SLICE),
        ).fetchall()
        if not rows:
            return
        for row in rows:
            yield _entry(*row)
        number = rows[-1][0]


def entry(connection: sqlite3.Connection, number: int) -> Entry | None:
    """One row; None where it is gone."""
    found = some_entries(connection, [number])
    return found[0] if found else None


def some_entries(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Entry]:
    """Up to `STATEMENT_ROWS` rows; those that are gone are missing."""
    rows = connection.execute(
        messages_by_number(_COLUMNS, len(numbers)), (time.time(), *numbers)
    ).fetchall()
    return [_entry(*row) for row in rows]


def listing(directory: Path) -> Iterator[QueuedMessage]:
    """
    The messages that wait for delivery, or are being delivered, in the order of their arrival.

    @raise SpoolUnusable: there is no queue, or it cannot be read.
    """
    return (found for found in _readable(directory) if isinstance(found, QueuedMessage))


def broken(directory: Path) -> Iterator[SetAside]:
    """The messages that cannot be delivered because they cannot be read; raises as `listing`."""
    return (found for found in _readable(directory) if isinstance(found, SetAside))


def _readable(directory: Path) -> Iterator[QueuedMessage | SetAside]:
    with opened(directory) as connection:
        for entry in entries(connection):
            if entry.problem is not None:
                yield SetAside(entry.id, entry.problem)
                continue
            try:
                yield entry.queued()
            except UndecodableMessage as error:
                yield SetAside(entry.id, str(error))


def _entry(
    number: int,
    message_id: bytes,
    domain: bytes,
    due: float,
    arrived: float,
    size: int,
    held: int,
    problem: bytes | None,
    message: bytes,
    claimed: int,
    alive: int,
) -> Entry:
    if claimed:
        state = State.IN_HAND if alive else State.LEFT
    elif problem is not None:
        state = State.SET_ASIDE
    else:
        state = State.HELD if held else State.WAITING
    return Entry(
        number,
        text(message_id),
        text(domain),
        due,
        arrived,
        size,
        state,
        held == 1,
        held == 2,
        None if problem is None else text(problem),
        message,
    )


def _another_version(path: Path, version: int) -> str:
    if version < database.VERSION:
        return (
            f"{path} was written by an older version of harakatls (format {version}); start the "
            "server, which takes it over"
        )
    return f"{path} was written by a newer version of harakatls (format {version}); use that one"
