"""The text of a message on the wire: its end, its dots, its line ends (RFC 5321 section 4.5.2)."""

import re
from io import IncrementalNewlineDecoder

from harakatls.smtp.errors import LocalProtocolError

END = b"\r\n.\r\n"
_DOT = b"\r\n."
_FOLD = b"\r\n "
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_CR = 13
_SHORTEST_LINE = 2  # of which the space of a fold is one


def _line_ends() -> IncrementalNewlineDecoder:
    # It knows which kinds of line ends it has seen, wherever the text is cut: the fastest exact
    # way to ask. (Counting CR, LF and CRLF takes three times as long, a pattern fifty times.)
    return IncrementalNewlineDecoder(None, translate=False)


class DotDecoder:
    """
    Finds the end of a message, takes stuffed dots away, folds long lines; piece by piece.

    Nothing but CRLF ends a line, and nothing but CRLF . CRLF the message. The pieces may be cut
    anywhere; the text and what is told about it are the same. The octets are looked at by a few
    searches in C, never one by one or line by line in Python.

    @ivar ended: the end was found.
    @ivar unused: octets of the last piece that stand behind the end; 0 before it was found.
    @ivar size: octets of the text, with its folds; of what is above the limit too.
    """

    __slots__ = ("_column", "_held", "_limit", "_line", "_line_ends", "ended", "size", "unused")

    def __init__(self, line: int = 0, limit: int = 0) -> None:
        """
        @param line: octets of a line without its CRLF; longer ones are folded. 0: never.
        @param limit: octets of the text that are given out; 0 is without limit.
        """
        self._line = max(line, _SHORTEST_LINE) if line else 0
        self._limit = limit
        self._column = 0  # octets of the line that is not complete
        # What may belong to the end. A dot at the very start is behind a CRLF too: that of DATA.
        self._held = b"\r\n"
        self._line_ends: IncrementalNewlineDecoder | None = None  # None: nothing is sure yet
        self.ended = False
        self.unused = 0
        self.size = 0

    @property
    def is_too_large(self) -> bool:
        """There is more than the limit."""
        return 0 < self._limit < self.size

    @property
    def has_bare_line_ends(self) -> bool:
        """
        A CR or LF stands alone.

        Such a text must not be passed on: the next server may take it for the end of a line, and
        what follows for commands (SMTP smuggling).
        """
        return self._line_ends is not None and self._line_ends.newlines not in (None, "\r\n")

    def decode(self, data: bytes) -> bytes:
        """
        The text that is sure by now, as far as it is within the limit.

        @param data: what came next; not to be called when the end was found.
        """
        wire = self._held + data
        # Base64 has no dots at all, and one octet is found fastest; three are found faster from
        # behind than from the front.
        dot = wire.rfind(_DOT) if b"." in wire else -1
        if dot < 0:
            kept = 2 if wire.endswith(b"\r\n") else 1 if wire.endswith(b"\r") else 0
            text = self._hold(wire, kept)
        elif wire.startswith(END, dot) and wire.rfind(_DOT, 0, dot) < 0:
            text = self._end(wire, dot)
        else:
            end = wire.find(END)
            text = self._hold(wire, _start_of_end(wire)) if end < 0 else self._end(wire, end)
            text = text.replace(_DOT, b"\r\n")
        if self._line_ends is None:
            if not text:
                return b""
            self._line_ends = _line_ends()
            text = text[2:]  # the CRLF of DATA
        self._line_ends.decode(text.decode("latin-1"))
        if self._line:
            text = self._folded(text)
        self.size += len(text)
        if 0 < self._limit < self.size:
            return text[: max(0, self._limit - (self.size - len(text)))]
        return text

    def _hold(self, wire: bytes, octets: int) -> bytes:
        self._held = wire[len(wire) - octets :]
        return wire[: len(wire) - octets]

    def _end(self, wire: bytes, end: int) -> bytes:
        self.ended = True
        self.unused = len(wire) - end - len(END)
        self._held = b""
        return wire[: end + 2]

    def _folded(self, text: bytes) -> bytes:
        """
        With CRLF and a space where a line gets too long, but not within a character of UTF-8.

        Jumps from line end to line end, each time the farthest that a good line reaches.
        """
        line, size = self._line, len(text)
        start = -self._column
        pieces: list[bytes] = []
        done = 0
        while (cut := start + line) < size:
            if cut >= 0:
                end = text.rfind(b"\n", start if start > 0 else 0, cut + 1)
                if end >= 0:
                    start = _last_jump(text, end + 1, line + 1)
                    continue
            # Whatever is decided here must not depend on what is behind text[cut].
            last = cut + 3
            cut = max(cut, 0)
            while cut < last and cut < size and text[cut] & 0xC0 == 0x80:
                cut += 1
            if cut == size:
                break
            if text[cut] == _CR:
                start = cut + 2
                continue
            pieces += text[done:cut], _FOLD
            done = cut
            start = cut - 1
        end = text.rfind(b"\n", start if start > 0 else 0)
        self._column = size - (end + 1 if end >= 0 else start)
        if not pieces:
            return text
        pieces.append(text[done:])
        return b"".join(pieces)


def _last_jump(text: bytes, start: int, reach: int) -> int:
    """Where the first line starts, at or behind *start*, that has no end within *reach* octets."""
    find = text.rfind
    while (end := find(b"\n", start, start + reach)) >= 0:
        start = end + 1
    return start


def _start_of_end(wire: bytes) -> int:
    """How many of the last octets of *wire* may be the first of END."""
    return next(n for n in range(len(END) - 1, -1, -1) if wire.endswith(END[:n]))


class ChunkEncoder:
    """A text as one chunk of a size that was told beforehand (RFC 3030): it is sent as it is."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    def encode(self, data: bytes) -> bytes:
        """@raise LocalProtocolError: it is more than was told."""
        self._left -= len(data)
        if self._left < 0:
            raise LocalProtocolError("the message is longer than was said")
        return data

    def end(self) -> bytes:
        """@raise LocalProtocolError: it is less than was told: the server waits for the rest."""
        if self._left:
            raise LocalProtocolError("the message is shorter than was said")
        return b""


class DotEncoder:
    """
    A text as it is sent: dots stuffed, the end added; piece by piece, cut anywhere.

    A bare CR or LF becomes CRLF: sent as it is, it could end the message for a server that is
    less strict than we are, and start a forged one.
    """

    __slots__ = ("_at_line_start", "_held")

    def __init__(self) -> None:
        self._held = b""  # a CR: LF may follow
        self._at_line_start = True

    def encode(self, data: bytes) -> bytes:
        """Some of the text."""
        text = self._held + data
        if text.endswith(b"\r"):
            self._held = b"\r"
            text = text[:-1]
        else:
            self._held = b""
        if not text:
            return b""
        line_ends = _line_ends()
        line_ends.decode(text.decode("latin-1"), final=True)
        if line_ends.newlines not in (None, "\r\n"):
            text = _BARE.sub(b"\r\n", text)
        wire = text.replace(_DOT, b"\r\n..") if b"." in text and text.rfind(_DOT) >= 0 else text
        if self._at_line_start and text.startswith(b"."):
            wire = b"." + wire
        self._at_line_start = text.endswith(b"\n")
        return wire

    def end(self) -> bytes:
        """What ends the message; the last line is completed."""
        if self._held or not self._at_line_start:
            return END
        return END[2:]
