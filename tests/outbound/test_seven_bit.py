"""8-bit mail for servers that do not offer 8BITMIME."""

from email import message_from_bytes
from typing import Any

from attrs import evolve

from harakatls.mail.envelope import MailParameters
from harakatls.outbound.seven_bit import CONVERTED_OCTETS
from harakatls.queued import QueuedMessage
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import MESSAGE, queued_message
from tests.outbound.support import Bodies, DeliveryTestCase

TEXT = "Grüße\r\n".encode()
EIGHT = (
    b"Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + TEXT
)


class _QueuedTestCase(DeliveryTestCase):
    def queued(self, message: bytes, body: str | None = "8BITMIME") -> QueuedMessage:
        """It is what the spool holds."""
        self.bodies = Bodies(message)
        usual = queued_message(size=len(message))
        return evolve(usual, envelope=evolve(usual.envelope, parameters=MailParameters(body=body)))


class SevenBitTests(_QueuedTestCase):
    def test_as_it_is(self) -> None:
        """A server that offers 8BITMIME gets the very octets, so signatures stay whole."""
        peer = ObligingPeer("8BITMIME", "SIZE 1000")
        self.serve(peer)
        self.attempt(self.queued(EIGHT))
        self.assertEqual(peer.messages, [EIGHT])
        self.assertIn(f"SIZE={len(EIGHT)} BODY=8BITMIME", peer.commands[1])

    def test_converted(self) -> None:
        """Another gets it in 7-bit, whether the client declared it or not, with the new size."""
        for body in ("8BITMIME", None):
            self.setUp()
            peer = ObligingPeer("PIPELINING", "SIZE 1000")
            self.serve(peer)
            told = self.only(self.attempt(self.queued(EIGHT, body)))
            self.assertEqual(told, "delivered 250 2.0.0 Kept")
            (arrived,) = peer.messages
            self.assertTrue(arrived.isascii())
            self.assertEqual(message_from_bytes(arrived).get_payload(decode=True), TEXT)
            self.assertTrue(peer.commands[1].endswith(f"> SIZE={len(arrived)}"))
            self.assertNothingIsLeft()

    def test_seven_bit_mail(self) -> None:
        """Mail that is 7-bit is not touched, of whatever size."""
        large = MESSAGE + b"A line of text.\r\n" * (CONVERTED_OCTETS // 16)
        for message in (MESSAGE, large):
            self.setUp()
            peer = ObligingPeer("PIPELINING")
            self.serve(peer)
            self.attempt(self.queued(message))
            self.assertEqual(peer.messages, [message])
            self.assertNothingIsLeft()

    def test_returned(self) -> None:
        """What cannot be converted comes back with the reason, and nothing of it is sent."""
        outside = (
            b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n\xfc\r\n'
        )
        large = EIGHT + b"A line of text.\r\n" * (CONVERTED_OCTETS // 16)
        for message in (outside + b"--b\r\n\r\nx\r\n--b--\r\n", large):
            self.setUp()
            peer = ObligingPeer("PIPELINING")
            self.serve(peer)
            told = self.only(self.attempt(self.queued(message)))
            self.assertTrue(told.startswith("failed 554 5.6.3 The message is 8-bit"), told)
            self.assertEqual(peer.commands, ["EHLO mta.example", "QUIT"])
            self.assertNothingIsLeft()

    def test_too_large_once_converted(self) -> None:
        """The limit of the server is that of what it would get."""
        message = EIGHT + "ü".encode() * 100
        peer = ObligingPeer(f"SIZE {len(message) + 50}")
        self.serve(peer)
        told = self.only(self.attempt(self.queued(message)))
        self.assertTrue(told.startswith("failed 552 5.3.4"), told)


CONTENT = bytes(range(256)) * 8
BINARY = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    b"Content-Transfer-Encoding: binary\r\n\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    + CONTENT
    + b"\r\n--b--\r\n"
)


class BinaryTests(_QueuedTestCase):
    """A message that came as BINARYMIME (RFC 3030 section 3)."""

    def test_as_it_is(self) -> None:
        """Only a server that takes such messages gets the very octets."""
        for message in (BINARY, BINARY + b"x" * (CONVERTED_OCTETS + 1)):
            for extensions in (("PIPELINING",), ()):
                self.setUp()
                peer = ObligingPeer("8BITMIME", "CHUNKING", "BINARYMIME", *extensions)
                self.serve(peer)
                self.attempt(self.queued(message, "BINARYMIME"))
                self.assertEqual(peer.messages, [message])
                self.assertTrue(peer.commands[1].endswith("> BODY=BINARYMIME"))
                self.assertNothingIsLeft()

    def test_converted(self) -> None:
        """Others get a text that says the same, by BDAT or by DATA, which is not called binary."""
        for offered in (
            ("8BITMIME", "CHUNKING"),
            ("8BITMIME", "BINARYMIME"),
            ("CHUNKING", "BINARYMIME"),
            ("8BITMIME", "PIPELINING"),
            (),
        ):
            self.setUp()
            peer = ObligingPeer(*offered)
            self.serve(peer)
            told = self.only(self.attempt(self.queued(BINARY, "BINARYMIME")))
            self.assertEqual(told, "delivered 250 2.0.0 Kept")
            (arrived,) = peer.messages
            self.assertTrue(arrived.isascii())
            part: Any = message_from_bytes(arrived).get_payload(0)
            self.assertEqual(part.get_payload(decode=True), CONTENT)
            self.assertNotIn("BODY", peer.commands[1])
            self.assertNothingIsLeft()

    def test_switched_off(self) -> None:
        """Where BDAT is not used (chunking=false), or no longer trusted, it is converted."""
        later = evolve(self.queued(BINARY, "BINARYMIME"), attempts=1)
        for queued, chunking in ((self.queued(BINARY, "BINARYMIME"), False), (later, True)):
            self.setUp()
            self.bodies = Bodies(BINARY)
            peer = ObligingPeer("8BITMIME", "CHUNKING", "BINARYMIME")
            self.serve(peer)
            self.attempt(queued, self.delivery(chunking=chunking))
            self.assertIn("DATA", peer.commands)
            self.assertTrue(peer.messages[0].isascii())

    def test_returned(self) -> None:
        """What cannot be converted comes back with the reason, and nothing of it is sent."""
        peer = ObligingPeer("8BITMIME", "CHUNKING")
        self.serve(peer)
        large = BINARY + b"x" * CONVERTED_OCTETS
        told = self.only(self.attempt(self.queued(large, "BINARYMIME")))
        self.assertTrue(told.startswith("failed 554 5.6.3 The message is binary"), told)
        self.assertEqual(peer.commands, ["EHLO mta.example", "QUIT"])
        self.assertNothingIsLeft()
