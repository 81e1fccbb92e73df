"""Failures of TLS in Redis, shared by all servers that use it."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from harakatls.interfaces import ITLSMemory
from harakatls.redis.link import RedisAway, RedisLink
from harakatls.tls.nogo import PREFIX, Direction
from harakatls.tls.nogo_file import Failure


@implementer(ITLSMemory)
@frozen
class RedisTLSMemory:
    """
    Keys, values and lifetimes as documented: C{no_tls|<address>}, the time in ISO 8601.

    @ivar fallback: has what was to be remembered while Redis was away. Asked as well whenever
        Redis knows nothing.
    """

    link: RedisLink
    direction: Direction
    clock: IReactorTime
    fallback: ITLSMemory

    async def failed_at(self, host: str) -> float | None:
        try:
            found = seconds_of(await self.link.ask("GET", self.direction.key(host)))
        except RedisAway:
            found = None
        return await self.fallback.failed_at(host) if found is None else found

    async def remember_failure(self, host: str, seconds: float) -> None:
        lifetime = int(seconds * 1000)
        if lifetime <= 0:
            return
        now = datetime.fromtimestamp(self.clock.seconds(), UTC)
        value = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            await self.link.ask("SET", self.direction.key(host), value, "PX", lifetime)
        except RedisAway:
            await self.fallback.remember_failure(host, seconds)


def seconds_of(value: object) -> float | None:
    """
    @param value: of a key; what is no time counts for nothing, so that TLS is tried.
    @return: seconds since the epoch.
    """
    if not isinstance(value, bytes):
        return None
    try:
        moment = datetime.fromisoformat(value.decode("ascii"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


# -- for the operator --------------------------------------------------------------------------


async def failures_of(link: RedisLink, now: float) -> AsyncIterator[Failure]:
    """
    What Redis knows, in no order; a key that another program has put there as well.

    @raise RedisAway: it cannot be asked.
    """
    async for key in _keys(link):
        value = await link.ask("GET", key)
        left = await link.ask("PTTL", key)
        if value is None or not isinstance(left, int) or left == -2:  # gone by now
            continue
        expires = None if left < 0 else now + left / 1000
        yield Failure(key.decode("utf-8", "replace"), seconds_of(value), expires)


async def clear_of(link: RedisLink, keys: tuple[str, ...] | None) -> int:
    """
    @param keys: None for all.
    @return: how many there were.
    @raise RedisAway: it cannot be asked.
    """
    names: Iterable[str | bytes] = keys or ()
    if keys is None:
        names = [key async for key in _keys(link)]
    cleared = 0
    for key in names:
        cleared += await link.ask("DEL", key) == 1
    return cleared


async def _keys(link: RedisLink) -> AsyncIterator[bytes]:
    seen: set[bytes] = set()
    cursor = "0"
    while True:
        answer = await link.ask("SCAN", cursor, "MATCH", f"{PREFIX}*", "COUNT", 1000)
        if not (isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], list)):
            raise RedisAway("an answer that Redis does not give")
        for key in answer[1]:
            if isinstance(key, bytes) and key not in seen:
                seen.add(key)
                yield key
        cursor = answer[0].decode() if isinstance(answer[0], bytes) else str(answer[0])
        if cursor == "0":
            return
