"""
What is asked of the database, and the SQL that does it.

Whatever is asked at about the same time is done in one transaction, and like things in one
statement: each statement gives up the interpreter lock and takes it back, which costs as much as
the work itself.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from harakatls.queued import QueuedMessage
from harakatls.spool.bodies import StoredBody
from harakatls.spool.codec import UndecodableMessage, decode
from harakatls.spool.database import give_back

T = TypeVar("T")

_ROW = 500  # octets of a row and of what refers to it, roughly
STATEMENT_ROWS = 64  # the most rows of one statement; each number of rows is a statement apart


@frozen
class Claimed:
    """A row that this worker has claimed."""

    number: int
    body: int
    shared: bool
    streamed: bool


@frozen
class SetAside:
    """A row that was found to be broken while it was claimed."""

    id: str
    problem: str


class ClaimLostError(Exception):
    """The rows that were to be settled are not all claimed by this worker."""


@define(eq=False)
class Request(Generic[T]):
    """
    Something asked of the writer.

    @ivar outcome: fires in the reactor's thread, after COMMIT.
    @ivar unwanted: called instead, with the result, where *outcome* was cancelled meanwhile.
    """

    outcome: Deferred[T] = field(factory=Deferred, init=False)
    unwanted: Callable[[T], object] | None = field(default=None, init=False)
    result: Any = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)

    @property
    def octets(self) -> int:
        """That it adds to the database, roughly."""
        return 0

    def failed(self) -> None:
        """Called in the writer's thread where nothing of it was done."""


@define(eq=False)
class Settlement(Request[bool]):
    """
    The end of a claim: the row stays with what is now known, is set aside, or goes.

    @ivar kept: due and JSON of the message.
    @ivar problem: why it is set aside.
    @ivar result: the claim held, so it was done.
    @ivar body_gone: set when no row has the body any more.
    """

    id: str
    claimed: Claimed
    kept: tuple[float, str] | None = None
    problem: str | None = None
    body_gone: bool = field(default=False, init=False)


@define(eq=False)
class Addition(Request[None]):
    """
    A message for the queue.

    @ivar rows: id, domain, due, JSON for each domain.
    @ivar forget: removes the body's file.
    """

    body: StoredBody
    rows: Sequence[tuple[str, str, float, str]]
    settling: Settlement | None = None
    forget: Callable[[], object] | None = None

    @property
    def octets(self) -> int:
        return len(self.body.content) + _ROW * len(self.rows)

    def failed(self) -> None:
        if self.forget is not None:
            self.forget()


@define(eq=False)
class Claim(Request[list[tuple[Claimed, QueuedMessage] | SetAside]]):
    """
    Some of what is due.

    @ivar lease: until when our claims shall hold; None where they hold long enough.
    """

    now: float
    limit: int
    lease: float | None


@define(eq=False)
class Errand(Request[Any]):
    """Anything else."""

    run: Callable[[sqlite3.Connection], Any]


@define(eq=False)
class Shrinking(Request[bool]):
    """
    Give pages that are not used back to the file system; the result is that there are more.

    @ivar low: see `database.unused_pages`.
    """

    low: bool
    pages: int


@define
class Ledger:
    """
    Does what is asked, for one worker.

    @ivar worker: the number of its row.
    """

    worker: int
    slot: str

    def apply(self, connection: sqlite3.Connection, group: Sequence[Request[Any]]) -> None:
        """
        Do all of *group* in the transaction that is open, and set the results.

        Doing it again after a rollback gives the same.
        """
        additions = [request for request in group if type(request) is Addition]
        settlements = [request for request in group if type(request) is Settlement]
        if additions:
            _add(connection, additions)
            settlements += [a.settling for a in additions if a.settling is not None]
        if settlements:
            self._settle(connection, settlements)
        for request in group:
            if type(request) is Claim:
                request.result = self._claim(connection, request)
            elif type(request) is Shrinking:
                request.result = give_back(connection, request.low, request.pages)
            elif type(request) is Errand:
                request.result = request.run(connection)

    # ---------------------------------------------------------------------------- settling

    def _settle(self, connection: sqlite3.Connection, settlements: list[Settlement]) -> None:
        removed = []
        for settlement in settlements:
            settlement.result, settlement.body_gone = True, False
            if settlement.problem is not None:
                settlement.result = self._set_aside(
                    connection, settlement.claimed.number, settlement.problem
                )
            elif settlement.kept is not None:
                settlement.result = self._keep(
                    connection, settlement.claimed.number, *settlement.kept
                )
            else:
                removed.append(settlement)
        for some in _slices(removed):
            self._remove(connection, some)

    def _keep(self, connection: sqlite3.Connection, number: int, due: float, message: str) -> bool:
        changed = connection.execute(
            "UPDATE message SET claimed_by = NULL, due = ?, message = ? "
            "WHERE number = ? AND claimed_by = ?",
            (due, message, number, self.worker),
        )
        return changed.rowcount == 1

    def _set_aside(self, connection: sqlite3.Connection, number: int, problem: str) -> bool:
        changed = connection.execute(
            "UPDATE message SET claimed_by = NULL, problem = ? WHERE number = ? AND claimed_by = ?",
            (problem, number, self.worker),
        )
        return changed.rowcount == 1

    def _remove(self, connection: sqlite3.Connection, settlements: list[Settlement]) -> None:
        removed = connection.execute(
            _delete_messages(len(settlements)),
            [*[settlement.claimed.number for settlement in settlements], self.worker],
        ).rowcount
        if removed != len(settlements):
            if len(settlements) == 1:
                settlements[0].result = False
                return
            # Rare enough to be undone and tried one by one (see `GroupWriter`).
            raise ClaimLostError
        own = [settlement for settlement in settlements if not settlement.claimed.shared]
        if own:
            connection.execute(
                _delete_bodies(len(own)),
                [settlement.claimed.body for settlement in own],
            )
        for settlement in settlements:
            if settlement.claimed.shared:
                gone = connection.execute(
                    "DELETE FROM body WHERE number = ?1 AND NOT EXISTS "
                    "(SELECT 1 FROM message WHERE body = ?1 AND shared)",
                    (settlement.claimed.body,),
                )
                settlement.body_gone = gone.rowcount == 1
            else:
                settlement.body_gone = True

    # ---------------------------------------------------------------------------- claiming

    def _claim(
        self, connection: sqlite3.Connection, claim: Claim
    ) -> list[tuple[Claimed, QueuedMessage] | SetAside]:
        if claim.lease is not None:
            self.renew(connection, claim.lease)
        taken: list[tuple[Claimed, QueuedMessage] | SetAside] = []
        wanted = claim.limit
        while wanted > 0:
            rows = connection.execute(
                "UPDATE message SET claimed_by = ? WHERE number IN ("
                "SELECT number FROM message WHERE due <= ? AND claimed_by IS NULL "
                "AND problem IS NULL ORDER BY due, number LIMIT ?"
                ") RETURNING due, number, id, body, shared, streamed, message",
                (self.worker, claim.now, wanted),
            ).fetchall()
            rows.sort(key=_due_and_number)
            broken = 0
            for _, number, message_id, body, shared, streamed, message in rows:
                try:
                    queued = decode(message)
                except UndecodableMessage as error:
                    problem = str(error)
                    self._set_aside(connection, number, problem)
                    taken.append(SetAside(text(message_id), problem))
                    broken += 1
                else:
                    taken.append((Claimed(number, body, bool(shared), bool(streamed)), queued))
            wanted = broken if len(rows) == wanted else 0
        return taken

    # ------------------------------------------------------------------------------ leases

    def renew(self, connection: sqlite3.Connection, until: float) -> None:
        """Let our claims hold until then."""
        connection.execute(
            "INSERT OR REPLACE INTO worker (number, slot, pid, until) VALUES (?, ?, ?, ?)",
            (self.worker, self.slot, os.getpid(), until),
        )

    def release(
        self, connection: sqlite3.Connection, numbers: Iterable[int], due: float | None = None
    ) -> None:
        """
        End claims as if they had never been.

        @param due: when they may be claimed again; None for at once.
        """
        for number in numbers:
            connection.execute(
                "UPDATE message SET claimed_by = NULL, due = ifnull(?, due) "
                "WHERE number = ? AND claimed_by = ?",
                (due, number, self.worker),
            )

    def leave(self, connection: sqlite3.Connection) -> None:
        """This worker ends; its claims fall free."""
        connection.execute(
            "UPDATE message SET claimed_by = NULL WHERE claimed_by = ?", (self.worker,)
        )
        connection.execute("DELETE FROM worker WHERE number = ?", (self.worker,))

    def bury(self, connection: sqlite3.Connection, now: float) -> int:
        """
        Let the claims of other workers whose lease has ended fall free.

        @return: how many messages.
        """
        connection.execute("DELETE FROM worker WHERE until < ? AND number <> ?", (now, self.worker))
        return _free_orphans(connection)


def register(connection: sqlite3.Connection, slot: str, until: float, alone: bool) -> Ledger:
    """
    Begin as a worker; the claims of its predecessor fall free.

    @param alone: no other worker is alive: all claims fall free.
    """
    if alone:
        connection.execute("DELETE FROM worker")
    else:
        connection.execute("DELETE FROM worker WHERE slot = ?", (slot,))
    number = connection.execute(
        "INSERT INTO worker (slot, pid, until) VALUES (?, ?, ?)", (slot, os.getpid(), until)
    ).lastrowid
    assert number is not None
    _free_orphans(connection)
    return Ledger(number, slot)


def text(value: Any) -> str:
    """A text of the database, which may be damaged, for logs and lists."""
    return str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)


def _free_orphans(connection: sqlite3.Connection) -> int:
    return connection.execute(
        "UPDATE message SET claimed_by = NULL WHERE claimed_by IS NOT NULL "
        "AND claimed_by NOT IN (SELECT number FROM worker)"
    ).rowcount


def _due_and_number(row: tuple[Any, ...]) -> tuple[Any, Any]:
    return row[0], row[1]


# ------------------------------------------------------------------------------------- adding


def _add(connection: sqlite3.Connection, additions: list[Addition]) -> None:
    rows: list[Any] = []
    for some in _slices(additions):
        values: list[Any] = []
        for addition in some:
            body = addition.body
            values += (body.crc, body.file, body.file_size, body.file_crc, body.content)
        last = connection.execute(_insert_bodies(len(some)), values).lastrowid
        assert last is not None
        # One statement numbers its rows one after the other.
        for number, addition in enumerate(some, last - len(some) + 1):
            shared, streamed = len(addition.rows) > 1, addition.body.file is not None
            rows += [(*row, number, shared, streamed) for row in addition.rows]
    for some_rows in _slices(rows):
        connection.execute(
            _insert_messages(len(some_rows)), [value for row in some_rows for value in row]
        )


# Statements for so many rows: nothing but marks and commas is put into them.


@cache
def _insert_bodies(count: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?)"] * count)
    return f"INSERT INTO body (crc, file, file_size, file_crc, content) VALUES {values}"  # noqa: S608


@cache
def _insert_messages(count: int) -> str:
    columns = "id, domain, due, message, body, shared, streamed"
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * count)
    return f"INSERT INTO message ({columns}) VALUES {values}"  # noqa: S608


@cache
def _delete_messages(count: int) -> str:
    numbers = ", ".join("?" * count)
    return f"DELETE FROM message WHERE number IN ({numbers}) AND claimed_by = ?"  # noqa: S608


@cache
def _delete_bodies(count: int) -> str:
    numbers = ", ".join("?" * count)
    return f"DELETE FROM body WHERE number IN ({numbers})"  # noqa: S608


def _slices(items: list[T]) -> Iterable[list[T]]:
    if len(items) <= STATEMENT_ROWS:
        return (items,) if items else ()
    return (items[at : at + STATEMENT_ROWS] for at in range(0, len(items), STATEMENT_ROWS))
