"""
What the operator does to messages in the queue, from another process, beside the running server.

A message that a server has in hand is not touched: what is to become of it is marked in its row,
and done as soon as no attempt is under way. Nothing but `Remove` ever makes a message go.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attrs import evolve, frozen

from harakatls.mail.envelope import Recipient
from harakatls.queued import QueuedMessage
from harakatls.spool.bodies import remove as remove_file
from harakatls.spool.codec import UndecodableMessage, encode
from harakatls.spool.ledger import remove_rows
from harakatls.spool.listing import Entry, some_entries
from harakatls.spool.notice import give_notice, recall
from harakatls.spool.statements import slices

_TRANSACTION = 512  # messages
_HELD, _DOOMED = 1, 2  # in the database


class Change(Protocol):
    """
    One thing that is done to messages.

    @ivar gives_notice: a running server has to know of it at once.
    """

    @property
    def gives_notice(self) -> bool: ...

    def change(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[str]:
        """What has become of each of them, as is told to the operator."""


@frozen
class Flush:
    """To be tried now."""

    now: float
    gives_notice: bool = True

    def change(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[str]:
        """See `Change`."""
        for entry in entries:
            if entry.in_hand:
                yield "in hand already"
            elif entry.problem is not None:
                yield "set aside, so not tried (requeue does)"
            elif entry.held or entry.doomed:
                yield "held, so not tried (release does)"
            else:
                if entry.due > self.now:
                    connection.execute(
                        "UPDATE message SET due = ? WHERE number = ?", (self.now, entry.number)
                    )
                yield "to be tried now"


@frozen
class Hold:
    """Not to be tried until it is released."""

    gives_notice: bool = False

    def change(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[str]:
        """See `Change`."""
        for entry in entries:
            if entry.doomed:
                yield "to be removed (release takes that back)"
                continue
            _mark(connection, entry, _HELD)
            yield (
                "in hand now, held as soon as no attempt is under way" if entry.in_hand else "held"
            )


@frozen
class Release:
    """Not held any more; nor to be removed, where that has not been done."""

    gives_notice: bool = True

    def change(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[str]:
        """See `Change`."""
        for entry in entries:
            if entry.held or entry.doomed:
                connection.execute("UPDATE message SET held = 0 WHERE number = ?", (entry.number,))
                yield "released"
            else:
                yield "not held"


@frozen
class Requeue:
    """To be tried now, as if it had never been tried: the schedule begins anew."""

    now: float
    gives_notice: bool = True

    def change(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[str]:
        """See `Change`."""
        for entry in entries:
            if entry.in_hand:
                yield "in hand now, left as it is"
                continue
            try:
                queued = entry.queued()
            except UndecodableMessage:
                yield "cannot be read, left as it is"
                continue
            anew = encode(evolve(queued, attempts=0, due=self.now))
            connection.execute(
                "UPDATE message SET due = ?, message = ?, problem = NULL WHERE number = ?",
                (self.now, anew, entry.number),
            )
            yield "requeued, but held" if entry.held or entry.doomed else "requeued"


@frozen
class Chosen:
    """
    What the operator has agreed to.

    @ivar fits: a message is still one of those.
    @ivar recipients: which of its recipients are meant; None for the message as a whole.
    """

    fits: Callable[[Entry], bool]
    recipients: Callable[[Recipient], bool] | None = None


@frozen
class Remove:
    """
    For good; nobody is told.

    @ivar chosen: looked at once more, as there is no way back and it may be a while since.
    @ivar now: seconds since the epoch.
    @ivar removed_files: gets the names of the files of bodies, to be removed after COMMIT.
    """

    chosen: Chosen
    now: float
    removed_files: list[str]
    gives_notice: bool = False

    def change(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[str]:
        """See `Change`."""
        free = []
        for entry in entries:
            if not self.chosen.fits(entry):
                yield "changed meanwhile and left, as it is not what was asked for any more"
                continue
            rest = self._rest(entry)
            if rest is not None:
                yield _keep_for_others(connection, entry, rest)
            elif entry.in_hand:
                _mark(connection, entry, _DOOMED)
                yield "in hand now, removed as soon as no attempt is under way"
            else:
                free.append(entry.number)
                yield "removed"
        self.removed_files.extend(remove_rows(connection, free))

    def _rest(self, entry: Entry) -> QueuedMessage | None:
        """What stays for others; None where nobody is left."""
        if self.chosen.recipients is None:
            return None
        queued = entry.queued()  # it fits, so it can be read
        rest = queued.without(filter(self.chosen.recipients, queued.pending), self.now)
        return rest if rest.pending else None


def _keep_for_others(connection: sqlite3.Connection, entry: Entry, rest: QueuedMessage) -> str:
    if entry.in_hand:
        # What an attempt comes to is written over all that is known of it.
        return "in hand now and for others as well, left as it is (hold it first, then release it)"
    connection.execute(
        "UPDATE message SET message = ? WHERE number = ?", (encode(rest), entry.number)
    )
    return "kept for its other recipients"


def _mark(connection: sqlite3.Connection, entry: Entry, mark: int) -> None:
    connection.execute("UPDATE message SET held = ? WHERE number = ?", (mark, entry.number))
    if entry.in_hand:
        recall(connection)


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
        outcomes.update(change.change(connection, some_entries(connection, some)))
    if change.gives_notice and outcomes:
        give_notice(connection)
    missing = len(numbers) - outcomes.total()
    if missing:
        outcomes["delivered or returned meanwhile"] = missing
    return outcomes


def remove_all(
    connection: sqlite3.Connection,
    numbers: Sequence[int],
    chosen: Chosen,
    bodies: Path,
    now: float,
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

    return carry_out(connection, numbers, Remove(chosen, now, files), done_with_files)
