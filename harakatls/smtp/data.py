"""The text of a message on the wire: its end, its dots, its line ends (RFC 5321 section 4.5.2)."""

import re

from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.events import NEED_DATA, BodyEnded, BodyReceived, Pause
from harakatls.smtp.lines import LineBuffer
from harakatls.smtp.refusals import TOO_LARGE, refuse
from harakatls.smtp.text import PIECE, TextDecoder, line_ends

# So many times the limit of a message is read, to be refused at its end: a client that is cut off
# only sends it all again.
ABSURD_MESSAGE = 20

END = b"\r\n.\r\n"
_DOT = b"\r\n."
_DOT_ALONE = ord(".")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class DotDecoder(TextDecoder):
    """
    Finds the end of a message, takes stuffed dots away, folds long lines; piece by piece.

    Nothing but CRLF ends a line, and nothing but CRLF . CRLF the message. The pieces may be cut
    anywhere; the text and what is told about it are the same. The octets are looked at by a few
    searches in C, never one by one or line by line in Python.

    @ivar ended: the end was found.
    @ivar unused: octets of the last piece that stand behind the end; 0 before it was found.
    """

    __slots__ = ("_held", "ended", "unused")

    def __init__(self, line: int = 0, limit: int = 0) -> None:
        """As `TextDecoder`."""
        super().__init__(line, limit)
        # What may belong to the end. A dot at the very start is behind a CRLF too: that of DATA.
        self._held = b"\r\n"
        self.ended = False
        self.unused = 0

    def decode(self, data: bytes) -> bytes:
        """
        The text that is sure by now, as far as it is within the limit.

        @param data: what came next; not to be called when the end was found.
        """
        wire = self._held + data
        # Base64 has no dots at all, and one octet is found fastest, as a number; three are found
        # faster from behind than from the front.
        dot = wire.rfind(_DOT) if _DOT_ALONE in wire else -1
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
            self._line_ends = line_ends()
            text = text[2:]  # the CRLF of DATA
        return self._checked(text, self._line_ends)

    def _hold(self, wire: bytes, octets: int) -> bytes:
        self._held = wire[len(wire) - octets :]
        return wire[: len(wire) - octets]

    def _end(self, wire: bytes, end: int) -> bytes:
        self.ended = True
        self.unused = len(wire) - end - len(END)
        self._held = b""
        return wire[: end + 2]


def _start_of_end(wire: bytes) -> int:
    """How many of the last octets of *wire* may be the first of END."""
    return next(n for n in range(len(END) - 1, -1, -1) if wire.endswith(END[:n]))


class DataReader:
    """Gives out the message behind DATA, as its octets come."""

    __slots__ = ("_decoder", "_most")

    def __init__(self, line: int, limit: int) -> None:
        """As `TextDecoder`."""
        self._decoder = DotDecoder(line, limit)
        self._most = limit * ABSURD_MESSAGE

    @property
    def size(self) -> int:
        """Octets of the text so far."""
        return self._decoder.size

    def next_event(self, lines: LineBuffer) -> BodyReceived | BodyEnded | Pause:
        """
        @param lines: what the client has sent.
        @raise RemoteProtocolError: so much that it is not to be heard out.
        """
        decoder = self._decoder
        while True:
            if 0 < self._most < decoder.size:
                refuse(TOO_LARGE)
            if decoder.ended:
                return BodyEnded(decoder.size, decoder.refusal)
            data = lines.take(PIECE)
            if not data:
                return NEED_DATA
            text = decoder.decode(data)
            lines.give_back(decoder.unused)
            if text:
                return BodyReceived(text)


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
        seen = line_ends()
        seen.decode(text.decode("latin-1"), final=True)
        if seen.newlines not in (None, "\r\n"):
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
