"""One server on one queue directory: an advisory lock that dies with its holders."""

import fcntl
import os
from pathlib import Path

from harakatls.spool.errors import SpoolUnusable

LOCK = "lock"


class QueueLock:
    """
    An exclusive lock on a queue directory, held until `release` or the end of the process.

    Processes forked while it is held share it: it falls free when the last of them is gone. So
    the parent of several workers takes it once and hands it to each (`open_spool(lock=...)`).
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> "QueueLock":
        """
        @raise SpoolUnusable: another server holds it (its process id is told), or the file
            cannot be written.
        """
        path = directory / LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolUnusable(
                f"the queue directory {directory} cannot be used: {path}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise SpoolUnusable(
                f"the queue directory {directory} is in use by another server ({holder}); stop "
                "that one first, or give this one a queue directory of its own"
            ) from None
        lock = cls(path, descriptor)
        # A full disk must not keep a server from starting that could empty its queue.
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:
            pass
        return lock

    def release(self) -> None:
        """May be called twice. The file stays: removing it would let two servers in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _holder(descriptor: int) -> str:
    # The holder may not have written its number yet.
    text = os.pread(descriptor, 32, 0).strip()
    return f"process {text.decode('ascii')}" if text.isdigit() else "its process id is not known"
