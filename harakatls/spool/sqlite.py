"""
The durable queue: an SQLite database, with files beside it for large bodies.

The COMMIT of the transaction that holds a message is the moment it becomes ours. A crash at any
point loses nothing that was committed; the worst delivers once more what had been delivered just
before, as the row goes only when its settlement is on disk.

Layout of the queue directory (all of it readable by its owner alone)::

    lock                            held by the server, see lock.py
    queue.db, queue.db-wal, -shm    rows, and bodies up to 256 KiB, see database.py
    body/<id>.eml                   the octets of larger bodies
"""

import sqlite3
import zlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.interfaces import (
    IMessageBody,
    ISpool,
    IStagedMessage,
    SpoolDamaged,
    SpoolFull,
)
from harakatls.queued import QueuedMessage
from harakatls.spool import database
from harakatls.spool.bodies import SUFFIX, InThread, StoredBody, open_stored, remove
from harakatls.spool.codec import encode
from harakatls.spool.database import BODIES, DATABASE
from harakatls.spool.directory import locked, prepare
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.ledger import (
    Addition,
    Claim,
    Claimed,
    Errand,
    Ledger,
    Request,
    SetAside,
    Settlement,
    Shrinking,
    register,
)
from harakatls.spool.listing import broken, listing
from harakatls.spool.lock import QueueLock
from harakatls.spool.space import FreeSpace
from harakatls.spool.staged import StagedMessage
from harakatls.spool.writer import GroupWriter

__all__ = ["LEASE", "SQLiteSpool", "broken", "listing", "open_spool"]

log = Logger()

LEASE = 120.0  # seconds that the claims of a worker hold after its last sign of life
_SIGN_OF_LIFE = LEASE / 3
_TWIN_WAITS = 60.0


@implementer(ISpool)
class SQLiteSpool:
    """
    Made by `open_spool`; to be used in the reactor's thread only.

    @ivar bodies: the directory for large bodies.
    """

    def __init__(
        self,
        directory: Path,
        clock: IReactorTime,
        call_from_thread: Callable[..., object],
        in_thread: InThread,
        writing: sqlite3.Connection,
        ledger: Ledger,
        space: FreeSpace,
        lock: QueueLock | None,
        threaded: bool,
    ) -> None:
        path = directory / DATABASE
        self.bodies: Path | None = directory / BODIES
        self.in_thread = in_thread
        self.seconds = clock.seconds
        self.check_space = space.check
        self._space = space
        self._clock = clock
        self._call_from_thread = call_from_thread
        self._reading = database.connect_to_read(path)
        self._ledger = ledger
        self._lock = lock
        self._claimed: dict[str, Claimed] = {}
        self._told: list[Callable[[], None]] = []
        self._unsettled: dict[str, float] = {}  # when the claims on these shall end
        self._lease_until = clock.seconds() + LEASE
        self._closed = False
        self.writer = GroupWriter(
            writing, path, ledger, self._finished, space.fits, threaded=threaded
        )
        self._tick: IDelayedCall = clock.callLater(_SIGN_OF_LIFE, self._give_sign_of_life)

    # --------------------------------------------------------------------------- receiving

    async def stage(self, message_id: str) -> IStagedMessage:
        self.check_space()
        return StagedMessage(self, message_id)

    async def keep(
        self, staged: StagedMessage, messages: list[QueuedMessage], settling: QueuedMessage | None
    ) -> None:
        """See `Keeper`."""
        content, file = staged.whole() if staged.file is None else staged.top, staged.file
        crc = zlib.crc32(content)
        rows = [(queued.id, queued.domain, queued.due, encode(queued)) for queued in messages]
        settlement = None if settling is None else self._settlement(settling)
        if file is None:
            addition = Addition(StoredBody(content, crc), rows, settlement)
        else:
            file.keep()
            stored = StoredBody(content, crc, file.path.name, file.size, file.crc)
            addition = Addition(stored, rows, settlement, file.remove)
        await self._ask(addition)

    # -------------------------------------------------------------------------- delivering

    async def claim(self, now: float, limit: int) -> tuple[QueuedMessage, ...]:
        lease = self._lease()
        request = Claim(now, limit, lease)
        request.unwanted = self._give_back
        taken = []
        for item in await self._ask(request):
            if isinstance(item, SetAside):
                _tell_set_aside(item.id, item.problem)
                continue
            claimed, queued = item
            if self._is_twin(queued.id, claimed):
                self._postpone(queued.id, claimed)
                continue
            self._claimed[queued.id] = claimed
            taken.append(queued)
        if lease is not None:
            self._lease_until = lease
        return tuple(taken)

    async def settle(self, queued: QueuedMessage) -> None:
        """
        See `ISpool.settle`.

        @raise SpoolFull, SpoolDamaged: it was not recorded. The claim holds for another
            `LEASE` seconds, in which it may be tried again.
        """
        await self._conclude(queued, None)

    async def set_aside(self, queued: QueuedMessage, problem: str) -> None:
        """See `ISpool.set_aside`; raises as `settle` does."""
        await self._conclude(queued, problem)

    def open_body(self, queued: QueuedMessage) -> IMessageBody:
        claimed = self._claimed.get(queued.id)
        if claimed is None:
            raise SpoolDamaged(f"{queued.id} is not claimed here")
        try:
            found = self._reading.execute(
                "SELECT content, crc, file, file_size, file_crc FROM body WHERE number = ?",
                (claimed.body,),
            ).fetchall()
        except sqlite3.Error as error:
            raise SpoolDamaged(f"the body of {queued.id} cannot be read: {error}") from None
        if not found:
            raise SpoolDamaged(f"the body of {queued.id} is gone")
        assert self.bodies is not None
        return open_stored(_stored(*found[0]), self.bodies, self.in_thread)

    async def next_due(self) -> float | None:
        try:
            found = self._reading.execute(
                "SELECT due FROM message WHERE claimed_by IS NULL AND problem IS NULL "
                "ORDER BY due LIMIT 1"
            ).fetchall()
        except sqlite3.Error as error:
            raise SpoolDamaged(f"the queue cannot be read: {error}") from None
        return found[0][0] if found else None

    def when_added(self, told: Callable[[], None]) -> None:
        self._told.append(told)

    async def close(self) -> None:
        if self._closed:
            return
        leaving: Errand = Errand(self._ledger.leave)
        asked = self._ask(leaving)
        self._closed = True
        self._tick.cancel()
        try:
            await asked
        except (SpoolFull, SpoolDamaged):
            pass  # told by the writer; claims fall free at the next start
        finally:
            self.writer.stop()
            self._reading.close()
            if self._lock is not None:
                self._lock.release()

    # ------------------------------------------------------------------------- the writer

    def _ask(self, request: Request[Any]) -> Deferred[Any]:
        if self._closed:
            raise SpoolDamaged("the queue is closed")
        self.writer.submit(request)
        return request.outcome

    def _finished(self, group: list[Request[Any]]) -> None:
        # In the writer's thread. One wake-up of the reactor for all of the group.
        self._call_from_thread(self._answer, group)
        for request in group:
            if request.error is None:
                settlement = request.settling if isinstance(request, Addition) else request
                if isinstance(settlement, Settlement) and settlement.body_gone:
                    self._remove_file(settlement)

    def _remove_file(self, settlement: Settlement) -> None:
        assert self.bodies is not None
        if settlement.claimed.streamed:
            remove(self.bodies / (settlement.id.rpartition(".")[0] + SUFFIX))

    def _answer(self, group: list[Request[Any]]) -> None:
        added = False
        for request in group:
            if request.error is None:
                if type(request) is Addition:
                    added = True
                    if request.settling is not None:
                        self._settled(request.settling)
                elif type(request) is Settlement:
                    self._settled(request)
            if request.outcome.called:  # cancelled: whoever waited has gone away
                if request.unwanted is not None and request.error is None:
                    request.unwanted(request.result)
            elif request.error is not None:
                request.outcome.errback(request.error)
            else:
                request.outcome.callback(request.result)
        if added:
            self._tell_added()

    def _tell_added(self) -> None:
        for told in self._told:
            try:
                told()
            except Exception:
                log.failure("could not tell {told} of new messages", told=told)

    # ------------------------------------------------------------------------- settlement

    def _settlement(self, queued: QueuedMessage, problem: str | None = None) -> Settlement | None:
        claimed = self._claimed.get(queued.id)
        if claimed is None:
            _tell_claim_lost(queued.id)
            return None
        kept = (queued.due, encode(queued)) if queued.pending else None
        return Settlement(queued.id, claimed, kept, problem)

    async def _conclude(self, queued: QueuedMessage, problem: str | None) -> None:
        settlement = self._settlement(queued, problem)
        if settlement is None:
            return
        try:
            await self._ask(settlement)
        except Exception:
            # Whoever had it in hand may not come back.
            if queued.id in self._claimed:
                self._unsettled[queued.id] = self.seconds() + LEASE
            raise

    def _settled(self, settlement: Settlement) -> None:
        if self._claimed.get(settlement.id) is settlement.claimed:
            del self._claimed[settlement.id]
            self._unsettled.pop(settlement.id, None)
        if not settlement.result:
            _tell_claim_lost(settlement.id)

    # ----------------------------------------------------------------------------- leases

    def _lease(self) -> float | None:
        """Until when the claims shall hold from now on; None where they hold long enough."""
        now = self.seconds()
        return now + LEASE if now > self._lease_until - LEASE + _SIGN_OF_LIFE else None

    def _give_sign_of_life(self) -> None:
        self._tick = self._clock.callLater(_SIGN_OF_LIFE, self._give_sign_of_life)
        try:
            dead = self._reading.execute(
                "SELECT 1 FROM worker WHERE until < ? AND number <> ?",
                (self.seconds(), self._ledger.worker),
            ).fetchall()
            unused = database.unused_pages(self._reading, self._space.is_low())
        except sqlite3.Error as error:
            log.error("the queue cannot be read: {error}", error=error)
            return
        if self._claimed or dead:
            _in_background(self._renew(bool(dead)))
        if unused:
            _in_background(self._shrink())
        over = [held for held, until in self._unsettled.items() if until <= self.seconds()]
        if over:
            _in_background(self._let_go(over))

    async def _renew(self, bury: bool) -> None:
        now, ledger = self.seconds(), self._ledger

        def renew(connection: sqlite3.Connection) -> int:
            ledger.renew(connection, now + LEASE)
            return ledger.bury(connection, now) if bury else 0

        freed = await self._ask(Errand(renew))
        self._lease_until = now + LEASE
        if freed:
            log.warn("{count} messages of a worker that has died are free again", count=freed)
            self._tell_added()

    async def _shrink(self) -> None:
        """
        Give what the database does not use any more back to the file system.

        In small steps, so that mail goes on meanwhile, and the log does not take what is given.
        """
        pages = max(8, min(256, self._space.reserve() // 8 // database.PAGE))
        while not self._closed and await self._ask(Shrinking(self._space.is_low(), pages)):
            pass

    def _give_back(self, taken: list[tuple[Claimed, QueuedMessage] | SetAside]) -> None:
        # Claimed for nobody: else they would stay ours until the end of the process.
        numbers = [item[0].number for item in taken if isinstance(item, tuple)]
        if numbers and not self._closed:
            _in_background(self._release(numbers))

    async def _release(self, numbers: list[int], due: float | None = None) -> None:
        ledger = self._ledger
        await self._ask(Errand(lambda connection: ledger.release(connection, numbers, due)))
        self._tell_added()

    async def _let_go(self, message_ids: list[str]) -> None:
        log.warn(
            "{count} messages whose outcome was not recorded are free again, and may be "
            "delivered twice",
            count=len(message_ids),
        )
        held = {key: self._claimed.pop(key) for key in message_ids}
        for message_id in message_ids:
            del self._unsettled[message_id]
        try:
            await self._release([claimed.number for claimed in held.values()])
        except Exception:
            self._claimed.update(held)
            self._unsettled.update(dict.fromkeys(held, self.seconds()))
            raise

    def _is_twin(self, message_id: str, claimed: Claimed) -> bool:
        known = self._claimed.get(message_id)
        return known is not None and known.number != claimed.number

    def _postpone(self, message_id: str, claimed: Claimed) -> None:
        """Two rows of one id cannot be told apart by who settles them: one after the other."""
        log.warn("another message with the id {queue_id} is in hand", queue_id=message_id)
        _in_background(self._release([claimed.number], self.seconds() + _TWIN_WAITS))


def _in_background(work: Coroutine[Any, Any, None]) -> None:
    Deferred.fromCoroutine(work).addErrback(_tell_failure)


def _tell_failure(reason: Failure) -> None:
    # What the disk does wrong is told by the writer.
    if not isinstance(reason.value, SpoolFull | SpoolDamaged):
        log.failure("the queue failed", reason)


def _stored(content: Any, crc: Any, file: Any, file_size: Any, file_crc: Any) -> StoredBody:
    if not isinstance(content, bytes):
        raise SpoolDamaged("the body is not what was stored")
    name = None if file is None else str(file, "ascii", "replace")
    return StoredBody(content, crc, name, file_size, file_crc)


def _tell_set_aside(message_id: str, problem: str) -> None:
    log.error("{queue_id} is set aside: {problem}", queue_id=message_id, problem=problem)


def _tell_claim_lost(message_id: str) -> None:
    log.warn(
        "the claim on {queue_id} was lost before its outcome was recorded: it may be delivered "
        "twice",
        queue_id=message_id,
    )


# ------------------------------------------------------------------------------------ opening


def open_spool(
    directory: Path,
    clock: IReactorTime,
    call_from_thread: Callable[..., object],
    in_thread: InThread,
    *,
    lock: QueueLock | None = None,
    slot: str = "",
    reserve: int | None = None,
    threaded: bool = True,
) -> SQLiteSpool:
    """
    Open the queue in *directory*; made where there is none.

    To be called in the reactor's thread, in the process that will use it: neither the thread
    nor the connections survive a fork.

    @param call_from_thread: as `IReactorFromThreads.callFromThread`.
    @param in_thread: runs a blocking function, for large bodies.
    @param lock: held by the parent of several workers, which has called `prepare`; without,
        the lock is taken here, and released by `close`.
    @param slot: which of the workers this is: a successor gets the claims of its predecessor.
    @param reserve: octets of the disk to be left free, see `FreeSpace`.
    @param threaded: False does all in this thread, for tests.
    @raise SpoolUnusable: the directory is in use by another server, cannot be written, or the
        database is damaged.
    """
    own = None
    if lock is None:
        own = locked(directory)
    try:
        if own is not None:
            prepare(directory)
        space = FreeSpace(directory, clock.seconds, reserve)
        writing = database.connect_to_write(directory / DATABASE, space.reserve())
        try:
            until = clock.seconds() + LEASE
            writing.execute("BEGIN IMMEDIATE")
            ledger = register(writing, slot, until, alone=own is not None)
            writing.execute("COMMIT")
        except BaseException:
            writing.close()
            raise
        return SQLiteSpool(
            directory, clock, call_from_thread, in_thread, writing, ledger, space, own, threaded
        )
    except (sqlite3.Error, OSError) as error:
        if own is not None:
            own.release()
        raise SpoolUnusable(f"the queue directory {directory} cannot be used: {error}") from None
    except BaseException:
        if own is not None:
            own.release()
        raise
