"""
What nobody waits for is written along with what somebody does wait for.

Each transaction costs a write to the disk and a wake-up of two threads, however little is in it.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from harakatls.spool.requests import Request

PATIENCE = 0.005  # seconds that a settlement waits; a crash meanwhile delivers its message twice


class Submission:
    """Hands requests to the writer, in the order in which they were made."""

    def __init__(
        self, submit: Callable[[Request[Any]], object], clock: IReactorTime, patience: float
    ) -> None:
        """
        @param submit: to the writer.
        @param patience: seconds that an unhurried one waits for others; 0 for not at all.
        """
        self._submit = submit
        self._clock = clock
        self._patience = patience
        self._waiting: list[Request[Any]] = []
        self._end: IDelayedCall | None = None

    def submit(self, request: Request[Any]) -> None:
        """At once, and with it all that waits."""
        if self._waiting:
            self._submit_waiting()
        self._submit(request)

    def submit_unhurried(self, request: Request[Any]) -> None:
        """Soon."""
        if not self._patience:
            self._submit(request)
            return
        self._waiting.append(request)
        if self._end is None:
            self._end = self._clock.callLater(self._patience, self._time_is_over)

    def _time_is_over(self) -> None:
        self._end = None
        self._submit_waiting()

    def _submit_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._end is not None:
            self._end.cancel()
            self._end = None
        for request in waiting:
            self._submit(request)
