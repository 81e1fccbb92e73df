"""How long those who guess have to wait."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound import failed_logins
from harakatls.inbound.failed_logins import FORGOTTEN_AFTER, LONGEST_DELAY, FailedLogins


class FailedLoginsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.failed = FailedLogins(self.clock)

    def test_longer_and_longer(self) -> None:
        """Up to a limit, for each address by itself, and for a while."""
        waits = [self.failed.add("192.0.2.1") for _ in range(8)]
        self.assertEqual(waits, [1, 2, 4, 8, 16, *[LONGEST_DELAY] * 3])
        self.assertEqual(self.failed.add("192.0.2.2"), 1)
        self.clock.advance(FORGOTTEN_AFTER)
        self.assertEqual(self.failed.add("192.0.2.1"), 1)

    def test_networks(self) -> None:
        """Who has IPv6 has many addresses."""
        self.assertEqual(self.failed.add("2001:db8:1:2::1"), 1)
        self.assertEqual(self.failed.add("2001:db8:1:2:3:4:5:6"), 2)
        self.assertEqual(self.failed.add("2001:db8:1:3::1"), 1)

    def test_bounded(self) -> None:
        """Many addresses do not fill the memory; the latest are remembered."""
        self.patch(failed_logins, "MOST_NETWORKS", 2)
        for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
            self.failed.add(host)
        self.assertEqual(self.failed.add("192.0.2.1"), 4)
        self.assertEqual(self.failed.add("192.0.2.2"), 1)

    def test_owed(self) -> None:
        """Until the answer to the last one is due, from wherever in the network one comes."""
        self.assertEqual(self.failed.owed("2001:db8::1"), 0)
        for _ in range(3):
            self.failed.add("2001:db8::1")
        self.clock.advance(1)
        self.assertEqual(self.failed.owed("2001:db8::2"), 3)
        self.assertEqual(self.failed.owed("2001:db8:0:1::1"), 0)
        self.clock.advance(5)
        self.assertEqual(self.failed.owed("2001:db8::2"), 0)

    def test_clock_set_back(self) -> None:
        """Nobody waits for longer than that."""
        self.failed.add("192.0.2.1")
        self.clock.rightNow -= 3600
        self.assertEqual(self.failed.owed("192.0.2.1"), 1)
