"""SMTP replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, RFC 3463)."""

import re
from functools import cached_property
from typing import NamedTuple

from attrs import frozen

from harakatls.smtp.errors import RemoteProtocolError

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: +|\Z)")
# RFC 5321 section 4.5.3.1.5 says 512; longer ones are met in practice.
REPLY_LINE_OCTETS = 4096
REPLY_LINES = 512


class EnhancedStatus(NamedTuple):
    """class.subject.detail, for example 5.1.1."""

    severity: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self[0]}.{self[1]}.{self[2]}"

    @classmethod
    def parse(cls, text: str) -> "EnhancedStatus":
        """@raise ValueError: *text* is not an enhanced status code."""
        found = _ENHANCED.match(text)
        if found is None or found.end() != len(text):
            raise ValueError(f"{text!r} is not an enhanced status code")
        return cls(int(found[1]), int(found[2]), int(found[3]))


@frozen(slots=False)
class Reply:
    """
    @ivar code: 200 to 599.
    @ivar enhanced: None where RFC 2034 allows none (greeting, EHLO, 3yz) or the peer gave none.
    @ivar lines: at least one; without code and enhanced status, without line ends.
    """

    code: int
    enhanced: EnhancedStatus | None
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, enhanced: str | None, *lines: str) -> "Reply":
        """A reply written by hand: ``Reply.of(550, "5.1.1", "No such user")``."""
        return cls(code, EnhancedStatus.parse(enhanced) if enhanced else None, lines or ("",))

    @property
    def is_positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        """4yz: may work later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz: will not work later either."""
        return self.code >= 500

    @cached_property
    def wire(self) -> bytes:
        """
        The octets to send, one CRLF after each line.

        Control characters become spaces, so that no text can end the line it stands in.
        """
        status = f"{self.enhanced} " if self.enhanced else ""
        out = []
        last = len(self.lines) - 1
        for number, line in enumerate(self.lines):
            text = line if line.isprintable() else _printable(line)
            out.append(f"{self.code}{' ' if number == last else '-'}{status}{text}\r\n")
        return "".join(out).encode("utf-8", "replace")

    def __str__(self) -> str:
        """On one line, for logs and bounces: ``550 5.1.1 No such user``."""
        status = f" {self.enhanced}" if self.enhanced else ""
        text = " ".join(line for line in self.lines if line)
        return f"{self.code}{status}{' ' if text else ''}{text}"


def _printable(line: str) -> str:
    return "".join(c if c >= " " and c != "\x7f" else " " for c in line)


class ReplyParser:
    """Gathers the lines of one reply, then of the next."""

    def __init__(self) -> None:
        self._code = 0
        self._lines: list[str] = []

    def line(self, line: bytes) -> Reply | None:
        """
        @param line: one line of a reply, without its CRLF.
        @return: the reply that it completes, or None.
        @raise RemoteProtocolError: it is no line of a reply, or of another one.
        """
        found = _LINE.match(line)
        if found is None or len(line) > REPLY_LINE_OCTETS:
            raise RemoteProtocolError(f"not a reply: {line[:100]!r}")
        code = int(found[1])
        if self._lines and code != self._code:
            raise RemoteProtocolError(f"a reply changes its code from {self._code} to {code}")
        if len(self._lines) >= REPLY_LINES:
            raise RemoteProtocolError("a reply without an end")
        self._code = code
        self._lines.append((found[3] or b"").decode("utf-8", "replace"))
        if found[2] == b"-":
            return None
        lines, self._lines = self._lines, []
        return _with_status(code, lines)


def _with_status(code: int, lines: list[str]) -> Reply:
    found = _ENHANCED.match(lines[0])
    if found is None or int(found[1]) != code // 100:
        return Reply(code, None, tuple(lines))
    status = EnhancedStatus(int(found[1]), int(found[2]), int(found[3]))
    prefix = f"{status}"
    bare = tuple(
        line[len(prefix) :].lstrip(" ") if line.startswith(prefix) else line for line in lines
    )
    return Reply(code, status, bare)
