"""A client that speaks BDAT (RFC 3030) over TCP, and a server that keeps its octets."""

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until

ENVELOPE = b"MAIL FROM:<a@client.test>%s\r\nRCPT TO:<b@mx.test>\r\n"


class ChunkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.instance = Instance.make("mx.test")
        self.addCleanup(self.instance.remove)
        self.instance.start()
        self.socket = socket.create_connection(("127.0.0.1", self.instance.port), timeout=20)
        self.addCleanup(self.socket.close)
        self.answers = self.socket.makefile("rb")
        self.addCleanup(self.answers.close)
        self.hear()
        self.offered = self.say(b"EHLO client.test\r\n")

    def hear(self) -> str:
        """One answer, all lines of it."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(self.answers.readline().decode().rstrip("\r\n"))
        return "\n".join(lines)

    def say(self, octets: bytes) -> str:
        self.socket.sendall(octets)
        return self.hear()

    def files(self) -> list[bytes]:
        new = self.instance.directory / "mail" / "new"
        return [file.read_bytes() for file in new.iterdir()] if new.is_dir() else []

    def test_text(self) -> None:
        """Several chunks in one flight, each answered in its turn, are one message."""
        self.assertIn("CHUNKING", self.offered)
        text = b"Subject: in chunks\r\n\r\n" + b".\r\n" + b"x" * 70_000 + b"\r\n"
        said = ENVELOPE % b"" + b"BDAT 30\r\n" + text[:30]
        said += b"BDAT %d LAST\r\n" % len(text[30:]) + text[30:] + b"NOOP\r\n"
        self.socket.sendall(said)
        answers = [self.hear() for _ in range(5)]
        self.assertEqual(answers[2], "250 2.0.0 30 octets received")
        self.assertIn("Message Queued", answers[3])
        self.assertEqual(answers[4], "250 2.0.0 OK")
        stored = self.instance.wait_for_mail("in chunks")
        self.assertEqual(stored.count("x"), 70_000 + stored.partition("\n\n")[0].count("x"))

    def test_binary(self) -> None:
        """Every octet of a BINARYMIME message is in the Maildir."""
        text = b"Subject: binary\r\n\r\n" + bytes(range(256)) * 300 + b"\n\r\x00"
        self.socket.sendall(ENVELOPE % b" BODY=BINARYMIME" + b"BDAT %d LAST\r\n" % len(text) + text)
        answers = [self.hear() for _ in range(3)]
        self.assertIn("Message Queued", answers[2])
        wait_until(self.files, "the message")
        self.assertTrue(self.files()[0].endswith(text))

    def test_gone_in_a_chunk(self) -> None:
        """Who leaves in the middle leaves nothing behind; the server goes on."""
        self.socket.sendall(ENVELOPE % b"" + b"BDAT 100000 LAST\r\n" + b"x" * 5000)
        self.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: "the peer ended" in self.instance.log(), "the end of the connection")
        self.assertEqual(self.files(), [])
        self.assertTrue(self.instance.queue_list().startswith("0 messages"))
