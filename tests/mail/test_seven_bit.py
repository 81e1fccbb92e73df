"""8-bit messages for 7-bit servers."""

import time
from email import message_from_bytes, policy
from email.header import decode_header
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.seven_bit import to_seven_bit

TEXT = "Grüße aus Zürich = schön.\r\n.\r\nFrom here\r\n"


def text_of(octets: bytes) -> str:
    """As a mail program shows it."""
    message = message_from_bytes(octets, policy=policy.default)
    part = message.get_body()
    assert part is not None
    return str(part.get_content())


class SevenBitTests(SynchronousTestCase):
    def converted(self, message: bytes) -> bytes:
        found = to_seven_bit(message)
        assert found is not None
        self.assertTrue(found.isascii())
        self.assertEqual(found.count(b"\n"), found.count(b"\r\n"))
        self.assertEqual(found.count(b"\r"), found.count(b"\r\n"))
        return found

    def test_text(self) -> None:
        """The reader sees the same text."""
        header = (
            b"Received: from a\r\n\tby b; today\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
        )
        found = self.converted(
            header + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + TEXT.encode("utf-8")
        )
        self.assertTrue(found.startswith(header))
        self.assertEqual(text_of(found), TEXT)

    def test_without_mime(self) -> None:
        """Text of unknown encoding is labelled as such, and its octets are kept."""
        found = self.converted(b"Subject: x\r\n\r\n\xfc\r\n")
        message = message_from_bytes(found)
        self.assertEqual(message["MIME-Version"], "1.0")
        self.assertEqual(message.get_content_charset(), "unknown-8bit")
        self.assertEqual(message.get_payload(decode=True), b"\xfc\r\n")

    def test_parts(self) -> None:
        """Each part has its own encoding; what was 7-bit stays as it was."""
        found = self.converted(
            b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
            b"Content-Transfer-Encoding: 8bit\r\n\r\n"
            b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n\xfc\r\n"
            b"--b\r\nContent-Type: text/plain\r\n\r\nplain = text\r\n"
            b"--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            b"\xff\xfe\r\n"
            b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            b"Subject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
            b"\r\n<p>\xc3\xbc\r\n"
            b"--b--\r\n"
        )
        message = message_from_bytes(found)
        self.assertEqual(message["Content-Transfer-Encoding"], "7bit")
        encodings = [part["Content-Transfer-Encoding"] for part in message.walk()]
        self.assertEqual(
            encodings, ["7bit", "quoted-printable", None, "base64", "7bit", "quoted-printable"]
        )
        leaves = [part for part in message.walk() if not part.is_multipart()]
        contents = [part.get_payload(decode=True) for part in leaves]
        self.assertEqual(contents[0], b"\xfc")
        self.assertEqual(contents[1], b"plain = text")
        self.assertEqual(contents[2], b"\xff\xfe")
        self.assertEqual(contents[3], "<p>ü".encode())

    @given(st.binary(max_size=300), st.sampled_from(["text/plain", "application/x", "image/png"]))
    def test_binary(self, content: bytes, kind: str) -> None:
        """A part of any octets says the same afterwards (RFC 3030 section 3)."""
        if b"--b" in content:
            return
        start = (
            b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
            b"Content-Transfer-Encoding: binary\r\n\r\n--b\r\nContent-Type: "
        )
        part = kind.encode() + b"\r\nContent-Transfer-Encoding: binary\r\n\r\n" + content
        message = message_from_bytes(self.converted(start + part + b"\r\n--b--\r\n"))
        found: Any = message.get_payload(0)
        self.assertEqual(found.get_payload(decode=True), content)
        self.assertNotIn("binary", [part["Content-Transfer-Encoding"] for part in message.walk()])

    def test_long_lines(self) -> None:
        """Lines that no server must take are encoded, though they are ASCII."""
        found = self.converted(b"Subject: x\r\n\r\n" + b"y" * 5000)
        self.assertLess(max(map(len, found.split(b"\r\n"))), 999)
        self.assertEqual(message_from_bytes(found).get_payload(decode=True), b"y" * 5000)

    def test_header(self) -> None:
        """A field in raw 8-bit becomes encoded words."""
        found = self.converted("Subject: Grüße\r\n\r\nx\r\n".encode())
        subject = message_from_bytes(found)["Subject"]
        self.assertIn("=?unknown-8bit?", subject)

    def test_addresses_in_the_header(self) -> None:
        """Only words beyond ASCII are encoded: an address among them stays one."""
        found = self.converted("From: Jörg Müller <j@a.example>\r\n\r\nx\r\n".encode())
        sender = message_from_bytes(found)["From"]
        self.assertTrue(sender.endswith("?= <j@a.example>"), sender)
        ((name, _), _) = decode_header(sender)
        self.assertEqual(name, "Jörg Müller".encode())

    def test_long_header(self) -> None:
        """No encoded word is too long, none ends within a character, and all is there."""
        text = "aöüß" * 500
        found = self.converted(f"Subject: {text}\r\n\r\nx\r\n".encode())
        words = message_from_bytes(found)["Subject"].split()
        self.assertLessEqual(max(map(len, words)), 75)
        pieces = [decode_header(word)[0][0].decode() for word in words]
        self.assertEqual("".join(pieces), text)

    def test_made_to_be_costly(self) -> None:
        """While a message is converted all others wait: that takes a second, not a minute."""
        wide, eight = b"\xe9", b"Content-Transfer-Encoding: 8bit\r\n\r\n"
        multipart = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
        deep = b"".join(multipart % (level, level) for level in range(100))
        for message, is_converted in (
            (b"Subject: " + wide * 200_000 + b"\r\n\r\nx\r\n", True),
            (b"Subject:" + b" \xe9 a" * 50_000 + b"\r\n\r\nx\r\n", True),
            (b"Subject: \xe9" + b" =?utf-8?q?a?=" * 14_000 + b"\r\n\r\nx\r\n", True),
            (b"Content-Type: text/plain\r\n" + eight + wide + (b"a" * 997 + b"\r\n") * 200, True),
            (deep + b"Content-Type: text/plain\r\n" + eight + b"\xe9\r\n" * 100_000, False),
            (multipart % (0, 0) + b"\r\n\xe9\r\n--b0\r\n" * 20_000, False),
        ):
            began = time.process_time()
            self.assertIs(to_seven_bit(message) is not None, is_converted, message[:40])
            self.assertLess(time.process_time() - began, 2.0, message[:40])

    def test_not_to_be_done(self) -> None:
        """What stands outside of all parts cannot be encoded."""
        message = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        self.assertIsNone(to_seven_bit(message + b"\xfc\r\n--b\r\n\r\nx\r\n--b--\r\n"))

    @given(
        st.binary(max_size=200)
        | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    )
    def test_anything(self, message: bytes) -> None:
        """Whatever it is, the answer is 7-bit or None."""
        for start in (b"", b"\r\n", b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n"):
            found = to_seven_bit(start + message)
            self.assertTrue(found is None or found.isascii())
