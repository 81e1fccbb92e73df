"""Tests for harakatls.tls.clients."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls import clients
from harakatls.tls.clients import FailingClients
from harakatls.tls.nogo import MemoryTLSMemory

HOST = "192.0.2.1"


class FailingClientsTests(SynchronousTestCase):
    """What it takes until STARTTLS is not offered any more."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_763_870_460)
        self.clients = FailingClients(MemoryTLSMemory(self.clock), 3600.0, self.clock)

    def break_off(self, *gaps: float, host: str = HOST) -> None:
        """One failure after each gap."""
        for gap in gaps:
            self.clock.advance(gap)
            self.successResultOf(Deferred.fromCoroutine(self.clients.failed(host)))

    def marked(self, host: str = HOST) -> bool:
        asking = Deferred.fromCoroutine(self.clients.failed_at(host))
        return self.successResultOf(asking) is not None

    def test_three_attempts(self) -> None:
        """A sender that fails each time gets through in the clear at its fourth attempt."""
        self.break_off(0, 300)
        self.assertFalse(self.marked())
        with capturedLogs() as events:
            self.break_off(600)
        self.assertTrue(self.marked())
        self.assertFalse(self.marked("192.0.2.2"))
        (event,) = events
        self.assertEqual((event["host"], event["seconds"]), (HOST, 3600))

    def test_not_for_ever(self) -> None:
        """An hour later STARTTLS is offered again, and one failure is one again."""
        self.break_off(0, 300, 300)
        self.clock.advance(3600)
        self.assertFalse(self.marked())
        self.break_off(0)
        self.assertFalse(self.marked())

    def test_a_burst_counts_once(self) -> None:
        """Who cuts a hundred connections in a minute has bought nothing."""
        self.break_off(*[0.5] * 100)
        self.assertFalse(self.marked())

    def test_long_ago(self) -> None:
        """A failure now and then, as in any network, comes to nothing."""
        self.break_off(*[clients.WINDOW / 2 + 1] * 20)
        self.assertFalse(self.marked())

    def test_never_after_success(self) -> None:
        """A host that can do TLS is offered it, whoever cuts its connections later."""
        self.clients.succeeded(HOST)
        self.break_off(*[300] * 20)
        self.assertFalse(self.marked())

    def test_success_while_marked(self) -> None:
        """A handshake that succeeds (on another port) ends it."""
        self.break_off(0, 300, 300)
        self.clients.succeeded("::ffff:192.0.2.1")
        self.assertFalse(self.marked())

    def test_bounded(self) -> None:
        """Ever new addresses do not fill the memory."""
        self.patch(clients, "MOST_HOSTS", 3)
        for number in range(10):
            self.break_off(0, host=f"192.0.2.{number}")
            self.clients.succeeded(f"198.51.100.{number}")
        self.assertEqual(len(self.clients._failures), 3)
        self.assertEqual(len(self.clients._succeeded), 3)
