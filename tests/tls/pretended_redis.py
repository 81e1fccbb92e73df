"""A Redis in memory, for tests."""

from typing import Any

from harakatls.redis.link import RedisAway


class PretendedRedis:
    """
    As much of Redis as is asked for, and of the link to it.

    @ivar away: it does not answer.
    @ivar values: by key, with the time of expiry; None for never.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.away = False
        self.values: dict[bytes, tuple[bytes, float | None]] = {}
        self.asked: list[tuple[Any, ...]] = []

    async def ask(self, *command: Any) -> object:
        self.asked.append(command)
        if self.away:
            raise RedisAway("it is not there")
        name, *arguments = command
        now = self.clock.seconds()
        self.values = {k: v for k, v in self.values.items() if v[1] is None or v[1] > now}
        key = arguments[0].encode() if isinstance(arguments[0], str) else arguments[0]
        return getattr(self, name.lower())(key, *arguments[1:])

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key, (None, None))[0]

    def set(self, key: bytes, value: str, unit: str, lifetime: int) -> str:
        assert unit == "PX"
        self.values[key] = (value.encode(), self.clock.seconds() + lifetime / 1000)
        return "OK"

    def pttl(self, key: bytes) -> int:
        expires = self.values[key][1]
        return -1 if expires is None else int((expires - self.clock.seconds()) * 1000)

    def scan(self, cursor: bytes, *how: Any) -> list[Any]:
        """A few at a time, and some twice, as Redis may."""
        assert how == ("MATCH", "no_tls|*", "COUNT", 1000)
        keys = sorted(key for key in self.values if key.startswith(b"no_tls|"))
        at = int(cursor)
        return [str(at + 1 if at + 2 < len(keys) else 0).encode(), keys[at : at + 2]]

    def __getattr__(self, name: str) -> Any:
        assert name == "del"
        return lambda key: int(self.values.pop(key, None) is not None)
