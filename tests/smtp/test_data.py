"""Messages on the wire."""

import re
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.data import DotDecoder, DotEncoder
from tests.smtp.support import cut, pieces_of

# Every octet sequence that anybody has taken for the end of a message.
SMUGGLING = (
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r\n.\r\r\n",
    b"\n.\r",
)
stuff = st.lists(
    st.sampled_from(
        [b"a", b".", b"..", b"\r", b"\n", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"bcdefgh", b"\xc3\xa9"]
    ),
    max_size=30,
).map(b"".join)
crlf_texts = st.lists(
    st.sampled_from([b"", b".", b"..", b"a", b".a", b"a.", b"\xc3\xa9" * 5, b"word " * 6]),
    max_size=12,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


def decode(*pieces: bytes, line: int = 0, limit: int = 0) -> tuple[bytes, bytes, DotDecoder]:
    """The text, what stands behind its end, and the decoder."""
    decoder = DotDecoder(line, limit)
    text = b""
    rest = b""
    for piece in pieces:
        if decoder.ended:
            rest += piece
        elif piece:
            text += decoder.decode(piece)
            if decoder.ended:
                rest = piece[len(piece) - decoder.unused :]
    return text, rest, decoder


def encode(*pieces: bytes) -> bytes:
    """As it is sent."""
    encoder = DotEncoder()
    return b"".join([*map(encoder.encode, pieces), encoder.end()])


class DotDecoderTests(SynchronousTestCase):
    def test_end(self) -> None:
        """A message ends at its dot, and what follows is not part of it."""
        text, rest, decoder = decode(b"Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n")
        self.assertEqual(text, b"Subject: x\r\n\r\nbody\r\n")
        self.assertEqual(rest, b"QUIT\r\n")
        self.assertTrue(decoder.ended)
        self.assertEqual(decoder.size, len(text))
        self.assertFalse(decoder.has_bare_line_ends)

    def test_empty(self) -> None:
        """A dot at once is a message without anything in it."""
        text, rest, decoder = decode(b".\r\n.\r\n")
        self.assertEqual((text, rest, decoder.ended, decoder.size), (b"", b".\r\n", True, 0))

    def test_stuffed_dots(self) -> None:
        """Lines that start with a dot arrive as they were written."""
        text, _, _ = decode(b"..\r\n...a\r\n.b\r\n.. \r\n \r\n\r\n..\r\n.\r\n")
        self.assertEqual(text, b".\r\n..a\r\nb\r\n. \r\n \r\n\r\n.\r\n")

    def test_smuggling(self) -> None:
        """Nothing but CRLF . CRLF ends a message; what does for others is found out."""
        for end in SMUGGLING:
            wire = b"first" + end + b"MAIL FROM:<evil@a.example>\r\n"
            for pieces in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
                text, _, decoder = decode(*pieces, b"second\r\n.\r\n")
                self.assertTrue(decoder.ended, end)
                self.assertIn(b"MAIL FROM:<evil@a.example>", text, end)
                self.assertTrue(decoder.has_bare_line_ends, end)

    def test_bare_line_ends_far_apart(self) -> None:
        """A bare CR is not made good by a bare LF somewhere behind it."""
        for text in (b"a\rb\nc\r\n", b"a\r", b"a\n", b"\na\r\n", b"\r\r\n", b"\n\r\n", b"a\r\n\r"):
            _, _, decoder = decode(text + b"\r\n.\r\n")
            self.assertTrue(decoder.has_bare_line_ends, text)
        _, _, decoder = decode(b"\r\n\r\na\r\n\r\n.\r\n")
        self.assertFalse(decoder.has_bare_line_ends)

    def test_limit(self) -> None:
        """Of a message above the limit nothing is given out beyond it, and its end is found."""
        wire = b"12345678\r\n" * 10 + b".\r\nQUIT\r\n"
        for size in (1, 7, 1000):
            pieces = [wire[i : i + size] for i in range(0, len(wire), size)]
            text, rest, decoder = decode(*pieces, limit=25)
            self.assertEqual(text, wire[:25])
            self.assertEqual((rest, decoder.size, decoder.is_too_large), (b"QUIT\r\n", 100, True))
        text, _, decoder = decode(wire, limit=100)
        self.assertEqual((len(text), decoder.is_too_large), (100, False))

    def test_fold(self) -> None:
        """A line that is too long for the next server is cut; one that fits is left alone."""
        text, _, decoder = decode(b"1234567890\r\n12345678901\r\nend\r\n.\r\n", line=10)
        self.assertEqual(text, b"1234567890\r\n1234567890\r\n 1\r\nend\r\n")
        self.assertEqual(decoder.size, len(text))
        text, _, _ = decode(b"x" * 28 + b"\r\n.\r\n", line=10)
        self.assertEqual(text, b"x" * 10 + b"\r\n " + b"x" * 9 + b"\r\n " + b"x" * 9 + b"\r\n")

    def test_fold_keeps_characters(self) -> None:
        """A folded line of UTF-8 has no broken characters."""
        for start in range(4):
            wire = b"x" * start + "\N{SNOWMAN}\N{GRINNING FACE}".encode() * 20 + b"\r\n.\r\n"
            text, _, _ = decode(wire, line=30)
            text.decode("utf-8")
            self.assertEqual(text.replace(b"\r\n ", b"") + b".\r\n", wire)
            self.assertLessEqual(max(map(len, text.split(b"\r\n"))), 33)

    def test_short_lines_in_short_pieces(self) -> None:
        """Short lines are left alone, however slowly they come."""
        text, _, _ = decode(*[b"abc\r\n"] * 50, b".\r\n", line=10)
        self.assertEqual(text, b"abc\r\n" * 50)

    @given(crlf_texts, st.integers(2, 12))
    def test_fold_only_inserts(self, text: bytes, line: int) -> None:
        """Nothing is lost by folding, and no line stays too long."""
        folded, _, decoder = decode(encode(text), line=line)
        self.assertEqual(folded.replace(b"\r\n ", b""), text.replace(b"\r\n ", b""))
        self.assertLessEqual(max(map(len, folded.split(b"\r\n"))), line + 3)
        if max(map(len, text.split(b"\r\n"))) <= line:
            self.assertEqual(folded, text)
        self.assertEqual(decoder.size, len(folded))

    @given(pieces_of(stuff), st.sampled_from([0, 2, 5, 8]), st.sampled_from([0, 7, 20]))
    def test_cut_anywhere(self, pieces: list[bytes], line: int, limit: int) -> None:
        """How the network cuts a message changes nothing, whatever is in it."""
        whole, rest, one = decode(b"".join(pieces), line=line, limit=limit)
        text, after, many = decode(*pieces, line=line, limit=limit)
        self.assertEqual(many.ended, one.ended)
        if one.ended:
            self.assertEqual((text, after, many.size), (whole, rest, one.size))
            self.assertEqual(many.has_bare_line_ends, one.has_bare_line_ends)
        else:
            self.assertEqual(text, whole)

    @given(stuff)
    def test_against_a_simple_reader(self, wire: bytes) -> None:
        """The fast reader agrees with a slow one that reads line by line as the RFC says."""
        text, rest, decoder = decode(wire)
        lines = wire.split(b"\r\n")
        if b"." in lines[:-1]:
            end = lines.index(b".")
            expected = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])
            self.assertTrue(decoder.ended)
            self.assertEqual((text, rest), (expected, b"\r\n".join(lines[end + 1 :])))
            is_bare = re.search(rb"\r(?!\n)|(?<!\r)\n", expected) is not None
            self.assertEqual(decoder.has_bare_line_ends, is_bare)
        else:
            self.assertFalse(decoder.ended)

    def test_costly_messages_in_linear_time(self) -> None:
        """Messages made to be slow cost no more than a few times an ordinary one."""
        size = 1 << 20
        for piece in (b"..\r\n", b".", b"\r", b"\n", b"\r\n", b"\r\n.\r", b"x", b"\x80", b"\r\n."):
            wire = b"x" + piece * (size // len(piece)) + b"\r\n.\r\n"
            begun = time.process_time()
            for width in (16384, 1460):
                pieces = [wire[i : i + width] for i in range(0, len(wire), width)]
                self.assertTrue(decode_only(pieces).ended)
            # An ordinary megabyte takes about 2 ms; one line at a time would take a second.
            self.assertLess(time.process_time() - begun, 0.5, piece)


def decode_only(pieces: list[bytes]) -> DotDecoder:
    decoder = DotDecoder(992, 1 << 30)
    for piece in pieces:
        decoder.decode(piece)
    return decoder


class DotEncoderTests(SynchronousTestCase):
    def test_stuffing(self) -> None:
        """A line that starts with a dot does not end the message."""
        self.assertEqual(encode(b".\r\n..a\r\na.\r\n"), b"..\r\n...a\r\na.\r\n.\r\n")

    def test_end(self) -> None:
        """A message without a line end at its end gets one, and only then."""
        self.assertEqual(encode(), b".\r\n")
        self.assertEqual(encode(b""), b".\r\n")
        self.assertEqual(encode(b"a"), b"a\r\n.\r\n")
        self.assertEqual(encode(b"a\r"), b"a\r\n.\r\n")
        self.assertEqual(encode(b"a\r\n"), b"a\r\n.\r\n")

    def test_smuggling(self) -> None:
        """No bare CR or LF is ever sent, so no server reads a second message out of one."""
        for end in SMUGGLING:
            wire = encode(b"a" + end + b"MAIL FROM:<evil@a.example>\r\n")
            text, rest, decoder = decode(wire)
            self.assertFalse(decoder.has_bare_line_ends)
            self.assertEqual(rest, b"")
            self.assertIn(b"MAIL FROM", text)
            self.assertNotIn(b"\r\n.\r\n", wire[:-5])

    @given(pieces_of(st.binary(max_size=60) | stuff))
    def test_cut_anywhere(self, pieces: list[bytes]) -> None:
        """How the message is read from the spool changes nothing."""
        self.assertEqual(encode(*pieces), encode(b"".join(pieces)))

    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        """What the next hop reads is what was sent, however both ends cut it."""
        text = data.draw(crlf_texts)
        wire = encode(*data.draw(cut(text)))
        self.assertEqual(decode(*data.draw(cut(wire)))[:2], (text, b""))

    @given(st.binary(max_size=80) | stuff)
    def test_any_text(self, text: bytes) -> None:
        """Whatever a text is, it is sent as one legal message, and nothing of it is lost."""
        received, rest, decoder = decode(encode(text))
        self.assertTrue(decoder.ended)
        self.assertFalse(decoder.has_bare_line_ends)
        self.assertEqual(rest, b"")
        expected = re.sub(rb"\r\n|\r|\n", b"\r\n", text)
        if expected and not expected.endswith(b"\r\n"):
            expected += b"\r\n"
        self.assertEqual(received, expected)
