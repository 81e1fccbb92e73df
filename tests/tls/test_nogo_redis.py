"""Tests for harakatls.tls.nogo_redis."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from harakatls.interfaces import ITLSMemory
from harakatls.tls.nogo import Direction, MemoryTLSMemory
from harakatls.tls.nogo_file import Failure
from harakatls.tls.nogo_redis import RedisTLSMemory, clear_of, failures_of, seconds_of
from tests.contracts import tls_memory
from tests.contracts.tls_memory import BEGIN
from tests.tls.pretended_redis import PretendedRedis


class RedisTLSMemoryTests(tls_memory.TLSMemoryContract):
    def make_memory(self) -> ITLSMemory:
        self.redis = PretendedRedis(self.clock)
        return self.memory_of(Direction.OUTBOUND)

    def memory_of(self, direction: Direction) -> RedisTLSMemory:
        link: Any = self.redis
        self.fallback = MemoryTLSMemory(self.clock)
        return RedisTLSMemory(link, direction, self.clock, self.fallback)

    def test_documented(self) -> None:
        """Other programs that share the Redis understand key, value and lifetime."""
        self.remember("192.0.2.1", 604800)
        self.assertEqual(
            self.redis.asked,
            [("SET", "no_tls|192.0.2.1", "2025-11-23T04:01:00.000Z", "PX", 604_800_000)],
        )

    def test_directions(self) -> None:
        """A client that cannot do TLS does not lay open what is sent to its address."""
        self.remember("192.0.2.1", 3600, self.memory_of(Direction.INBOUND))
        self.assertEqual(list(self.redis.values), [b"no_tls|192.0.2.1|inbound"])
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_away(self) -> None:
        """What fails while Redis is away is remembered all the same, also when it is back."""
        self.redis.away = True
        self.assertIsNone(self.failed_at("192.0.2.1"))
        self.remember("192.0.2.1", 60)
        self.assertEqual(self.failed_at("192.0.2.1"), BEGIN)
        self.redis.away = False
        self.assertEqual(self.failed_at("192.0.2.1"), BEGIN)
        self.clock.advance(60)
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_nothing_twice(self) -> None:
        """What Redis has is not kept here as well: who clears it there has cleared it."""
        self.remember("192.0.2.1", 60)
        self.redis.values.clear()
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_values(self) -> None:
        """A value that is no time makes no mail go in the clear."""
        for value in (b"", b"1", b"yes", b"\xff", b"2025-13-01T00:00:00Z", b"0" * 5000):
            self.redis.values[b"no_tls|192.0.2.1"] = (value, None)
            self.assertIsNone(self.failed_at("192.0.2.1"), value)
        for value in (
            b"2025-11-23T04:01:00.000Z",
            b"2025-11-23T04:01:00",
            b"2025-11-23T05:01+01:00",
        ):
            self.redis.values[b"no_tls|192.0.2.1"] = (value, None)
            self.assertEqual(self.failed_at("192.0.2.1"), BEGIN, value)

    @given(st.one_of(st.binary(), st.integers(), st.none(), st.lists(st.binary()), st.text()))
    def test_any_value(self, value: object) -> None:
        """Whatever Redis says, it is a time or nothing."""
        self.assertIsInstance(seconds_of(value), float | None)

    def listed(self) -> list[Failure]:
        link: Any = self.redis

        async def asking() -> list[Failure]:
            return [failure async for failure in failures_of(link, self.clock.seconds())]

        found: list[Failure] = self.successResultOf(Deferred.fromCoroutine(asking()))
        return found

    def cleared(self, *keys: str) -> int:
        link: Any = self.redis
        clearing = Deferred.fromCoroutine(clear_of(link, keys or None))
        count: int = self.successResultOf(clearing)
        return count

    def test_for_the_operator(self) -> None:
        """All keys are listed once, and cleared, but none of other programs."""
        self.redis.values[b"greylist|192.0.2.1"] = (b"1", None)
        self.redis.values[b"no_tls|\xff"] = (b"?", None)
        for number in range(1, 5):
            self.remember(f"192.0.2.{number}", 60)
        found = self.listed()
        self.assertEqual(len(found), 5)
        self.assertIn(Failure("no_tls|192.0.2.3", BEGIN, BEGIN + 60), found)
        self.assertIn(Failure("no_tls|\ufffd", None, None), found)
        self.assertEqual(self.cleared("no_tls|192.0.2.3", "no_tls|192.0.2.3|inbound"), 1)
        self.assertIsNone(self.failed_at("192.0.2.3"))
        self.assertEqual(self.cleared(), 4)
        self.assertEqual(list(self.redis.values), [b"greylist|192.0.2.1"])
