"""Staples are fetched ahead, kept, and shown."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.x509 import ocsp
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.certificates import KeyPair
from harakatls.tls.responder import NoResponse
from harakatls.tls.staples import Certified, Staples
from harakatls.tls.stapling import Stapler
from tests.tls.responding import (
    DAY,
    NOW,
    REVOKED,
    UNKNOWN,
    URL,
    Holder,
    certify,
    key_of,
    leaf,
    respond,
    root,
)

HOUR = 3600.0
DAYS = 86400.0
PLAIN = certify("plain.example.com", key_of("EC"), root())
MUST = certify("must.example.com", key_of("EC"), root(), must=True)


class Shown:
    """Certificates of ours, and what a client gets to see of their staples."""

    def __init__(self, staples: Staples, *holders: Holder) -> None:
        self.staples = staples
        self.staples_wanted = True
        self.tried: list[str] = []
        self.lost = False
        self.error: Exception | None = None
        self.change: Callable[[], None] = lambda: None
        self.set(*holders)

    def set(self, *holders: Holder, issuer: Holder | None = None) -> None:
        by = (issuer or root()).certificate
        self.holders = holders
        self._certified = tuple(
            Certified(KeyPair(h.key, (h.certificate, by), (), source_of(h)), by) for h in holders
        )

    def certified(self) -> tuple[Certified, ...]:
        return self._certified

    def without_issuers(self) -> None:
        self._certified = tuple(Certified(found.pair, None) for found in self._certified)

    def staple_shown(self, pair: KeyPair) -> bytes:
        self.tried.append(pair.source)
        if self.error is not None:
            raise self.error
        return b"" if self.lost else self.staples.octets(pair.chain[0])

    def on_change(self, call: Callable[[], None]) -> None:
        self.change = call


def source_of(holder: Holder) -> str:
    return holder.certificate.subject.rfc4514_string().removeprefix("CN=")


class StaplerTestCase(SynchronousTestCase):
    stapler: Stapler | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW.timestamp()
        self.directory = Path(self.mktemp())
        self.asked: list[tuple[str, bytes]] = []
        self.answers: list[Deferred[bytes]] = []
        logged = capturedLogs()
        self.events: Any = logged.__enter__()
        self.addCleanup(logged.__exit__, None, None, None)
        self.restart(leaf())
        self.addCleanup(self.stop)

    def restart(self, *holders: Holder) -> None:
        """A server begins, with what is on disk."""
        if self.stapler is not None:
            self.stapler.stopService()
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.staples = Staples(self.clock)
        self.shown = Shown(self.staples, *holders)
        self.stapler = Stapler(self.shown, self.staples, self.ask, self.directory, self.clock)

    def start(self) -> None:
        assert self.stapler is not None
        self.stapler.startService()
        self.clock.advance(0)

    def stop(self) -> None:
        assert self.stapler is not None
        self.stapler.stopService()

    def ask(self, url: str, request: bytes) -> Deferred[bytes]:
        self.asked.append((url, request))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, **words: Any) -> bytes:
        """The responder gives a good response, or what *words* say, to the last question."""
        request = ocsp.load_der_ocsp_request(self.asked[-1][1])
        about = next(
            h for h in self.shown.holders if h.certificate.serial_number == request.serial_number
        )
        der = respond(about, **words)
        self.answers[-1].callback(der)
        return der

    def fail_to_answer(self) -> None:
        self.answers[-1].errback(NoResponse("the responder is down"))

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.seconds(), UTC)

    def logged(self, level: Any) -> list[str]:
        """What was logged at this level, since the last time."""
        found = [formatEvent(e) for e in self.events if e["log_level"] is level]
        self.events[:] = [e for e in self.events if e["log_level"] is not level]
        return found

    def staple(self, holder: Holder | None = None) -> bytes:
        """What a client gets now."""
        return self.staples.octets((holder or leaf()).certificate)

    def wait_for_question(self, at_most: float) -> float:
        """@return: after how many seconds the responder is asked again."""
        count, begin = len(self.asked), self.clock.seconds()
        while len(self.asked) == count:
            self.assertLess(self.clock.seconds() - begin, at_most)
            self.clock.advance(min(60.0, at_most / 100))
        return self.clock.seconds() - begin


class FetchTests(StaplerTestCase):
    """From the responder to the handshake."""

    def test_first(self) -> None:
        """Shortly after the start, clients get a staple; before that, a handshake and no staple."""
        self.start()
        ((url, request),) = self.asked
        self.assertEqual(url, URL)
        asked = ocsp.load_der_ocsp_request(request)
        self.assertEqual(asked.serial_number, leaf().certificate.serial_number)
        self.assertEqual(self.staple(), b"")
        der = self.answer()
        self.assertEqual(self.staple(), der)
        self.assertEqual(self.shown.tried, ["mx.example.com"])
        self.assertEqual(len(self.logged(LogLevel.info)), 1)
        for level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.assertEqual(self.logged(level), [])

    def test_half_life(self) -> None:
        """The next one comes at half of the life of the one there is; it replaces that."""
        self.start()
        self.answer(begin=NOW, end=NOW + 6 * DAY)
        waited = self.wait_for_question(4 * DAYS)
        self.assertGreater(waited, 2.6 * DAYS)
        self.assertLess(waited, 3.4 * DAYS)
        second = self.answer(begin=self.now(), end=self.now() + 6 * DAY)
        self.assertEqual(self.staple(), second)
        self.assertEqual(len(self.logged(LogLevel.info)), 1)  # nothing new to tell

    def test_jitter(self) -> None:
        """Two servers that start together do not ask together for ever."""
        waits: set[float] = set()
        for _ in range(5):
            self.directory = Path(self.mktemp())
            self.restart(leaf())
            self.start()
            self.answer()
            waits.update(round(call.getTime(), 3) for call in self.clock.getDelayedCalls())
        self.assertGreater(len(waits), 3)

    def test_stale_responder(self) -> None:
        """One that gives the same response again is not asked without pause."""
        self.start()
        begin, end = NOW - 5 * DAY, NOW + DAY
        self.answer(begin=begin, end=end)
        count = len(self.asked)
        for _ in range(24 * 60):
            if not self.answers[-1].called:
                self.answer(begin=begin, end=end)
            self.clock.advance(60)
        self.assertGreater(len(self.asked) - count, 15)
        self.assertLess(len(self.asked) - count, 60)

    def test_each_its_own(self) -> None:
        """Each certificate has a staple of its own, RSA and ECDSA under the same name as well."""
        rsa = leaf(kind="RSA")
        self.restart(leaf(), rsa)
        self.start()
        self.assertEqual(len(self.asked), 2)
        second = self.answer()
        self.assertEqual((self.staple(), self.staple(rsa)), (b"", second))

    def test_not_all_at_once(self) -> None:
        """A hundred certificates do not open a hundred connections."""
        holders = [leaf(f"h{number}.example.com") for number in range(10)]
        self.restart(*holders)
        self.start()
        self.assertEqual(len(self.asked), 4)
        self.answer()
        self.assertEqual(len(self.asked), 5)
        for answer in self.answers[:4]:
            if not answer.called:
                answer.errback(NoResponse("down"))
        self.assertEqual(len(self.asked), 8)

    def test_stop(self) -> None:
        """A server that stops asks nothing more."""
        self.start()
        self.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.answers[0].called)  # broken off
        self.assertEqual(self.logged(LogLevel.error), [])


class FailureTests(StaplerTestCase):
    """Responders that are down, slow or lying."""

    def test_back_off(self) -> None:
        """It is tried again soon, then less and less often; told once, and when it is over."""
        self.start()
        waits = []
        for _ in range(9):
            self.fail_to_answer()
            waits.append(self.wait_for_question(2 * HOUR))
        for wait, expected in zip(waits, (60, 120, 240, 480, 960, 1920, 3600, 3600), strict=False):
            self.assertGreaterEqual(wait, expected * 0.89)
            self.assertLessEqual(wait, expected * 1.11 + 60)
        (told,) = self.logged(LogLevel.error)
        self.assertIn("the responder is down", told)
        self.answer(begin=self.now(), end=self.now() + DAY)
        self.assertEqual(len(self.logged(LogLevel.info)), 1)

    def test_old_one_stays(self) -> None:
        """While the responder is down, clients get the last staple; never one that is past."""
        self.start()
        der = self.answer(begin=NOW, end=NOW + DAY)
        end = NOW.timestamp() + DAYS
        while self.clock.seconds() < end - 60:
            self.assertEqual(self.staple(), der)
            if not self.answers[-1].called:
                self.fail_to_answer()
            self.clock.advance(60)
        (told,) = self.logged(LogLevel.warn)
        self.assertIn("is good until", told)
        self.assertEqual(self.logged(LogLevel.error), [])
        self.clock.advance(end - self.clock.seconds())
        self.assertEqual(self.staple(), b"")
        self.fail_to_answer()
        self.assertEqual(len(self.logged(LogLevel.error)), 1)

    def test_past_midway(self) -> None:
        """A staple that runs out while the next is fetched is not shown either."""
        self.start()
        self.answer(begin=NOW, end=NOW + DAY)
        self.wait_for_question(DAYS)
        self.clock.advance(DAYS)
        self.assertEqual(self.staple(), b"")

    def test_lies(self) -> None:
        """What is not verified is never shown, nor does it replace what is."""
        self.start()
        der = self.answer(begin=NOW, end=NOW + DAY)
        elsewhere = root(name="Elsewhere")
        for lie in (
            respond(leaf("other.example"), begin=NOW, end=NOW + 9 * DAY),
            respond(leaf(), elsewhere, begin=NOW, end=NOW + 9 * DAY),
            respond(leaf(), status=UNKNOWN, begin=NOW, end=NOW + 9 * DAY),
            b"<html>",
            b"",
        ):
            self.wait_for_question(DAYS)
            self.answers[-1].callback(lie)
            self.assertEqual(self.staple(), der)
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)

    def test_own_fault(self) -> None:
        """A fault of ours costs one certificate a while, and nobody the server."""
        self.start()
        self.answers[-1].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.wait_for_question(HOUR)
        self.answer()
        self.assertNotEqual(self.staple(), b"")

    def test_must_staple(self) -> None:
        """Clients refuse such a certificate without a staple: that is an alarm each time."""
        holder = leaf(must=True)
        self.restart(holder)
        self.start()
        for _ in range(2):
            self.fail_to_answer()
            (told,) = self.logged(LogLevel.critical)
            self.assertIn("must refuse it without an OCSP staple", told)
            self.wait_for_question(HOUR)
        self.answer()
        self.assertEqual(self.logged(LogLevel.critical), [])

    def test_revoked(self) -> None:
        """An alarm; and clients are told the truth."""
        self.start()
        der = self.answer(status=REVOKED)
        (told,) = self.logged(LogLevel.critical)
        self.assertIn("REVOKED", told)
        self.assertEqual(self.staple(), der)
        self.restart(leaf())
        self.start()
        self.assertEqual(len(self.logged(LogLevel.critical)), 1)

    def test_not_sent(self) -> None:
        """A staple that does not come out of a handshake is an error in the log."""
        self.shown.lost = True
        self.start()
        self.answer()
        (told,) = self.logged(LogLevel.error)
        self.assertIn("does not reach clients", told)
        self.shown.error = RuntimeError("no cipher")
        self.shown.change()
        self.clock.advance(0)
        (told,) = self.logged(LogLevel.warn)
        self.assertIn("no cipher", told)


class WithoutTests(StaplerTestCase):
    """Certificates that can have no staple."""

    def test_no_responder(self) -> None:
        """One quiet line for all of them, and not again when the files are read anew."""
        self.restart(PLAIN, certify("b.example.com", key_of("EC"), root()), leaf())
        self.start()
        (told,) = self.logged(LogLevel.info)
        self.assertIn("plain.example.com (it names no responder), b.example.com", told)
        self.assertNotIn("mx.example.com", told)
        self.shown.change()
        self.assertEqual(self.logged(LogLevel.info), [])
        self.assertEqual(len(self.asked), 1)

    def test_no_issuer(self) -> None:
        """Without the issuer's certificate nothing can be verified, so nothing is asked."""
        self.shown.without_issuers()
        self.start()
        (told,) = self.logged(LogLevel.info)
        self.assertIn("issuer is not in its file", told)
        self.assertEqual(self.asked, [])

    def test_must_staple(self) -> None:
        """An alarm where clients will refuse the certificate, also where stapling is off."""
        self.restart(MUST)
        self.start()
        self.assertIn("names no responder", *self.logged(LogLevel.critical))
        self.restart(leaf(must=True), PLAIN)
        self.shown.staples_wanted = False
        self.start()
        self.assertIn("requestOCSP is off", *self.logged(LogLevel.critical))
        self.assertEqual(self.logged(LogLevel.info), [])
        self.assertEqual(self.asked, [])


class DiskTests(StaplerTestCase):
    """What a restart keeps."""

    def test_restart(self) -> None:
        """The first client after a restart gets a staple, though the responder is down."""
        self.start()
        der = self.answer(begin=NOW, end=NOW + DAY)
        self.clock.advance(HOUR)
        self.restart(leaf())
        assert self.stapler is not None
        self.stapler.startService()
        self.assertEqual(self.staple(), der)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(0)
        self.assertEqual(self.shown.tried, ["mx.example.com"])
        self.wait_for_question(14 * HOUR)

    def test_out_of_date(self) -> None:
        """What has run out meanwhile is not shown, and asked for at once."""
        self.start()
        self.answer(begin=NOW, end=NOW + DAY)
        self.stop()
        self.clock.advance(2 * DAYS)
        self.restart(leaf())
        self.start()
        self.assertEqual(self.staple(), b"")
        self.assertEqual(len(self.asked), 2)

    def test_tampered(self) -> None:
        """A file is believed as little as a responder."""
        self.start()
        self.answer()
        (file,) = self.directory.iterdir()
        for content in (respond(leaf("other.example")), b"", b"x" * 100_000):
            file.write_bytes(content)
            self.restart(leaf())
            self.start()
            self.assertEqual(self.staple(), b"")

    def test_unwritable(self) -> None:
        """Where nothing can be kept, clients get staples all the same."""
        self.directory.write_text("not a directory")
        self.start()
        der = self.answer()
        self.assertEqual(self.staple(), der)
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)


class ChangeTests(StaplerTestCase):
    """Certificates are replaced while the server runs."""

    def test_new(self) -> None:
        """The new one gets its staple; what was the old one's goes, on disk as well."""
        self.start()
        self.answer()
        renewed = certify("mx.example.com", key_of("EC"), root(), url=URL)
        self.shown.set(renewed)
        self.shown.change()
        self.assertEqual(self.staple(), b"")
        self.assertEqual(list(self.directory.iterdir()), [])
        der = self.answer()
        self.assertEqual(self.staple(renewed), der)
        self.clock.advance(0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_kept(self) -> None:
        """One that stays keeps its staple, is not asked for anew, and is tried anew."""
        self.start()
        der = self.answer()
        self.shown.set(leaf(), PLAIN)
        self.shown.change()
        self.clock.advance(0)
        self.assertEqual(self.staple(), der)
        self.assertEqual(len(self.asked), 1)
        self.assertEqual(self.shown.tried, ["mx.example.com"] * 2)

    def test_switched_off(self) -> None:
        """Without requestOCSP nothing is asked any more."""
        self.start()
        self.answer()
        self.shown.staples_wanted = False
        self.shown.change()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.staple(), b"")

    def test_not_running(self) -> None:
        """Before the start and after the stop, nothing is asked."""
        self.shown.change()
        self.start()
        self.stop()
        self.shown.change()
        self.assertEqual(len(self.asked), 1)
