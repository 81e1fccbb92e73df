"""The header of a message while it comes in: what is counted, looked for and renamed in it."""

import re

from harakatls.mail.header import HEADER_OCTETS
from harakatls.mail.tls_required import NAME, TLSRequiredField

_START = b"\r\n"  # in front of the message, so that its first line is one like the others
_RECEIVED = b"\r\nreceived:"
_RESULTS = b"\r\nauthentication-results"
_RESULTS_FIELD = re.compile(rb"(?<=\r\n)(?=authentication-results[ \t:])", re.IGNORECASE)
_HEADER_END = b"\r\n\r\n"
# What may still become the start of a field that matters: all of its name, and what stands behind.
_UNDECIDED = len(_RESULTS) + 1


class IncomingHeader:
    """
    Passes a message on, piece by piece, as it is behind its header, that is, behind the first empty
    line; of the header at most the start of one field is held back.

    Received fields are counted (RFC 5321 section 6.3), and lines; TLS-Required is looked for. What
    others say about authentication is renamed where that is wanted: who trusts us must not take it
    for our word (RFC 8601 section 5).

    @ivar received: how many there are.
    @ivar lines: of the header.
    @ivar is_open: its end has not been seen.
    """

    __slots__ = (
        "_gathered",
        "_held",
        "_is_start",
        "_names_tls_required",
        "_renames",
        "is_open",
        "lines",
        "received",
    )

    def __init__(self, rename_results: bool = False) -> None:
        """@param rename_results: Authentication-Results to Original-Authentication-Results."""
        self.received = 0
        self.lines = -1  # without the one in front
        self._renames = rename_results
        self.is_open = self._is_start = True
        self._held = _START
        self._gathered = bytearray()  # as much as matters for TLS-Required
        self._names_tls_required = False

    @property
    def says_tls_is_optional(self) -> bool:
        """TLS-Required: No (RFC 8689). To be asked when all of the message is there."""
        if not self._names_tls_required:  # nearly always
            return False
        field = TLSRequiredField()
        field.add(bytes(self._gathered))
        return field.says_no

    def pass_on(self, chunk: bytes) -> bytes:
        """
        @param chunk: the next octets of the message, in wire form.
        @return: what is decided of the message.
        """
        if not self.is_open or self._is_settled(chunk):
            return chunk
        self._gather(chunk)
        seen = self._held + chunk
        end = seen.find(_HEADER_END)
        if end >= 0:
            self.is_open = False
            header, self._held, rest = seen[: end + 2], b"", seen[end + 2 :]
        else:
            decided = len(seen) - _undecided(seen)
            header, self._held, rest = seen[:decided], seen[decided:], b""
        header = self._read(header) + rest
        if not (self.is_open or self._names_tls_required):
            self._gathered.clear()
        if self._is_start and header:
            self._is_start = False
            return header[2:]
        return header

    def _is_settled(self, start: bytes) -> bool:
        """
        All of the header is in the first piece, and nothing in it is renamed.

        Nearly always it is so; then the piece is not copied, which would cost more than all else.
        """
        end = start.find(_HEADER_END) if self._held is _START else -1
        if end < 0:
            return False
        header = b"" if start.startswith(_START) else start[: end + 2]
        lower = _START + header.lower()
        # To find takes half of the time that "in" does.
        if self._renames and lower.find(_RESULTS) >= 0:
            return False
        if lower.find(NAME) >= 0:
            self._names_tls_required = True
            self._gather(start)
        self.received = lower.count(_RECEIVED)
        self.lines = header.count(b"\n")
        self.is_open = self._is_start = False
        self._held = b""
        return True

    def _gather(self, chunk: bytes) -> None:
        self._gathered += chunk[: HEADER_OCTETS - len(self._gathered)]

    def end(self) -> bytes:
        """The message is over. @return: what was held back."""
        rest, self._held = self._held, b""
        if not self.is_open:
            return rest
        self.is_open = False
        rest = self._read(rest)
        return rest[2:] if self._is_start else rest

    def _read(self, header: bytes) -> bytes:
        lower = header.lower()
        self.received += lower.count(_RECEIVED)
        self.lines += header.count(b"\n")
        if lower.find(NAME) >= 0:
            self._names_tls_required = True
        if self._renames and _RESULTS in lower:
            return _RESULTS_FIELD.sub(b"Original-", header)
        return header


def _undecided(seen: bytes) -> int:
    """Octets at the end that do not say yet what they are the start of."""
    line = seen.rfind(b"\r\n", max(0, len(seen) - _UNDECIDED))
    if line >= 0:
        return len(seen) - line
    return 1 if seen.endswith(b"\r") else 0
