"""Writes messages into files, for plugins that keep some (queue/quarantine, queue/test)."""

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from harakatls.interfaces import IMessageBody
from harakatls.smtp.reply import Reply

CHUNK = 256 * 1024
NO_SPACE = Reply.of(452, "4.3.1", "Insufficient system storage, try later")
NOT_WRITTEN = Reply.of(451, "4.3.0", "The message cannot be written, try later")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

CallInThread = Callable[..., Awaitable[Any]]


def refusal(problem: OSError) -> Reply:
    """For a message that could not be written."""
    return NO_SPACE if problem.errno in _FULL else NOT_WRITTEN


async def write_message(
    call_in_thread: CallInThread, file: Path, body: IMessageBody, unix_lines: bool = False
) -> None:
    """
    Write a new file, for the server's account alone, and wait until its content is on the disk.

    @param body: is closed.
    @param unix_lines: LF at the end of lines, not CRLF.
    @raise OSError: it is not there; nor is a part of it.
    """
    try:
        descriptor = await call_in_thread(_create, file)
        done = False
        try:
            held = b""  # a CR whose LF may follow
            while chunk := await body.read(CHUNK):
                if unix_lines:
                    chunk = held + chunk
                    held = b"\r" if chunk.endswith(b"\r") else b""
                    chunk = chunk.removesuffix(b"\r").replace(b"\r\n", b"\n")
                await call_in_thread(_write, descriptor, chunk)
            await call_in_thread(_finish, descriptor, held)
            done = True
        finally:
            os.close(descriptor)
            if not done:
                file.unlink(missing_ok=True)
    finally:
        body.close()


def sync_directory(directory: Path) -> None:
    """
    Wait until the names in it are on the disk.

    @raise OSError: they are not.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(file: Path) -> int:
    # Never a file or a link that somebody has put there before.
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _write(descriptor: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]


def _finish(descriptor: int, octets: bytes) -> None:
    _write(descriptor, octets)
    os.fsync(descriptor)
