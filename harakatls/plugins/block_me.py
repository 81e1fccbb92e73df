"""Users block senders by forwarding their mail to an address of ours (Haraka's block_me)."""

import os
import re
from email import message_from_bytes
from email.errors import MessageError
from email.message import Message
from email.utils import parseaddr
from pathlib import Path

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import (
    IMailHook,
    IMessageHook,
    IQueueHook,
    IStagedMessage,
    Site,
)
from harakatls.mail.address import Address, AddressError, parse_address
from harakatls.plugins.contents import read_message
from harakatls.plugins.files import CallInThread, refusal
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Reject, TempFail, Verdict

log = Logger()

RECIPIENT = "block_me.recipient"
SENDERS = "block_me.senders"
BLOCKED = "mail_from.blocklist"
NOTE = "block_me"
LOOKED_AT = 1 << 20  # octets of a forwarded message
LONGEST_FROM = 1000  # characters of the field that are looked at

# None of it goes beyond where another one may begin: else each would be compared with all that
# comes behind it, and nobody else be served for a second.
_FROM = re.compile(r"\bFrom:(?:(?!From:)[^<\n]){0,1000}<([^<>\n]{1,320})>")


@frozen
class Addresses:
    """
    All in lower case.

    @ivar recipient: where to forward mail to; None where nothing was said.
    @ivar senders: who may.
    @ivar blocked: whose mail is refused.
    """

    recipient: Address | None
    senders: frozenset[Address]
    blocked: frozenset[Address]

    @classmethod
    def load(cls, config: ConfigDirectory) -> "Addresses":
        """@raise ConfigError: a line is no address."""
        recipient = config.value(RECIPIENT)
        return cls(
            _addresses(RECIPIENT, (recipient,))[0] if recipient else None,
            frozenset(_addresses(SENDERS, config.lines(SENDERS))),
            frozenset(_addresses(BLOCKED, config.lines(BLOCKED))),
        )


def load(site: Site) -> "BlockMe":
    """From block_me.recipient, block_me.senders and mail_from.blocklist."""
    addresses = Addresses.load(site.config)
    if addresses.recipient is None:
        expected = "is empty; expected the address to forward unwanted mail to"
        raise ConfigError(RECIPIENT, None, None, expected)
    if not addresses.senders:
        log.warn("{file} is empty: nobody may block anybody", file=SENDERS)
    file = site.config.resolve(BLOCKED)
    return BlockMe(addresses, file, site.call_in_thread)


def _addresses(file: str, lines: tuple[str, ...]) -> tuple[Address, ...]:
    try:
        return tuple(_folded(parse_address(line)) for line in lines)
    except AddressError as problem:
        found = f"{problem}; expected an address such as user@example.com"
        raise ConfigError(file, None, None, found) from None


def _folded(address: Address) -> Address:
    return Address(address.local_part.lower(), address.domain)


@implementer(IMailHook, IMessageHook, IQueueHook)
class BlockMe:
    """
    Refuses the senders in mail_from.blocklist, and adds to them.

    It has to be asked before the plugins that would take the message.
    """

    def __init__(self, addresses: Addresses, file: Path, call_in_thread: CallInThread) -> None:
        """@param file: that of those who are blocked."""
        self._recipient = addresses.recipient
        self._senders = addresses.senders
        self._blocked = set(addresses.blocked)
        self._file = file
        self._call_in_thread = call_in_thread

    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        """Who may relay is never a stranger."""
        sender = transaction.envelope.reverse_path
        if sender is None or transaction.relaying or _folded(sender) not in self._blocked:
            return CONTINUE
        return Reject(Reply.of(550, "5.7.1", f"sender <{sender}> is blocked here"))

    async def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """A message to the one address, from a user, names in its text whom to block."""
        envelope = transaction.envelope
        if not transaction.relaying or [_folded(r.address) for r in envelope.recipients] != [
            self._recipient
        ]:
            return CONTINUE
        sender = envelope.reverse_path
        if sender is None or _folded(sender) not in self._senders:
            text = f"You are not allowed to block mail, {sender or '<>'}"
            return Reject(Reply.of(550, "5.7.1", text))
        address = await self._call_in_thread(named_in, await read_message(message, LOOKED_AT))
        if address is None:
            log.warn("{id} names nobody to block", id=transaction.id)
            return CONTINUE
        try:
            await self._block(address)
        except OSError as problem:
            log.error("{file} cannot be written: {problem}", file=str(self._file), problem=problem)
            return TempFail(refusal(problem))
        log.info(
            "{id}: {sender} blocks {address}", id=transaction.id, sender=sender, address=address
        )
        transaction.notes[NOTE] = True
        return CONTINUE

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """What was obeyed is not delivered."""
        return ACCEPT if transaction.notes.get(NOTE) else CONTINUE

    async def _block(self, address: Address) -> None:
        folded = _folded(address)
        if folded not in self._blocked:
            await self._call_in_thread(_append, self._file, _line(address))
            self._blocked.add(folded)


def named_in(octets: bytes) -> Address | None:
    """
    Whose mail is forwarded: the first address behind ``From:`` in the text of a message, or in the
    header of one that is attached. None without one, and where it is made not to be read.
    """
    try:
        for part in message_from_bytes(octets).walk():
            for found in _FROM.finditer(_text(part)):
                try:
                    return parse_address(found[1].strip())
                except AddressError:
                    continue
    except (RecursionError, MessageError, LookupError, ValueError):
        pass  # parts within parts, or comments within comments, without end
    return None


def _text(part: Message) -> str:
    """What may have a line with From in it."""
    if part.get_content_type() == "message/rfc822":
        attached = part.get_payload()
        inner = attached[0] if isinstance(attached, list) and attached else None
        sender = (
            parseaddr(str(inner["From"])[:LONGEST_FROM])[1] if isinstance(inner, Message) else ""
        )
        return f"From: <{sender}>"
    if part.get_content_maintype() != "text":
        return ""
    octets = part.get_payload(decode=True)
    return octets.decode("utf-8", "replace") if isinstance(octets, bytes) else ""


def _line(address: Address) -> str:
    """As a list has it, in which # begins a comment."""
    text = str(address)
    if not text.startswith("#"):
        return text
    return f'"{address.local_part}"@{address.domain}'


def _append(file: Path, line: str) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        size = os.fstat(descriptor).st_size
        end = b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""
        os.write(descriptor, end + f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
