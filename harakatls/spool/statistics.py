"""How much is in the queue, counted by the database: nothing is decoded."""

import sqlite3

from attrs import frozen

from harakatls.spool.ledger import text

_COUNTS = """
    count(*), ifnull(sum(size), 0), min(arrived),
    ifnull(sum(claimed_by IS NULL AND problem IS NULL AND held = 0 AND due <= ?1), 0),
    min(CASE WHEN claimed_by IS NULL AND problem IS NULL AND held = 0 AND due > ?1 THEN due END),
    ifnull(sum(claimed_by IS NOT NULL), 0),
    ifnull(sum(claimed_by IS NULL AND problem IS NULL AND held <> 0), 0),
    ifnull(sum(claimed_by IS NULL AND problem IS NOT NULL), 0)
"""


@frozen
class Counts:
    """
    Of all messages, or those for one domain; a message for several domains is one for each.

    @ivar octets: of the messages.
    @ivar oldest: when that one arrived, seconds since the epoch; None with none.
    @ivar due: how many are due now.
    @ivar next_due: when the first of the others is due that are neither held nor set aside.
    """

    messages: int
    octets: int
    oldest: float | None
    due: int
    next_due: float | None
    in_hand: int
    held: int
    set_aside: int

    @property
    def delayed(self) -> int:
        """How many wait for a later attempt."""
        return self.messages - self.due - self.in_hand - self.held - self.set_aside


def counts(connection: sqlite3.Connection, now: float) -> Counts:
    """@param now: seconds since the epoch."""
    return Counts(*connection.execute(f"SELECT {_COUNTS} FROM message", (now,)).fetchone())  # noqa: S608


def counts_by_domain(
    connection: sqlite3.Connection, now: float, most: int
) -> list[tuple[str, Counts]]:
    """The *most* domains with the most messages."""
    rows = connection.execute(
        f"SELECT domain, {_COUNTS} FROM message "  # noqa: S608
        "GROUP BY domain ORDER BY count(*) DESC, domain LIMIT ?2",
        (now, most),
    ).fetchall()
    return [(text(domain), Counts(*row)) for domain, *row in rows]
