"""The text of a message as it comes, piece by piece: its line ends, its lines, its size."""

from io import IncrementalNewlineDecoder

from harakatls.smtp.refusals import BARE_LINE_ENDS, TOO_LARGE
from harakatls.smtp.reply import Reply

PIECE = 65536  # octets of a message that are given out at once, at most
_FOLD = b"\r\n "
_CR = 13
_SHORTEST_LINE = 2  # of which the space of a fold is one


def line_ends() -> IncrementalNewlineDecoder:
    """
    It knows which kinds of line ends it has seen, wherever the text is cut: the fastest exact way
    to ask. (Counting CR, LF and CRLF takes three times as long, a pattern fifty times.)
    """
    return IncrementalNewlineDecoder(None, translate=False)


class TextDecoder:
    """
    What is the same for a message by DATA and by BDAT.

    @ivar size: octets of the text, with its folds; of what is above the limit too.
    """

    __slots__ = ("_column", "_limit", "_line", "_line_ends", "size")

    def __init__(self, line: int = 0, limit: int = 0) -> None:
        """
        @param line: octets of a line without its CRLF; longer ones are folded. 0: never.
        @param limit: octets of the text that are given out; 0 is without limit.
        """
        self._line = max(line, _SHORTEST_LINE) if line else 0
        self._limit = limit
        self._column = 0  # octets of the line that is not complete
        self._line_ends: IncrementalNewlineDecoder | None = None  # None: nothing is sure yet
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

    @property
    def refusal(self) -> Reply | None:
        """Why the message cannot be accepted; None where it can."""
        if self.is_too_large:
            return TOO_LARGE
        return BARE_LINE_ENDS if self.has_bare_line_ends else None

    def _checked(self, text: bytes, seen: IncrementalNewlineDecoder | None) -> bytes:
        """
        @param text: what came next of it.
        @param seen: is to see its line ends.
        @return: the same with its long lines folded, as far as it is within the limit.
        """
        if seen is not None:
            seen.decode(text.decode("latin-1"))
        if self._line:
            text = self._folded(text)
        self.size += len(text)
        if 0 < self._limit < self.size:
            return text[: max(0, self._limit - (self.size - len(text)))]
        return text

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
