"""Keeps some of the disk free, so that a full one does not stop mail from leaving."""

import os
from collections.abc import Callable
from pathlib import Path

from harakatls.interfaces import SpoolFull

RESERVE = 33554432  # octets, but never more than a twentieth of the file system
_LOOK_AGAIN = 0.1  # seconds


class FreeSpace:
    """
    Refuses new mail while less than a reserve is free.

    Recording what became of a message takes space, too, before any is won by removing it: a
    queue that could fill the disk to the last octet could not be emptied any more. Half of the
    reserve is for messages that were begun before it was touched, half for recording.
    """

    def __init__(
        self, directory: Path, seconds: Callable[[], float], reserve: int | None = None
    ) -> None:
        """@param reserve: octets; None for the default."""
        self._directory = directory
        self._seconds = seconds
        self._reserve = reserve
        self._looked = float("-inf")
        self._problem: str | None = None

    def check(self) -> None:
        """@raise SpoolFull: less than the reserve is free."""
        now = self._seconds()
        if self._problem is not None or not 0 <= now - self._looked < _LOOK_AGAIN:
            self._looked = now
            self._problem = self._look()
            if self._problem is not None:
                raise SpoolFull(self._problem)

    def is_low(self) -> bool:
        """Whether mail will soon be refused."""
        status = self._status()
        return status is not None and _free(status) < 4 * self.reserve(status)

    def fits(self, octets: int) -> bool:
        """
        Whether the database can take so much more; may be called in any thread.

        It takes it twice: first into its log, then to its place.
        """
        status = self._status()
        if status is None:
            return True
        return _free(status) - 2 * octets >= self.reserve(status) // 2

    def reserve(self, status: os.statvfs_result | None = None) -> int:
        """Octets."""
        if self._reserve is not None:
            return self._reserve
        status = status or self._status()
        if status is None:
            return RESERVE
        return min(RESERVE, status.f_blocks * status.f_frsize // 20)

    def _look(self) -> str | None:
        status = self._status()
        if status is None:
            return None
        free, reserve = _free(status), self.reserve(status)
        if free < reserve:
            return f"{self._directory}: {free} octets are free, {reserve} are kept in reserve"
        if status.f_files and not status.f_favail:
            return f"{self._directory}: there is no room for one more file"
        return None

    def _status(self) -> os.statvfs_result | None:
        try:
            return os.statvfs(self._directory)
        except OSError:
            return None  # not about space; writing will tell


def _free(status: os.statvfs_result) -> int:
    return status.f_bavail * status.f_frsize
