"""
Hosts that could not be reached a moment ago, so that not every message finds out anew.

It is about the way there alone: no connection, or no greeting. What a host says, and what becomes
of TLS, is no reason to leave it alone.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from attrs import frozen

MOST_HOSTS = 10_000
LONGEST = 5  # times as long as at first


@frozen
class _Failure:
    """@ivar at, until: seconds since the epoch. @ivar wait: seconds."""

    problem: str
    at: float
    wait: float

    @property
    def until(self) -> float:
        return self.at + self.wait


class DeadHosts:
    """By address and port. While it goes on, a host is left alone for longer and longer."""

    def __init__(self, wait: float, seconds: Callable[[], float]) -> None:
        """
        @param wait: seconds to leave a host alone, at first; 0 is not at all.
        @param seconds: the time since the epoch.
        """
        self._wait = wait
        self._seconds = seconds
        self._failures: OrderedDict[tuple[str, int], _Failure] = OrderedDict()

    def failed(self, host: str, port: int, problem: str) -> None:
        """@param problem: in words, for those who are told of it."""
        if not self._wait:
            return
        before = self._failures.pop((host, port), None)
        now = self._seconds()
        wait = self._wait
        if before is not None:
            # Several that were under way at once have found out the same thing.
            longer = before.wait if now < before.until else before.wait * 2
            wait = min(longer, self._wait * LONGEST)
        self._failures[host, port] = _Failure(problem, now, wait)
        if len(self._failures) > MOST_HOSTS:
            self._failures.popitem(last=False)

    def answered(self, host: str, port: int) -> None:
        """It is there."""
        self._failures.pop((host, port), None)

    def problem(self, host: str, port: int) -> str | None:
        """Why it is not asked now; None to ask it."""
        failure = self._failures.get((host, port))
        if failure is None or self._seconds() >= failure.until:
            return None
        return (
            f"not asked: {failure.problem} at {clock_time(failure.at)};"
            f" asked again from {clock_time(failure.until)}"
        )

    def forget(self) -> None:
        """All of them."""
        self._failures.clear()


def clock_time(seconds: float) -> str:
    """For people, who know what day it is. @param seconds: since the epoch."""
    return time.strftime("%H:%M:%S UTC", time.gmtime(seconds))
