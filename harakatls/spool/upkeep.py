"""What a worker does for the queue from time to time."""

import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from harakatls.interfaces import SpoolDamaged, SpoolFull
from harakatls.spool import database
from harakatls.spool.claims import Claims
from harakatls.spool.ledger import Ledger
from harakatls.spool.requests import Claimed, Errand, Item, Request, Shrinking
from harakatls.spool.space import FreeSpace

log = Logger()

LEASE = 120.0  # seconds that the claims of a worker hold after its last sign of life
SIGN_OF_LIFE = LEASE / 3
_TWIN_WAITS = 60.0


class Upkeep:
    """
    Gives signs of life, frees the claims of the dead and the forgotten, gives space back.

    @ivar lease_until: when the claims of this worker end, without another sign of life.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[Request[Any]], Deferred[Any]],
        reading: sqlite3.Connection,
        ledger: Ledger,
        claims: Claims,
        space: FreeSpace,
        tell_added: Callable[[], None],
        remove_body: Callable[[str], None],
    ) -> None:
        """
        @param ask: has something done by the writer.
        @param tell_added: messages have become free.
        @param remove_body: removes the file of a body.
        """
        self.lease_until = clock.seconds() + LEASE
        self._clock = clock
        self._ask = ask
        self._reading = reading
        self._ledger = ledger
        self._claims = claims
        self._space = space
        self._tell_added = tell_added
        self._remove_body = remove_body
        self._stopped = False
        self._shrinking = False
        self._next: IDelayedCall = clock.callLater(SIGN_OF_LIFE, self._look_after)

    def stop(self) -> None:
        """Nothing is begun any more."""
        self._stopped = True
        self._next.cancel()

    def lease(self) -> float | None:
        """Until when claims shall hold from now on; None where they hold long enough."""
        now = self._clock.seconds()
        return now + LEASE if now > self.lease_until - LEASE + SIGN_OF_LIFE else None

    def give_back(self, found: list[Item]) -> None:
        """Release what was claimed for somebody who has gone."""
        self._in_background(self._release([item[0] for item in found if isinstance(item, tuple)]))

    def postpone(self, rows: list[Claimed]) -> None:
        """Release rows, but not to be claimed at once."""
        self._in_background(self._release(rows, self._clock.seconds() + _TWIN_WAITS))

    def make_space(self) -> None:
        """Mail was refused: whatever the database does not use is given back now."""
        try:
            if database.unused_pages(self._reading, True):
                self._in_background(self._shrink())
        except sqlite3.Error as error:
            log.error("the queue cannot be read: {error}", error=error)

    def _look_after(self) -> None:
        self._next = self._clock.callLater(SIGN_OF_LIFE, self._look_after)
        now = self._clock.seconds()
        try:
            dead = self._reading.execute(
                "SELECT 1 FROM worker WHERE until < ? AND number <> ?", (now, self._ledger.worker)
            ).fetchall()
            unused = database.unused_pages(self._reading, self._space.is_low())
            doomed = self._ledger.doomed(self._reading)
        except sqlite3.Error as error:
            log.error("the queue cannot be read: {error}", error=error)
            return
        if self._claims or dead:
            self._in_background(self._renew(bool(dead)))
        if unused:
            self._in_background(self._shrink())
        if doomed:
            self._in_background(self._sweep_doomed())
        forgotten = self._claims.give_up(now)
        if forgotten:
            self._in_background(self._let_go(forgotten))

    async def _renew(self, bury: bool) -> None:
        now, ledger = self._clock.seconds(), self._ledger

        def renew(connection: sqlite3.Connection) -> int:
            ledger.renew(connection, now + LEASE)
            return ledger.bury(connection, now) if bury else 0

        freed = await self._ask(Errand(renew))
        self.lease_until = now + LEASE
        if freed:
            log.warn("{count} messages of a worker that has died are free again", count=freed)
            self._tell_added()

    async def _sweep_doomed(self) -> None:
        for name in await self._ask(Errand(self._ledger.sweep_doomed)):
            self._remove_body(name)

    async def _shrink(self) -> None:
        """
        Give what the database does not use any more back to the file system.

        In small steps, so that mail goes on meanwhile, and the log does not take what is given.
        """
        if self._shrinking:
            return
        self._shrinking = True
        pages = max(8, min(256, self._space.reserve() // 8 // database.PAGE))
        try:
            while not self._stopped and await self._ask(Shrinking(self._space.is_low(), pages)):
                pass
        finally:
            self._shrinking = False

    async def _release(self, rows: list[Claimed], due: float | None = None) -> None:
        numbers, ledger = [row.number for row in rows], self._ledger
        if numbers:
            await self._ask(Errand(lambda connection: ledger.release(connection, numbers, due)))
            self._tell_added()

    async def _let_go(self, rows: dict[str, Claimed]) -> None:
        log.warn(
            "{count} messages whose outcome was not recorded are free again, and may be "
            "delivered twice",
            count=len(rows),
        )
        try:
            await self._release(list(rows.values()))
        except Exception:
            self._claims.take_back(rows, self._clock.seconds())
            raise

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stopped:
            work.close()
            return
        Deferred.fromCoroutine(work).addErrback(_tell_failure)


def _tell_failure(reason: Failure) -> None:
    # What the disk does wrong is told by the writer.
    if not isinstance(reason.value, SpoolFull | SpoolDamaged):
        log.failure("the queue failed", reason)
