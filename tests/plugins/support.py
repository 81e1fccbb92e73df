"""What the tests of plugins share: a config directory on disk and the values hooks are given."""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.connection import Connection, Endpoint, TLSSummary, Transaction
from harakatls.interfaces import IMessageBody, IResolver, IServerTLS, ISpool, IStagedMessage, Site
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient

ME = "mail.example.com"

T = TypeVar("T")


def result_of(test: SynchronousTestCase, asked: Coroutine[Any, Any, T]) -> T:
    """Of a hook that has nothing to wait for."""
    result: T = test.successResultOf(asked)
    return result


def call_here(function: Callable[..., Any], *arguments: object) -> Deferred[Any]:
    """In place of a thread."""
    return maybeDeferred(function, *arguments)


def config_of(test: SynchronousTestCase, files: Mapping[str, str]) -> ConfigDirectory:
    """A config directory with these files, in an instance directory of its own."""
    directory = Path(test.mktemp()) / "config"
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return ConfigDirectory(directory)


def site_of(
    test: SynchronousTestCase, files: Mapping[str, str], tls: IServerTLS | None = None
) -> Site:
    """A site for a plugin that uses neither spool nor resolver."""
    unused: Any = object()
    return Site(
        config=config_of(test, files),
        me=ME,
        clock=Clock(),
        spool=cast(ISpool, unused),
        tls=tls or cast(IServerTLS, unused),
        resolver=cast(IResolver, unused),
        call_in_thread=call_here,
    )


def connection_from(host: str = "192.0.2.1", secured: TLSSummary | None = None) -> Connection:
    """A connection from *host* to our port 25."""
    return Connection("C0FFEE", Endpoint(host, 40000), Endpoint("192.0.2.25", 25), secured=secured)


def recipient(address: str) -> Recipient:
    """Of an address as text."""
    return Recipient(parse_address(address))


def transaction_for(
    *recipients: str,
    sender: str | None = "from@example.net",
    relaying: bool = False,
    body: str | None = None,
) -> Transaction:
    """A transaction with these recipients."""
    reverse_path = None if sender is None else parse_address(sender)
    envelope = Envelope(reverse_path, tuple(map(recipient, recipients)), MailParameters(body=body))
    return Transaction("C0FFEE.1", envelope, relaying)


@implementer(IMessageBody)
class Body:
    """A body that gives a few octets at a time."""

    def __init__(self, content: bytes, step: int = 1 << 20) -> None:
        self.size = len(content)
        self.closed = False
        self._rest = content
        self._step = step

    async def read(self, length: int) -> bytes:
        """At most *step* octets."""
        length = min(length, self._step)
        chunk, self._rest = self._rest[:length], self._rest[length:]
        return chunk

    def close(self) -> None:
        """Remembered."""
        self.closed = True


class Message:
    """As much of a staged message as the queue plugins use."""

    id = "C0FFEE.1"

    def __init__(
        self, content: bytes = b"Subject: x\r\n\r\nHello\r\n", step: int = 1 << 20
    ) -> None:
        self.content = content
        self.size = len(content)
        self.opened: list[Body] = []
        self.committed: list[Envelope] = []
        self.failure: Exception | None = None
        self._step = step

    def open(self) -> Body:
        """Each time from the start."""
        self.opened.append(Body(self.content, self._step))
        return self.opened[-1]

    async def commit(self, envelope: Envelope) -> str:
        """Remembered, unless it is to fail."""
        if self.failure is not None:
            raise self.failure
        self.committed.append(envelope)
        return self.id


def staged(message: Message) -> IStagedMessage:
    """For the type checker: not all of a staged message, but all that is used."""
    return cast(IStagedMessage, message)
