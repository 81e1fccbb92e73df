"""Header fields."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.header import (
    HEADER_OCTETS,
    count,
    field,
    fields,
    first_value,
    header_length,
    read_start,
)

MESSAGE = (
    b"Received: from a by b;\r\n\tMon, 1 Jan 2024\r\n"
    b"RECEIVED : from c by d\r\n"
    b"Subject: two\r\n lines\r\n"
    b"X-Received: no\r\n"
    b"not a field\r\n"
    b"Message-Id:<1@a>\r\n"
    b"\r\n"
    b"Received: in the body\r\n"
)
HEADER = MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 2]


class Pieces:
    """A body that is read in *size* octets at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self.left = content
        self.size = size
        self.closed = False

    async def read(self, length: int) -> bytes:
        octets = min(length, self.size)
        piece, self.left = self.left[:octets], self.left[octets:]
        return piece

    def close(self) -> None:
        self.closed = True


class SplitTests(SynchronousTestCase):
    def read(self, content: bytes, size: int) -> bytes:
        body = Pieces(content, size)
        start = self.successResultOf(Deferred.fromCoroutine(read_start(body)))
        self.assertTrue(body.closed)
        return start

    def test_start(self) -> None:
        """The whole header is found however it comes; a message that has no end of it ends."""
        for size in (1, 7, len(MESSAGE)):
            self.assertEqual(header_length(self.read(MESSAGE, size)), len(HEADER))
            self.assertEqual(self.read(HEADER, size), HEADER)

    def test_start_of_an_endless_header(self) -> None:
        """Nobody fills the memory with one."""
        self.assertEqual(len(self.read(b"X: y\r\n" * HEADER_OCTETS, 1000)), HEADER_OCTETS)

    def test_header_length(self) -> None:
        """The body is not taken for header, nor the header for body."""
        self.assertEqual(header_length(MESSAGE), len(HEADER))
        self.assertIsNone(header_length(HEADER))
        self.assertEqual(header_length(b"\r\nbody"), 0)
        self.assertIsNone(header_length(b"Subject: x\n\nbody"))

    def test_fields(self) -> None:
        """Folded fields are read as one line; a line that is no field does not hide the next."""
        self.assertEqual(
            list(fields(HEADER)),
            [
                (b"Received", b"from a by b;\tMon, 1 Jan 2024"),
                (b"RECEIVED", b"from c by d"),
                (b"Subject", b"two lines"),
                (b"X-Received", b"no"),
                (b"Message-Id", b"<1@a>"),
            ],
        )

    def test_first_value(self) -> None:
        """A field is found whatever its case; one that is not there is not invented."""
        self.assertEqual(first_value(HEADER, b"message-id"), b"<1@a>")
        self.assertIsNone(first_value(HEADER, b"Date"))

    def test_count(self) -> None:
        """A mail loop is seen by its Received fields, also those written in the old manner."""
        self.assertEqual(count(HEADER, b"Received"), 2)
        self.assertEqual(count(HEADER, b"subject"), 1)
        self.assertEqual(count(HEADER, b"Date"), 0)
        self.assertEqual(count(b"Received: x\r\n" * 101, b"received"), 101)
        self.assertEqual(count(b"Received \t: x\r\nReceived x: y\r\nReceived  x", b"received"), 1)

    def test_endless_field(self) -> None:
        """A header field of a megabyte costs no more than its size."""
        header = b"X: " + b"a" * 1000000 + b"\r\n b" * 1000 + b"\r\nDate: now\r\n"
        self.assertEqual(first_value(header, b"Date"), b"now")

    @given(st.binary(max_size=60) | st.text(alphabet="aB: \t\r\n", max_size=40).map(str.encode))
    def test_anything(self, header: bytes) -> None:
        """No header breaks the server."""
        names = [name for name, _ in fields(header)]
        for name in names:
            self.assertTrue(name.isascii() and b":" not in name and b"\r" not in name)
        header_length(header)
        count(header, b"aB")


class FieldTests(SynchronousTestCase):
    def test_folds_between_words(self) -> None:
        """A long field is legal for every reader, and reads the same."""
        value = " ".join(f"word{n}" for n in range(60))
        written = field("X-Test", value)
        self.assertTrue(written.endswith(b"\r\n"))
        self.assertLessEqual(max(map(len, written.split(b"\r\n"))), 78)
        self.assertEqual(list(fields(written)), [(b"X-Test", value.encode())])

    def test_long_word_is_not_cut(self) -> None:
        """A long identifier stays one word."""
        self.assertEqual(field("X", "a" * 200 + " b"), b"X: " + b"a" * 200 + b"\r\n b\r\n")

    @given(st.text(max_size=200))
    def test_one_field(self, value: str) -> None:
        """Whatever a peer put into a value, it stays in that field."""
        written = field("X-Test", value)
        self.assertEqual([name for name, _ in fields(written)], [b"X-Test"])
        self.assertEqual(written.count(b"\r"), written.count(b"\r\n"))
        self.assertEqual(written.count(b"\n"), written.count(b"\r\n"))
        self.assertNotIn(b"\r\n\r\n", written)
