"""Turns connections away while the server cannot keep up (Haraka's toobusy)."""

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError, shown
from harakatls.connection import Connection
from harakatls.interfaces import IConnectHook, Site
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Disconnect, Verdict

log = Logger()

FILE = "toobusy.maxlag"
DEFAULT = 70.0  # milliseconds
LEAST, MOST = 10, 60_000

PERIOD = 0.5  # seconds from one measurement to the next
_SHARE = 1 / 3  # of the last measurement in the lag; a single slow moment is no load
_ABSURD = 10.0  # seconds: rather a clock that was set forward

# RFC 2034 section 3: no enhanced status in the greeting.
TOO_BUSY = Disconnect(Reply.of(421, None, "Too busy; please try again later"))


def load(site: Site) -> "TooBusy":
    """@raise ConfigError: what is in the file is no time."""
    plugin = TooBusy(max_lag(site.config), site.clock)
    plugin.start()
    return plugin


def max_lag(config: ConfigDirectory) -> float:
    """Seconds."""
    text = config.value(FILE)
    if text is None:
        return DEFAULT / 1000
    if not (text.isascii() and text.isdigit() and len(text) < 9 and LEAST <= int(text) <= MOST):
        expected = f"a whole number of milliseconds from {LEAST} to {MOST}"
        raise ConfigError(FILE, None, None, f"{shown(text)} is not {expected}")
    return int(text) / 1000


@implementer(IConnectHook)
class TooBusy:
    """
    Measures by how much a timer comes late: so long everything waits in this server.

    @ivar lag: seconds, smoothed.
    """

    def __init__(self, maximum: float, clock: IReactorTime) -> None:
        """@param maximum: seconds; beyond that new connections are turned away."""
        self.lag = 0.0
        self._maximum = maximum
        self._clock = clock
        self._due = 0.0
        self._turned_away = 0
        self._is_busy = False

    def start(self) -> None:
        """Measure from now on."""
        self._due = self._clock.seconds() + PERIOD
        self._clock.callLater(PERIOD, self._measure)

    def _measure(self) -> None:
        late = min(max(0.0, self._clock.seconds() - self._due), _ABSURD)
        self.lag += (late - self.lag) * _SHARE
        if self._is_busy and self.lag <= self._maximum:
            self._is_busy = False
            log.warn(
                "no longer too busy; {count} connections were turned away", count=self._turned_away
            )
            self._turned_away = 0
        self.start()

    async def connect(self, connection: Connection) -> Verdict:
        """Those that are there already go on."""
        if self.lag <= self._maximum:
            return CONTINUE
        self._turned_away += 1
        if not self._is_busy:
            self._is_busy = True
            log.warn(
                "too busy: a lag of {lag:.0f} ms, more than {maximum:.0f} ms; connections are "
                "turned away",
                lag=self.lag * 1000,
                maximum=self._maximum * 1000,
            )
        return TOO_BUSY
