"""What every memory of failed TLS must do."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.interfaces import ITLSMemory

BEGIN = 1_763_870_460.0


class TLSMemoryCase(SynchronousTestCase):
    """With a memory that has its answers at once."""

    clock: Clock
    memory: ITLSMemory

    def make_memory(self) -> ITLSMemory:
        """A new one, which goes by *self.clock*."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.memory = self.make_memory()

    def remember(self, host: str, seconds: float, memory: ITLSMemory | None = None) -> None:
        telling = (memory or self.memory).remember_failure(host, seconds)
        self.successResultOf(Deferred.fromCoroutine(telling))

    def failed_at(self, host: str, memory: ITLSMemory | None = None) -> float | None:
        asking = (memory or self.memory).failed_at(host)
        found: float | None = self.successResultOf(Deferred.fromCoroutine(asking))
        return found


class TLSMemoryContract(TLSMemoryCase):
    """
    To be subclassed for each memory, which says how one is made.

    Import the module, not the class: trial runs every class that it finds.
    """

    def test_interface(self) -> None:
        """The connector may rely on it."""
        verifyObject(ITLSMemory, self.memory)

    def test_remembered(self) -> None:
        """A failing host is known, with the time, for as long as was said; others are not."""
        self.remember("192.0.2.1", 60)
        self.clock.advance(59.5)
        self.assertEqual(self.failed_at("192.0.2.1"), BEGIN)
        self.assertIsNone(self.failed_at("192.0.2.2"))
        self.clock.advance(0.5)
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_again(self) -> None:
        """A host that fails again is remembered from then on."""
        self.remember("192.0.2.1", 60)
        self.clock.advance(30)
        self.remember("192.0.2.1", 60)
        self.clock.advance(59)
        self.assertEqual(self.failed_at("192.0.2.1"), BEGIN + 30)

    def test_not_at_all(self) -> None:
        """For no seconds is not at all."""
        self.remember("192.0.2.1", 0)
        self.assertIsNone(self.failed_at("192.0.2.1"))

    def test_spellings(self) -> None:
        """An address is the same however it is written."""
        self.remember("2001:DB8:0:0::1", 60)
        self.remember("::ffff:192.0.2.7", 60)
        self.assertEqual(self.failed_at("2001:db8::1"), BEGIN)
        self.assertEqual(self.failed_at("192.0.2.7"), BEGIN)

    def test_odd_hosts(self) -> None:
        """What is no address does no harm, and is found under its name."""
        for host in ("mx.Example", "a|inbound", "* ?[x]", "\r\nFLUSHALL\r\n", "ä", ""):
            self.remember(host, 60)
            self.assertEqual(self.failed_at(host), BEGIN, host)

    def test_long_times(self) -> None:
        """The longest time that tls.ini may say is kept."""
        self.remember("192.0.2.1", 10 * 365 * 86400.0)
        self.clock.advance(9 * 365 * 86400.0)
        self.assertEqual(self.failed_at("192.0.2.1"), BEGIN)
