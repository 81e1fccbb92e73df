"""Mail of this server's own: what plugins send (Haraka's send_email)."""

import re
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping
from typing import Any

from attrs import Factory, define, evolve
from twisted.logger import Logger

from harakatls.interfaces import ISpool, IStagedMessage
from harakatls.mail.address import Address, parse_address
from harakatls.mail.envelope import NO_PARAMETERS, Envelope, MailParameters, Recipient
from harakatls.mail.header import HEADER_OCTETS, header_length
from harakatls.mail.tls_required import TLSRequiredField
from harakatls.outbound.reports import Takers, hand_over, unique_id
from harakatls.smtp.parameters import needs_smtputf8

log = Logger()

CHUNK = 1 << 18
_LINE_END = re.compile(rb"\r\n|\r|\n")
_STUFFED = re.compile(rb"^\.", re.MULTILINE)


@define
class Mailer:
    """
    Queues mail of plugins.

    @ivar takers: the hooks that are asked to take it; None until the plugins are loaded.
    """

    spool: ISpool
    takers: Takers | None = None
    new_id: Callable[[], str] = unique_id

    async def send_email(
        self,
        sender: str | Address | None,
        recipients: Iterable[str | Address | Recipient],
        content: bytes | str | AsyncIterable[bytes],
        *,
        parameters: MailParameters = NO_PARAMETERS,
        remove: Collection[str] = (),
        dot_stuffed: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> str:
        """As `interfaces.SendEmail`."""
        if self.takers is None:
            raise RuntimeError("no mail can be sent before the plugins are loaded")
        envelope = Envelope(_sender(sender), _recipients(recipients), parameters)
        staged = await self.spool.stage(f"{self.new_id()}.1")
        try:
            wire = await _write(staged, content, remove, dot_stuffed)
            envelope = _fitting(envelope, wire)
            await hand_over(self.takers, staged, envelope, None, dict(notes or {}))
        finally:
            await staged.abort()
        log.info(
            "{queue_id} of our own, from <{sender}> recipients={recipients} octets={size}",
            queue_id=staged.id,
            sender=str(envelope.reverse_path or ""),
            recipients=len(envelope.recipients),
            size=staged.size,
        )
        return staged.id


# -- the envelope ---------------------------------------------------------------------------------


def _sender(sender: str | Address | None) -> Address | None:
    if isinstance(sender, str):
        return parse_address(sender) if sender not in ("", "<>") else None
    return sender


def _recipients(recipients: Iterable[str | Address | Recipient]) -> tuple[Recipient, ...]:
    """Each once, as it was given first."""
    if isinstance(recipients, str):
        recipients = (recipients,)
    found: dict[Address, Recipient] = {}
    for each in recipients:
        if isinstance(each, str):
            each = parse_address(each)
        recipient = each if isinstance(each, Recipient) else Recipient(each)
        found.setdefault(recipient.address, recipient)
    if not found:
        raise ValueError("a message without recipients")
    return tuple(found.values())


def _fitting(envelope: Envelope, wire: "_Wire") -> Envelope:
    """What the message needs, which who has written it need not know."""
    given = envelope.parameters
    body = given.body or (None if wire.is_ascii else "8BITMIME")
    parameters = evolve(given, smtputf8=needs_smtputf8(envelope), body=body)
    return evolve(envelope, parameters=parameters, tls_optional=wire.tls_required.says_no)


# -- the message ----------------------------------------------------------------------------------


async def _write(
    staged: IStagedMessage,
    content: bytes | str | AsyncIterable[bytes],
    remove: Collection[str],
    dot_stuffed: bool,
) -> "_Wire":
    """@return: what was learned of it."""
    wire = _Wire(frozenset(name.lower().encode() for name in remove))
    if isinstance(content, bytes | str):
        octets = content.encode() if isinstance(content, str) else content
        if dot_stuffed:
            octets = _STUFFED.sub(b"", _LINE_END.sub(b"\n", octets))
        for at in range(0, len(octets), CHUNK):
            await staged.write(wire.add(octets[at : at + CHUNK]))
    elif dot_stuffed:
        raise ValueError("a message that comes piece by piece cannot be dot-stuffed")
    else:
        async for piece in content:
            await staged.write(wire.add(piece))
    await staged.write(wire.end())
    return wire


@define
class _Wire:
    """
    Text with any line ends to what is sent: each line ends in CRLF.

    @ivar remove: names of header fields that are left out, in lower case.
    """

    remove: frozenset[bytes] = frozenset()
    is_ascii: bool = True
    tls_required: TLSRequiredField = Factory(TLSRequiredField)
    _held: bytes = b""  # a CR whose LF may follow
    _header: bytes | None = Factory(bytes)  # what is there of it; None behind its end
    _last: bytes = b""

    def add(self, piece: bytes) -> bytes:
        self.is_ascii = self.is_ascii and piece.isascii()
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        return self._out(_LINE_END.sub(b"\r\n", piece[: len(piece) - len(self._held)]))

    def end(self) -> bytes:
        rest = self._out(b"\r\n" if self._held else b"")
        if self._header is not None:
            header = self._without(self._header)
            self.tls_required.add(header)
            rest += header
            self._header = None
        last = (self._last + rest)[-2:]
        return rest if last == b"\r\n" else rest + b"\r\n"

    def _out(self, octets: bytes) -> bytes:
        if self._header is not None:
            self._header += octets
            length = header_length(self._header)
            if length is None and len(self._header) < HEADER_OCTETS:
                return b""
            end = len(self._header) if length is None else length
            octets = self._without(self._header[:end]) + self._header[end:]
            self._header = None
        self._last = (self._last + octets)[-2:]
        self.tls_required.add(octets)
        return octets

    def _without(self, header: bytes) -> bytes:
        kept, leaves_out = [], False
        for line in header.splitlines(keepends=True):
            if line[:1] not in b" \t":
                leaves_out = line.partition(b":")[0].strip().lower() in self.remove
            if not leaves_out:
                kept.append(line)
        return b"".join(kept)
