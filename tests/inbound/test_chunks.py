"""Messages that come in chunks (RFC 3030): what is answered, and what is queued."""

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.verdict import CONTINUE, Disconnect, Reject, TempFail, Verdict
from tests.inbound.support import DATA, EHLO, END, ID, MAIL, MESSAGE, RCPT, SETTINGS, Talk, queued
from tests.inbound.test_reception import Accepting, FullSpool
from tests.smtp.support import pieces_of

BINARY = MAIL.replace(b"\r\n", b" BODY=BINARYMIME\r\n")
ENVELOPE = EHLO + MAIL + RCPT
HEADER = b"Subject: x\r\n\r\n"


def bdat(octets: bytes, last: bool = True) -> bytes:
    """The command and its chunk."""
    return b"BDAT %d%s\r\n%s" % (len(octets), b" LAST" if last else b"", octets)


class Asked(Accepting):
    """
    Answers DATA and the first chunk.

    @ivar times: how often it was asked.
    """

    def __init__(self, verdict: Verdict = CONTINUE) -> None:
        super().__init__()
        self.verdict = verdict
        self.times = 0

    async def data(self, connection: Any, transaction: Any) -> Verdict:
        self.times += 1
        return self.verdict


class ChunkTests(SynchronousTestCase):
    def test_pipelined(self) -> None:
        """Each chunk is answered in order; the last one as the end of DATA is."""
        plugin = Asked()
        talk = Talk(plugin)
        heard = talk.say(ENVELOPE + bdat(MESSAGE[:9], False) + bdat(b"", False) + bdat(MESSAGE[9:]))
        self.assertEqual(
            heard.splitlines()[-3:],
            [
                "250 2.0.0 9 octets received",
                "250 2.0.0 0 octets received",
                f"250 2.0.0 Message Queued ({ID}.1)",
            ],
        )
        self.assertEqual(plugin.times, 1)
        ((sender, recipients, octets),) = queued(talk.spool)
        self.assertEqual((sender, recipients), ("alice@sender.example", ["bob@a.example"]))
        self.assertTrue(octets.startswith(b"Received: from client.example"))
        self.assertTrue(octets.endswith(b"+0000\r\n" + MESSAGE))

    def test_binary(self) -> None:
        """A BINARYMIME message is in the queue as it came, and is known for one."""
        talk = Talk(Accepting(), settings=evolve(SETTINGS, add_received=False))
        message = HEADER + bytes(range(256)) * 20 + b"\n\r"
        self.assertEqual(talk.codes(EHLO, BINARY, RCPT, bdat(message))[-1], "250")
        self.assertEqual(queued(talk.spool)[0][2], message)
        self.assertEqual(talk.codes(BINARY, RCPT, DATA), ["250", "250", "503"])

    @given(pieces_of(st.just(ENVELOPE + bdat(MESSAGE[:9], False) + bdat(MESSAGE[9:]))))
    def test_cut_anywhere(self, pieces: list[bytes]) -> None:
        """However it comes, it is the same message, with the same answers."""
        talk = Talk(Accepting(), settings=evolve(SETTINGS, add_received=False))
        answers = [code for piece in pieces for code in talk.codes(piece)]
        self.assertEqual(answers, ["250"] * 5)
        self.assertEqual(queued(talk.spool)[0][2], MESSAGE)

    def test_the_other_way_next(self) -> None:
        """DATA behind BDAT, and BDAT behind DATA, are messages of their own."""
        talk = Talk(Accepting())
        talk.say(ENVELOPE + bdat(MESSAGE) + MAIL + RCPT + DATA)
        self.assertIn("Message Queued", talk.say(MESSAGE, END))
        self.assertIn("Message Queued", talk.say(MAIL, RCPT, bdat(MESSAGE)))
        self.assertEqual(len(queued(talk.spool)), 3)

    def test_the_hook_refuses(self) -> None:
        """It is asked once, as at DATA; the rest of the message is read and refused."""
        for verdict, code in ((Reject(), "554"), (TempFail(), "451")):
            plugin = Asked(verdict)
            talk = Talk(plugin)
            codes = talk.codes(ENVELOPE, bdat(b"QUIT\r\n", False), bdat(b"QUIT\r\n"), MAIL)
            self.assertEqual(codes[-3:], [code, "503", "503"])
            self.assertEqual(plugin.times, 1)
            self.assertEqual(talk.codes(b"RSET\r\n", MAIL), ["250", "250"])
            self.assertEqual(queued(talk.spool), [])
        talk = Talk(Asked(Disconnect()))
        self.assertEqual(talk.codes(ENVELOPE, bdat(b"NOOP\r\n"))[-1], "421")
        self.assertEqual(talk.channel.closed, "linger")

    def test_too_large(self) -> None:
        """The refusal comes before the chunk has; what was there of the message is dropped."""
        spool = FullSpool("never")
        talk = Talk(Accepting(), settings=evolve(SETTINGS, max_bytes=100), spool=spool)
        talk.say(ENVELOPE, bdat(b"x" * 60, last=False))
        self.assertEqual(talk.say(b"BDAT 50 LAST\r\n"), "552 5.3.4 Message too big!\r\n")
        self.assertEqual(spool.aborted, 1)
        self.assertEqual(talk.codes(b"x" * 50 + MAIL + RCPT + bdat(b"a\r\n"))[-1], "250")
        self.assertEqual(len(queued(talk.spool)), 1)

    def test_no_space(self) -> None:
        """A full disk is told at the end of the chunk, or before anything was taken."""
        for moment, codes in (("stage", ["452", "503"]), ("write", ["452", "503"])):
            talk = Talk(Accepting(), spool=FullSpool(moment))
            said = (bdat(HEADER + b"x" * 99, last=False), bdat(b"NOOP\r\n"))
            self.assertEqual(talk.codes(ENVELOPE, *said)[-2:], codes, moment)
        talk = Talk(Accepting(), spool=FullSpool("commit"))
        self.assertEqual(talk.codes(ENVELOPE, bdat(MESSAGE))[-1], "452")

    def test_bare_line_ends(self) -> None:
        """A text is refused as by DATA: the next server could take a part of it for commands."""
        talk = Talk(Accepting())
        smuggled = HEADER + b"\n.\r\nMAIL FROM:<evil@a.example>\r\n"
        self.assertEqual(talk.codes(ENVELOPE, bdat(smuggled))[-1], "550")
        codes = talk.codes(MAIL, RCPT, bdat(smuggled, False), bdat(b""))
        self.assertEqual(codes[-2:], ["550", "503"])
        self.assertEqual(queued(talk.spool), [])

    def test_mail_loop(self) -> None:
        """Received fields are counted across chunks."""
        talk = Talk(Accepting(), settings=evolve(SETTINGS, max_received=2))
        chunks = [bdat(b"Received: a\r\nRecei", False), bdat(b"ved: a\r\nreceived:b\r\n\r\n")]
        self.assertEqual(talk.codes(ENVELOPE, *chunks)[-1], "550")

    def test_reset(self) -> None:
        """RSET between two chunks drops the message, as EHLO does."""
        for line in (b"RSET\r\n", EHLO):
            spool = FullSpool("never")
            talk = Talk(Accepting(), spool=spool)
            talk.say(ENVELOPE, bdat(b"old", False), line)
            self.assertEqual(spool.aborted, 1)
            self.assertEqual(talk.codes(bdat(b"more\r\n")), ["503"])
            self.assertEqual(queued(talk.spool), [])

    def test_peer_leaves(self) -> None:
        """In a chunk, between two, or while a hook is busy: nothing is left of the message."""
        for said in (b"BDAT 100\r\nabc", bdat(b"abc", False), b"BDAT 100 LAST\r\nabc"):
            spool = FullSpool("never")
            talk = Talk(Accepting(), spool=spool)
            talk.say(ENVELOPE, said)
            talk.conversation.leave()
            self.assertEqual(spool.aborted, 1)
            self.assertEqual(queued(talk.spool), [])
            self.assertEqual(talk.over, [None])

    def test_while_a_hook_is_busy(self) -> None:
        """The octets wait; nothing is answered out of turn."""
        waiting: Deferred[Verdict] = Deferred()

        class Slow(Accepting):
            async def data(self, connection: Any, transaction: Any) -> Verdict:
                return await waiting

        talk = Talk(Slow())
        self.assertEqual(talk.codes(ENVELOPE, bdat(MESSAGE), b"NOOP\r\n"), ["250"] * 3)
        waiting.callback(CONTINUE)
        self.assertEqual([line[:3] for line in talk.heard().splitlines()], ["250", "250"])
        self.assertEqual(len(queued(talk.spool)), 1)

    def test_without_recipients(self) -> None:
        """A refused recipient leaves nothing to send, and the chunk is no command."""
        talk = Talk(Accepting())
        refused = b"RCPT TO:<bob@elsewhere.example>\r\n"
        codes = talk.codes(EHLO, MAIL, refused, bdat(b"RSET\r\n"), b"NOOP\r\n")
        self.assertEqual(codes, ["250", "250", "550", "554", "250"])

    def test_errors_end(self) -> None:
        """A size that cannot be read ends the connection."""
        talk = Talk(Accepting())
        self.assertEqual(talk.codes(ENVELOPE, b"BDAT -1 LAST\r\nNOOP\r\n")[3:], ["501"])
        self.assertEqual(talk.channel.closed, "linger")


class AuthenticationResultsTests(SynchronousTestCase):
    def test_renamed(self) -> None:
        """Nobody who trusts us takes what a client claims for our word (RFC 8601 section 5)."""
        field = b"Authentication-Results: mx.example; dkim=pass\r\n"
        for said in (DATA + field + HEADER + field + END, bdat(field + HEADER + field)):
            talk = Talk(Accepting(), settings=evolve(SETTINGS, add_received=False))
            talk.say(ENVELOPE + said)
            self.assertEqual(queued(talk.spool)[0][2], b"Original-" + field + HEADER + field)

    def test_as_they_are(self) -> None:
        """With clean_auth_results=false what others say stays as it is."""
        field = b"Authentication-Results: mx.example; dkim=pass\r\n\r\n"
        settings = evolve(SETTINGS, add_received=False, clean_auth_results=False)
        talk = Talk(Accepting(), settings=settings)
        talk.say(ENVELOPE, bdat(field))
        self.assertEqual(queued(talk.spool)[0][2], field)

    def test_header_alone(self) -> None:
        """A message that ends in its header is whole in the queue."""
        talk = Talk(Accepting(), settings=evolve(SETTINGS, add_received=False))
        talk.say(ENVELOPE, bdat(b"Subject: x"))
        self.assertEqual(queued(talk.spool)[0][2], b"Subject: x\r\n")


class LimitsTests(SynchronousTestCase):
    def test_limits_are_offered(self) -> None:
        """How many recipients a message may have is told (RFC 9422)."""
        talk = Talk(settings=evolve(SETTINGS, max_recipients=150))
        self.assertIn("250 LIMITS RCPTMAX=150", talk.say(EHLO).replace("250-", "250 "))
