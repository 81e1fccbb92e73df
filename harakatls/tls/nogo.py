"""
Hosts with which TLS failed lately, so that it is not tried with them for a while.

Memories are layered: Redis where there is one, a file beside the queue, this process. Each goes on
with the next one when it cannot do its work; none of them ever raises, or keeps mail waiting.
"""

from collections import OrderedDict
from enum import Enum

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from harakatls.config.hosts import host_address
from harakatls.interfaces import ITLSMemory

MOST_HOSTS = 100_000
"""Of more, those that failed first are forgotten."""

PREFIX = "no_tls|"


class Direction(Enum):
    """
    Which side we were on. The value ends the key under which a failure is kept.

    Outbound has the key that is documented for both, C{no_tls|<address>}. What somebody does as a
    client must never lay open what is sent to the same address, nor the other way round.
    """

    OUTBOUND = ""
    INBOUND = "|inbound"

    def key(self, host: str) -> str:
        """@param host: an IP address, or whatever is connected to instead."""
        return f"{PREFIX}{one_spelling(host)}{self.value}"


def one_spelling(host: str) -> str:
    """An address in the form in which all are compared."""
    try:
        return str(host_address(host))
    except ValueError:
        return host.lower()


def parse_key(key: str) -> tuple[str, Direction] | None:
    """@return: the host and the direction that a key is for; None where it is no such key."""
    if not key.startswith(PREFIX):
        return None
    host = key.removeprefix(PREFIX)
    if host.endswith(Direction.INBOUND.value):
        return host.removesuffix(Direction.INBOUND.value), Direction.INBOUND
    return host, Direction.OUTBOUND


@implementer(ITLSMemory)
class MemoryTLSMemory:
    """In the memory of this process: gone when it ends, and not shared with others."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def failed_at(self, host: str) -> float | None:
        host = one_spelling(host)
        failed_at, expires = self._failures.get(host, (0.0, 0.0))
        if self._clock.seconds() < expires:
            return failed_at
        self._failures.pop(host, None)
        return None

    async def remember_failure(self, host: str, seconds: float) -> None:
        now = self._clock.seconds()
        host = one_spelling(host)
        self._failures[host] = (now, now + seconds)
        self._failures.move_to_end(host)
        if len(self._failures) > MOST_HOSTS:
            self._failures.popitem(last=False)
