"""Shows in the process list what the server is doing (Haraka's process_title)."""

from collections.abc import Callable
from importlib import import_module

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import (
    IConnectHook,
    IDataHook,
    IDisconnectHook,
    IRcptHook,
    Site,
)
from harakatls.mail.envelope import Recipient
from harakatls.verdict import CONTINUE, Verdict

NOTE = "process_title"  # in the notes of connections that are counted
PERIOD = 1.0  # seconds from one title to the next


def load(site: Site) -> "ProcessTitle":
    """@raise ConfigError: the package that can do it is not installed."""
    try:
        set_title: Callable[[str], None] = import_module("setproctitle").setproctitle
    except ImportError:
        missing = "process_title needs the package setproctitle: pip install harakatls[title]"
        raise ConfigError("plugins", None, None, missing) from None
    return ProcessTitle(site.clock, set_title)


@define
class Rate:
    """
    How many there were in all and in a second.

    @ivar now: in the last second.
    @ivar most: in any one.
    """

    total: int = 0
    now: int = 0
    most: int = 0
    _before: int = 0

    def tick(self) -> None:
        """A second has passed."""
        self.now = self.total - self._before
        self._before = self.total
        self.most = max(self.most, self.now)

    def over(self, seconds: float) -> str:
        """Now, on average since *seconds*, and at most."""
        return f"{self.now}/{_ratio(self.total, seconds)}/{self.most}"


@implementer(IConnectHook, IRcptHook, IDataHook, IDisconnectHook)
@define(eq=False)
class ProcessTitle:
    """
    Counts connections, recipients and messages, and says so once a second while there are any.

    To be listed first: a plugin that ends a stage keeps those behind it from being asked.
    """

    _clock: IReactorTime
    _set_title: Callable[[str], None]
    _open: int = 0
    _connections: Rate = field(factory=Rate)
    _recipients: Rate = field(factory=Rate)
    _messages: Rate = field(factory=Rate)
    _began: float = 0.0
    _ticking: bool = False

    def __attrs_post_init__(self) -> None:
        self._began = self._clock.seconds()

    async def connect(self, connection: Connection) -> Verdict:
        """One more."""
        self._connections.total += 1
        self._open += 1
        connection.notes[NOTE] = True
        if not self._ticking:
            self._ticking = True
            self._clock.callLater(PERIOD, self._tick)
        return CONTINUE

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Accepted or not."""
        self._recipients.total += 1
        return CONTINUE

    async def data(self, connection: Connection, transaction: Transaction) -> Verdict:
        """Taken or not."""
        self._messages.total += 1
        return CONTINUE

    async def disconnected(self, connection: Connection) -> None:
        """One less, if it was counted: a handshake may have come to nothing before."""
        if connection.notes.pop(NOTE, False):
            self._open -= 1

    def _tick(self) -> None:
        rates = self._connections, self._recipients, self._messages
        for rate in rates:
            rate.tick()
        self._set_title(self.title())
        # When all is quiet the title stays as it is, so no timer outlives what there is to tell.
        self._ticking = bool(self._open) or any(rate.now for rate in rates)
        if self._ticking:
            self._clock.callLater(PERIOD, self._tick)

    def title(self) -> str:
        """With Haraka's words."""
        seconds = self._clock.seconds() - self._began
        connections, recipients, messages = self._connections, self._recipients, self._messages
        return (
            f"harakatls cn={connections.total} cc={self._open} "
            f"cps={connections.over(seconds)} "
            f"rcpts={recipients.total}/{_ratio(recipients.total, messages.total)} "
            f"rps={recipients.over(seconds)} "
            f"msgs={messages.total}/{_ratio(messages.total, connections.total)} "
            f"mps={messages.over(seconds)}"
        )


def _ratio(count: int, by: float) -> str:
    return f"{count / by:.2f}".rstrip("0").rstrip(".") if by else "0"
