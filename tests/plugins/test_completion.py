"""What the durable queue adds to mail of clients that may relay."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.header import HEADER_OCTETS
from harakatls.plugins.spool import Completion, DurableQueue, load
from harakatls.spool.memory import MemorySpool
from harakatls.testing.values import ARRIVED, connection, transaction
from tests.plugins.support import site_of

ID = f"Message-Id: <{transaction().id}@mta.example>\r\n".encode()
DATE = b"Date: Tue, 14 Nov 2023 22:13:20 -0000\r\n"


class CompletionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(ARRIVED)

    def queued(self, message: bytes, relaying: bool = True) -> bytes:
        """What is in the queue of a message."""
        return self.successResultOf(Deferred.fromCoroutine(self._queued(message, relaying)))

    async def _queued(self, message: bytes, relaying: bool) -> bytes:
        spool = MemorySpool(self.clock)
        staged = await spool.stage(transaction().id)
        await staged.write(message)
        plugin = DurableQueue(Completion("mta.example", self.clock, spool))
        about = evolve(transaction(), relaying=relaying)
        await plugin.queue(connection(), about, staged)
        (queued,) = await spool.claim(self.clock.seconds(), 1)
        self.assertEqual(queued.size, spool.open_body(queued).size)
        content: Any = await spool.open_body(queued).read(1 << 20)
        return bytes(content)

    def test_what_is_missing(self) -> None:
        """Servers that mistrust mail without them get both, on top of what the client sent."""
        for header, added in (
            (b"Subject: x\r\n", ID + DATE),
            (b"DATE: y\r\nSubject: x\r\n", ID),
            (b"Subject: x\r\nmessage-id : <1@a>\r\n", DATE),
            (b"Message-ID: <1@a>\r\nDate: y\r\n", b""),
            (b"X-Date: y\r\nSubject: Date: y\r\n Message-Id: <1@a>\r\n", ID + DATE),
        ):
            message = header + b"\r\nDate: of the body\r\nMessage-Id: <2@a>\r\n"
            self.assertEqual(self.queued(message), added + message)

    def test_odd_messages(self) -> None:
        """Without a header, without a body, without anything: the message stays what it is."""
        for message in (b"", b"\r\nA line.\r\n", b"Subject: x\r\n"):
            self.assertEqual(self.queued(message), ID + DATE + message)

    def test_an_empty_id(self) -> None:
        """It is replaced: two of them would be as bad as none."""
        for empty in (b"Message-Id: <>", b"MESSAGE-ID:", b"message-id : < > "):
            rest = b"Subject: x\r\n\r\nMessage-Id: <>\r\n"
            self.assertEqual(
                self.queued(b"Date: y\r\n" + empty + b"\r\n" + rest), ID + b"Date: y\r\n" + rest
            )
        folded = b"Date: y\r\nMessage-Id:\r\n <1@a>\r\n\r\n"
        self.assertEqual(self.queued(folded), folded)
        large = b"Date: y\r\nMessage-Id: <>\r\n\r\n" + b"x\r\n" * HEADER_OCTETS
        self.assertEqual(self.queued(large), large)

    def test_a_huge_header(self) -> None:
        """What is behind the part that is looked at may be anything, so nothing is added."""
        message = b"X-Long: x\r\n" * (HEADER_OCTETS // 11 + 1) + b"\r\n"
        self.assertEqual(self.queued(message), message)

    def test_mail_of_strangers(self) -> None:
        """Mail that only passes through is not changed (RFC 5321 section 6.4)."""
        self.assertEqual(self.queued(b"Subject: x\r\n\r\n", relaying=False), b"Subject: x\r\n\r\n")

    def test_loaded(self) -> None:
        """The server's own queue does it."""
        plugin = load(site_of(self, {}))
        assert plugin.completion is not None
        self.assertTrue(plugin.completion.me)
