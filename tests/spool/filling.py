"""Fills a small file system with mail, and empties it: prints what happened as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from harakatls.interfaces import SpoolFull
from harakatls.spool.sqlite import LEASE, SQLiteSpool
from tests.contracts.spool import envelope
from tests.spool.support import open_here

LARGE, SMALL = (4000, 300_000, 100_000), (4000, 100_000)


def outcome(work: Any) -> Any:
    """The result of a coroutine, or raises."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    [result] = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


async def send(spool: SQLiteSpool, message_id: str, size: int) -> None:
    staged = await spool.stage(message_id)
    try:
        for start in range(0, size, 65536):
            await staged.write(message_id[:1].encode() * min(65536, size - start))
        await staged.commit(envelope("a@one.example", "b@two.example"))
    finally:
        await staged.abort()


def fill(
    spool: SQLiteSpool, clock: Clock, accepted: dict[str, int], letter: str, sizes: tuple[int, ...]
) -> int:
    """Until there is no space. @return: how many were accepted."""
    refused = number = 0
    before = len(accepted)
    while refused < 12:
        number += 1
        clock.advance(1)
        size = sizes[number % len(sizes)]
        try:
            outcome(send(spool, f"{letter}{number}.1", size))
        except SpoolFull:
            refused += 1
        else:
            accepted[f"{letter}{number}.1"] = size
    return len(accepted) - before


def empty(spool: SQLiteSpool, accepted: dict[str, int], some: int) -> int:
    """Deliver *some* and look at each octet. @return: how many."""
    claimed = outcome(spool.claim(1e11, some))
    for queued in claimed:
        message_id = queued.id.rpartition(".")[0]
        body = spool.open_body(queued)
        found = b""
        while piece := outcome(body.read(262_144)):
            found += piece
        assert found == message_id[:1].encode() * accepted[message_id], queued.id
        outcome(spool.settle(evolve(queued, pending=())))
    return len(claimed)


def main() -> None:
    directory = Path(sys.argv[1])
    clock = Clock()
    accepted: dict[str, int] = {}
    spool = open_here(directory / "queue", clock, reserve=None)
    counts = []
    emptied = 0
    # What is there goes out, and makes room, in files as well as in the database.
    for letter, sizes in (("a", SMALL), ("b", SMALL), ("c", LARGE), ("d", LARGE)):
        counts.append(fill(spool, clock, accepted, letter, sizes))
        emptied += empty(spool, accepted, 10**6)
        clock.advance(LEASE)
    counts.append(fill(spool, clock, accepted, "e", LARGE))
    # Somebody else fills the disk to the last octet.
    with (directory / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    counts.append(fill(spool, clock, accepted, "f", LARGE))
    try:
        emptied += empty(spool, accepted, 4)
    except SpoolFull:
        outcome(spool.close())
        (directory / "filler").unlink()
        spool = open_here(directory / "queue", clock, reserve=None)
    (directory / "filler").unlink(missing_ok=True)
    emptied += empty(spool, accepted, 10**6)
    clock.advance(LEASE)
    counts.append(fill(spool, clock, accepted, "g", LARGE))
    emptied += empty(spool, accepted, 10**6)
    left = [path.name for path in (directory / "queue" / "body").iterdir()]
    outcome(spool.close())
    sys.stdout.write(json.dumps([counts, emptied, left]))


if __name__ == "__main__":
    main()
