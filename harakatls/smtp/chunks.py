"""A message in chunks, the server's side (RFC 3030): BDAT, and the octets that follow it."""

import re

from harakatls.smtp.events import (
    NEED_DATA,
    BodyEnded,
    BodyReceived,
    ChunkEnded,
    ChunkReceived,
    Pause,
)
from harakatls.smtp.lines import LineBuffer
from harakatls.smtp.text import PIECE, TextDecoder, line_ends

_SYNTAX = re.compile(r"([0-9]{1,20})(?: +(LAST))?\Z", re.IGNORECASE | re.ASCII)
_HEADER_END = b"\r\n\r\n"


def parse_chunk(argument: str) -> tuple[int, bool] | None:
    """
    What stands behind BDAT: the octets of the chunk, and whether it is the last one.

    None where it cannot be read: then nobody knows where the next command starts.
    """
    found = _SYNTAX.match(argument)
    return None if found is None else (int(found[1]), found[2] is not None)


class ChunkDecoder(TextDecoder):
    """
    The text of a message that comes in chunks.

    A text has the same done to it as one by DATA: bare CR and LF are found, long lines folded, and
    the last line is completed. Of a BINARYMIME message only the header is such a text; all of it is
    given out as it came.
    """

    __slots__ = ("_end", "_in_text")

    def __init__(self, line: int, limit: int, binary: bool) -> None:
        """
        @param line: octets of a line without its CRLF; longer ones are folded. 0: never.
        @param limit: octets of the text that are given out; 0 is without limit.
        @param binary: it was announced with BODY=BINARYMIME.
        """
        super().__init__(0 if binary else line, limit)
        self._line_ends = line_ends()
        self._end = b"\r\n"  # the last three octets: an empty line may begin the message
        self._in_text: bool | None = True if binary else None  # None: there is nothing else

    def decode(self, data: bytes) -> bytes:
        """@param data: some octets of a chunk."""
        if self._in_text is None:
            self._end = (self._end + data[-2:])[-2:]
            return self._checked(data, self._line_ends)
        if self._in_text and self._line_ends is not None:
            seen = self._end + data
            header_end = seen.find(_HEADER_END)
            self._in_text = header_end < 0
            text = seen if header_end < 0 else seen[: header_end + len(_HEADER_END)]
            self._line_ends.decode(text[len(self._end) :].decode("latin-1"))
            self._end = seen[1 - len(_HEADER_END) :]
        return self._checked(data, None)

    def complete(self) -> bytes:
        """The message has ended. @return: what its last line is lacking."""
        if self._line_ends is not None:
            self._line_ends.decode("", final=True)
        if self._in_text is None and self.size and self._end != b"\r\n":
            self._end = b"\r\n"
            return self._checked(self._end, None)
        return b""


class ChunkReader:
    """Gives out the chunks of one message, as their octets come."""

    __slots__ = ("_decoder", "_last", "_left", "_size")

    def __init__(self, line: int, limit: int, binary: bool) -> None:
        """As `ChunkDecoder`."""
        self._decoder = ChunkDecoder(line, limit, binary)
        self._size = self._left = 0
        self._last = False

    @property
    def size(self) -> int:
        """Octets of the text so far."""
        return self._decoder.size

    def begin(self, chunk: ChunkReceived) -> None:
        """Its octets come next."""
        self._size = self._left = chunk.size
        self._last = chunk.last

    def next_event(self, lines: LineBuffer) -> BodyReceived | ChunkEnded | BodyEnded | Pause:
        """@param lines: what the client has sent."""
        decoder = self._decoder
        while self._left:
            octets = lines.take(min(PIECE, self._left))
            if not octets:
                return NEED_DATA
            lines.give_back(0)
            self._left -= len(octets)
            text = decoder.decode(octets)
            if text:
                return BodyReceived(text)
        if not self._last:
            return ChunkEnded(self._size, decoder.refusal)
        rest = decoder.complete()
        if rest:
            return BodyReceived(rest)
        return BodyEnded(decoder.size, decoder.refusal)
