"""
Clients to whom STARTTLS is not offered for a while, since it never works with them.

Whoever can cut a connection can make a handshake fail. So a failure is worth nothing by itself: it
takes several, far enough apart to be separate attempts, by an address with which no handshake has
succeeded since the server was started.
"""

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.interfaces import ITLSMemory
from harakatls.tls.nogo import MOST_HOSTS, one_spelling

LEAST_FAILURES = 3
LEAST_GAP = 60.0
"""Seconds: what fails sooner after a failure that counts, does not count."""

WINDOW = 4 * 3600.0
"""Seconds in which the failures have to happen; senders wait up to an hour between two attempts."""

log = Logger()


class FailingClients:
    """Counts in the memory of this process; what it comes to is for an L{ITLSMemory}."""

    def __init__(self, memory: ITLSMemory, expiry: float, clock: IReactorTime) -> None:
        """@param expiry: for how many seconds an address is marked."""
        self._memory = memory
        self._expiry = expiry
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, ...]] = OrderedDict()
        self._succeeded: OrderedDict[str, None] = OrderedDict()

    def succeeded(self, host: str) -> None:
        """A handshake with this address has finished: it can do TLS."""
        host = one_spelling(host)
        self._failures.pop(host, None)
        self._succeeded[host] = None
        self._succeeded.move_to_end(host)
        if len(self._succeeded) > MOST_HOSTS:
            self._succeeded.popitem(last=False)

    async def failed(self, host: str) -> None:
        """A handshake with this address has failed, through no fault of ours."""
        host = one_spelling(host)
        if host in self._succeeded or not self._count(host):
            return
        del self._failures[host]
        log.warn(
            "STARTTLS failed. Marking {host} as non-TLS host for {seconds:g} seconds",
            host=host,
            seconds=self._expiry,
        )
        await self._memory.remember_failure(host, self._expiry)

    async def failed_at(self, host: str) -> float | None:
        """@return: when the last failure that counts was; None to offer STARTTLS."""
        host = one_spelling(host)
        return None if host in self._succeeded else await self._memory.failed_at(host)

    def _count(self, host: str) -> bool:
        """@return: that was enough."""
        now = self._clock.seconds()
        times = self._failures.pop(host, ())
        if not times or now - times[-1] >= LEAST_GAP:
            times = (*(time for time in times if now - time <= WINDOW), now)
        self._failures[host] = times
        if len(self._failures) > MOST_HOSTS:
            self._failures.popitem(last=False)
        return len(times) >= LEAST_FAILURES
