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
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.interfaces import IMessageBody, ISpool, IStagedMessage, SpoolDamaged, SpoolFull
from harakatls.queued import QueuedMessage
from harakatls.spool import database
from harakatls.spool.bodies import SUFFIX, InThread, StoredBody, open_stored, remove
from harakatls.spool.claims import Claims
from harakatls.spool.codec import encode
from harakatls.spool.database import BODIES, DATABASE
from harakatls.spool.directory import locked, prepare
from harakatls.spool.errors import SpoolUnusable, is_malformed
from harakatls.spool.gathering import Gathering
from harakatls.spool.ledger import Ledger, register
from harakatls.spool.listeners import Listeners
from harakatls.spool.listing import broken, listing
from harakatls.spool.lock import QueueLock
from harakatls.spool.notice import Notice
from harakatls.spool.picking import Wanted, first_due, hasten
from harakatls.spool.requests import Addition, Claim, Errand, Found, Item, Request, Settlement
from harakatls.spool.space import FreeSpace
from harakatls.spool.staged import StagedMessage
from harakatls.spool.unhurried import PATIENCE, Submission
from harakatls.spool.upkeep import LEASE, Upkeep
from harakatls.spool.writer import GroupWriter

__all__ = ["LEASE", "SQLiteSpool", "broken", "listing", "open_spool"]

log = Logger()

_ROUNDS = 32  # transactions after which a claim is content with what it has found
_PLENTY = 10  # messages in hand; whoever has these does not need the next ones at once
_SLICE = 1000  # rows that are changed while others wait for their commit


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
        self.gathering = Gathering()
        self.in_thread = in_thread
        self.seconds = clock.seconds
        self._space = space
        self._call_from_thread = call_from_thread
        self._reading = database.connect_to_read(path)
        self._ledger = ledger
        self._lock = lock
        self._claims = Claims()
        self._listeners = Listeners()
        self._closed = False
        self.writer = GroupWriter(
            writing, path, ledger, self._finished, space.fits, threaded=threaded
        )
        self._submission = Submission(self.writer.submit, clock, PATIENCE if threaded else 0.0)
        self.upkeep = Upkeep(
            clock,
            self._ask,
            self._reading,
            ledger,
            self._claims,
            space,
            self._listeners.tell_of_mail,
            self._remove_body,
        )
        self._notice = Notice(
            clock, self._reading, self._listeners.tell_of_flush, self._listeners.tell_of_mail
        )
        self._recalls = self._notice.recalls  # those of which all is known

    # --------------------------------------------------------------------------- receiving

    @property
    def held(self) -> int:
        return self.gathering.held

    async def stage(self, message_id: str) -> IStagedMessage:
        self.check_space()
        return StagedMessage(self, message_id)

    def check_space(self) -> None:
        """See `Keeper`."""
        try:
            self._space.check()
        except SpoolFull:
            self.upkeep.make_space()
            raise

    async def keep(
        self, staged: StagedMessage, messages: list[QueuedMessage], settling: QueuedMessage | None
    ) -> None:
        """See `Keeper`."""
        content, file = staged.whole() if staged.file is None else staged.top, staged.file
        crc = zlib.crc32(content)
        rows = [(q.id, q.domain, q.due, q.arrived, q.size, encode(q)) for q in messages]
        settlement = None if settling is None else self._claims.settlement(settling)
        if file is None:
            addition = Addition(StoredBody(content, crc), rows, settlement)
        else:
            file.keep()
            stored = StoredBody(content, crc, file.path.name, file.size, file.crc)
            addition = Addition(stored, rows, settlement, file.remove)
        try:
            await self._ask(addition)
        except Exception:
            if settlement is not None:
                self._claims.not_settled(settlement.id, self.seconds() + LEASE)
            raise

    # -------------------------------------------------------------------------- delivering

    async def claim(
        self,
        now: float,
        limit: int,
        *,
        domains: Collection[str] | None = None,
        rooms: Mapping[str, int] = {},
        per_domain: int | None = None,
        together: Sequence[tuple[int, Collection[str]]] = (),
    ) -> tuple[QueuedMessage, ...]:
        found: list[Item] = []
        wanted: Wanted | None = Wanted.of(now, domains, rooms, per_domain, together)
        rounds = 0
        try:
            while wanted is not None and (not found or rounds < _ROUNDS):
                some = await self._claim_some(wanted, limit - len(found))
                found += some.items
                wanted = some.rest
                rounds += 1
        except BaseException:
            self.upkeep.give_back(found)
            raise
        taken, twins = self._claims.add(found, self.seconds())
        if twins:
            self.upkeep.postpone(twins)
        return tuple(taken)

    async def _claim_some(self, wanted: Wanted, limit: int) -> Found:
        lease = self.upkeep.lease()
        request = Claim(wanted, limit, lease)
        request.unwanted = lambda found: self.upkeep.give_back(found.items)
        found: Found = await self._ask(request, unhurried=len(self._claims) >= _PLENTY)
        if lease is not None:
            self.upkeep.lease_until = lease
        return found

    async def settle(self, queued: QueuedMessage) -> None:
        """
        See `ISpool.settle`.

        @raise SpoolFull, SpoolDamaged: it was not recorded. The claim holds for another
            `LEASE` seconds, in which it may be tried again.
        """
        await self._conclude(queued, None)

    def recalled(self) -> Collection[str]:
        """See `ISpool.recalled`."""
        recalls = self._notice.recalls
        if recalls == self._recalls:
            return ()
        try:
            found = self._ledger.recalled(self._reading)
        except sqlite3.Error:
            return ()  # asked again the next time
        # A claim may be on its way here: who asks cannot do anything about its messages yet.
        if all(self._claims.row(message_id) is not None for message_id in found):
            self._recalls = recalls
        return found

    async def set_aside(self, queued: QueuedMessage, problem: str) -> None:
        """See `ISpool.set_aside`; raises as `settle` does."""
        await self._conclude(queued, problem)

    def open_body(self, queued: QueuedMessage) -> IMessageBody:
        """
        See `ISpool.open_body`.

        @raise OSError: it cannot be read now, but is not known to be damaged.
        """
        row = self._claims.row(queued.id)
        if row is None:
            raise SpoolDamaged(f"{queued.id} is not claimed here")
        try:
            found = self._reading.execute(
                "SELECT content, crc, file, file_size, file_crc FROM body WHERE number = ?",
                (row.body,),
            ).fetchall()
        except sqlite3.Error as error:
            if not is_malformed(error):
                raise OSError(f"the body of {queued.id} cannot be read now: {error}") from None
            raise SpoolDamaged(f"the body of {queued.id} cannot be read: {error}") from None
        if not found:
            raise SpoolDamaged(f"the body of {queued.id} is gone")
        assert self.bodies is not None
        return open_stored(_stored(*found[0]), self.bodies, self.in_thread)

    async def next_due(self, excluded: Collection[str] = ()) -> float | None:
        try:
            return first_due(self._reading, frozenset(name.encode() for name in excluded))
        except sqlite3.Error as error:
            raise SpoolDamaged(f"the queue cannot be read: {error}") from None

    async def flush(self, domain: str | None = None) -> int:
        """See `ISpool.flush`; raises as `settle` does, and has then done a part of it."""
        now = self.seconds()
        count, changed = 0, _SLICE
        while changed == _SLICE:  # new mail is committed between two slices
            changed = await self._ask(Errand(lambda c: hasten(c, domain, now, _SLICE)))
            count += changed
        self._listeners.tell_of_flush()
        return count

    def when_added(self, told: Callable[[Collection[str] | None], None]) -> None:
        self._listeners.of_mail.append(told)

    def when_flushed(self, told: Callable[[], None]) -> None:
        self._listeners.of_flushes.append(told)

    async def close(self) -> None:
        if self._closed:
            return
        leaving: Errand = Errand(self._ledger.leave)
        asked = self._ask(leaving)
        self._closed = True
        self.upkeep.stop()
        self._notice.stop()
        try:
            await asked
        except (SpoolFull, SpoolDamaged):
            pass  # told by the writer; claims fall free at the next start
        finally:
            # The last to close is to clear the log, which a reader cannot.
            self._reading.close()
            self.writer.stop()
            if self._lock is not None:
                self._lock.release()

    # ------------------------------------------------------------------------- the writer

    def _ask(self, request: Request[Any], unhurried: bool = False) -> Deferred[Any]:
        if self._closed:
            raise SpoolDamaged("the queue is closed")
        if unhurried:
            self._submission.submit_unhurried(request)
        else:
            self._submission.submit(request)
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
        if settlement.claimed.streamed:
            self._remove_body(settlement.id.rpartition(".")[0] + SUFFIX)

    def _remove_body(self, name: str) -> None:
        assert self.bodies is not None
        remove(self.bodies / name)

    def _answer(self, group: list[Request[Any]]) -> None:
        added: set[str] = set()
        for request in group:
            if request.error is None:
                if type(request) is Addition:
                    added.update(row[1] for row in request.rows)
                    if request.settling is not None:
                        self._claims.settled(request.settling)
                elif type(request) is Settlement:
                    self._claims.settled(request)
            if request.outcome.called:  # cancelled: whoever waited has gone away
                if request.unwanted is not None and request.error is None:
                    request.unwanted(request.result)
            elif request.error is not None:
                request.outcome.errback(request.error)
            else:
                request.outcome.callback(request.result)
        if added:
            self._listeners.tell_of_mail(added)

    async def _conclude(self, queued: QueuedMessage, problem: str | None) -> None:
        settlement = self._claims.settlement(queued, problem)
        if settlement is None:
            return
        try:
            await self._ask(settlement, unhurried=True)
        except Exception:
            # Whoever had it in hand may not come back.
            self._claims.not_settled(queued.id, self.seconds() + LEASE)
            raise


def _stored(content: Any, crc: Any, file: Any, file_size: Any, file_crc: Any) -> StoredBody:
    if not isinstance(content, bytes):
        raise SpoolDamaged("the body is not what was stored")
    name = None if file is None else str(file, "ascii", "replace")
    return StoredBody(content, crc, name, file_size, file_crc)


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
    with ExitStack() as undo:
        own = None
        if lock is None:
            own = locked(directory)
            undo.callback(own.release)
            prepare(directory)
        space = FreeSpace(directory, clock.seconds, reserve)
        try:
            writing = database.connect_to_write(directory / DATABASE, space.reserve())
            undo.callback(writing.close)
            writing.execute("BEGIN IMMEDIATE")
            ledger = register(writing, slot, clock.seconds() + LEASE, alone=own is not None)
            writing.execute("COMMIT")
            spool = SQLiteSpool(
                directory, clock, call_from_thread, in_thread, writing, ledger, space, own, threaded
            )
        except (sqlite3.Error, OSError) as error:
            raise SpoolUnusable(
                f"the queue directory {directory} cannot be used: {error}"
            ) from None
        undo.pop_all()
        return spool
