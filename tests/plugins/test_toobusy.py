"""The plugin toobusy: the lag of a clock that comes late."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IConnectHook
from harakatls.plugins import toobusy
from harakatls.plugins.toobusy import DEFAULT, PERIOD, TooBusy
from harakatls.verdict import CONTINUE, Verdict
from tests.inbound.support import EHLO, Talk
from tests.plugins.support import config_of, connection_from, result_of, site_of


class LateClock(Clock):
    """A reactor that comes to its timers late."""

    def lag(self, seconds: float, periods: int = 1) -> None:
        for _ in range(periods):
            self.advance(PERIOD + seconds)


class TooBusyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = LateClock()
        self.plugin = TooBusy(0.07, self.clock)
        self.plugin.start()

    def verdict(self) -> Verdict:
        return result_of(self, self.plugin.connect(connection_from()))

    def test_on_time(self) -> None:
        """A server that keeps up takes everybody."""
        verifyObject(IConnectHook, self.plugin)
        self.assertIs(self.verdict(), CONTINUE)
        self.clock.lag(0.05, 100)
        self.assertIs(self.verdict(), CONTINUE)

    def test_late(self) -> None:
        """One that does not turns new peers away, until it does again."""
        self.clock.lag(0.1, 10)
        self.assertIs(self.verdict(), toobusy.TOO_BUSY)
        self.clock.lag(0.0, 1)
        self.assertIs(self.verdict(), CONTINUE)

    def test_a_moment(self) -> None:
        """One moment of twice the limit is not being too busy."""
        self.clock.lag(0.14)
        self.assertIs(self.verdict(), CONTINUE)

    def test_clock_that_is_set(self) -> None:
        """A clock set back is no lag; one set forward by a day is over within seconds."""
        self.clock.rightNow -= 86400
        self.clock.advance(86400 + PERIOD)
        self.assertIs(self.verdict(), CONTINUE)
        self.clock.rightNow += 86400
        self.clock.lag(0.0, 20)
        self.assertIs(self.verdict(), CONTINUE)

    def test_log(self) -> None:
        """One line when it begins, and one with their number when it is over."""
        with capturedLogs() as events:
            self.clock.lag(0.2, 20)
            for _ in range(3):
                self.verdict()
            self.clock.lag(0.0, 20)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "too busy: a lag of 200 ms, more than 70 ms; connections are turned away",
                "no longer too busy; 3 connections were turned away",
            ],
        )

    def test_what_the_peer_hears(self) -> None:
        """Haraka's words, and the end."""
        self.clock.lag(1.0, 10)
        talk = Talk(self.plugin)
        self.assertEqual(talk.heard(), "421 Too busy; please try again later\r\n")
        self.assertEqual((talk.say(EHLO), talk.channel.closed), ("", "linger"))


class SettingsTests(SynchronousTestCase):
    def test_values(self) -> None:
        """The first line of the file, in milliseconds."""
        self.assertEqual(toobusy.max_lag(config_of(self, {})), DEFAULT / 1000)
        config = config_of(self, {"toobusy.maxlag": "# a comment\n250\n"})
        self.assertEqual(toobusy.max_lag(config), 0.25)

    def test_bad_values(self) -> None:
        """Refused, with the file, what was found and what was expected."""
        for text in ("5", "-70", "70ms", "0.07", "60001", "\u0667\u0660"):
            config = config_of(self, {"toobusy.maxlag": text})
            error = self.assertRaises(ConfigError, toobusy.max_lag, config)
            self.assertEqual(
                str(error),
                f"toobusy.maxlag: {text!r} is not a whole number of milliseconds from 10 to 60000",
            )

    def test_loaded(self) -> None:
        """It measures from the start on."""
        site = site_of(self, {"toobusy.maxlag": "20"})
        plugin = toobusy.load(site)
        clock = site.clock
        assert isinstance(clock, Clock)
        for _ in range(10):
            clock.advance(PERIOD + 0.03)
        self.assertIs(result_of(self, plugin.connect(connection_from())), toobusy.TOO_BUSY)
