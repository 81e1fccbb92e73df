"""What the server's side holds a client to: sizes, lines, recipients, mistakes, time."""

import time
import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.data import ABSURD_MESSAGE
from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import (
    NEED_DATA,
    BodyEnded,
    BodyReceived,
    NoopReceived,
    RcptReceived,
    UnrecognizedReceived,
)
from harakatls.smtp.lines import ABSURD_LINE
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import State
from harakatls.smtp.text import PIECE
from tests.smtp.support import (
    EHLO,
    ENVELOPE,
    MESSAGE,
    NO,
    OK,
    accept,
    heard,
    kinds,
    refused,
    replies,
    session_in,
)


class LimitTests(SynchronousTestCase):
    def test_size_declared(self) -> None:
        """A message that is too large is refused before it is sent (RFC 1870 section 6.1)."""
        session = session_in(State.READY, limits=SessionLimits(message=1000))
        self.assertEqual(
            str(refused(self, session, b"MAIL FROM:<> SIZE=1001\r\n")), "552 5.3.4 Message too big!"
        )
        self.assertEqual(kinds(heard(session, b"MAIL FROM:<> SIZE=1000\r\n")), ["MailReceived"])
        session = session_in(State.READY, limits=SessionLimits(message=0))
        events = heard(session, b"MAIL FROM:<> SIZE=99999999999999999999\r\n")
        self.assertEqual(kinds(events), ["MailReceived"])

    def test_size(self) -> None:
        """A message that is too large is read to its end, but not given out beyond the limit."""
        session = session_in(State.RECEIVING, limits=SessionLimits(message=1000))
        body = b"0123456\r\n" * 200
        *pieces, end = heard(session, *[body] * 3, b".\r\n")
        self.assertEqual(pieces, [BodyReceived((body * 3)[:1000])])
        assert isinstance(end, BodyEnded)
        self.assertEqual(end.size, 3 * len(body))
        self.assertEqual(str(end.refusal), "552 5.3.4 Message too big!")
        self.assertIs(session.state, State.READY)

    def test_absurd_size(self) -> None:
        """A message without an end is cut off."""
        session = session_in(State.RECEIVING, limits=SessionLimits(message=1000))
        events = heard(session, *[b"0123456\r\n" * 100] * ABSURD_MESSAGE * 2)
        self.assertEqual(kinds(events), ["BodyReceived", "552 5.3.4"])
        self.assertIs(session.state, State.CLOSED)

    def test_memory(self) -> None:
        """Neither a large message nor an endless line is held in memory."""
        session = session_in(State.RECEIVING, limits=SessionLimits(message=1 << 16))
        tracemalloc.start()
        try:
            for octets in (b"x" * 65536, b"y\r\n" * 20000):
                for _ in range(8):
                    session.receive(bytes(octets))
                    while session.next_event() is not NEED_DATA:
                        pass
            line = session_in(State.READY)
            self.assertEqual(replies(heard(line, b"x" * ABSURD_LINE)), ["500 5.5.2"])
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(held, 100000)

    def test_long_body_in_pieces(self) -> None:
        """However much comes at once, it is given out in pieces that can be written one by one."""
        session = session_in(State.RECEIVING)
        session.receive((b"x" * 78 + b"\r\n") * 10000 + b".\r\nNOOP\r\n")
        octets = 0
        while isinstance(event := session.next_event(), BodyReceived):
            self.assertLessEqual(len(event.chunk), PIECE + 4)
            octets += len(event.chunk)
        self.assertEqual((octets, event), (800000, BodyEnded(800000, None)))
        session.reply(OK)
        self.assertEqual(session.next_event(), NoopReceived())

    def test_long_lines(self) -> None:
        """Long lines of a message are folded, so that every next server takes them."""
        session = session_in(State.RECEIVING, limits=SessionLimits(data_line=20))
        body, end = heard(session, b"x" * 30 + b"\r\n.\r\n")
        self.assertEqual(body, BodyReceived(b"x" * 20 + b"\r\n " + b"x" * 10 + b"\r\n"))
        self.assertEqual(end, BodyEnded(35, None))
        session = session_in(State.RECEIVING, limits=SessionLimits(data_line=0))
        body, _ = heard(session, b"x" * 3000 + b"\r\n.\r\n")
        self.assertEqual(body, BodyReceived(b"x" * 3000 + b"\r\n"))

    def test_recipients(self) -> None:
        """Too many recipients are told to come later; those accepted are kept."""
        session = session_in(State.SENDER_GIVEN, limits=SessionLimits(recipients=2, errors=2))
        events = heard(session, b"RCPT TO:<postmaster>\r\n" * 9 + b"DATA\r\n")
        self.assertEqual(replies(events), ["452 4.5.3"] * 7)
        self.assertEqual(kinds(events)[-1], "DataReceived")
        events = heard(session, b".\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n")
        self.assertEqual(kinds(events)[-1], "RcptReceived")

    def test_refused_recipients_do_not_count(self) -> None:
        """Only accepted recipients count."""
        session = session_in(State.SENDER_GIVEN, limits=SessionLimits(recipients=1))
        for _ in range(5):
            session.receive(b"RCPT TO:<postmaster>\r\n")
            self.assertIsInstance(session.next_event(), RcptReceived)
            session.reply(NO)
        self.assertEqual(kinds(heard(session, b"RCPT TO:<postmaster>\r\n")), ["RcptReceived"])

    def test_errors(self) -> None:
        """A client that does not know the rules is left, after a number of tries."""
        session = session_in(State.READY, limits=SessionLimits(errors=3))
        events = heard(session, b"DATA\r\nMAIL\r\nNOOP\r\nX\ny\r\nNOOP\r\n")
        self.assertEqual(
            kinds(events), ["503 5.5.1", "501 5.5.4", "NoopReceived", "500 5.5.2", "421 4.7.0"]
        )
        self.assertTrue(isinstance(events[-1], RemoteProtocolError) and events[-1].fatal)
        self.assertIs(session.state, State.CLOSED)

    def test_unknown_commands(self) -> None:
        """Unknown commands count where nobody knew them."""
        for reply, left in ((OK, State.READY), (Reply.of(500, "5.5.2", "Unknown"), State.CLOSED)):
            session = session_in(State.READY, limits=SessionLimits(errors=3))
            for _ in range(3):
                session.receive(b"XYZZY now\r\n")
                self.assertEqual(session.next_event(), UnrecognizedReceived("XYZZY", "now"))
                session.reply(reply)
            if left is State.CLOSED:
                problem = self.assertRaises(RemoteProtocolError, session.next_event)
                self.assertEqual(problem.reply.code, 421)
            self.assertIs(session.state, left)

    def test_errors_are_forgiven(self) -> None:
        """Who gives us mail may err again."""
        session = session_in(State.READY, limits=SessionLimits(errors=3))
        message = b"BAD\x01\r\n" * 2 + ENVELOPE + b".\r\n"
        events = heard(session, *[message] * 20)
        self.assertEqual(replies(events), ["500 5.5.2"] * 40)

    def test_no_limit_of_errors(self) -> None:
        """With 0 a client may make any number of mistakes."""
        session = session_in(State.READY, limits=SessionLimits(errors=0))
        self.assertEqual(len(replies(heard(session, b"DATA\r\n" * 1000))), 1000)

    def test_long_command(self) -> None:
        """A long command is refused; extensions make longer ones legal (RFC 5321 4.5.3.1.4)."""
        session = session_in(State.GREETED, limits=SessionLimits(line=512))
        self.assertEqual(
            kinds(
                heard(session, b"NOOP " + b"x" * 505 + b"\r\nNOOP " + b"x" * 506 + b"\r\nNOOP\r\n")
            ),
            ["NoopReceived", "500 5.5.2", "NoopReceived"],
        )
        session = session_in(State.READY, limits=SessionLimits(line=512))
        line = b"NOOP " + b"x" * 506 + b"\r\n"
        self.assertEqual(kinds(heard(session, line)), ["NoopReceived"])

    def test_long_wishes(self) -> None:
        """The longest NOTIFY and ORCPT fit behind the longest address (RFC 3461 section 4)."""
        limits = SessionLimits(line=512)
        session = session_in(State.GREETED, limits=limits)
        session.receive(EHLO + b"MAIL FROM:<>\r\n")
        session.next_event()
        session.accept_hello("mx.example", limits.capabilities)
        session.next_event()
        session.reply(Reply.of(250, None, "OK"))
        path = b"a" * 240 + b"@mx.example"
        wishes = b" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + b"o" * 493
        session.receive(b"RCPT TO:<" + path + b">" + wishes + b"\r\n")
        event = session.next_event()
        assert isinstance(event, RcptReceived)
        self.assertEqual(len(event.recipient.original or ""), 500)

    def test_endless_command(self) -> None:
        """A line without an end is left."""
        session = session_in(State.READY)
        events = heard(session, *[b"x" * 4096] * 20)
        self.assertEqual(kinds(events), ["500 5.5.2", "421 4.7.0"])
        self.assertIs(session.state, State.CLOSED)

    def test_many_commands(self) -> None:
        """100,000 commands in one packet cost 100,000 times one."""
        for line, count in ((b"NOOP\r\n", 100000), (b"RCPT TO:<a@b>\r\n", 100000)):
            session = session_in(State.READY, limits=SessionLimits(errors=0))
            session.receive(line * count)
            begun = time.process_time()
            answered = 0
            while True:
                try:
                    event = session.next_event()
                except RemoteProtocolError:
                    answered += 1
                    continue
                if event is NEED_DATA:
                    break
                session.reply(OK)
                answered += 1
            self.assertEqual(answered, count)
            self.assertLess(time.process_time() - begun, 10)  # quadratic would be minutes

    def test_many_messages_in_one_packet(self) -> None:
        """So do thousands of pipelined messages."""
        session = session_in(State.READY)
        session.receive((ENVELOPE + MESSAGE + b".\r\n") * 5000)
        begun = time.process_time()
        ended = 0
        while (event := session.next_event()) is not NEED_DATA:
            ended += isinstance(event, BodyEnded)
            if not isinstance(event, BodyReceived):
                accept(session, event)
        self.assertEqual(ended, 5000)
        self.assertLess(time.process_time() - begun, 10)
