"""Bodies read from another process, beside the running server, and looked over."""

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from harakatls.interfaces import SpoolDamaged
from harakatls.spool.bodies import BLOCK, names
from harakatls.spool.codec import UndecodableMessage
from harakatls.spool.listing import Entry, entries

_RECEIVING = 3600.0  # seconds; so long a file may grow before its message is queued


@frozen
class Flaw:
    """@ivar about: a message's id, or the name of a file. @ivar problem: what is wrong."""

    about: str
    problem: str


def body_blocks(connection: sqlite3.Connection, number: int, bodies: Path) -> Iterator[bytes]:
    """
    A message, as it was received.

    @param number: of the message's row.
    @raise SpoolDamaged: it is not as it was stored, or is gone; what came before is not to be used.
    """
    found = connection.execute(
        "SELECT content, crc, file, file_size, file_crc FROM body "
        "WHERE number = (SELECT body FROM message WHERE number = ?)",
        (number,),
    ).fetchall()
    if not found:
        raise SpoolDamaged("its body is gone")
    content, crc, file, file_size, file_crc = found[0]
    if not isinstance(content, bytes) or zlib.crc32(content) != crc:
        raise SpoolDamaged("the checksum of the body is wrong")
    yield content
    if file is not None:
        path = bodies / str(file, "ascii", "replace")
        yield from _file_blocks(path, file_size, file_crc)


def _file_blocks(path: Path, size: int, crc: int) -> Iterator[bytes]:
    seen = checksum = 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb", buffering=0) as file:
            while seen < size and (block := file.read(min(BLOCK, size - seen))):
                seen += len(block)
                checksum = zlib.crc32(block, checksum)
                yield block
            longer = bool(file.read(1))
    except OSError as error:
        raise SpoolDamaged(f"{path}: {error.strerror}") from None
    if seen < size or longer:
        raise SpoolDamaged(f"{path} has not the {size} octets that were written")
    if checksum != crc:
        raise SpoolDamaged(f"the checksum of {path} is wrong")


def verify(
    connection: sqlite3.Connection,
    bodies: Path,
    done: Callable[[int], object],
    seconds: Callable[[], float] = time.time,
) -> Iterator[Flaw]:
    """
    Read all that is in the queue; nothing is changed.

    What is delivered, or received, meanwhile is no flaw.

    @param done: told of how many more messages have been read.
    """
    for entry in entries(connection):
        problem = _problem(connection, entry, bodies)
        if problem is not None and _is_there(connection, "message WHERE number = ?", entry.number):
            yield Flaw(entry.id, problem)
        done(1)
    for (number,) in connection.execute(
        "SELECT number FROM body WHERE number NOT IN (SELECT body FROM message)"
    ).fetchall():
        yield Flaw(f"body {number}", "no message refers to it")
    for name in names(bodies):
        if _is_there(connection, "body WHERE file = ?", name):
            continue
        try:
            age = seconds() - (bodies / name).stat().st_mtime
        except OSError:
            continue
        if age > _RECEIVING and not _is_there(connection, "body WHERE file = ?", name):
            yield Flaw(name, "no message refers to this file; the next start removes it")


def _problem(connection: sqlite3.Connection, entry: Entry, bodies: Path) -> str | None:
    try:
        queued = entry.queued()
        if (queued.id, queued.domain) != (entry.id, entry.domain):
            return f"its row is that of another message, {queued.id}"
        size = 0
        for block in body_blocks(connection, entry.number, bodies):
            size += len(block)
    except (UndecodableMessage, SpoolDamaged) as error:
        return str(error)
    if size != queued.size:
        return f"it has {size} octets; {queued.size} were received"
    return None


def _is_there(connection: sqlite3.Connection, where: str, value: Any) -> bool:
    return bool(connection.execute(f"SELECT 1 FROM {where}", (value,)).fetchall())  # noqa: S608
