"""What may be asked of the writer, and what it answers."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from harakatls.queued import QueuedMessage
from harakatls.spool.bodies import StoredBody
from harakatls.spool.picking import Wanted

T = TypeVar("T")

_ROW = 550  # octets of a row and of what refers to it, roughly


@frozen
class Claimed:
    """A row that this worker has claimed."""

    number: int
    body: int
    shared: bool
    streamed: bool


@frozen
class SetAside:
    """A row that was found to be broken while it was claimed."""

    id: str
    problem: str


@define(eq=False)
class Request(Generic[T]):
    """
    Something asked of the writer.

    @ivar outcome: fires in the reactor's thread, after COMMIT.
    @ivar unwanted: called instead, with the result, where *outcome* was cancelled meanwhile.
    """

    outcome: Deferred[T] = field(factory=Deferred, init=False)
    unwanted: Callable[[T], object] | None = field(default=None, init=False)
    result: Any = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)

    @property
    def octets(self) -> int:
        """That it adds to the database, roughly."""
        return 0

    def failed(self) -> None:
        """Called in the writer's thread where nothing of it was done."""


@define(eq=False)
class Settlement(Request[bool]):
    """
    The end of a claim: the row stays with what is now known, is set aside, or goes.

    @ivar kept: due and JSON of the message.
    @ivar problem: why it is set aside.
    @ivar result: the claim held, so it was done.
    @ivar body_gone: set when no row has the body any more.
    """

    id: str
    claimed: Claimed
    kept: tuple[float, str] | None = None
    problem: str | None = None
    body_gone: bool = field(default=False, init=False)


@define(eq=False)
class Addition(Request[None]):
    """
    A message for the queue.

    @ivar rows: id, domain, due, arrival, size, JSON for each domain.
    @ivar forget: removes the body's file.
    """

    body: StoredBody
    rows: Sequence[tuple[str, str, float, float, int, str]]
    settling: Settlement | None = None
    forget: Callable[[], object] | None = None

    @property
    def octets(self) -> int:
        return len(self.body.content) + _ROW * len(self.rows)

    def failed(self) -> None:
        if self.forget is not None:
            self.forget()


Item = tuple[Claimed, QueuedMessage] | SetAside


@frozen
class Found:
    """
    What was claimed, the longest due first.

    @ivar rest: what to ask for to find more; None where there is no more.
    """

    items: list[Item]
    rest: Wanted | None


@define(eq=False)
class Claim(Request[Found]):
    """
    Some of what is due.

    @ivar lease: until when our claims shall hold; None where they hold long enough.
    """

    wanted: Wanted
    limit: int
    lease: float | None


@define(eq=False)
class Errand(Request[Any]):
    """Anything else."""

    run: Callable[[sqlite3.Connection], Any]


@define(eq=False)
class Shrinking(Request[bool]):
    """
    Give pages that are not used back to the file system; the result is that there are more.

    @ivar low: see `database.unused_pages`.
    """

    low: bool
    pages: int
