"""Bodies of messages: small ones in memory, large ones in files of their own."""

import errno
import os
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from zope.interface import implementer

from harakatls.interfaces import IMessageBody, SpoolDamaged
from harakatls.spool.database import sync
from harakatls.spool.errors import file_failure

BLOCK = 262144  # octets: larger bodies go to files, and are written and read in such pieces
SUFFIX = ".eml"

_DAMAGE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EIO))

# Runs a blocking function in a thread: ``await in_thread(function, argument)``.
InThread = Callable[..., Awaitable[Any]]


@frozen
class StoredBody:
    """
    A body as it stands in the database.

    @ivar content: the whole message or, with a file, what comes before the file's octets.
    @ivar file: name in the directory of bodies, or None.
    """

    content: bytes
    crc: int
    file: str | None = None
    file_size: int | None = None
    file_crc: int | None = None


class Descriptor:
    """An open file, closed when nobody refers to it any more."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class BodyFile:
    """
    A body on its way to the disk.

    `append`, `sync` and `remove` block and are called in threads, never two at once but for
    `remove`, which may overtake a write whose caller has gone away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.crc = 0
        self.descriptor: Descriptor | None = None
        self._kept = False
        self._removed = False
        self._lock = threading.Lock()

    def append(self, block: bytes | bytearray) -> None:
        """@raise SpoolFull: no space. @raise SpoolDamaged: another failure of the disk."""
        with self._lock:
            if self._removed:
                return
            try:
                if self.descriptor is None:
                    self.descriptor = Descriptor(_create(self.path))
                _write(self.descriptor.number, block)
            except OSError as error:
                raise file_failure(error, self.path) from None
            self.size += len(block)
            self.crc = zlib.crc32(block, self.crc)

    def sync(self) -> None:
        """Wait until all of it, and its name, are on disk; raises as `append` does."""
        with self._lock:
            if self._removed or self.descriptor is None:
                return
            try:
                os.fsync(self.descriptor.number)
                sync(self.path.parent)
            except OSError as error:
                raise file_failure(error, self.path) from None

    def keep(self) -> None:
        """From now on it goes by `remove` alone: a row may refer to it."""
        self._kept = True

    def remove(self) -> None:
        """May be called twice, and before anything was written."""
        with self._lock:
            if not self._removed and self.descriptor is not None:
                remove(self.path)
            self._removed = True

    def __del__(self) -> None:
        # A message that nobody wants any more, and nobody has aborted, must not fill the disk.
        if not self._kept and not self._removed and self.descriptor is not None:
            remove(self.path)


def _create(path: Path) -> int:
    mode = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, mode, 0o600)


def _write(descriptor: int, block: bytes | bytearray) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def remove(path: Path) -> bool:
    """@return: it is gone, whether by us or before; if not, the next start sweeps it away."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def names(directory: Path) -> Iterator[str]:
    """The body files in *directory*; anything else in there is none of our business."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                yield entry.name


# ----------------------------------------------------------------------------------- reading


@implementer(IMessageBody)
class BytesBody:
    """A message in memory."""

    __slots__ = ("_message", "_position", "size")

    def __init__(self, message: bytes) -> None:
        self.size = len(message)
        self._message = message
        self._position = 0

    async def read(self, length: int) -> bytes:
        start = self._position
        if start == 0 and length >= self.size:
            self._position = self.size
            return self._message
        piece = self._message[start : start + length]
        self._position = start + len(piece)
        return piece

    def close(self) -> None:
        self._message = b""


@implementer(IMessageBody)
class FileBody:
    """
    A message of three parts: fields put on top, the octets of a file, and what has not yet
    been written to it.
    """

    def __init__(
        self,
        in_thread: InThread,
        top: bytes,
        file: Descriptor,
        file_size: int,
        tail: bytes = b"",
        crc: int | None = None,
    ) -> None:
        """@param crc: of the file's octets; None where they were written just now."""
        self.size = len(top) + file_size + len(tail)
        self._in_thread = in_thread
        self._file: Descriptor | None = file
        self._file_size = file_size
        self._offset = 0
        self._expected_crc = crc
        self._crc = 0
        self._ready = BytesBody(top)
        self._tail = tail

    async def read(self, length: int) -> bytes:
        piece = await self._ready.read(length)
        if piece or self._file is None:
            return piece
        if self._offset < self._file_size:
            self._ready = BytesBody(await self._next_block())
        else:
            self._ready, self._tail = BytesBody(self._tail), b""
        return await self._ready.read(length)

    def close(self) -> None:
        self._file = None
        self._ready, self._tail = BytesBody(b""), b""

    async def _next_block(self) -> bytes:
        assert self._file is not None
        wanted = min(BLOCK, self._file_size - self._offset)
        block: bytes
        block, self._crc = await self._in_thread(
            _read_block, self._file, wanted, self._offset, self._crc
        )
        self._offset += len(block)
        if len(block) < wanted:
            raise SpoolDamaged(f"the body ends after {self._offset} of {self._file_size} octets")
        if self._offset == self._file_size and self._expected_crc not in (None, self._crc):
            # Before the last octets are given out, so that nobody ends the message with them.
            raise SpoolDamaged("the checksum of the body is wrong")
        return block


def _read_block(file: Descriptor, length: int, offset: int, crc: int) -> tuple[bytes, int]:
    try:
        block = os.pread(file.number, length, offset)
    except OSError as error:
        raise SpoolDamaged(f"the body cannot be read: {error.strerror}") from None
    return block, zlib.crc32(block, crc)


def open_stored(stored: StoredBody, directory: Path, in_thread: InThread) -> IMessageBody:
    """
    Read a message as the database has it.

    @param directory: of the body files.
    @raise SpoolDamaged: it is not as it was stored, as far as can be seen now.
    @raise OSError: it cannot be opened now (too many open files, say).
    """
    if zlib.crc32(stored.content) != stored.crc:
        raise SpoolDamaged("the checksum of the body is wrong")
    if stored.file is None:
        return BytesBody(stored.content)
    path = directory / stored.file
    assert stored.file_size is not None
    try:
        file = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        found = os.fstat(file.number).st_size
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise
        raise SpoolDamaged(f"{path}: {error.strerror}") from None
    if found != stored.file_size:
        raise SpoolDamaged(f"{path} has {found} octets, {stored.file_size} were written")
    return FileBody(in_thread, stored.content, file, stored.file_size, crc=stored.file_crc)
