"""SMTP replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, RFC 3463)."""

import re
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from attrs import field, frozen

from harakatls.smtp.errors import RemoteProtocolError

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")  # RFC 3463 section 2
_STATUS_AND_SPACE = re.compile(rf"{_STATUS.pattern}(?: +|\Z)")
# C0, DEL, C1, and what Unicode calls the end of a line.
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")
# RFC 5321 section 4.5.3.1.5: 512 with code, enhanced status and CRLF, for what we send.
TEXT_OCTETS = 480
_SHORT = TEXT_OCTETS // 4  # characters that always fit: UTF-8 needs four octets at most
# Longer ones are met in practice.
REPLY_LINE_OCTETS = 4096
REPLY_LINES = 512
REPLY_OCTETS = 65536


class EnhancedStatus(NamedTuple):
    """class.subject.detail, for example 5.1.1."""

    severity: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self[0]}.{self[1]}.{self[2]}"

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> "EnhancedStatus":
        """@raise ValueError: *text* is not an enhanced status code."""
        found = _STATUS.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not an enhanced status code")
        return cls(int(found[1]), int(found[2]), int(found[3]))


@frozen(slots=False)
class Reply:
    """
    @ivar code: 200 to 599.
    @ivar enhanced: None where RFC 2034 allows none (greeting, EHLO, 3yz) or the peer gave none.
    @ivar lines: at least one; without code and enhanced status, without line ends.
    @ivar heard: a peer said it, not we; for those who have to tell (RFC 3464 section 2.3.6). Two
        replies that say the same are equal all the same.
    """

    code: int
    enhanced: EnhancedStatus | None
    lines: tuple[str, ...]
    heard: bool = field(default=False, eq=False, repr=False)

    @classmethod
    def of(cls, code: int, enhanced: str | None, *lines: str) -> "Reply":
        """A reply written by hand: ``Reply.of(550, "5.1.1", "No such user")``."""
        return cls(code, EnhancedStatus.parse(enhanced) if enhanced else None, lines or ("",))

    @property
    def accepts(self) -> bool:
        """2yz. Who does not know the code reads its first digit (RFC 5321 section 4.2.1)."""
        return 200 <= self.code < 300

    @property
    def closes(self) -> bool:
        """421 is the end of a connection, whoever says it and as what (RFC 5321 section 3.8)."""
        return self.code == 421

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

    @property
    def wire(self) -> bytes:
        """
        The octets to send, one CRLF after each line.

        Control characters become spaces, so that no text can end the line it stands in; a text
        that is too long for one line goes on in the next.
        """
        # functools.cached_property takes a lock, which costs more than all the rest.
        made: bytes | None = self.__dict__.get("_wire")
        if made is None:
            made = self.__dict__["_wire"] = self._to_wire()
        return made

    def _to_wire(self) -> bytes:
        status = _before_text(self.enhanced) if self.enhanced else ""
        if len(self.lines) == 1 and len(self.lines[0]) < _SHORT:  # nearly all
            text = f"{self.code} {status}{_printable(self.lines[0])}\r\n"
            return text.encode("utf-8", "replace")
        *lines, last = (part for line in self.lines for part in _parts(line))
        out = [f"{self.code}-{status}{line}\r\n" for line in lines]
        out.append(f"{self.code} {status}{last}\r\n")
        return "".join(out).encode("utf-8", "replace")

    def wire_before(self, others: bytes) -> bytes:
        """
        The octets of a longer reply, which begins with this one.

        @param others: the octets of the lines that follow, as L{wire} gives them.
        """
        wire = self.wire
        hyphen = wire.rfind(b"\n", 0, -1) + 4  # in the last line
        return b"".join((wire[:hyphen], b"-", wire[hyphen + 1 :], others))

    def __str__(self) -> str:
        """On one line, for logs and bounces: ``550 5.1.1 No such user``."""
        status = f" {self.enhanced}" if self.enhanced else ""
        text = " ".join(line for line in self.lines if line)
        return f"{self.code}{status}{' ' if text else ''}{text}"


@lru_cache(maxsize=256)
def _before_text(status: EnhancedStatus) -> str:
    return f"{status} "


def _printable(line: str) -> str:
    return line if line.isprintable() else line.translate(_CONTROLS)


def _parts(line: str) -> Sequence[str]:
    text = _printable(line)
    if len(text) < _SHORT or len(text.encode("utf-8", "replace")) <= TEXT_OCTETS:
        return (text,)
    return textwrap.wrap(text, TEXT_OCTETS if text.isascii() else _SHORT)


class ReplyParser:
    """Gathers the lines of one reply, then of the next."""

    __slots__ = ("_code", "_lines", "_octets")

    def __init__(self) -> None:
        self._code = 0
        self._lines: list[str] = []
        self._octets = 0

    @property
    def has_begun(self) -> bool:
        """A reply is not complete."""
        return bool(self._lines)

    def line(self, line: bytes) -> Reply | None:
        """
        @param line: one line of a reply, without its CRLF.
        @return: the reply that it completes, or None. Control characters in its text have become
            spaces.
        @raise RemoteProtocolError: it is no line of a reply, or of another one.
        """
        found = _LINE.match(line)
        if found is None or len(line) > REPLY_LINE_OCTETS:
            raise RemoteProtocolError(f"not a reply: {line[:100]!r}")
        code = int(found[1])
        if self._lines and code != self._code:
            raise RemoteProtocolError(f"a reply changes its code from {self._code} to {code}")
        self._octets += len(line)
        if len(self._lines) >= REPLY_LINES or self._octets > REPLY_OCTETS:
            raise RemoteProtocolError("a reply without an end")
        self._code = code
        self._lines.append(_printable((found[3] or b"").decode("utf-8", "replace")))
        if found[2] == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        return _with_status(code, lines)


def _with_status(code: int, lines: list[str]) -> Reply:
    found = _STATUS_AND_SPACE.match(lines[0])
    if found is None or int(found[1]) != code // 100:
        return Reply(code, None, tuple(lines), heard=True)
    status = EnhancedStatus(int(found[1]), int(found[2]), int(found[3]))
    return Reply(code, status, tuple(_without(status, line) for line in lines), heard=True)


def _without(status: EnhancedStatus, line: str) -> str:
    found = _STATUS_AND_SPACE.match(line)
    return line[found.end() :] if found is not None and found[0].rstrip() == str(status) else line
