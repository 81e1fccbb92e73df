"""Queues for tests: done in the thread of the test, or with the real threads."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from harakatls.spool.lock import QueueLock
from harakatls.spool.sqlite import SQLiteSpool, open_spool


def new_directory(add_cleanup: Callable[..., object]) -> Path:
    """An empty one that goes with the test."""
    holder = tempfile.TemporaryDirectory(prefix="harakatls-spool-")
    add_cleanup(holder.cleanup)
    return Path(holder.name) / "queue"


def call(called: Callable[..., object], *arguments: Any) -> None:
    """For callFromThread."""
    called(*arguments)


async def here(blocking: Callable[..., Any], *arguments: Any) -> Any:
    """For a thread."""
    return blocking(*arguments)


def open_here(
    directory: Path,
    clock: Clock,
    *,
    lock: QueueLock | None = None,
    slot: str = "",
    reserve: int | None = 0,
) -> SQLiteSpool:
    """A queue that does all at once, in this thread."""
    return open_spool(
        directory, clock, call, here, lock=lock, slot=slot, reserve=reserve, threaded=False
    )
