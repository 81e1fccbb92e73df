"""Tests for harakatls.tls.nogo."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.interfaces import ITLSMemory
from harakatls.tls import nogo
from harakatls.tls.nogo import MemoryTLSMemory


class MemoryTLSMemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.memory = MemoryTLSMemory(self.clock)

    def remember(self, host: str, seconds: float) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.memory.remember_failure(host, seconds)))

    def failed_at(self, host: str) -> float | None:
        return self.successResultOf(Deferred.fromCoroutine(self.memory.failed_at(host)))

    def test_interface(self) -> None:
        """The connector may rely on it."""
        verifyObject(ITLSMemory, self.memory)

    def test_remembered(self) -> None:
        """A failing host is known, with the time, for as long as was said; others are not."""
        self.remember("192.0.2.1", 60)
        self.clock.advance(59.9)
        self.assertEqual(self.failed_at("192.0.2.1"), 1000)
        self.assertIsNone(self.failed_at("192.0.2.2"))
        self.clock.advance(0.1)
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_again(self) -> None:
        """A host that fails again is remembered from then on."""
        self.remember("192.0.2.1", 60)
        self.clock.advance(30)
        self.remember("192.0.2.1", 60)
        self.clock.advance(59)
        self.assertEqual(self.failed_at("192.0.2.1"), 1030)

    def test_not_at_all(self) -> None:
        """For no seconds is not at all."""
        self.remember("192.0.2.1", 0)
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_limit(self) -> None:
        """Ever new hosts do not fill the memory: the oldest are forgotten."""
        self.patch(nogo, "MOST_HOSTS", 3)
        for host in ("a", "b", "c", "a", "d"):
            self.remember(host, 60)
        self.assertEqual([h for h in "abcd" if self.failed_at(h) is not None], ["a", "c", "d"])
