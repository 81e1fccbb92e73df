"""The queue for the operator: read from another process, beside the running server."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve

from harakatls.queued import QueuedMessage
from harakatls.spool import database
from harakatls.spool.codec import UndecodableMessage, decode
from harakatls.spool.database import DATABASE
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.ledger import text
from harakatls.spool.requests import SetAside

_SLICE = 500  # rows of one read; a long one would keep the server's log from being cleared


def listing(directory: Path) -> Iterator[QueuedMessage]:
    """
    The messages that wait for delivery, or are being delivered, in the order of their arrival.

    @raise SpoolUnusable: there is no queue, or it cannot be read.
    """
    return (found for found in _entries(directory) if isinstance(found, QueuedMessage))


def broken(directory: Path) -> Iterator[SetAside]:
    """The messages that cannot be delivered because they cannot be read; raises as `listing`."""
    return (found for found in _entries(directory) if isinstance(found, SetAside))


def _entries(directory: Path) -> Iterator[QueuedMessage | SetAside]:
    path = directory / DATABASE
    try:
        if not path.exists():
            raise SpoolUnusable(f"there is no queue in {directory}: {path} is missing")
        connection = database.connect_to_read(path)
        try:
            number = 0
            while True:
                rows = connection.execute(
                    "SELECT number, id, due, message, problem FROM message "
                    "WHERE number > ? ORDER BY number LIMIT ?",
                    (number, _SLICE),
                ).fetchall()
                if not rows:
                    return
                for _, message_id, due, message, problem in rows:
                    yield _entry(message_id, due, message, problem)
                number = rows[-1][0]
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise SpoolUnusable(f"{path} cannot be read: {error}") from None


def _entry(
    message_id: bytes, due: float, message: bytes, problem: bytes | None
) -> QueuedMessage | SetAside:
    if problem is not None:
        return SetAside(text(message_id), text(problem))
    try:
        return evolve(decode(message), due=due)
    except UndecodableMessage as error:
        return SetAside(text(message_id), str(error))
