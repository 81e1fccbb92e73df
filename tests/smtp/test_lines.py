"""Lines out of octets."""

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.lines import ABSURD_LINE, BadLine, LineBuffer
from tests.smtp.support import pieces_of

LIMIT = 10
stuff = st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"12345678"]), max_size=40)


def lines(*pieces: bytes, limit: int = LIMIT) -> list[bytes | str]:
    """All lines of *pieces*, and what was wrong with those that cannot be read."""
    buffer = LineBuffer()
    found: list[bytes | str] = []
    for piece in pieces:
        buffer.append(piece)
        while True:
            try:
                line = buffer.next_line(limit)
            except BadLine as problem:
                found.append(str(problem))
                continue
            if line is None:
                break
            found.append(line)
    return found


class LineBufferTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Several commands in one packet are several commands; one in several packets is one."""
        self.assertEqual(lines(b"one\r\n\r\ntwo\r\nthr"), [b"one", b"", b"two"])
        self.assertEqual(lines(b"one\r", b"\n", b"tw", b"", b"o\r\n"), [b"one", b"two"])

    def test_bare_lf(self) -> None:
        """A bare LF ends no line: what stands behind it is not obeyed as a command."""
        self.assertEqual(lines(b"one\ntwo\r\nthree\r\n"), ["bare LF", b"three"])
        self.assertEqual(lines(b"\ntwo\r\n\n\r\nx\r\n"), ["bare LF", "bare LF", b"x"])
        self.assertEqual(lines(b"one\n"), ["bare LF"])

    def test_bare_cr(self) -> None:
        """A bare CR ends no line either."""
        self.assertEqual(lines(b"one\rtwo\r\r\n"), [b"one\rtwo\r"])

    def test_limit(self) -> None:
        """A line that is too long is refused once, at once, and the next one is understood."""
        self.assertEqual(lines(b"12345678\r\nok\r\n"), [b"12345678", b"ok"])
        self.assertEqual(lines(b"123456789\r\nok\r\n"), ["line too long", b"ok"])
        self.assertEqual(lines(b"1234567890"), ["line too long"])
        self.assertEqual(
            lines(b"1234567890", b"x" * 50, b"\r", b"\nok\r\n"), ["line too long", b"ok"]
        )
        self.assertEqual(lines(b"123456789\n\r\nok\r\n"), ["bare LF", b"ok"])
        self.assertEqual(lines(b"1234567890\n\r\nok\r\n"), ["line too long", b"ok"])

    def test_endless_line(self) -> None:
        """A peer that sends a line without an end is found out, and fills no memory."""
        buffer = LineBuffer()
        buffer.append(b"x" * LIMIT)
        self.assertRaises(BadLine, buffer.next_line, LIMIT)
        for _ in range(ABSURD_LINE // 4096 - 1):
            buffer.append(b"x" * 4096)
            buffer.next_line(LIMIT)
            self.assertFalse(buffer)
        buffer.append(b"x" * 8192)
        problem = self.assertRaises(BadLine, buffer.next_line, LIMIT)
        self.assertTrue(problem.is_endless)

    def test_long_line_that_ends(self) -> None:
        """A long line below the absurd does not end the conversation; the next long one neither."""
        long = b"x" * (ABSURD_LINE - 10) + b"\r\n"
        self.assertEqual(lines(long, long, long, b"ok\r\n"), ["line too long"] * 3 + [b"ok"])
        self.assertEqual(lines(long * 3 + b"ok\r\n"), ["line too long"] * 3 + [b"ok"])

    @given(pieces_of(stuff.map(b"".join)))
    def test_cut_anywhere(self, pieces: list[bytes]) -> None:
        """How the network cuts the octets changes nothing."""
        self.assertEqual(lines(*pieces), lines(b"".join(pieces)))

    def test_many_lines_in_linear_time(self) -> None:
        """A flood of short lines in one piece, or of tiny pieces nobody reads, costs no more."""
        count = 200000
        begun = time.process_time()
        self.assertEqual(len(lines(b"NOOP\r\n" * count)), count)
        buffer = LineBuffer()
        for _ in range(count):
            buffer.append(b"NOOP\r\n")
        while buffer.next_line(LIMIT) is not None:
            pass
        # Quadratic would be minutes.
        self.assertLess(time.process_time() - begun, 5)

    def test_take(self) -> None:
        """A message behind a command in one packet is neither lost nor read as commands."""
        buffer = LineBuffer()
        buffer.append(b"DATA\r\nbody")
        buffer.append(b" and\r\nmore")
        self.assertEqual(buffer.next_line(LIMIT), b"DATA")
        self.assertEqual(buffer.take(3), b"bod")
        self.assertEqual(buffer.take(100), b"y")
        self.assertEqual(buffer.take(100), b" and\r\nmore")
        self.assertEqual(buffer.take(100), b"")
        buffer.append(b"end\r\nQUIT\r\n")
        taken = buffer.take(100)
        buffer.give_back(len(taken) - len(b"end\r\n"))
        self.assertEqual(buffer.next_line(LIMIT), b"QUIT")
        self.assertFalse(buffer)

    def test_clear(self) -> None:
        """Nothing that came before the TLS handshake is there after it."""
        for before in (b"one\r\ntwo", b"1234567890"):
            buffer = LineBuffer()
            buffer.append(before)
            try:
                buffer.next_line(LIMIT)
            except BadLine:
                pass
            buffer.append(b"three\r\n")
            buffer.clear()
            self.assertFalse(buffer)
            buffer.append(b"four\r\n")
            self.assertEqual(buffer.next_line(LIMIT), b"four")

    def test_starts_with(self) -> None:
        """A TLS handshake is seen before its line ends, but not in the middle of a bad line."""
        buffer = LineBuffer()
        buffer.append(b"\x16")
        self.assertFalse(buffer.starts_with(b"\x16\x03"))
        buffer.append(b"\x03")
        self.assertTrue(buffer.starts_with(b"\x16\x03"))
        for rest, expected in ((b"\x16\x03", False), (b"\r\n\x16\x03", True)):
            buffer = LineBuffer()
            buffer.append(b"x\n" + rest)
            self.assertRaises(BadLine, buffer.next_line, LIMIT)
            self.assertIs(buffer.starts_with(b"\x16\x03"), expected)
