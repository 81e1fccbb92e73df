"""REQUIRETLS as a server offers and reads it, and as a client believes it (RFC 8689 section 2)."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.envelope import MailParameters
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.client import ClientSession
from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import Answered, MailReceived
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from tests.smtp.support import LIMITS, OFFERED, WELCOME, answers, heard, session_in


def mail(session: ServerSession, words: str) -> MailParameters | str:
    """The parameters as they were understood, or the refusal."""
    (event,) = heard(session, f"MAIL FROM:<joe@a.example> {words}\r\n".encode())
    if isinstance(event, RemoteProtocolError):
        return str(event.reply)
    assert isinstance(event, MailReceived)
    return event.parameters


def secured(limits: SessionLimits = LIMITS, offered: Capabilities = OFFERED) -> ServerSession:
    """A session within TLS, after EHLO."""
    return session_in(State.READY, offered, limits, implicit_tls=True)


class ServerTests(SynchronousTestCase):
    def offer(self, implicit_tls: bool) -> bytes:
        session = session_in(State.GREETED, implicit_tls=implicit_tls)
        session.receive(b"EHLO client.example\r\n")
        session.next_event()
        return session.accept_hello("mx.example", OFFERED)

    def test_offered_within_tls_alone(self) -> None:
        """What came in the clear cannot be protected by what comes after."""
        self.assertIn(b"REQUIRETLS\r\n", self.offer(implicit_tls=True))
        self.assertNotIn(b"REQUIRETLS", self.offer(implicit_tls=False))

    def test_accepted(self) -> None:
        """In any case, beside other parameters; the next message has none."""
        for words in ("REQUIRETLS", "RequireTLS", "SIZE=10 REQUIRETLS BODY=8BITMIME"):
            session = secured()
            parameters = mail(session, words)
            assert isinstance(parameters, MailParameters), parameters
            self.assertTrue(parameters.requiretls)
            heard(session, b"RSET\r\n")
            again = mail(session, "SIZE=10")
            assert isinstance(again, MailParameters), again
            self.assertFalse(again.requiretls)

    def test_after_starttls(self) -> None:
        """The EHLO after STARTTLS offers it, and MAIL may have it."""
        session = session_in(State.SECURING)
        session.tls_started()
        heard(session, b"EHLO client.example\r\n")
        self.assertEqual(mail(session, "REQUIRETLS"), MailParameters(requiretls=True))

    def test_without_tls(self) -> None:
        """Said all the same, it is refused so that the client comes back with TLS."""
        for words in (
            "REQUIRETLS",
            "requiretls",
            "SIZE=1 REQUIRETLS",
            "REQUIRETLS=1",
            "X REQUIRETLS",
        ):
            refused = mail(session_in(State.READY), words)
            self.assertEqual(refused, "523 5.7.10 REQUIRETLS is for mail that comes over TLS")
        self.assertEqual(str(mail(session_in(State.READY), "XREQUIRETLS"))[:9], "555 5.5.4")

    def test_after_an_address_in_utf8(self) -> None:
        """That a transaction is over changes nothing about TLS."""
        session = secured()
        heard(session, b"MAIL FROM:<> SMTPUTF8\r\nRSET\r\n")
        self.assertEqual(mail(session, "REQUIRETLS"), MailParameters(requiretls=True))

    def test_not_offered(self) -> None:
        """To HELO, or since the operator does not want it."""
        self.assertEqual(str(mail(secured(offered=Capabilities()), "REQUIRETLS"))[:9], "555 5.5.4")
        session = session_in(State.GREETED, implicit_tls=True)
        heard(session, b"HELO client.example\r\n")
        self.assertEqual(str(mail(session, "REQUIRETLS"))[:9], "555 5.5.4")

    def test_malformed(self) -> None:
        """With a value, or given twice, it is refused."""
        for words, told in (
            ("REQUIRETLS=1", "501 5.5.4 REQUIRETLS takes no value"),
            ("REQUIRETLS=", "501 5.5.4 REQUIRETLS takes no value"),
            ("REQUIRETLS requiretls", "501 5.5.4 REQUIRETLS is given twice"),
        ):
            self.assertEqual(mail(secured(), words), told)

    def test_longest_line(self) -> None:
        """The line may be as much longer as the parameter is."""
        limits = SessionLimits(line=100, message=0)
        sender = "x" * (100 - len("MAIL FROM:<@a.example>\r\n")) + "@a.example"
        session = secured(limits, Capabilities.of("REQUIRETLS"))
        session.receive(f"MAIL FROM:<{sender}> REQUIRETLS\r\n".encode())
        self.assertIsInstance(session.next_event(), MailReceived)


class ClientTests(SynchronousTestCase):
    def hello(self, session: ClientSession) -> None:
        session.hello("client.example")
        offer = Capabilities.of("REQUIRETLS", "STARTTLS").to_reply("mx.example").wire
        self.assertIsInstance(answers(session, offer)[-1], Answered)

    def test_believed_within_tls_alone(self) -> None:
        """An offer in the clear is anybody's."""
        session = ClientSession()
        answers(session, WELCOME.wire)
        self.hello(session)
        self.assertNotIn("REQUIRETLS", session.capabilities)
        session.start_tls()
        answers(session, b"220 Go ahead\r\n")
        session.tls_started()
        self.hello(session)
        self.assertIn("REQUIRETLS", session.capabilities)
