"""How a running server learns what the operator has done to its queue from another process."""

import sqlite3
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

ROUND = 1.0
"""Seconds between two looks; each is one row of a page that is always in memory."""


def give_notice(connection: sqlite3.Connection) -> None:
    """In the transaction that changes something which a server should know of at once."""
    connection.execute("UPDATE notice SET count = count + 1")


class Notice:
    """Looks every second whether something was changed."""

    def __init__(
        self, clock: IReactorTime, reading: sqlite3.Connection, told: Callable[[], None]
    ) -> None:
        """
        @param told: called after a change.
        @raise sqlite3.Error: the queue cannot be read.
        """
        self._clock = clock
        self._reading = reading
        self._told = told
        self._seen = self._count()
        self._next: IDelayedCall = clock.callLater(ROUND, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._next.cancel()

    def _look(self) -> None:
        self._next = self._clock.callLater(ROUND, self._look)
        try:
            count = self._count()
        except sqlite3.Error:
            return  # whoever needs the queue will tell
        if count != self._seen:
            self._seen = count
            log.info("the operator has changed the queue")
            self._told()

    def _count(self) -> object:
        return self._reading.execute("SELECT count FROM notice").fetchall()
