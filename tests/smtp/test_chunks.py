"""BDAT, the client's side (RFC 3030)."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.smtp.client import ClientSession
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import NEED_DATA, Answered
from harakatls.smtp.states import State
from tests.smtp.support import recipient

ANN = recipient("ann@mx.example")
BEN = recipient("ben@mx.example")
JOE = Address("joe", "client.example")
TEXT = b"Subject: x\r\n\r\n.\r\n..dots\r\n"


def session(*offered: str, lmtp: bool = False) -> ClientSession:
    """Before MAIL."""
    made = ClientSession(lmtp)
    made.receive(b"220 mx.example\r\n")
    made.next_event()
    made.hello("client.example")
    lines = ["mx.example", *offered]
    made.receive("".join(f"250-{line}\r\n" for line in lines[:-1]).encode())
    made.receive(f"250 {lines[-1]}\r\n".encode())
    made.next_event()
    return made


def codes(made: ClientSession, octets: bytes) -> list[int]:
    """What is answered."""
    made.receive(octets)
    found = []
    while isinstance(event := made.next_event(), Answered):
        found.append(event.reply.code)
    return found


class ChunkTests(SynchronousTestCase):
    def test_in_turn(self) -> None:
        """The message goes as it is, without dots doubled and without an end."""
        made = session("CHUNKING")
        for command in (lambda: made.mail(JOE), lambda: made.rcpt(ANN)):
            command()
            codes(made, b"250 Ok\r\n")
        self.assertEqual(made.bdat(len(TEXT)), b"BDAT %d LAST\r\n" % len(TEXT))
        self.assertEqual(made.body(TEXT[:10]) + made.body(TEXT[10:]) + made.end_body(), TEXT)
        self.assertEqual(codes(made, b"250 Kept\r\n"), [250])
        self.assertIs(made.state, State.READY)

    def whole(self) -> ClientSession:
        """All of a message is on its way, and nothing was answered."""
        made = session("CHUNKING", "PIPELINING")
        made.mail(JOE)
        made.rcpt(ANN)
        made.rcpt(BEN)
        made.bdat(len(TEXT))
        self.assertEqual(made.body(TEXT) + made.end_body(), TEXT)
        return made

    def test_at_once(self) -> None:
        """With PIPELINING the message may follow its envelope without a pause."""
        made = self.whole()
        self.assertEqual(codes(made, b"250 a\r\n250 b\r\n550 c\r\n250 d\r\n"), [250, 250, 550, 250])
        self.assertIs(made.state, State.READY)
        made.mail(JOE)

    def test_refused(self) -> None:
        """After a refused chunk comes RSET, since nobody knows what the server has kept."""
        for answers in (
            b"250 a\r\n250 b\r\n250 c\r\n452 d\r\n",
            b"550 a\r\n503 b\r\n503 c\r\n503 d\r\n",
        ):
            made = self.whole()
            self.assertEqual(len(codes(made, answers)), 4)
            self.assertRaises(LocalProtocolError, made.mail, JOE)
            made.reset()
            codes(made, b"250 Ok\r\n")
            made.mail(JOE)

    def test_leaving(self) -> None:
        """421 answers all of it."""
        made = self.whole()
        self.assertEqual(codes(made, b"250 a\r\n421 b\r\n"), [250, 421, 421, 421])

    def test_nonsense(self) -> None:
        """354 is no answer to BDAT, and an answer too many is one to nothing."""
        made = self.whole()
        self.assertRaises(RemoteProtocolError, codes, made, b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
        made = self.whole()
        self.assertRaises(RemoteProtocolError, codes, made, b"250 a\r\n" * 5)

    def test_cut_short(self) -> None:
        """A refusal before the end of the chunk ends the connection; the rest is not sent."""
        made = session("CHUNKING")
        for command in (lambda: made.mail(JOE), lambda: made.rcpt(ANN)):
            command()
            codes(made, b"250 Ok\r\n")
        made.bdat(len(TEXT))
        made.body(TEXT[:5])
        self.assertEqual(codes(made, b"552 Too much\r\n"), [552])
        self.assertIs(made.state, State.CLOSED)
        self.assertEqual(made.body(TEXT[5:]) + made.end_body(), b"")
        self.assertIs(made.next_event(), NEED_DATA)

    def test_mistakes_of_ours(self) -> None:
        """What the server could not understand is never sent."""
        made = session("PIPELINING")
        made.mail(JOE)
        made.rcpt(ANN)
        self.assertRaises(LocalProtocolError, made.bdat, 1)  # not offered
        made = session("CHUNKING")
        self.assertRaises(LocalProtocolError, made.bdat, 1)  # without MAIL
        made.mail(JOE)
        codes(made, b"250 Ok\r\n")
        made.rcpt(ANN)
        self.assertRaises(LocalProtocolError, made.bdat, 1)  # without PIPELINING
        codes(made, b"250 Ok\r\n")
        made.bdat(3)
        self.assertRaises(LocalProtocolError, made.body, b"1234")
        made = session("CHUNKING", "PIPELINING", lmtp=True)
        made.mail(JOE)
        made.rcpt(ANN)
        self.assertRaises(LocalProtocolError, made.bdat, 1)  # who will be answered for?
        codes(made, b"250 Ok\r\n250 Ok\r\n")
        made.bdat(3)
        made.body(b"12")
        self.assertRaises(LocalProtocolError, made.end_body)
