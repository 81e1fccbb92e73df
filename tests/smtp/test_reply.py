"""Replies, written and read."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.reply import (
    REPLY_LINE_OCTETS,
    REPLY_LINES,
    REPLY_OCTETS,
    EnhancedStatus,
    Reply,
    ReplyParser,
)

printable = st.text(alphabet=st.characters(exclude_categories=("C", "Z")), max_size=40)


def read(wire: bytes) -> list[Reply]:
    """All replies of *wire*."""
    parser = ReplyParser()
    found = [parser.line(line) for line in wire.split(b"\r\n")[:-1]]
    return [reply for reply in found if reply is not None]


class WireTests(SynchronousTestCase):
    def test_one_line(self) -> None:
        """A client reads code, enhanced status and text."""
        self.assertEqual(Reply.of(250, "2.1.0", "OK").wire, b"250 2.1.0 OK\r\n")
        self.assertEqual(Reply.of(354, None, "Go").wire, b"354 Go\r\n")
        self.assertEqual(Reply.of(221, None).wire, b"221 \r\n")

    def test_several_lines(self) -> None:
        """Each line but the last says that more follows; each has the enhanced status."""
        reply = Reply.of(550, "5.7.1", "No", "", "Really")
        self.assertEqual(reply.wire, b"550-5.7.1 No\r\n550-5.7.1 \r\n550 5.7.1 Really\r\n")

    def test_before_others(self) -> None:
        """Lines that were written before go behind any others; the client sees one reply."""
        for line in ("mx.example Hello", "", "word " * 300):
            others = Reply.of(250, None, "PIPELINING", "SIZE 1000")
            whole = Reply.of(250, None, line, "PIPELINING", "SIZE 1000")
            self.assertEqual(Reply.of(250, None, line).wire_before(others.wire), whole.wire)

    def test_no_line_ends_in_text(self) -> None:
        """A text with line ends, of a plugin or a peer, is no second reply."""
        reply = Reply.of(250, "2.0.0", "OK\r\n550 no\x00\x85\u2028\x7f")
        self.assertEqual(reply.wire, b"250 2.0.0 OK  550 no    \r\n")

    def test_long_text(self) -> None:
        """A long text is told in lines that every client takes (RFC 5321 section 4.5.3.1.5)."""
        for text in ("word " * 300, "x" * 2000, "\N{SNOWMAN}" * 1000):
            reply = Reply.of(550, "5.7.1", "short", text)
            lines = reply.wire.split(b"\r\n")[:-1]
            self.assertGreater(len(lines), 3)
            self.assertLessEqual(max(map(len, lines)), 510)
            self.assertEqual([line[:10] for line in lines[:-1]], [b"550-5.7.1 "] * (len(lines) - 1))
            said = "".join(read(reply.wire)[0].lines[1:])
            self.assertEqual(said.replace(" ", ""), text.replace(" ", ""))

    def test_kinds(self) -> None:
        """4yz is tried again, 5yz is not."""
        for code, kinds in ((250, "p"), (354, "p"), (421, "t"), (450, "t"), (500, "f"), (599, "f")):
            reply = Reply.of(code, None)
            self.assertEqual(reply.is_positive, kinds == "p")
            self.assertEqual(reply.is_transient, kinds == "t")
            self.assertEqual(reply.is_permanent, kinds == "f")

    def test_in_words(self) -> None:
        """A log line or bounce tells the whole reply in one line."""
        self.assertEqual(str(Reply.of(550, "5.1.1", "No", "", "user")), "550 5.1.1 No user")
        self.assertEqual(str(Reply.of(221, None)), "221")

    def test_wrong_status(self) -> None:
        """A mistyped status is found when the reply is made."""
        for text in ("5.1", "1.2.3", "5.1.1 ", "5.1.1000", "x", "5.1.1x"):
            self.assertRaises(ValueError, EnhancedStatus.parse, text)
        self.assertEqual(EnhancedStatus.parse("4.7.10"), (4, 7, 10))


class ParserTests(SynchronousTestCase):
    def test_replies(self) -> None:
        """Replies are told apart, however many lines they have."""
        self.assertEqual(
            read(b"220 hi\r\n250-a\r\n250-b\r\n250 c\r\n221\r\n250-\r\n250\r\n"),
            [
                Reply.of(220, None, "hi"),
                Reply.of(250, None, "a", "b", "c"),
                Reply.of(221, None, ""),
                Reply.of(250, None, "", ""),
            ],
        )

    def test_enhanced_status(self) -> None:
        """An enhanced status is known from the text, on each line."""
        self.assertEqual(
            read(b"550-5.1.1 No\r\n550-5.1.1\r\n550-5.1.10 user\r\n550 here\r\n"),
            [Reply.of(550, "5.1.1", "No", "", "5.1.10 user", "here")],
        )
        # Not of the same class, or no status: text.
        for text in ("5.1.1 ok", "1.2.3.4 greets you", "2.0", "2.0.0.1 x"):
            self.assertEqual(read(f"250 {text}\r\n".encode()), [Reply.of(250, None, text)])

    def test_controls(self) -> None:
        """What a server says does no harm in a log or a bounce."""
        self.assertEqual(
            read(b"250 a\rb\x00\x1b[31m\xff\xc2\x85\xe2\x80\xa8\r\n"),
            [Reply.of(250, None, "a b  [31m\ufffd  ")],
        )

    def test_garbage(self) -> None:
        """What is no SMTP server is given up."""
        for line in (
            b"",
            b"25",
            b"250x",
            b"2500",
            b"150 x",
            b"600 x",
            b"SSH-2.0",
            b"250_",
            b" 250 x",
        ):
            self.assertRaises(RemoteProtocolError, ReplyParser().line, line)

    def test_changing_code(self) -> None:
        """A reply that says yes and no is neither."""
        self.assertRaises(RemoteProtocolError, read, b"250-yes\r\n550 no\r\n")

    def test_endless(self) -> None:
        """A reply without an end is given up before it fills the memory."""
        for line, count in ((b"250-", REPLY_LINES), (b"250-" + b"x" * 4000, REPLY_OCTETS // 4000)):
            parser = ReplyParser()
            for _ in range(count):
                self.assertIsNone(parser.line(line))
            self.assertRaises(RemoteProtocolError, parser.line, line)
        self.assertRaises(
            RemoteProtocolError, ReplyParser().line, b"250 " + b"x" * REPLY_LINE_OCTETS
        )

    @given(
        st.integers(200, 599),
        st.booleans(),
        st.lists(printable, min_size=1, max_size=4),
    )
    def test_round_trip(self, code: int, enhanced: bool, lines: list[str]) -> None:
        """What a server says is what the client hears."""
        status = f"{code // 100}.7.1" if enhanced and code // 100 != 3 else None
        if status is None:
            lines = [line if line[1:2] != "." else "" for line in lines]
        reply = Reply.of(code, status, *lines)
        self.assertEqual(read(reply.wire), [reply])

    @given(st.lists(st.binary(max_size=12) | st.sampled_from([b"250-", b"250 ", b"5"]), max_size=8))
    def test_anything(self, parts: list[bytes]) -> None:
        """Garbage gives RemoteProtocolError and nothing else."""
        parser = ReplyParser()
        for part in parts:
            try:
                parser.line(part)
            except RemoteProtocolError:
                return
