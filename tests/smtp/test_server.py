"""The server's side."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.events import (
    AWAITING_REPLY,
    NEED_DATA,
    AuthReceived,
    BodyEnded,
    BodyReceived,
    DataReceived,
    HelloReceived,
    MailReceived,
    QuitReceived,
    RcptReceived,
    ResetReceived,
)
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from tests.smtp.support import (
    BYE,
    EHLO,
    ENVELOPE,
    LIMITS,
    MESSAGE,
    NO,
    OFFERED,
    OK,
    READY_FOR_TLS,
    SEND_IT,
    WELCOME,
    accept,
    heard,
    kinds,
    refused,
    replies,
    session_in,
)


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


class ResetTests(SynchronousTestCase):
    def test_reset_forgets_the_transaction(self) -> None:
        """After RSET nothing of the transaction is left."""
        session = session_in(State.RECIPIENTS_GIVEN)
        events = heard(session, b"RSET\r\nRCPT TO:<postmaster>\r\nDATA\r\n")
        self.assertEqual(events[0], ResetReceived())
        self.assertEqual(replies(events), ["503 5.5.1", "503 5.5.1"])
