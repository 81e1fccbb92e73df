"""The server's side before and after TLS: STARTTLS, and what must come behind it."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    NEED_DATA,
    NoopReceived,
    StartTLSReceived,
)
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.refusals import TLS_FIRST
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from tests.smtp.support import (
    EHLO,
    LIMITS,
    OFFERED,
    READY_FOR_TLS,
    WELCOME,
    accept,
    heard,
    kinds,
    refused,
    session_in,
)


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
