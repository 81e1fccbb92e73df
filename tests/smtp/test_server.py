"""The server's side."""

import time
import tracemalloc

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.data import ABSURD_MESSAGE
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    AWAITING_REPLY,
    NEED_DATA,
    AuthReceived,
    BodyEnded,
    BodyReceived,
    ChunkEnded,
    DataReceived,
    HelloReceived,
    MailReceived,
    NoopReceived,
    QuitReceived,
    RcptReceived,
    ResetReceived,
    StartTLSReceived,
    UnrecognizedReceived,
)
from harakatls.smtp.lines import ABSURD_LINE
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.refusals import TLS_FIRST
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from harakatls.smtp.text import PIECE
from tests.smtp.support import (
    BYE,
    LIMITS,
    NO,
    OFFERED,
    OK,
    READY_FOR_TLS,
    SEND_IT,
    WELCOME,
    Heard,
    accept,
    cut,
    heard,
    in_words,
    pieces_of,
    replies,
    session_in,
)

EHLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<joe@client.example>\r\nRCPT TO:<ann@mx.example>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
SMUGGLING = (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r")


def kinds(events: list[Heard]) -> list[str]:
    """Their names, the refusals as codes."""
    return [
        replies([e])[0] if isinstance(e, RemoteProtocolError) else type(e).__name__ for e in events
    ]


def refused(test: SynchronousTestCase, session: ServerSession, line: bytes = b"") -> Reply:
    """How the session refuses *line*; it goes on after it."""
    session.receive(line)
    problem = test.assertRaises(RemoteProtocolError, session.next_event)
    test.assertFalse(problem.fatal)
    assert isinstance(problem.reply, Reply)
    return problem.reply


class GreetingTests(SynchronousTestCase):
    def test_welcome(self) -> None:
        """Nothing is obeyed before the greeting; what came before it is understood after it."""
        session = ServerSession(LIMITS)
        session.receive(EHLO)
        self.assertIs(session.next_event(), AWAITING_REPLY)
        self.assertEqual(session.greet(WELCOME), b"220 mx.example ESMTP\r\n")
        self.assertEqual(session.next_event(), HelloReceived("client.example", extended=True))
        self.assertRaises(LocalProtocolError, session.greet, WELCOME)

    def test_refusal_for_ever(self) -> None:
        """A client that is not welcome can only leave (RFC 5321 section 3.1)."""
        session = ServerSession(LIMITS)
        session.greet(Reply.of(554, None, "Your mail is not welcome here"))
        self.assertEqual(str(refused(self, session, EHLO)), "503 Your mail is not welcome here")
        self.assertEqual(
            str(refused(self, session, b"MAIL FROM:<>\r\n")),
            "503 5.5.1 Your mail is not welcome here",
        )
        session.receive(b"QUIT\r\n")
        self.assertEqual(session.next_event(), QuitReceived())
        session.reply(BYE)
        self.assertIs(session.state, State.CLOSED)

    def test_refusal_for_now(self) -> None:
        """A client that did not mind the greeting keeps its mail and tries again."""
        session = ServerSession(LIMITS)
        session.greet(Reply.of(421, None, "Come back later"))
        self.assertEqual(str(refused(self, session, EHLO)), "421 Come back later")
        self.assertEqual(
            str(refused(self, session, b"MAIL FROM:<>\r\n")), "421 4.7.0 Come back later"
        )

    def test_stubborn_client(self) -> None:
        """A refused client that does not leave is thrown out."""
        session = ServerSession(LIMITS)
        session.greet(Reply.of(421, None, "Come back later"))
        events = heard(session, b"NOOP\r\n" * 1000)
        self.assertEqual(replies(events), ["421 4.7.0"] * (LIMITS.errors + 1))
        self.assertIs(session.state, State.CLOSED)

    def test_tls_on_a_plain_port(self) -> None:
        """Who speaks TLS to a plain port is told so and left."""
        hello = b"\x16\x03\x01\x02\x00\x01\x00\n\xfc\x03\x03" + b"\r\n" + b"\x00" * 600
        session = ServerSession(LIMITS)
        session.greet(WELCOME)
        events = heard(session, b"x\ny\r\n\x16\x03")
        self.assertEqual(replies(events), ["500 5.5.2", "501 5.5.2"])
        for pieces in ([hello], [hello[:1], hello[1:2], hello[2:]]):
            session = ServerSession(LIMITS)
            session.greet(WELCOME)
            events = heard(session, *pieces)
            self.assertEqual(replies(events), ["501 5.5.2"])
            self.assertIs(session.state, State.CLOSED)

    def test_web_browser(self) -> None:
        """A browser cannot be made to send mail with the body of a request."""
        session = ServerSession(LIMITS)
        session.greet(WELCOME)
        events = heard(session, b"POST / HTTP/1.1\r\nHost: mx\r\n\r\n" + EHLO + ENVELOPE)
        self.assertEqual(replies(events), ["421 4.7.0"])
        self.assertEqual(len(events), 1)


class HelloTests(SynchronousTestCase):
    def test_offer(self) -> None:
        """EHLO is told what there is, and may use it."""
        session = session_in(State.GREETED)
        session.receive(b"EHLO client.example\r\nMAIL FROM:<a@b.example> SIZE=10\r\n")
        session.next_event()
        self.assertEqual(
            session.accept_hello("mx.example hello", Capabilities.of("PIPELINING", "SIZE 1000")),
            b"250-mx.example hello\r\n250-PIPELINING\r\n250 SIZE 1000\r\n",
        )
        self.assertIsInstance(session.next_event(), MailReceived)

    def test_offers_are_not_mixed_up(self) -> None:
        """What was offered to one client is not what another is offered, in the clear or not."""
        offers = [
            Capabilities.of("SIZE 1000", "STARTTLS", "AUTH PLAIN", *more)
            for more in ((), ("PIPELINING",))
        ]
        for _ in range(2):
            for implicit_tls, left in ((False, b"STARTTLS"), (True, b"AUTH PLAIN")):
                for offered, last in zip(offers, (b"", b"PIPELINING"), strict=True):
                    session = ServerSession(SessionLimits(), implicit_tls)
                    session.greet(WELCOME)
                    session.receive(EHLO)
                    session.next_event()
                    said = session.accept_hello("mx.example", offered).split(b"\r\n")
                    expected = [b"mx.example", b"SIZE 1000", left] + ([last] if last else [])
                    self.assertEqual([line[4:] for line in said if line], expected)

    def test_helo(self) -> None:
        """HELO is told nothing, and may use nothing."""
        session = session_in(State.GREETED)
        session.receive(b"HELO client.example\r\nMAIL FROM:<a@b.example> SIZE=10\r\nSTARTTLS\r\n")
        session.next_event()
        self.assertEqual(session.accept_hello("mx.example", OFFERED), b"250 mx.example\r\n")
        self.assertEqual(refused(self, session).code, 555)
        self.assertEqual(str(refused(self, session).enhanced), "5.5.1")

    def test_again(self) -> None:
        """A second EHLO forgets the transaction and what the first was offered."""
        session = session_in(State.RECIPIENTS_GIVEN)
        session.receive(EHLO + b"MAIL FROM:<a@b.example> SIZE=10\r\n")
        session.next_event()
        session.accept_hello("mx.example", Capabilities())
        self.assertEqual(refused(self, session).code, 555)
        self.assertIs(session.state, State.READY)

    def test_refused(self) -> None:
        """A refused EHLO is as if it had not been said."""
        session = session_in(State.GREETED)
        session.receive(EHLO)
        session.next_event()
        session.reply(Reply.of(550, None, "EHLO denied"))
        self.assertEqual(refused(self, session, b"MAIL FROM:<>\r\n").code, 503)

    def test_not_offered(self) -> None:
        """What cannot be had is not offered, whatever a plugin says."""
        limits = SessionLimits(smtputf8=False)
        session = ServerSession(limits, implicit_tls=True)
        session.greet(WELCOME)
        session.receive(EHLO + "MAIL FROM:<\xfc@b.example> SMTPUTF8\r\n".encode())
        session.next_event()
        offer = session.accept_hello("mx.example", OFFERED.adding("SMTPUTF8"))
        self.assertNotIn(b"STARTTLS", offer)
        self.assertNotIn(b"SMTPUTF8", offer)
        self.assertEqual(refused(self, session).code, 555)

    def test_capabilities_of_the_limits(self) -> None:
        """What a session can do by itself is offered, with the limit on the size."""
        self.assertEqual(
            SessionLimits(message=1000).capabilities,
            Capabilities.of(
                "PIPELINING",
                "8BITMIME",
                "SMTPUTF8",
                "SIZE 1000",
                "ENHANCEDSTATUSCODES",
                "DSN",
                "REQUIRETLS",
                "CHUNKING",
                "BINARYMIME",
                "LIMITS RCPTMAX=10000",
            ),
        )
        self.assertNotIn("CHUNKING", SessionLimits(chunking=False).capabilities)
        self.assertNotIn("SMTPUTF8", SessionLimits(smtputf8=False).capabilities)
        self.assertNotIn("REQUIRETLS", SessionLimits(requiretls=False).capabilities)


class TransactionTests(SynchronousTestCase):
    def test_message(self) -> None:
        """A message is given with its envelope, and its end with its size."""
        session = session_in(State.READY)
        events = heard(session, ENVELOPE, MESSAGE + b".\r\nQUIT\r\n")
        self.assertEqual(
            events[1:],
            [
                RcptReceived(Recipient(Address("ann", "mx.example"))),
                DataReceived(),
                BodyReceived(MESSAGE),
                BodyEnded(len(MESSAGE), None),
                QuitReceived(),
            ],
        )

    def test_all_at_once(self) -> None:
        """A client that pipelines everything is served the same."""
        session = session_in(State.READY)
        whole = (ENVELOPE + MESSAGE + b".\r\n") * 3 + b"QUIT\r\n"
        events = heard(session, whole)
        once = ["MailReceived", "RcptReceived", "DataReceived", "BodyReceived", "BodyEnded"]
        self.assertEqual(kinds(events), once * 3 + ["QuitReceived"])

    def test_empty_message(self) -> None:
        """A message without anything in it is a message."""
        session = session_in(State.RECEIVING)
        self.assertEqual(heard(session, b".\r\n"), [BodyEnded(0, None)])

    def test_one_event_at_a_time(self) -> None:
        """Nothing is given out before the last event was answered, but for pieces of a message."""
        session = session_in(State.READY)
        session.receive(ENVELOPE + MESSAGE + b".\r\n")
        for reply in (OK, OK, SEND_IT):
            session.next_event()
            self.assertIs(session.next_event(), AWAITING_REPLY)
            session.reply(reply)
        self.assertIsInstance(session.next_event(), BodyReceived)
        self.assertIsInstance(session.next_event(), BodyEnded)
        self.assertIs(session.next_event(), AWAITING_REPLY)
        session.reply(OK)
        self.assertIs(session.next_event(), NEED_DATA)

    def test_refused_sender(self) -> None:
        """After a refused sender a client that pipelined is told so, and may try another."""
        limits = evolve(LIMITS, errors=3)
        session = session_in(State.READY, limits=limits)
        session.receive(b"MAIL FROM:<a@b.example>\r\n")
        session.next_event()
        session.reply(NO)
        events = heard(session, b"RCPT TO:<postmaster>\r\n" * 50 + b"DATA\r\n" + ENVELOPE)
        self.assertEqual(replies(events), ["503 5.5.1"] * 51)
        self.assertEqual(kinds(events)[51:], ["MailReceived", "RcptReceived", "DataReceived"])

    def test_refused_recipients(self) -> None:
        """Without a recipient there is no message (RFC 5321 section 3.3)."""
        session = session_in(State.SENDER_GIVEN)
        session.receive(b"RCPT TO:<ann@mx.example>\r\n")
        session.next_event()
        session.reply(NO)
        self.assertEqual(str(refused(self, session, b"DATA\r\n")), "554 5.5.1 No valid recipients")
        session = session_in(State.SENDER_GIVEN)
        self.assertEqual(str(refused(self, session, b"DATA\r\n")), "503 5.5.1 RCPT required first")

    def test_second_sender(self) -> None:
        """A transaction must be ended before the next (RFC 5321 section 3.3)."""
        for state in (State.SENDER_GIVEN, State.RECIPIENTS_GIVEN):
            session = session_in(state)
            self.assertEqual(refused(self, session, b"MAIL FROM:<>\r\n").code, 503)
            events = heard(session, b"RSET\r\nMAIL FROM:<>\r\n")
            self.assertEqual(kinds(events), ["ResetReceived", "MailReceived"])

    def test_smtputf8(self) -> None:
        """Recipients beyond ASCII are for transactions with SMTPUTF8, and only for these."""
        session = session_in(State.READY)
        utf8 = "MAIL FROM:<\xfc@b.example> SMTPUTF8\r\nRCPT TO:<\xfc@b.example>\r\n".encode()
        ascii_only = "RSET\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<\xfc@b.example>\r\n".encode()
        self.assertEqual(
            kinds(heard(session, utf8, ascii_only)),
            ["MailReceived", "RcptReceived", "ResetReceived", "MailReceived", "553 5.6.7"],
        )
        session = session_in(State.READY)
        events = heard(session, utf8 + b"DATA\r\n", b".\r\n", ascii_only[6:])
        self.assertEqual(kinds(events)[-1], "553 5.6.7")


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
        """0 is no limit."""
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


class StartTLSTests(SynchronousTestCase):
    def test_pipelined_command_is_dropped(self) -> None:
        """A command sent in the clear right behind STARTTLS is never obeyed."""
        for behind in (b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<a@b.example>", b"x" * 600):
            session = session_in(State.READY)
            session.receive(b"STARTTLS\r\n" + behind)
            self.assertEqual(session.next_event(), StartTLSReceived())
            session.receive(b"\r\nRCPT TO:<a@b.example>\r\n")
            self.assertEqual(session.reply(READY_FOR_TLS), READY_FOR_TLS.wire)
            self.assertIs(session.state, State.SECURING)
            session.tls_started()
            self.assertIs(session.next_event(), NEED_DATA)
            self.assertIs(session.state, State.GREETED)
            self.assertEqual(kinds(heard(session, EHLO)), ["HelloReceived"])

    def test_nothing_is_remembered(self) -> None:
        """Whatever was said in the clear does not count in TLS (RFC 3207 section 4.2)."""
        session = session_in(State.SECURING)
        session.tls_started()
        self.assertTrue(session.secured)
        self.assertEqual(
            str(refused(self, session, b"MAIL FROM:<>\r\n")), "503 5.5.1 Use EHLO/HELO first"
        )

    def test_only_once(self) -> None:
        """Within TLS it is not offered, and refused."""
        session = session_in(State.SECURING)
        session.tls_started()
        session.receive(EHLO)
        session.next_event()
        self.assertNotIn(b"STARTTLS", session.accept_hello("mx.example", OFFERED))
        self.assertEqual(refused(self, session, b"STARTTLS\r\n").code, 503)
        session = ServerSession(LIMITS, implicit_tls=True)
        session.greet(WELCOME)
        heard(session, EHLO)
        self.assertEqual(refused(self, session, b"STARTTLS\r\n").code, 503)

    def test_not_offered(self) -> None:
        """Without an offer there is none."""
        session = session_in(State.READY, offered=LIMITS.capabilities)
        self.assertEqual(str(refused(self, session, b"STARTTLS\r\n").enhanced), "5.5.1")

    def test_arguments(self) -> None:
        """STARTTLS with an argument is 501, and what follows is still in the clear."""
        session = session_in(State.READY)
        self.assertEqual(
            kinds(heard(session, b"STARTTLS now\r\nNOOP\r\n")), ["501 5.5.4", "NoopReceived"]
        )

    def test_not_now(self) -> None:
        """After a refusal the conversation goes on in the clear."""
        session = session_in(State.READY)
        session.receive(b"STARTTLS\r\nNOOP\r\n")
        session.next_event()
        session.reply(Reply.of(454, "4.7.0", "TLS not available"))
        self.assertEqual(session.next_event(), NoopReceived())

    def test_misuse(self) -> None:
        """Our own mistakes with TLS are found at once."""
        self.assertRaises(LocalProtocolError, session_in(State.READY).tls_started)
        self.assertRaises(LocalProtocolError, session_in(State.SECURING).receive, b"x")
        session = session_in(State.SECURING)
        self.assertRaises(LocalProtocolError, session.reply, Reply.of(421, "4.3.2", "Bye"))


class AuthTests(SynchronousTestCase):
    def test_not_offered(self) -> None:
        """AUTH is refused where it is not offered, before its syntax is looked at."""
        for line in (b"AUTH PLAIN\r\n", b"AUTH\r\n"):
            self.assertEqual(
                str(refused(self, session_in(State.READY), line)),
                "503 5.5.1 AUTH is not offered now",
            )

    def test_once(self) -> None:
        """It succeeds only once."""
        offered = OFFERED.adding("AUTH", "PLAIN")
        session = session_in(State.READY, offered, implicit_tls=True)
        session.receive(b"AUTH PLAIN AGpvZQBx\r\n" * 3)
        self.assertEqual(session.next_event(), AuthReceived("PLAIN", b"\0joe\0q"))
        session.reply(Reply.of(535, "5.7.8", "No"))
        session.next_event()
        session.reply(Reply.of(235, "2.7.0", "Yes"))
        self.assertEqual(refused(self, session).code, 503)

    def test_in_the_clear(self) -> None:
        """A password is never asked for before TLS, whatever a plugin would offer; then it is."""
        offered = OFFERED.adding("AUTH", "PLAIN")
        session = session_in(State.GREETED)
        session.receive(b"EHLO client.example\r\n")
        self.assertNotIn(b"AUTH", accept(session, session.next_event(), offered))
        self.assertEqual(refused(self, session, b"AUTH PLAIN AGpvZQBx\r\n").code, 538)
        session.receive(b"STARTTLS\r\n")
        accept(session, session.next_event(), offered)
        session.tls_started()
        session.receive(b"EHLO client.example\r\n")
        self.assertIn(b"AUTH PLAIN", accept(session, session.next_event(), offered))
        session.receive(b"AUTH PLAIN AGpvZQBx\r\n")
        self.assertIsInstance(session.next_event(), AuthReceived)


class TLSFirstTests(SynchronousTestCase):
    """A listener that takes nothing before TLS (RFC 3207 section 4)."""

    REFUSED = (
        *(b"HELO client.example", b"MAIL FROM:<>", b"MAIL FROM", b"RCPT TO:<a@b.example>", b"DATA"),
        *(b"RSET", b"VRFY joe", b"EXPN joe", b"HELP", b"AUTH PLAIN AGpvZQBx", b"AUTH", b"BDAT 1"),
        *(b"XYZZY", b"mail from:<>"),
    )

    def session(self, *lines: bytes, implicit_tls: bool = False) -> ServerSession:
        session = ServerSession(SessionLimits(), implicit_tls)
        session.tls_first = TLS_FIRST
        session.greet(Reply.of(220, None, "mx.example"))
        for line in lines:
            session.receive(line + b"\r\n")
            accept(session, session.next_event())
        return session

    def test_refused(self) -> None:
        """Before and after EHLO, each command but four is answered 530, and nothing comes of it."""
        for session in (self.session(), self.session(b"EHLO client.example")):
            state = session.state
            for line in self.REFUSED:
                reply = refused(self, session, line + b"\r\n")
                self.assertEqual(str(reply), "530 5.7.0 Must issue a STARTTLS command first", line)
                self.assertIs(session.state, state)

    def test_allowed(self) -> None:
        """NOOP, EHLO, STARTTLS and QUIT are answered as ever."""
        for last in (b"NOOP", b"noop", b"EHLO again.example", b"QUIT"):
            self.session(b"NOOP", b"EHLO client.example", last)

    def test_then(self) -> None:
        """Over TLS everything is allowed, whether it came by STARTTLS or was there at once."""
        session = self.session(b"EHLO client.example", b"STARTTLS")
        session.tls_started()
        for one in (session, self.session(implicit_tls=True)):
            for line in (b"HELO client.example", b"MAIL FROM:<>", b"RSET", b"HELP"):
                one.receive(line + b"\r\n")
                accept(one, one.next_event())

    def test_refusing_greeting(self) -> None:
        """Who is not welcome is told that, not to come again with TLS."""
        session = ServerSession(SessionLimits())
        session.tls_first = TLS_FIRST
        session.greet(Reply.of(554, None, "No"))
        self.assertEqual(refused(self, session, b"MAIL FROM:<>\r\n").code, 503)

    def test_web(self) -> None:
        """A browser that is made to speak to us is cut off at its first line all the same."""
        session = self.session()
        session.receive(b"POST / HTTP/1.1\r\n")
        problem = self.assertRaises(RemoteProtocolError, session.next_event)
        self.assertTrue(problem.fatal)
        self.assertEqual(problem.reply.code, 421)


class SmugglingTests(SynchronousTestCase):
    def test_message(self) -> None:
        """None of the five false endings ends a message, and the message is not taken."""
        for end in SMUGGLING:
            for cut_into in (1, 1000):
                session = session_in(State.RECEIVING)
                wire = b"text" + end + b"MAIL FROM:<evil@a.example>\r\n.\r\nNOOP\r\n"
                events = heard(
                    session, *(wire[i : i + cut_into] for i in range(0, len(wire), cut_into))
                )
                self.assertEqual(kinds(events), ["BodyReceived", "BodyEnded", "NoopReceived"], end)
                ended = events[1]
                assert isinstance(ended, BodyEnded)
                self.assertEqual(str(ended.refusal)[:9], "550 5.5.2", end)

    def test_refused_message_is_not_accepted(self) -> None:
        """Not even a plugin can take such a message by mistake."""
        session = session_in(State.RECEIVING)
        session.receive(b"a\nb\r\n.\r\n")
        session.next_event()
        self.assertIsInstance(session.next_event(), BodyEnded)
        self.assertRaises(LocalProtocolError, session.reply, OK)
        session.reply(NO)
        self.assertIs(session.state, State.READY)

    def test_commands(self) -> None:
        """No bare CR or LF ends a command."""
        for wire in (b"NOOP\nRSET\r\n", b"NOOP\rRSET\r\n", b"NOOP\n\rRSET\r\n", b"NOOP\r\r\n"):
            session = session_in(State.READY)
            self.assertEqual(
                kinds(heard(session, wire + b"HELP\r\n")), ["500 5.5.2", "HelpReceived"], wire
            )


class AnswerTests(SynchronousTestCase):
    def test_nothing_to_answer(self) -> None:
        """A reply to nothing is our mistake; the client would take it for another's."""
        session = session_in(State.READY)
        self.assertRaises(LocalProtocolError, session.reply, OK)
        self.assertRaises(LocalProtocolError, session.accept_hello, "mx", OFFERED)
        refused(self, session, b"BAD\x01\r\n")
        self.assertRaises(LocalProtocolError, session.reply, OK)

    def test_wrong_kind(self) -> None:
        """A reply that would lead the client astray is our mistake."""
        for line, right, wrong in (
            (EHLO, None, (OK, SEND_IT)),
            (b"MAIL FROM:<>\r\n", OK, (SEND_IT, Reply.of(334, None))),
            (b"STARTTLS\r\n", READY_FOR_TLS, (OK,)),
        ):
            session = session_in(State.READY)
            session.receive(line)
            session.next_event()
            for reply in wrong:
                self.assertRaises(LocalProtocolError, session.reply, reply)
            self.assertIs(session.next_event(), AWAITING_REPLY)
            if right is not None:
                session.reply(right)
        session = session_in(State.RECIPIENTS_GIVEN)
        session.receive(b"DATA\r\n")
        session.next_event()
        self.assertRaises(LocalProtocolError, session.reply, OK)

    def test_421(self) -> None:
        """421 is the last word, in answer or unasked; nothing that follows is obeyed."""
        leaving = Reply.of(421, "4.3.2", "Shutting down")
        for line in (b"", b"MAIL FROM:<>\r\n"):
            session = session_in(State.READY)
            session.receive(line + b"NOOP\r\n")
            if line:
                session.next_event()
            self.assertEqual(session.reply(leaving), leaving.wire)
            self.assertIs(session.state, State.CLOSED)
            self.assertIs(session.next_event(), NEED_DATA)
            self.assertRaises(LocalProtocolError, session.reply, leaving)

    def test_nothing_after_quit(self) -> None:
        """What a client sends behind QUIT is not obeyed."""
        session = session_in(State.READY)
        self.assertEqual(kinds(heard(session, b"QUIT\r\nMAIL FROM:<>\r\n")), ["QuitReceived"])
        self.assertEqual(heard(session, b"NOOP\r\n"), [])

    def test_every_refusal_is_complete(self) -> None:
        """A refusal has an enhanced status, but in answer to HELO and EHLO (RFC 2034)."""
        for state in (State.GREETED, State.READY, State.SENDER_GIVEN, State.RECIPIENTS_GIVEN):
            for line in (b"DATA x", b"AUTH", b"\xff", b"MAIL FROM:<", b"RCPT TO:<", b"RSET x"):
                reply = refused(self, session_in(state), line + b"\r\n")
                assert reply.enhanced is not None
                self.assertEqual(reply.enhanced.severity, reply.code // 100)
            for line in (b"EHLO", b"HELO", b"EHLO \xff"):
                self.assertIsNone(refused(self, session_in(state), line + b"\r\n").enhanced)


words = st.sampled_from(
    [
        b"EHLO a.example\r\n",
        b"HELO a\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"MAIL FROM:<> SIZE=99 BODY=8BITMIME\r\n",
        b"RCPT TO:<postmaster>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\n..a\r\n",
        b".\r\n",
        b"BDAT 20\r\n",
        b"BDAT 9 LAST\r\n",
        b"BDAT 0 last\r\n",
        b"BDAT x\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"XYZZY\r\n",
        b"STARTTLS\r\n",
        b"QUIT\r\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\x16\x03",
        b"\xff\x00",
        b"x" * 700,
    ]
)
conversations = st.lists(words, max_size=25).map(b"".join)
SMALL = SessionLimits(line=60, data_line=9, message=40, recipients=2, errors=4)


class AnyInputTests(SynchronousTestCase):
    @given(pieces_of(conversations), st.sampled_from([LIMITS, SMALL]))
    def test_cut_anywhere(self, pieces: list[bytes], limits: SessionLimits) -> None:
        """How the network cuts what a client says changes nothing."""
        offered = limits.capabilities  # what is behind STARTTLS is lost by the cut
        one, many = ServerSession(limits), ServerSession(limits)
        for session in (one, many):
            session.greet(WELCOME)
        whole = _heard(one, [b"".join(pieces)], offered)
        self.assertEqual(_heard(many, pieces, offered), whole)
        self.assertIs(many.state, one.state)

    @given(st.data(), st.sampled_from([s for s in State if s is not State.SECURING]))
    def test_anything(self, data: st.DataObject, state: State) -> None:
        """Garbage gives RemoteProtocolError and nothing else, and each has its reply."""
        octets = data.draw(st.binary(max_size=200) | conversations)
        session = session_in(state)
        for event in (
            heard(session, *data.draw(cut(octets))) if state is not State.CONNECTED else ()
        ):
            if isinstance(event, RemoteProtocolError):
                assert event.reply is not None
                self.assertGreaterEqual(event.reply.code, 400)
                if event.fatal:
                    self.assertIs(session.state, State.CLOSED)


def _heard(session: ServerSession, pieces: list[bytes], offered: Capabilities) -> list[object]:
    """Without STARTTLS, which throws away what the cut put behind it."""
    events: list[Heard] = []
    body = b""
    for piece in pieces:
        session.receive(piece)
        while True:
            try:
                event = session.next_event()
            except RemoteProtocolError as problem:
                events.append(problem)
                continue
            if event is NEED_DATA:
                break
            if isinstance(event, BodyReceived):
                body += event.chunk
                continue
            if isinstance(event, BodyEnded | ChunkEnded):
                events.append(BodyReceived(body))
                body = b""
            events.append(event)
            accept(session, event, offered)
    return [*in_words(events), body]


class ResetTests(SynchronousTestCase):
    def test_reset_forgets_the_transaction(self) -> None:
        """After RSET nothing of the transaction is left."""
        session = session_in(State.RECIPIENTS_GIVEN)
        events = heard(session, b"RSET\r\nRCPT TO:<postmaster>\r\nDATA\r\n")
        self.assertEqual(events[0], ResetReceived())
        self.assertEqual(replies(events), ["503 5.5.1", "503 5.5.1"])
