"""The queue directory: made, locked, looked over and swept before a server uses it."""

import sqlite3
from pathlib import Path

from twisted.logger import Logger

from harakatls.spool import database
from harakatls.spool.bodies import names, remove
from harakatls.spool.database import BODIES, DATABASE
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.lock import QueueLock
from harakatls.spool.migration import migrate

log = Logger()


def locked(directory: Path) -> QueueLock:
    """
    Take the lock of a queue directory; the directory is made where there is none.

    @raise SpoolUnusable: another server holds it, or it cannot be made.
    """
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            database.sync(directory.parent)
    except OSError as error:
        raise SpoolUnusable(f"the queue directory {directory} cannot be made: {error}") from None
    return QueueLock.acquire(directory)


def prepare(directory: Path) -> None:
    """
    Make the database where there is none, look whether it is whole, bring it up to date, sweep up.

    Only to be called while the queue lock is held, before any worker has opened the queue.

    @raise SpoolUnusable: it cannot be used as it is.
    """
    path, bodies = directory / DATABASE, directory / BODIES
    try:
        bodies.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            _must_be_new(path, bodies)
            database.create(path)
        database.examine(path)
        migrate(path)
        _sweep(path, bodies)
    except (sqlite3.Error, OSError) as error:
        raise SpoolUnusable(f"the queue directory {directory} cannot be used: {error}") from None


def _must_be_new(path: Path, bodies: Path) -> None:
    """A queue that has lost its database must not be taken for a new one."""
    journal = Path(f"{path}-wal")
    left = next((bodies / name for name in names(bodies)), None)
    if journal.exists() and journal.stat().st_size > 0:
        left = journal
    if left is not None:
        raise SpoolUnusable(
            f"{path} is missing, but there is {left} of a former queue. Nothing was changed. Put "
            f"the database back, or move what is left of it out of {path.parent}"
        )


def _sweep(path: Path, bodies: Path) -> None:
    """Remove bodies whose message was never committed, or is gone."""
    connection = database.connect_to_write(path)
    try:
        for name in names(bodies):
            known = connection.execute("SELECT 1 FROM body WHERE file = ?", (name,)).fetchall()
            if not known and remove(bodies / name):
                log.info("removed {name}, which no message refers to", name=name)
    finally:
        connection.close()
