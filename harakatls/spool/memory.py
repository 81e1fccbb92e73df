"""A queue that lives as long as its process: for tests, and for servers that keep nothing."""

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from attrs import define, evolve
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from harakatls.interfaces import IMessageBody, ISpool, IStagedMessage, SpoolDamaged, SpoolFull
from harakatls.queued import QueuedMessage
from harakatls.spool.bodies import BytesBody, InThread
from harakatls.spool.gathering import Gathering
from harakatls.spool.listeners import Listeners
from harakatls.spool.staged import StagedMessage


@define(eq=False)
class _Row:
    queued: QueuedMessage
    body: bytes
    number: int = 0  # of its entry among the dues; others of the same id are out of date
    claimed: bool = False
    problem: str | None = None


@implementer(ISpool)
class MemorySpool:
    """
    Nothing survives the process, so a 250 given for a message in here promises little.

    @ivar problems: why messages were set aside, by their id.
    """

    bodies: Path | None = None  # all in memory

    def __init__(self, clock: IReactorTime | None = None, capacity: int | None = None) -> None:
        """
        @param clock: for the time of arrival; None for the system's.
        @param capacity: octets of bodies that fit; None for any number.
        """
        self.seconds: Callable[[], float] = time.time if clock is None else clock.seconds
        self.gathering = Gathering(has_files=False)
        self.in_thread: InThread = _here  # not used: there are no files
        self._capacity = capacity
        self._rows: dict[str, _Row] = {}
        self._due: list[tuple[float, int, str]] = []
        self._count = 0
        self._listeners = Listeners()
        self._closed = False

    @property
    def problems(self) -> dict[str, str]:
        return {key: row.problem for key, row in self._rows.items() if row.problem is not None}

    # --------------------------------------------------------------------------- receiving

    @property
    def held(self) -> int:
        return self.gathering.held

    async def stage(self, message_id: str) -> IStagedMessage:
        self.check_space()
        return StagedMessage(self, message_id)

    def check_space(self, octets: int = 0) -> None:
        """See `Keeper`."""
        if self._capacity is not None and octets + self._octets() >= self._capacity:
            raise SpoolFull(f"{self._capacity} octets are the capacity of this queue")

    async def keep(
        self, staged: StagedMessage, messages: list[QueuedMessage], settling: QueuedMessage | None
    ) -> None:
        """See `Keeper`."""
        self._must_be_open()
        body = staged.whole()
        self.check_space(len(body))
        if any(queued.id in self._rows for queued in messages):
            raise ValueError(f"{staged.id} is in the queue already")
        for queued in messages:
            row = self._rows[queued.id] = _Row(queued, body)
            self._wait(row)
        if settling is not None:
            await self.settle(settling)
        self._listeners.tell_of_mail({queued.domain for queued in messages})

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
        self._must_be_open()
        each = sys.maxsize if per_domain is None else per_domain
        left = dict(rooms)
        shared = [room for room, _ in together]
        groups = {name: at for at, (_, names) in enumerate(together) for name in names}
        taken: list[QueuedMessage] = []
        passed: list[tuple[float, int, str]] = []
        while len(taken) < limit and (row := self._first()) is not None and row.queued.due <= now:
            name = row.queued.domain
            room = left.get(name, each) if domains is None or name in domains else 0
            group = groups.get(name)
            entry = heappop(self._due)
            if room > 0 and (group is None or shared[group] > 0):
                left[name] = room - 1
                if group is not None:
                    shared[group] -= 1
                row.claimed = True
                taken.append(row.queued)
            else:
                passed.append(entry)
        for entry in passed:
            heappush(self._due, entry)
        return tuple(taken)

    async def settle(self, queued: QueuedMessage) -> None:
        self._must_be_open()
        row = self._in_hand(queued)
        if row is None:
            return
        if queued.pending:
            row.queued, row.claimed = queued, False
            self._wait(row)
        else:
            del self._rows[queued.id]

    def recalled(self) -> Collection[str]:
        return ()  # there is no operator but this process

    def open_body(self, queued: QueuedMessage) -> IMessageBody:
        row = self._in_hand(queued)
        if row is None:
            raise SpoolDamaged(f"{queued.id} is not claimed here")
        return BytesBody(row.body)

    async def set_aside(self, queued: QueuedMessage, problem: str) -> None:
        row = self._in_hand(queued)
        if row is not None:
            row.claimed, row.problem = False, problem

    async def next_due(self, excluded: Collection[str] = ()) -> float | None:
        rows = self._free()
        return min((r.queued.due for r in rows if r.queued.domain not in excluded), default=None)

    async def flush(self, domain: str | None = None) -> int:
        self._must_be_open()
        now = self.seconds()
        rows = [r for r in self._free() if domain in (None, r.queued.domain) and r.queued.due > now]
        for row in rows:
            row.queued = evolve(row.queued, due=now)
            self._wait(row)
        self._listeners.tell_of_flush()
        return len(rows)

    def when_added(self, told: Callable[[Collection[str] | None], None]) -> None:
        self._listeners.of_mail.append(told)

    def when_flushed(self, told: Callable[[], None]) -> None:
        self._listeners.of_flushes.append(told)

    async def close(self) -> None:
        self._closed = True

    # -------------------------------------------------------------------------------- rows

    def _wait(self, row: _Row) -> None:
        self._count += 1
        row.number = self._count
        heappush(self._due, (row.queued.due, self._count, row.queued.id))

    def _first(self) -> _Row | None:
        """The row that is due first and not claimed."""
        while self._due:
            _, number, message_id = self._due[0]
            row = self._rows.get(message_id)
            if row is not None and row.number == number:
                return row
            heappop(self._due)
        return None

    def _free(self) -> list[_Row]:
        return [row for row in self._rows.values() if not row.claimed and row.problem is None]

    def _in_hand(self, queued: QueuedMessage) -> _Row | None:
        row = self._rows.get(queued.id)
        return row if row is not None and row.claimed else None

    def _octets(self) -> int:
        return sum({id(row.body): len(row.body) for row in self._rows.values()}.values())

    def _must_be_open(self) -> None:
        if self._closed:
            raise SpoolDamaged("the queue is closed")


async def _here(blocking: Callable[..., Any], *arguments: Any) -> Any:
    return blocking(*arguments)
