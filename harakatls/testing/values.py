"""Values to start from, and a DNS of fixed answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import Factory, evolve, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from harakatls.connection import Connection, Endpoint, Hello, Transaction
from harakatls.interfaces import IMessageBody, IResolver, NoSuchDomain
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.mail.route import MailExchanger, NextHop
from harakatls.queued import QueuedMessage

SENDER = "alice@sender.example"
RECIPIENT = "bob@recipient.example"
ARRIVED = 1_700_000_000.0
NEXT_HOP = NextHop("192.0.2.1", "recipient.example", mx_name="mx.recipient.example")


def recipient(address: str = RECIPIENT) -> Recipient:
    """From ``local@domain``."""
    return Recipient(parse_address(address))


def envelope(sender: str | None = SENDER, recipients: Iterable[str] = (RECIPIENT,)) -> Envelope:
    """@param sender: None is the null reverse-path."""
    reverse_path = None if sender is None else parse_address(sender)
    return Envelope(reverse_path, tuple(recipient(text) for text in recipients))


def connection(**changes: Any) -> Connection:
    """A client at 192.0.2.10 that has said EHLO; *changes* are fields of `Connection`."""
    usual = Connection(
        "1F0E2D3C-4B5A-6978-8796-A5B4C3D2E1F0",
        Endpoint("192.0.2.10", 49152),
        Endpoint("198.51.100.1", 25),
        hello=Hello("client.example", extended=True),
    )
    return evolve(usual, **changes)


def transaction(**changes: Any) -> Transaction:
    """From `SENDER` to `RECIPIENT`; *changes* are fields of `Transaction`."""
    return evolve(Transaction(f"{connection().id}.1", envelope()), **changes)


def queued_message(
    sender: str | None = SENDER, recipients: Iterable[str] = (RECIPIENT,), **changes: Any
) -> QueuedMessage:
    """
    A message in the queue that has not been tried yet.

    @param recipients: of one domain.
    @param changes: fields of `QueuedMessage`.
    """
    mail = envelope(sender, recipients)
    usual = QueuedMessage(
        f"{transaction().id}.1",
        mail,
        mail.recipients[0].address.domain,
        arrived=ARRIVED,
        due=ARRIVED,
        size=len(MESSAGE),
        pending=mail.recipients,
    )
    return evolve(usual, **changes)


MESSAGE = (
    b"From: alice@sender.example\r\nTo: bob@recipient.example\r\n"
    b"Message-Id: <1@sender.example>\r\nSubject: hello\r\n\r\nHello Bob.\r\n.hidden\r\n"
)


@implementer(IMessageBody)
class FixedBody:
    """A message that is in memory."""

    def __init__(self, content: bytes = MESSAGE) -> None:
        self.size = len(content)
        self.closed = False
        self._content = content
        self._position = 0

    async def read(self, length: int) -> bytes:
        """As `IMessageBody.read`."""
        start = self._position
        self._position = min(start + length, self.size)
        return self._content[start : self._position]

    def close(self) -> None:
        """As `IMessageBody.close`."""
        self.closed = True


@implementer(IResolver)
@frozen
class FixedResolver:
    """
    Knows what it is given and nothing else; what stands nowhere does not exist.

    @ivar exchangers: by domain: (preference, host) pairs, or the exception to be raised.
    @ivar hosts: by name: addresses, or the exception to be raised.
    @ivar pointers: by address: names, or the exception to be raised.
    @ivar asked: what was looked up, in order: ("mx", domain), ("address", host), ("name", address).
    """

    exchangers: Mapping[str, Sequence[tuple[int, str]] | Exception] = Factory(dict)
    hosts: Mapping[str, Sequence[str] | Exception] = Factory(dict)
    pointers: Mapping[str, Sequence[str] | Exception] = Factory(dict)
    asked: list[tuple[str, str]] = field(init=False, factory=list)

    async def mx(self, domain: str) -> tuple[MailExchanger, ...]:
        """As `IResolver.mx`."""
        self.asked.append(("mx", domain))
        found = self.exchangers.get(domain, ())
        if isinstance(found, Exception):
            raise found
        if not found and domain not in self.exchangers and domain not in self.hosts:
            raise NoSuchDomain(domain)
        return tuple(MailExchanger(preference, host) for preference, host in found)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """As `IResolver.addresses`."""
        self.asked.append(("address", host))
        return _found(self.hosts, host)

    async def names(self, address: str) -> tuple[str, ...]:
        """As `IResolver.names`."""
        self.asked.append(("name", address))
        return _found(self.pointers, address)


def _found(records: Mapping[str, Sequence[str] | Exception], key: str) -> tuple[str, ...]:
    found = records.get(key)
    if found is None:
        raise NoSuchDomain(key)
    if isinstance(found, Exception):
        raise found
    return tuple(found)


def run(coroutine: Any, *then: Callable[[], object]) -> "Deferred[Any]":
    """Start *coroutine*, then call each of *then*, such as a network's `flush`."""
    running = Deferred.fromCoroutine(coroutine)
    for step in then:
        step()
    return running
