"""Finding TLS-Required: No, however the header is cut, and nothing that only looks like it."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.header import HEADER_OCTETS
from harakatls.mail.tls_required import TLSRequiredField

BODY = b"\r\nHello\r\n"


def says_no(message: bytes, *, step: int = 1 << 16) -> bool:
    """@param step: octets at once."""
    field = TLSRequiredField()
    for at in range(0, len(message), step):
        field.add(message[at : at + step])
    return field.says_no


class TLSRequiredTests(SynchronousTestCase):
    """RFC 8689 section 3."""

    def test_values(self) -> None:
        """One field, and "No" with spaces around it; a comment is no part of its grammar."""
        for value, expected in {
            b" No": True,
            b"no": True,
            b"  NO\t ": True,
            b"\r\n\tno": True,
            b" Yes": False,
            b"": False,
            b" No (really)": False,
            b" (No) No": False,
            b' "No"': False,
            b" No, No": False,
            b" No\r\n No": False,
            b" Noo": False,
            b" N\xc3\xb6": False,
        }.items():
            header = b"From: a@b.example\r\nTLS-Required:" + value + b"\r\nTo: c@d.example\r\n"
            self.assertIs(says_no(header + BODY), expected, value)

    def test_names(self) -> None:
        """In any case, and first or last of the header; the name of another field is another."""
        for header, expected in {
            b"tls-required: no\r\n": True,
            b"TLS-REQUIRED : no\r\n": True,
            b"A: b\r\nTLS-Required: No\r\n": True,
            b"X-TLS-Required: No\r\n": False,
            b"TLS-Required-By: No\r\n": False,
            b"A: b\r\n TLS-Required: No\r\n": False,
            b"Subject: TLS-Required: No\r\n": False,
        }.items():
            self.assertIs(says_no(header + BODY), expected, header)

    def test_more_than_one(self) -> None:
        """Section 3 forbids it: whatever they say, none counts."""
        for other in (b"No", b"Yes"):
            header = b"TLS-Required: No\r\nTo: a@b.example\r\nTls-Required: " + other + b"\r\n"
            self.assertFalse(says_no(header + BODY))

    def test_the_body_says_nothing(self) -> None:
        """Behind the empty line; also where the message begins with it."""
        for message in (
            b"To: a@b.example\r\n\r\nTLS-Required: No\r\n",
            b"\r\nTLS-Required: No\r\n",
        ):
            for step in (1, 1000):
                self.assertFalse(says_no(message, step=step))

    def test_without_a_body(self) -> None:
        """A message may be a header alone."""
        self.assertTrue(says_no(b"To: a@b.example\r\nTLS-Required: No\r\n"))

    def test_cut_anywhere(self) -> None:
        """The network cuts where it likes."""
        message = b"To: a@b.example\r\nTLS-Required:\r\n No\r\nFrom: c@d.example\r\n" + BODY
        twice = message.replace(BODY, b"TLS-Required: No\r\n" + BODY)
        for step in range(1, len(twice)):
            self.assertTrue(says_no(message, step=step), step)
            self.assertFalse(says_no(twice, step=step), step)

    def test_a_header_without_an_end(self) -> None:
        """No more is kept than the first octets, and what was cut in two is no field."""
        filler = b"X: " + b"x" * 995 + b"\r\n"
        header = b"TLS-Required: No\r\n" + filler * (HEADER_OCTETS // len(filler) + 2)
        field = TLSRequiredField()
        for at in range(0, len(header), 777):
            field.add(header[at : at + 777])
        self.assertTrue(field.says_no)
        late = header[18:] + b"TLS-Required: No\r\n"
        self.assertFalse(says_no(late + BODY))
        cut = b"X: " + b"x" * (HEADER_OCTETS - 21) + b"\r\nTLS-Required: Not so\r\n"
        self.assertEqual(cut[:HEADER_OCTETS][-16:], b"TLS-Required: No")
        self.assertFalse(says_no(cut + BODY))
        self.assertFalse(says_no(b"x" * (2 * HEADER_OCTETS), step=10000))
