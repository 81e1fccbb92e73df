"""How long a staple is good for, and when another one is asked for."""

from cryptography import x509
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.ocsp import Staple, read_response
from harakatls.tls.staples import Staples, refresh_after, retry_after
from tests.tls.responding import (
    DAY,
    NOW,
    leaf,
    respond,
    root,
)

HOUR = 3600.0
DAYS = 86400.0


class TimeTests(SynchronousTestCase):
    def test_refresh(self) -> None:
        """Half of the life; an hour where that is past; never after the end, nor in a hurry."""
        now = NOW.timestamp()

        def after(begin: float, end: float) -> float:
            der = respond(leaf(), begin=NOW + begin * DAY, end=NOW + end * DAY)
            staple = read_response(der, leaf().certificate, root().certificate, NOW)
            return refresh_after(staple, now)

        self.assertEqual(after(0, 6), 3 * DAYS)
        self.assertEqual(after(-1, 6), 2.5 * DAYS)
        self.assertEqual(after(-5, 1), HOUR)
        self.assertEqual(after(-5, 1 / 24), HOUR / 2)
        self.assertEqual(after(-5, 1 / 86400), 60.0)

    def test_retry(self) -> None:
        """A responder that fails is asked less and less often, and at least each hour."""
        self.assertEqual([retry_after(n) for n in (1, 2, 3)], [60, 120, 240])
        self.assertEqual(retry_after(100_000), HOUR)

    def test_clock(self) -> None:
        """A staple ends when its time says, whoever forgot to look."""
        clock = Clock()
        clock.rightNow = NOW.timestamp()
        staples = Staples(clock)
        certificate: x509.Certificate = leaf().certificate
        self.assertEqual(staples.octets(certificate), b"")
        staples.keep(certificate, Staple(b"x", NOW, NOW + DAY))
        clock.advance(DAYS - 1)
        self.assertEqual(staples.octets(certificate), b"x")
        clock.advance(1)
        self.assertEqual(staples.octets(certificate), b"")
