"""Mail that plugins send."""

from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, strategies
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, Transaction
from harakatls.hooks.chain import HookChain
from harakatls.hooks.stages import LoadedPlugin
from harakatls.interfaces import SpoolFull
from harakatls.mail.address import AddressError
from harakatls.mail.envelope import MailParameters, Recipient, TLSWish
from harakatls.outbound.sending import Mailer
from harakatls.plugins.discard import Discard
from harakatls.plugins.spool import Completion, DurableQueue
from harakatls.queued import QueuedMessage
from harakatls.spool.memory import MemorySpool
from harakatls.testing.values import recipient

TEXT = "From: us@ours.example\nSubject: hello\n\nA line.\n.Dot\n"


class SendingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000.0)
        self.spool = MemorySpool(self.clock)
        self.ids = 0
        self.mailer = Mailer(self.spool, self.chain(), self.new_id)

    def chain(self, *plugins: LoadedPlugin) -> HookChain:
        durable = DurableQueue(Completion("mx.ours.example", self.clock, self.spool))
        return HookChain(plugins, self.clock, durable)

    def new_id(self) -> str:
        self.ids += 1
        return f"ID{self.ids}"

    def send(
        self, recipients: Any = ("a@one.example",), content: Any = TEXT, **how: Any
    ) -> tuple[list[QueuedMessage], bytes]:
        """What is queued, and the message."""
        sending = self.mailer.send_email("us@ours.example", recipients, content, **how)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(sending)))
        return self.queued()

    def queued(self) -> tuple[list[QueuedMessage], bytes]:
        claimed = list(
            self.successResultOf(
                Deferred.fromCoroutine(self.spool.claim(self.clock.seconds(), 1000))
            )
        )
        if not claimed:
            return [], b""
        body = self.spool.open_body(claimed[0])
        return claimed, self.successResultOf(Deferred.fromCoroutine(body.read(1 << 20)))


class EnvelopeTests(SendingTestCase):
    def test_queued(self) -> None:
        """For each domain, under one id."""
        people = ("a@one.example", recipient("b@two.example"), recipient("c@one.example").address)
        claimed, _ = self.send(people)
        self.assertEqual(
            sorted(queued.domain for queued in claimed), ["one.example", "two.example"]
        )
        self.assertEqual({queued.id.rpartition(".")[0] for queued in claimed}, {"ID1.1"})
        self.assertEqual(str(claimed[0].envelope.reverse_path), "us@ours.example")

    def test_ten_thousand(self) -> None:
        """To many, each once."""
        people = [f"u{number}@one.example" for number in range(10_000)]
        (queued,), _ = self.send([*people, *people])
        self.assertEqual(len(queued.pending), 10_000)

    def test_what_the_sender_wants_to_hear(self) -> None:
        """Reports, as any client may ask for them."""
        told = Recipient(recipient().address, notify=frozenset({"NEVER"}))
        (queued,), _ = self.send((told,), parameters=MailParameters(ret="HDRS", envid="E1"))
        self.assertEqual(queued.pending, (told,))
        self.assertEqual(queued.envelope.parameters, MailParameters(ret="HDRS", envid="E1"))

    def test_what_it_needs(self) -> None:
        """8BITMIME and SMTPUTF8 are seen to."""
        (queued,), _ = self.send(content="Subject: x\n\nGr\u00fc\u00dfe\n")
        self.assertEqual(queued.envelope.parameters.body, "8BITMIME")
        (queued,), _ = self.send("j\u00fcrgen@one.example")
        self.assertTrue(queued.envelope.parameters.smtputf8)

    def test_what_it_wants_of_tls(self) -> None:
        """REQUIRETLS as a parameter, TLS-Required: No in the header; unless that is removed."""
        (queued,), _ = self.send(parameters=MailParameters(requiretls=True))
        self.assertIs(queued.envelope.tls_wish, TLSWish.REQUIRED)
        optional = f"TLS-Required: No\n{TEXT}"
        (queued,), octets = self.send(content=optional)
        self.assertIs(queued.envelope.tls_wish, TLSWish.OPTIONAL)
        self.assertIn(b"TLS-Required: No\r\n", octets)
        (queued,), _ = self.send(content="TLS-Required: No\n")  # a header and nothing else
        self.assertIs(queued.envelope.tls_wish, TLSWish.OPTIONAL)
        (queued,), _ = self.send(content=optional, remove=("TLS-Required",))
        self.assertIs(queued.envelope.tls_wish, TLSWish.NONE)
        (queued,), _ = self.send(content=optional, parameters=MailParameters(requiretls=True))
        self.assertIs(queued.envelope.tls_wish, TLSWish.REQUIRED)

    def test_mistakes(self) -> None:
        """They are told, and nothing is queued."""
        for recipients, kind in (
            ((), ValueError),
            ("nobody", AddressError),
            ("a@b.example\r\nRCPT TO:<c@d.example>", AddressError),
        ):
            sending = self.mailer.send_email(None, recipients, TEXT)
            self.failureResultOf(Deferred.fromCoroutine(sending), kind)
        self.assertEqual(self.queued()[0], [])

    def test_too_early(self) -> None:
        """Nobody is there to take it while plugins are loaded."""
        mailer = Mailer(self.spool)
        sending = Deferred.fromCoroutine(mailer.send_email(None, ("a@b.example",), TEXT))
        self.failureResultOf(sending, RuntimeError)

    def test_a_full_disk(self) -> None:
        """Whoever sends has to know."""
        self.spool = MemorySpool(self.clock, capacity=1)
        self.mailer = Mailer(self.spool, self.chain(), self.new_id)
        sending = Deferred.fromCoroutine(self.mailer.send_email(None, ("a@b.example",), TEXT))
        self.failureResultOf(sending, SpoolFull)

    def test_queue_plugins(self) -> None:
        """They are asked, with the notes that they know; so mail for us gets to its mailbox."""
        seen: list[tuple[Connection, Transaction]] = []

        class Watched(Discard):
            async def queue(self, connection: Any, transaction: Any, message: Any) -> Any:
                seen.append((connection, transaction))
                return await Discard.queue(self, connection, transaction, message)

        self.mailer.takers = self.chain(LoadedPlugin("queue/discard", Watched()))
        claimed, _ = self.send(notes={"queue.wants": "discard"})
        self.assertEqual(claimed, [])
        ((connection, transaction),) = seen
        self.assertEqual((str(connection.peer), transaction.relaying), ("127.0.0.1:0", True))


class MessageTests(SendingTestCase):
    def test_line_ends_and_fields(self) -> None:
        """Whatever the text has, lines end in CRLF; what is missing is put on top."""
        for content in (TEXT, TEXT.encode(), TEXT.replace("\n", "\r\n"), TEXT.rstrip("\n")):
            _, message = self.send(content=content)
            header, _, body = message.partition(b"\r\n\r\n")
            self.assertEqual(body, b"A line.\r\n.Dot\r\n")
            self.assertRegex(header, rb"(?m)^Message-Id: <ID\d+\.1@mx\.ours\.example>\r$")
            self.assertRegex(header, rb"(?m)^Date: ")

    def test_fields_to_be_removed(self) -> None:
        """With all of their lines, and no others."""
        content = "Message-ID: <x@y>\nTo: a@b\nX-Long: 1\n 2\n\t3\nDate: x\n\nDate: in the body\n"
        _, message = self.send(content=content, remove=("message-id", "X-Long", "Date"))
        self.assertNotIn(b"<x@y>", message)
        self.assertNotIn(b"X-Long", message)
        self.assertNotIn(b"\t3", message)
        self.assertTrue(message.endswith(b"To: a@b\r\n\r\nDate: in the body\r\n"))

    def test_dot_stuffed(self) -> None:
        """As it stands on the wire of others."""
        _, message = self.send(content="A: b\n\n..\n.x\ny.\n", dot_stuffed=True)
        self.assertTrue(message.endswith(b"\r\n\r\n.\r\nx\r\ny.\r\n"))

    @given(strategies.lists(strategies.sampled_from([b"a", b"\r", b"\n", b"X: y\n", b" z"])))
    def test_in_pieces(self, pieces: list[bytes]) -> None:
        """However a message is cut, it is the same; and never has a bare CR or LF."""

        async def stream() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        self.setUp()
        _, whole = self.send(content=b"".join(pieces), remove=("x",))
        self.setUp()
        _, cut = self.send(content=stream(), remove=("x",))
        self.assertEqual(cut, whole)
        bare = whole.replace(b"\r\n", b"")
        self.assertNotIn(b"\r", bare)
        self.assertNotIn(b"\n", bare)
