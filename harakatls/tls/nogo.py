"""Hosts with which TLS failed lately, so that it is not tried with them for a while."""

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from harakatls.interfaces import ITLSMemory

MOST_HOSTS = 100_000
"""Of more, those that failed first are forgotten."""


@implementer(ITLSMemory)
class MemoryTLSMemory:
    """In the memory of this process: gone when it ends, and not shared with others."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def failed_at(self, host: str) -> float | None:
        failed_at, expires = self._failures.get(host, (0.0, 0.0))
        if self._clock.seconds() < expires:
            return failed_at
        self._failures.pop(host, None)
        return None

    async def remember_failure(self, host: str, seconds: float) -> None:
        now = self._clock.seconds()
        self._failures[host] = (now, now + seconds)
        self._failures.move_to_end(host)
        if len(self._failures) > MOST_HOSTS:
            self._failures.popitem(last=False)
