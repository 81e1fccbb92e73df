"""Tests for harakatls.plugins.counters: here, in Redis, and while that is away."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.plugins.counters import MemoryCounters, RedisCounters
from harakatls.redis.link import RedisAway
from tests.plugins.support import result_of


class MemoryCountersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = MemoryCounters(self.clock, most_keys=10)

    def count(self, key: str, seconds: int = 60) -> int:
        return result_of(self, self.counters.count(key, seconds))

    def test_counts_within_a_time(self) -> None:
        """Those after the time begin anew, and asking does not prolong it."""
        self.assertEqual([self.count("a"), self.count("b"), self.count("a")], [1, 1, 2])
        self.clock.advance(59)
        self.assertEqual(self.count("a"), 3)
        self.clock.advance(1)
        self.assertEqual(self.count("a"), 1)

    def test_bounded(self) -> None:
        """Whoever comes with ever new keys costs no more memory, and those of the others count."""
        self.count("kept", 600)
        for number in range(1000):
            self.count(str(number))
        self.assertLessEqual(len(self.counters._windows), 10)
        self.assertEqual(self.count("kept", 600), 2)

    def test_presence(self) -> None:
        """Each is there once, however often it is told, and leaves nothing behind."""
        there = [result_of(self, self.counters.enter("a", member)) for member in ("1", "2", "2")]
        self.assertEqual(there, [1, 2, 2])
        for member in ("1", "1", "never", "2"):
            result_of(self, self.counters.leave("a", member))
        self.assertEqual(result_of(self, self.counters.enter("a", "3")), 1)
        result_of(self, self.counters.leave("a", "3"))
        self.assertEqual(self.counters._present, {})


class ScriptedLink:
    """Answers in their order; an exception is raised."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []

    async def ask(self, *command: Any) -> object:
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class RedisCountersTests(SynchronousTestCase):
    def counters(self, *answers: object) -> RedisCounters:
        self.link = ScriptedLink(*answers)
        link: Any = self.link
        return RedisCounters(link, lambda: 1000.5, MemoryCounters(Clock()))

    def test_asks(self) -> None:
        """Each question is one command, so that a break in between leaves nothing half done."""
        counters = self.counters(7, 4, 1)
        self.assertEqual(result_of(self, counters.count("a", 60)), 7)
        self.assertEqual(result_of(self, counters.enter("b", "me")), 4)
        result_of(self, counters.leave("b", "me"))
        (count, enter, leave) = self.link.asked
        self.assertEqual((count[0], *count[2:]), ("EVAL", 1, "a", 60000))
        self.assertEqual((enter[0], *enter[2:]), ("EVAL", 1, "b", 1000, 1000 - 3600, 3600, "me"))
        self.assertEqual(leave, ("ZREM", "b", "me"))

    def test_away(self) -> None:
        """While Redis is away limits are counted here, and nobody is let in or out for it."""
        counters = self.counters(*(RedisAway("gone") for _ in range(5)))
        self.assertEqual(result_of(self, counters.count("a", 60)), 1)
        self.assertEqual(result_of(self, counters.count("a", 60)), 2)
        self.assertEqual(result_of(self, counters.enter("b", "1")), 1)
        result_of(self, counters.leave("b", "1"))
        self.assertEqual(result_of(self, counters.enter("b", "2")), 1)

    def test_nonsense(self) -> None:
        """Whatever it is that answers there, it is no count."""
        counters = self.counters(b"many", None)
        self.assertEqual(result_of(self, counters.count("a", 60)), 1)
        self.assertEqual(result_of(self, counters.enter("b", "1")), 1)
