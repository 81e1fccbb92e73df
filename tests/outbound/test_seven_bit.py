"""8-bit mail for servers that do not offer 8BITMIME."""

from email import message_from_bytes

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


class SevenBitTests(DeliveryTestCase):
    def queued(self, message: bytes, body: str | None = "8BITMIME") -> QueuedMessage:
        """It is what the spool holds."""
        self.bodies = Bodies(message)
        usual = queued_message(size=len(message))
        return evolve(usual, envelope=evolve(usual.envelope, parameters=MailParameters(body=body)))

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
