"""What limits count: events within a time, and who is there at the moment."""

from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.redis.link import RedisAway, RedisLink

log = Logger()

MOST_KEYS = 100_000
"""So many are kept in memory; beyond, those that end first are forgotten first."""

LONGEST_STAY = 3600
"""Seconds after which one is taken to have left, who was counted by a server that is no more."""

# In one step: a key that was counted up and never given its time would count for ever.
_COUNT = (
    "local n = redis.call('INCR', KEYS[1]) "
    "if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return n"
)
_ENTER = (
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2]) "
    "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[4]) redis.call('EXPIRE', KEYS[1], ARGV[3]) "
    "return redis.call('ZCARD', KEYS[1])"
)


class Counters(Protocol):
    """Nothing of it raises; and none takes long."""

    async def count(self, key: str, seconds: int) -> int:
        """
        One more.

        @param seconds: from the first on, after which they are counted anew.
        @return: how many there are by now.
        """

    async def enter(self, key: str, member: str) -> int:
        """@return: how many are there, with *member*."""

    async def leave(self, key: str, member: str) -> None:
        """Also for one who has never entered, or has left."""


@define
class _Window:
    ends: float
    count: int = 0


@frozen
class MemoryCounters:
    """Those of this process."""

    clock: IReactorTime
    most_keys: int = MOST_KEYS
    _windows: dict[str, _Window] = field(factory=dict, init=False)
    _present: dict[str, set[str]] = field(factory=dict, init=False)

    async def count(self, key: str, seconds: int) -> int:
        now = self.clock.seconds()
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            if window is None and len(self._windows) >= self.most_keys:
                self._forget(now)
            window = self._windows[key] = _Window(now + seconds)
        window.count += 1
        return window.count

    def _forget(self, now: float) -> None:
        """Those that have ended, or else a tenth of all."""
        for key in [key for key, window in self._windows.items() if window.ends <= now]:
            del self._windows[key]
        if len(self._windows) >= self.most_keys:
            by_end = sorted(self._windows, key=lambda key: self._windows[key].ends)
            for key in by_end[: max(1, self.most_keys // 10)]:
                del self._windows[key]

    async def enter(self, key: str, member: str) -> int:
        present = self._present.setdefault(key, set())
        present.add(member)
        return len(present)

    async def leave(self, key: str, member: str) -> None:
        present = self._present.get(key, set())
        present.discard(member)
        if not present:
            self._present.pop(key, None)


@frozen
class RedisCounters:
    """
    Those of all servers that use this Redis.

    @ivar wall_clock: seconds since the epoch.
    @ivar meanwhile: counts while Redis is away.
    """

    link: RedisLink
    wall_clock: Callable[[], float]
    meanwhile: Counters

    async def count(self, key: str, seconds: int) -> int:
        found = await self._ask("EVAL", _COUNT, 1, key, seconds * 1000)
        return await self.meanwhile.count(key, seconds) if found is None else found

    async def enter(self, key: str, member: str) -> int:
        here = await self.meanwhile.enter(key, member)
        now = int(self.wall_clock())
        found = await self._ask(
            "EVAL", _ENTER, 1, key, now, now - LONGEST_STAY, LONGEST_STAY, member
        )
        return here if found is None else found

    async def leave(self, key: str, member: str) -> None:
        await self.meanwhile.leave(key, member)
        await self._ask("ZREM", key, member)

    async def _ask(self, *command: str | int) -> int | None:
        """@return: None where it cannot be asked, and for what is no number."""
        try:
            answer = await self.link.ask(*command)
        except RedisAway:
            return None
        return answer if isinstance(answer, int) else None
