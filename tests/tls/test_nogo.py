"""Tests for harakatls.tls.nogo."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.interfaces import ITLSMemory
from harakatls.tls import nogo
from harakatls.tls.nogo import Direction, MemoryTLSMemory, parse_key
from tests.contracts import tls_memory


class MemoryTLSMemoryTests(tls_memory.TLSMemoryContract):
    def make_memory(self) -> ITLSMemory:
        return MemoryTLSMemory(self.clock)

    def test_limit(self) -> None:
        """Ever new hosts do not fill the memory: the oldest are forgotten."""
        self.patch(nogo, "MOST_HOSTS", 3)
        for host in ("a", "b", "c", "a", "d"):
            self.remember(host, 60)
        self.assertEqual([h for h in "abcd" if self.failed_at(h) is not None], ["a", "c", "d"])


class KeyTests(SynchronousTestCase):
    def test_documented(self) -> None:
        """The key is the one of the TLS document, so that other programs find it."""
        self.assertEqual(Direction.OUTBOUND.key("192.0.2.1"), "no_tls|192.0.2.1")
        self.assertEqual(Direction.OUTBOUND.key("2001:DB8::0:1"), "no_tls|2001:db8::1")

    def test_directions(self) -> None:
        """What a client does says nothing about the server at the same address."""
        for direction in Direction:
            key = direction.key("192.0.2.1")
            self.assertEqual(parse_key(key), ("192.0.2.1", direction))
        self.assertNotEqual(*(direction.key("192.0.2.1") for direction in Direction))

    def test_others(self) -> None:
        """Keys of other programs are left alone."""
        self.assertIsNone(parse_key("greylist|192.0.2.1"))
