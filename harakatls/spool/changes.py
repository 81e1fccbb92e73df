"""
What the operator does to messages in the queue, from another process, beside the running server.

A message that a delivery has in hand is not touched: what is to become of it is marked in its row,
and done when the attempt has ended. Nothing but `Remove` ever makes a message go.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attrs import evolve, frozen

from harakatls.spool.bodies import remove as remove_file
from harakatls.spool.codec import UndecodableMessage, decode, encode
from harakatls.spool.ledger import remove_rows
from harakatls.spool.notice import give_notice
from harakatls.spool.statements import messages_to_change, slices

_TRANSACTION = 512  # messages


@frozen
class Row:
    """@ivar held: as in the database: 1 on hold, 2 to be removed."""

    number: int
    due: float
    held: int
    in_hand: bool
    set_aside: bool
    message: bytes


class Change(Protocol):
    """
    One thing that is done to messages.

    @ivar gives_notice: a running server has to know of it at once.
    """

    @property
    def gives_notice(self) -> bool: ...

    def change(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[str]:
        """What has become of each of the rows, as is told to the operator."""


@frozen
class Flush:
    """To be tried now."""

    now: float
    gives_notice: bool = True

    def change(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[str]:
        """See `Change`."""
        for row in rows:
            if row.in_hand:
                yield "in hand already"
            elif row.set_aside:
                yield "set aside, so not tried (requeue does)"
            elif row.held:
                yield "held, so not tried (release does)"
            else:
                if row.due > self.now:
                    connection.execute(
                        "UPDATE message SET due = ? WHERE number = ?", (self.now, row.number)
                    )
                yield "to be tried now"


@frozen
class Hold:
    """Not to be tried until it is released."""

    gives_notice: bool = False

    def change(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[str]:
        """See `Change`."""
        for row in rows:
            if row.held == 2:
                yield "to be removed (release takes that back)"
                continue
            connection.execute("UPDATE message SET held = 1 WHERE number = ?", (row.number,))
            yield "in hand now, held if that attempt does not deliver it" if row.in_hand else "held"


@frozen
class Release:
    """Not held any more; nor to be removed, where that has not been done."""

    gives_notice: bool = True

    def change(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[str]:
        """See `Change`."""
        for row in rows:
            if row.held:
                connection.execute("UPDATE message SET held = 0 WHERE number = ?", (row.number,))
            yield "released" if row.held else "not held"


@frozen
class Requeue:
    """To be tried now, as if it had never been tried: the schedule begins anew."""

    now: float
    gives_notice: bool = True

    def change(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[str]:
        """See `Change`."""
        for row in rows:
            if row.in_hand:
                yield "in hand now, left as it is"
                continue
            try:
                queued = decode(row.message)
            except UndecodableMessage:
                yield "cannot be read, left as it is"
                continue
            anew = encode(evolve(queued, attempts=0, due=self.now))
            connection.execute(
                "UPDATE message SET due = ?, message = ?, problem = NULL WHERE number = ?",
                (self.now, anew, row.number),
            )
            yield "requeued, but held" if row.held else "requeued"


@frozen
class Remove:
    """
    For good; nobody is told.

    @ivar removed_files: gets the names of the files of bodies, to be removed after COMMIT.
    """

    removed_files: list[str]
    gives_notice: bool = False

    def change(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[str]:
        """See `Change`."""
        free = [row.number for row in rows if not row.in_hand]
        self.removed_files.extend(remove_rows(connection, free))
        for row in rows:
            if row.in_hand:
                connection.execute("UPDATE message SET held = 2 WHERE number = ?", (row.number,))
            yield "in hand now, removed when that attempt has ended" if row.in_hand else "removed"


def carry_out(
    connection: sqlite3.Connection,
    numbers: Sequence[int],
    change: Change,
    done: Callable[[int], object],
) -> Counter[str]:
    """
    Make the change in transactions of few rows, so that the server's commits wait for none.

    @param done: told of how many more have been done.
    @return: how many messages have come to what.
    @raise sqlite3.Error: it cannot be written; what was done until then stays.
    """
    outcomes: Counter[str] = Counter()
    for at in range(0, len(numbers), _TRANSACTION):
        some = numbers[at : at + _TRANSACTION]
        connection.execute("BEGIN IMMEDIATE")
        try:
            here = _changed(connection, some, change)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        outcomes.update(here)
        done(len(some))
    return outcomes


def _changed(
    connection: sqlite3.Connection, numbers: Sequence[int], change: Change
) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for some in slices(list(numbers)):
        outcomes.update(change.change(connection, _rows(connection, some)))
    if change.gives_notice and outcomes:
        give_notice(connection)
    missing = len(numbers) - outcomes.total()
    if missing:
        outcomes["delivered or returned meanwhile"] = missing
    return outcomes


def remove_all(
    connection: sqlite3.Connection,
    numbers: Sequence[int],
    bodies: Path,
    done: Callable[[int], object],
) -> Counter[str]:
    """
    `carry_out` for `Remove`, with the files.

    A file that stays after a crash in between is swept at the next start.
    """
    files: list[str] = []

    def done_with_files(count: int) -> None:
        while files:
            remove_file(bodies / files.pop())
        done(count)

    return carry_out(connection, numbers, Remove(files), done_with_files)


def _rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Row]:
    found = connection.execute(messages_to_change(len(numbers)), list(numbers)).fetchall()
    return [
        Row(number, due, held, bool(in_hand), bool(set_aside), message)
        for number, due, held, in_hand, set_aside, message in found
    ]
