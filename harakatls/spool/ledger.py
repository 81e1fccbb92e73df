"""
What is asked of the database, and the SQL that does it.

Whatever is asked at about the same time is done in one transaction, and like things in one
statement.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, evolve, field

from harakatls.spool.codec import UndecodableMessage, decode
from harakatls.spool.database import give_back
from harakatls.spool.picking import Picker
from harakatls.spool.requests import (
    Addition,
    Claim,
    Claimed,
    Errand,
    Found,
    Item,
    Request,
    SetAside,
    Settlement,
    Shrinking,
)
from harakatls.spool.statements import (
    STATEMENT_ROWS,
    claim_messages,
    delete_bodies,
    delete_messages,
    delete_unused_bodies,
    insert_bodies,
    insert_messages,
    remove_messages,
    slices,
)


class ClaimLostError(Exception):
    """The rows that were to be settled are not all claimed by this worker."""


@define
class Ledger:
    """
    Does what is asked, for one worker.

    @ivar worker: the number of its row.
    """

    worker: int
    slot: str
    picker: Picker = field(factory=Picker)

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
            if settlement.kept is None and settlement.problem is None:
                removed.append(settlement)
            elif not self._stays(connection, settlement):
                if self._is_doomed(connection, settlement.claimed.number):
                    removed.append(settlement)
                else:
                    settlement.result = False
        for some in slices(removed):
            self._remove(connection, some)

    def _stays(self, connection: sqlite3.Connection, settlement: Settlement) -> bool:
        number = settlement.claimed.number
        if settlement.problem is not None:
            return self._set_aside(connection, number, settlement.problem)
        assert settlement.kept is not None
        changed = connection.execute(
            "UPDATE message SET claimed_by = NULL, due = ?, message = ? "
            "WHERE number = ? AND claimed_by = ? AND held < 2",
            (*settlement.kept, number, self.worker),
        )
        return changed.rowcount == 1

    def _set_aside(self, connection: sqlite3.Connection, number: int, problem: str) -> bool:
        changed = connection.execute(
            "UPDATE message SET claimed_by = NULL, problem = ? "
            "WHERE number = ? AND claimed_by = ? AND held < 2",
            (problem, number, self.worker),
        )
        return changed.rowcount == 1

    def _is_doomed(self, connection: sqlite3.Connection, number: int) -> bool:
        """The operator had it removed while it was in hand here."""
        found = connection.execute(
            "SELECT 1 FROM message WHERE number = ? AND claimed_by = ? AND held = 2",
            (number, self.worker),
        )
        return bool(found.fetchall())

    def _remove(self, connection: sqlite3.Connection, settlements: list[Settlement]) -> None:
        removed = connection.execute(
            delete_messages(len(settlements)),
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
                delete_bodies(len(own)),
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

    def _claim(self, connection: sqlite3.Connection, claim: Claim) -> Found:
        if claim.lease is not None:
            self.renew(connection, claim.lease)
        items: list[Item] = []
        wanted, room = claim.wanted, claim.limit
        ended = looked_round = False
        while room > 0 and not (ended or looked_round):
            looked_round = wanted.round is not None
            numbers, wanted, ended = self.picker.pick(connection, wanted, room)
            for some in slices(numbers):
                for domain, item in self._take(connection, some):
                    items.append(item)
                    if isinstance(item, SetAside):  # it takes nobody's place
                        wanted, ended = wanted.with_room_for(domain), False
                    else:
                        room -= 1
        return Found(items, None if ended or room <= 0 else wanted)

    def _take(
        self, connection: sqlite3.Connection, numbers: list[int]
    ) -> Iterable[tuple[bytes, Item]]:
        """With their domains."""
        rows = connection.execute(claim_messages(len(numbers)), (self.worker, *numbers)).fetchall()
        rows.sort(key=_due_and_number)
        for due, number, message_id, domain, body, shared, streamed, message in rows:
            try:
                queued = decode(message)
            except UndecodableMessage as error:
                problem = str(error)
                self._set_aside(connection, number, problem)
                yield domain, SetAside(text(message_id), problem)
            else:
                if queued.due != due:  # flushed, or put off for a moment
                    queued = evolve(queued, due=due)
                yield domain, (Claimed(number, body, bool(shared), bool(streamed)), queued)

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

    def recalled(self, connection: sqlite3.Connection) -> list[str]:
        """Which of its messages the operator wants not to be tried."""
        rows = connection.execute(
            "SELECT id FROM message INDEXED BY message_claimed WHERE claimed_by = ? AND held <> 0",
            (self.worker,),
        ).fetchall()
        return [text(message_id) for (message_id,) in rows]

    def doomed(self, connection: sqlite3.Connection) -> list[int]:
        """What the operator removed while it was in hand, and whose attempt never ended."""
        rows = connection.execute(
            "SELECT number FROM message INDEXED BY message_held "
            "WHERE held = 2 AND held <> 0 AND claimed_by IS NULL LIMIT ?",
            (STATEMENT_ROWS,),
        ).fetchall()
        return [number for (number,) in rows]

    def sweep_doomed(self, connection: sqlite3.Connection) -> list[str]:
        """Remove it; see `remove_rows`."""
        return remove_rows(connection, self.doomed(connection))


def remove_rows(connection: sqlite3.Connection, numbers: list[int]) -> list[str]:
    """
    Remove up to `STATEMENT_ROWS` rows, and the bodies that nobody needs any more.

    @return: the files of those bodies, to be removed after COMMIT.
    """
    if not numbers:
        return []
    removed = connection.execute(remove_messages(len(numbers)), numbers).fetchall()
    bodies = sorted({body for (body,) in removed})
    if not bodies:
        return []
    files = connection.execute(delete_unused_bodies(len(bodies)), bodies).fetchall()
    return [text(file) for (file,) in files if file is not None]


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
    for some in slices(additions):
        values: list[Any] = []
        for addition in some:
            body = addition.body
            values += (body.crc, body.file, body.file_size, body.file_crc, body.content)
        last = connection.execute(insert_bodies(len(some)), values).lastrowid
        assert last is not None
        # One statement numbers its rows one after the other.
        for number, addition in enumerate(some, last - len(some) + 1):
            shared, streamed = len(addition.rows) > 1, addition.body.file is not None
            rows += [(*row, number, shared, streamed) for row in addition.rows]
    for some_rows in slices(rows):
        connection.execute(
            insert_messages(len(some_rows)), [value for row in some_rows for value in row]
        )
