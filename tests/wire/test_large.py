"""A message as large as the limit allows goes through whole, in pieces, over TLS on both sides."""

import smtplib
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Certificates, Instance, temporary_directory, wait_until
from tests.wire.sink import Sink

SIZE = 24_000_000  # octets; the limit is 25 MiB
ROOM_KB = 16_000  # what the server may need more; a third of two copies


class LargeMessageTests(SynchronousTestCase):
    """In over STARTTLS, out over STARTTLS, or into the Maildir."""

    def setUp(self) -> None:
        certificates = Certificates()
        cert, key = certificates.write_pair(temporary_directory(), "sink.test", "127.0.0.1")
        self.sink = Sink(cert, key)
        self.addCleanup(self.sink.close)
        route = f'{{"action":"accept","nexthop":"127.0.0.1:{self.sink.port}"}}'
        self.instance = Instance.make(
            "mx.test",
            files={
                "relay.ini": "[relay]\ndest_domains=true\n",
                "relay_dest_domains.ini": f"[domains]\nsink.test={route}\n"
                'mx.test={"action":"continue"}\n',
            },
            certificates=certificates,
        )
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def text(self, identity: str) -> bytes:
        """Lines of every length below the limit, some with leading dots, in no regular order."""
        header = f"From: a@load.test\r\nMessage-ID: {identity}\r\nSubject: {identity}\r\n\r\n"
        block = b"".join(b"." * (n % 3) + b"%d" % n * (n % 83 + 1) + b"\r\n" for n in range(997))
        return header.encode() + block * (SIZE // len(block))

    def send(self, identity: str, recipient: str) -> bytes:
        text = self.text(identity)
        trust = ssl.create_default_context(cafile=str(self.instance.authority))
        with smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=60) as client:
            client.starttls(context=trust)
            client.sendmail("a@load.test", [recipient], text)
        return text

    def small_first(self, recipient: str) -> int:
        """Let everything be loaded that a message needs; the memory then, in KB."""
        with smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=20) as client:
            client.starttls()
            client.sendmail("a@load.test", [recipient], "Message-ID: <small>\r\n\r\nsmall\r\n")
        self.instance.forget_peak_memory()
        return self.instance.memory_kb()

    def check_memory(self, before: int) -> None:
        self.assertLess(self.instance.peak_memory_kb() - before, ROOM_KB)

    def test_relayed(self) -> None:
        """Through the queue to the next hop: octet for octet, and never in memory as a whole."""
        before = self.small_first("b@sink.test")
        wait_until(lambda: self.sink.messages["<small>"], "small message")
        text = self.send("<large@load.test>", "b@sink.test")
        wait_until(lambda: self.sink.messages["<large@load.test>"], "large message", 60)
        self.check_memory(before)
        self.assertTrue(self.sink.bodies["<large@load.test>"].endswith(text))
        self.assertEqual(self.sink.in_clear, 0)

    def test_into_the_maildir(self) -> None:
        """For our own domain: one file, whole, and never in memory as a whole."""
        before = self.small_first("b@mx.test")
        text = self.send("<large@load.test>", "b@mx.test")
        stored = self.instance.wait_for_mail("<large@load.test>").encode()
        self.check_memory(before)
        self.assertTrue(stored.endswith(text.replace(b"\r\n", b"\n")))

    def test_too_large(self) -> None:
        """A message that turns out to be above the limit is refused with 552, and nothing stays."""
        with smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=60) as client:
            client.ehlo()
            limit = int(client.esmtp_features["size"])
            for command in ("MAIL FROM:<a@load.test>", "RCPT TO:<b@sink.test>"):
                self.assertEqual(client.docmd(command)[0], 250)
            code, text = client.data(b"y" * 70 + b"\r\n" + b"x\r\n" * (limit // 3))
            self.assertEqual(code, 552, text)
            self.assertEqual(client.noop()[0], 250)
        self.assertIn("0 messages", self.instance.queue_list())
