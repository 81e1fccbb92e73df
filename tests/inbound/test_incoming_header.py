"""What is counted and renamed in the header of a message that comes in pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound.incoming_header import IncomingHeader
from harakatls.mail.header import HEADER_OCTETS


def passed_on(*chunks: bytes, renames: bool = True) -> tuple[bytes, IncomingHeader]:
    """What comes of a message."""
    header = IncomingHeader(renames)
    octets = b"".join(map(header.pass_on, chunks))
    return octets + header.end(), header


def count(*chunks: bytes) -> int:
    return passed_on(*chunks)[1].received


class TLSRequiredTests(SynchronousTestCase):
    """RFC 8689; what counts as a No is shown with the field itself."""

    message = b"To: a@b.example\r\ntls-Required: No\r\nSubject: c\r\n\r\nbody\r\n"

    def test_any_split(self) -> None:
        """It is seen in one piece, and in any two."""
        for at in range(len(self.message)):
            _, header = passed_on(self.message[:at], self.message[at:])
            self.assertTrue(header.says_tls_is_optional, at)

    def test_nothing_but_a_header(self) -> None:
        """It may be all of the message."""
        self.assertTrue(passed_on(b"TLS-Required: No")[1].says_tls_is_optional)

    def test_octet_by_octet(self) -> None:
        """However small the pieces are."""
        _, header = passed_on(*(bytes((octet,)) for octet in self.message))
        self.assertTrue(header.says_tls_is_optional)

    def test_memory(self) -> None:
        """No more is kept than what is looked at, and nothing where there is no such field."""
        header = IncomingHeader()
        header.pass_on(b"TLS-Required: No\r\n")
        for _ in range(100):
            header.pass_on(b"Subject: x\r\n" * 1000)
        self.assertEqual(len(header._gathered), HEADER_OCTETS)
        self.assertTrue(header.says_tls_is_optional)
        header = IncomingHeader()
        for piece in (b"Subject: x\r\n", b"To: a@b.example\r\n\r\nbody\r\n"):
            header.pass_on(piece)
        self.assertEqual(len(header._gathered), 0)

    def test_no_such_field(self) -> None:
        """Neither the body counts, nor another field, nor the next one after a No."""
        for message in (
            b"",
            b"\r\n" + self.message,
            b"To: a@b.example\r\n\r\n" + self.message,
            b"Subject: " + self.message[17:],
            b"TLS-Required: Yes\r\n" + self.message,
        ):
            for at in range(len(message)):
                _, header = passed_on(message[:at], message[at:])
                self.assertFalse(header.says_tls_is_optional, (message, at))


class ReceivedTests(SynchronousTestCase):
    message = (
        b"Received: from a\r\n\tby b; now\r\nX-Received: no\r\nreceived: c\r\n"
        b"Subject: Received: no\r\n Received: no\r\nRECEIVED: d\r\n\r\nReceived: body\r\n"
    )

    def test_only_fields_of_the_header(self) -> None:
        """Neither continuation lines, nor other fields, nor the body count."""
        self.assertEqual(count(self.message), 3)
        self.assertEqual(count(b"\r\nReceived: body\r\n"), 0)
        self.assertEqual(count(b"Received: all header\r\n"), 1)
        self.assertEqual(count(b"Received:"), 1)
        self.assertEqual(count(b""), 0)

    def test_lines(self) -> None:
        """Lines of the header are counted, those of the body are not."""
        self.assertEqual(passed_on(self.message)[1].lines, 7)
        self.assertEqual(passed_on(b"\r\nbody\r\nbody\r\n")[1].lines, 0)
        self.assertEqual(passed_on(b"a: b\r\n", b"c: d\r\n")[1].lines, 2)

    @given(st.lists(st.integers(0, 200)))
    def test_any_split(self, cuts: list[int]) -> None:
        """However the network cuts a message up, a loop is seen, and nothing of it is lost."""
        edges = [0, *sorted(min(cut, len(self.message)) for cut in cuts), len(self.message)]
        octets, header = passed_on(*(self.message[a:b] for a, b in pairwise(edges)))
        self.assertEqual(octets, self.message)
        self.assertEqual(header.received, 3)

    def test_memory(self) -> None:
        """A header without an end is not kept."""
        header = IncomingHeader()
        for _ in range(100):
            header.pass_on(b"Received: x\r\n" * 1000)
        self.assertLess(len(header._held), 40)
        header.end()
        self.assertEqual(header.received, 100_000)


class ResultsTests(SynchronousTestCase):
    message = (
        b"Authentication-Results: mx.example;\r\n\tspf=pass smtp.mailfrom=a@b.example\r\n"
        b"Subject: Authentication-Results: no\r\n"
        b"AUTHENTICATION-results\t: mx.example; none\r\n"
        b" Authentication-Results: no\r\n"
        b"Authentication-Results-Of: no\r\n"
        b"ARC-Authentication-Results: i=1; no\r\n"
        b"Original-Authentication-Results: no\r\n"
        b"authentication-results: other.example; none\r\n"
        b"\r\nAuthentication-Results: body\r\n"
    )
    renamed = (
        b"Original-Authentication-Results: mx.example;\r\n\tspf=pass smtp.mailfrom=a@b.example\r\n"
        b"Subject: Authentication-Results: no\r\n"
        b"Original-AUTHENTICATION-results\t: mx.example; none\r\n"
        b" Authentication-Results: no\r\n"
        b"Authentication-Results-Of: no\r\n"
        b"ARC-Authentication-Results: i=1; no\r\n"
        b"Original-Authentication-Results: no\r\n"
        b"Original-authentication-results: other.example; none\r\n"
        b"\r\nAuthentication-Results: body\r\n"
    )

    def test_at_every_octet(self) -> None:
        """Cut in two anywhere, and into single octets, the same fields are renamed."""
        for at in range(len(self.message) + 1):
            octets, _ = passed_on(self.message[:at], self.message[at:])
            self.assertEqual(octets, self.renamed, at)
        octets, _ = passed_on(*(self.message[i : i + 1] for i in range(len(self.message))))
        self.assertEqual(octets, self.renamed)

    def test_without_header(self) -> None:
        """What stands behind an empty first line is the body."""
        for message in (
            b"\r\nAuthentication-Results: body\r\n",
            b"",
            b"\r\n",
            b"\r\n\r\n",
            b"Authentication-Results",
        ):
            for size in (1, 100):
                pieces = [message[i : i + size] for i in range(0, len(message), size)]
                self.assertEqual(passed_on(*pieces)[0], message)

    def test_nothing_but_a_header(self) -> None:
        """The last field is one, whatever follows it."""
        for end in (b"\r\n", b"", b"\r\n\r\n"):
            octets, _ = passed_on(b"Authentication-Results:" + end)
            self.assertEqual(octets, b"Original-Authentication-Results:" + end)

    def test_switched_off(self) -> None:
        """clean_auth_results=false leaves them as they are."""
        self.assertEqual(passed_on(self.message, renames=False)[0], self.message)

    def test_linear(self) -> None:
        """What is held back is less than one name, whatever the header is made of."""
        for line in (b"a\r\n", b"Authentication-Results: x\r\n", b"\r", b"x" * 50):
            header = IncomingHeader(True)
            for _ in range(2000):
                header.pass_on(line)
                self.assertLess(len(header._held), 30)
