"""How a running server learns what the operator has done to its queue from another process."""

import sqlite3
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

ROUND = 1.0
"""Seconds between two looks; each is one row of a page that is always in memory."""
GLANCE = 0.01
"""Seconds between two looks before attempts, which may be a thousand in a second."""


def give_notice(connection: sqlite3.Connection) -> None:
    """In the transaction that changes something which a server should know of at once."""
    connection.execute("UPDATE notice SET count = count + 1 WHERE rowid = 1")


def recall(connection: sqlite3.Connection) -> None:
    """In the transaction that marks messages which a server has in hand."""
    connection.execute(
        "INSERT INTO notice (rowid, count) VALUES (2, 1) "
        "ON CONFLICT (rowid) DO UPDATE SET count = count + 1"
    )


class Notice:
    """
    Looks every second whether something was changed.

    @ivar recalls: how many there have been, as of `GLANCE` seconds ago or later.
    """

    def __init__(
        self,
        clock: IReactorTime,
        reading: sqlite3.Connection,
        told: Callable[[], None],
        told_of_recall: Callable[[], None],
    ) -> None:
        """
        @param told: called after a change.
        @param told_of_recall: called where messages in hand were marked.
        @raise sqlite3.Error: the queue cannot be read.
        """
        self._clock = clock
        self._reading = reading
        self._told = told
        self._told_of_recall = told_of_recall
        self._seen, self._seen_recalls = self._counts()
        self._recalls, self._glanced = self._seen_recalls, clock.seconds()
        self._next: IDelayedCall = clock.callLater(ROUND, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._next.cancel()

    @property
    def recalls(self) -> int:
        now = self._clock.seconds()
        if not 0 <= now - self._glanced < GLANCE:
            self._glanced = now
            try:
                self._recalls = self._counts()[1]
            except sqlite3.Error:
                pass  # whoever needs the queue will tell
        return self._recalls

    def _look(self) -> None:
        self._next = self._clock.callLater(ROUND, self._look)
        try:
            count, recalls = self._counts()
        except sqlite3.Error:
            return  # whoever needs the queue will tell
        if recalls != self._seen_recalls:
            self._seen_recalls = recalls
            self._told_of_recall()
        if count != self._seen:
            self._seen = count
            log.info("the operator has changed the queue")
            self._told()

    def _counts(self) -> tuple[int, int]:
        """Of changes, and of recalls; the row of these is made with the first."""
        rows = self._reading.execute("SELECT count FROM notice ORDER BY rowid").fetchall()
        counts = [count for (count,) in rows]
        return (*counts, 0, 0)[:2]
