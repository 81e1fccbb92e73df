"""
SQL for so many rows: nothing but marks and commas is put into it.

Each statement gives up the interpreter lock and takes it back, which costs as much as the work
itself; so like things are done in one.
"""

from collections.abc import Iterable
from functools import cache
from typing import TypeVar

T = TypeVar("T")

STATEMENT_ROWS = 64  # the most rows of one statement; each number of rows is a statement apart


@cache
def insert_bodies(count: int) -> str:
    """With five values each."""
    values = ", ".join(["(?, ?, ?, ?, ?)"] * count)
    return f"INSERT INTO body (crc, file, file_size, file_crc, content) VALUES {values}"  # noqa: S608


@cache
def insert_messages(count: int) -> str:
    """With nine values each."""
    columns = "id, domain, due, arrived, size, message, body, shared, streamed"
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)
    return f"INSERT INTO message ({columns}) VALUES {values}"  # noqa: S608


@cache
def claim_messages(count: int) -> str:
    """With the worker, then the rows."""
    return (
        f"UPDATE message SET claimed_by = ? WHERE number IN ({_marks(count)}) "  # noqa: S608
        "RETURNING due, number, id, domain, body, shared, streamed, message"
    )


@cache
def delete_messages(count: int) -> str:
    """With the rows, then the worker."""
    return f"DELETE FROM message WHERE number IN ({_marks(count)}) AND claimed_by = ?"  # noqa: S608


@cache
def delete_bodies(count: int) -> str:
    """With the rows."""
    return f"DELETE FROM body WHERE number IN ({_marks(count)})"  # noqa: S608


@cache
def messages_by_number(columns: str, count: int) -> str:
    """With what the columns need, then the rows."""
    return f"SELECT {columns} FROM message WHERE number IN ({_marks(count)})"  # noqa: S608


@cache
def remove_messages(count: int) -> str:
    """With the rows; those in hand stay."""
    return (
        f"DELETE FROM message WHERE number IN ({_marks(count)}) AND claimed_by IS NULL "  # noqa: S608
        "RETURNING body"
    )


@cache
def delete_unused_bodies(count: int) -> str:
    """With the rows; what a message shares stays."""
    return (
        f"DELETE FROM body WHERE number IN ({_marks(count)}) AND NOT EXISTS "  # noqa: S608
        "(SELECT 1 FROM message WHERE message.body = body.number AND shared) RETURNING file"
    )


def slices(items: list[T]) -> Iterable[list[T]]:
    """*items* for one statement after the other."""
    if len(items) <= STATEMENT_ROWS:
        return (items,) if items else ()
    return (items[at : at + STATEMENT_ROWS] for at in range(0, len(items), STATEMENT_ROWS))


def _marks(count: int) -> str:
    return ", ".join("?" * count)
