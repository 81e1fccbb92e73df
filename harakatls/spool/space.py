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
    queue that could fill the disk to the last octet could not be emptied any more.
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

    def has_space(self) -> bool:
        """Whether the reserve is free now; may be called in any thread."""
        return self._look() is None

    def _look(self) -> str | None:
        try:
            status = os.statvfs(self._directory)
        except OSError:
            return None  # not about space; writing will tell
        free = status.f_bavail * status.f_frsize
        reserve = self._reserve
        if reserve is None:
            reserve = min(RESERVE, status.f_blocks * status.f_frsize // 20)
        if free < reserve:
            return f"{self._directory}: {free} octets are free, {reserve} are kept in reserve"
        if status.f_files and not status.f_favail:
            return f"{self._directory}: there is no room for one more file"
        return None
