"""The client's side."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.client import ClientSession
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import NEED_DATA, Answered, Asked
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import State
from tests.smtp.support import (
    BYE,
    NO,
    OK,
    READY_FOR_TLS,
    SEND_IT,
    WELCOME,
    answers,
    cut,
    greeted_client,
    recipient,
)

ANN = recipient("ann@mx.example")
BEN = recipient("ben@mx.example")
JOE = Address("joe", "client.example")
UTF8 = Address("j\xf6rg", "client.example")
LEAVING = Reply.of(421, "4.3.2", "Shutting down")
LATER = Reply.of(452, "4.3.1", "Disk full")


def receiving(lmtp: bool = False) -> ClientSession:
    """A session after 354, with two accepted recipients."""
    session = greeted_client("PIPELINING", lmtp=lmtp)
    session.mail(JOE)
    session.rcpt(ANN)
    session.rcpt(BEN)
    session.data()
    answers(session, OK.wire * 3 + SEND_IT.wire)
    assert session.state is State.RECEIVING
    return session


class BeginningTests(SynchronousTestCase):
    def test_hello(self) -> None:
        """The greeting and the answer to EHLO are told; then it is known what the server can do."""
        session = ClientSession()
        self.assertRaises(LocalProtocolError, session.hello, "client.example")
        self.assertEqual(answers(session, WELCOME.wire), [Answered(Asked.GREETING, WELCOME)])
        self.assertEqual(session.hello("client.example"), b"EHLO client.example\r\n")
        offer = Capabilities.of("PIPELINING", "SIZE 1000").to_reply("mx.example")
        self.assertEqual(answers(session, offer.wire), [Answered(Asked.HELLO, offer)])
        self.assertEqual(session.capabilities, Capabilities.of("PIPELINING", "SIZE 1000"))
        self.assertIs(session.state, State.READY)

    def test_helo(self) -> None:
        """An old server that refuses EHLO is spoken to with HELO, and offers nothing."""
        session = ClientSession()
        answers(session, WELCOME.wire)
        session.hello("client.example")
        answers(session, b"502 What?\r\n")
        self.assertIs(session.state, State.GREETED)
        self.assertEqual(
            session.hello("client.example", extended=False), b"HELO client.example\r\n"
        )
        answers(session, b"250-mx.example\r\n250 PIPELINING\r\n")
        self.assertIs(session.state, State.READY)
        self.assertEqual(session.capabilities, Capabilities())

    def test_lmtp(self) -> None:
        """LMTP says LHLO, and has nothing to fall back to."""
        session = ClientSession(lmtp=True)
        answers(session, WELCOME.wire)
        self.assertRaises(LocalProtocolError, session.hello, "me", extended=False)
        self.assertEqual(session.hello("client.example"), b"LHLO client.example\r\n")

    def test_refused(self) -> None:
        """A server that does not want us is left politely."""
        session = ClientSession()
        answers(session, Reply.of(554, None, "No").wire)
        self.assertIs(session.state, State.REFUSED)
        self.assertRaises(LocalProtocolError, session.hello, "client.example")
        self.assertEqual(session.quit(), b"QUIT\r\n")
        self.assertEqual(answers(session, BYE.wire), [Answered(Asked.QUIT, BYE)])
        self.assertIs(session.state, State.CLOSED)

    def test_second_hello(self) -> None:
        """What a later EHLO offers replaces what the first did; a refused one changes nothing."""
        session = greeted_client("SIZE 10")
        session.hello("client.example")
        answers(session, NO.wire)
        self.assertEqual(session.capabilities, Capabilities.of("SIZE 10"))
        session.hello("client.example")
        answers(session, Capabilities.of("8BITMIME").to_reply("mx").wire)
        self.assertEqual(session.capabilities, Capabilities.of("8BITMIME"))


class TransactionTests(SynchronousTestCase):
    def test_in_turn(self) -> None:
        """Without PIPELINING each command waits for its answer."""
        session = greeted_client()
        self.assertEqual(session.mail(JOE, " SIZE=1"), b"MAIL FROM:<joe@client.example> SIZE=1\r\n")
        self.assertRaises(LocalProtocolError, session.rcpt, ANN)
        self.assertEqual(answers(session, OK.wire), [Answered(Asked.MAIL, OK)])
        self.assertEqual(session.rcpt(ANN), b"RCPT TO:<ann@mx.example>\r\n")
        self.assertEqual(answers(session, OK.wire), [Answered(Asked.RCPT, OK, ANN)])
        self.assertEqual(session.data(), b"DATA\r\n")
        self.assertRaises(LocalProtocolError, session.body, b"x")
        self.assertEqual(answers(session, SEND_IT.wire), [Answered(Asked.DATA, SEND_IT)])
        wire = session.body(b".a\r\n.") + session.body(b"b") + session.end_body()
        self.assertEqual(wire, b"..a\r\n..b\r\n.\r\n")
        self.assertEqual(answers(session, OK.wire), [Answered(Asked.BODY, OK)])
        self.assertIs(session.state, State.READY)
        self.assertEqual(session.mail(None), b"MAIL FROM:<>\r\n")

    def test_pipelining(self) -> None:
        """With PIPELINING the answers are told one by one, each with what it answers."""
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.rcpt(BEN)
        session.data()
        for early in (session.reset, session.quit, session.data):
            self.assertRaises(LocalProtocolError, early)
        self.assertEqual(
            answers(session, OK.wire, NO.wire + OK.wire[:5], OK.wire[5:] + SEND_IT.wire),
            [
                Answered(Asked.MAIL, OK),
                Answered(Asked.RCPT, NO, ANN),
                Answered(Asked.RCPT, OK, BEN),
                Answered(Asked.DATA, SEND_IT),
            ],
        )
        session.end_body()
        session.mail(None)  # behind the message, too
        self.assertEqual(
            answers(session, OK.wire + NO.wire),
            [Answered(Asked.BODY, OK), Answered(Asked.MAIL, NO)],
        )
        self.assertIs(session.state, State.READY)

    def test_all_refused(self) -> None:
        """When everything was refused, RSET makes room for the next message."""
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.data()
        answers(session, OK.wire + NO.wire + b"554 5.5.1 No valid recipients\r\n")
        self.assertIs(session.state, State.SENDER_GIVEN)
        self.assertRaises(LocalProtocolError, session.mail, JOE)
        session.reset()
        answers(session, OK.wire)
        self.assertIs(session.state, State.READY)
        session.mail(JOE)

    def test_sender_refused(self) -> None:
        """When the sender was refused no transaction is open."""
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.data()
        answers(session, NO.wire + b"503 x\r\n" * 2)
        self.assertIs(session.state, State.READY)
        session.mail(JOE)

    def test_354_without_recipients(self) -> None:
        """A server that wants a message for nobody gets the end of one (RFC 2920 section 3.1)."""
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.data()
        answers(session, OK.wire + NO.wire + SEND_IT.wire)
        self.assertIs(session.state, State.RECEIVING)
        self.assertEqual(session.end_body(), b".\r\n")
        self.assertEqual(answers(session, NO.wire), [Answered(Asked.BODY, NO)])
        self.assertIs(session.state, State.READY)

    def test_out_of_order(self) -> None:
        """Commands out of order are our mistake; no server needs to tell us."""
        session = greeted_client("PIPELINING")
        mistakes: tuple[Callable[[], bytes], ...] = (
            lambda: session.rcpt(ANN),
            session.data,
            lambda: session.body(b"x"),
            session.end_body,
        )
        for mistake in mistakes:
            self.assertRaises(LocalProtocolError, mistake)
        session.mail(JOE)
        self.assertRaises(LocalProtocolError, session.mail, JOE)
        self.assertRaises(LocalProtocolError, session.data)

    def test_forged_commands(self) -> None:
        """An address or name with a line end in it never becomes a command."""
        session = greeted_client("SMTPUTF8")
        for text in ("a\r\nDATA", "a\nb", "a\x00b", "a\x7fb"):
            self.assertRaises(LocalProtocolError, session.mail, Address(text, "b.example"))
            self.assertRaises(LocalProtocolError, session.mail, JOE, f" X={text}")
            self.assertRaises(LocalProtocolError, session.hello, text)
        self.assertRaises(LocalProtocolError, session.mail, Address("\ud800", "b.example"))
        self.assertEqual(session.mail(JOE), b"MAIL FROM:<joe@client.example>\r\n")

    def test_smtputf8(self) -> None:
        """An address beyond ASCII goes only where it is understood."""
        session = greeted_client()
        self.assertRaises(LocalProtocolError, session.mail, UTF8)
        session = greeted_client("SMTPUTF8")
        wire = session.mail(UTF8, " SMTPUTF8")
        self.assertEqual(wire, "MAIL FROM:<j\xf6rg@client.example> SMTPUTF8\r\n".encode())


class LMTPTests(SynchronousTestCase):
    def test_answer_for_each(self) -> None:
        """Each accepted recipient has an answer of its own (RFC 2033 section 4.2)."""
        session = greeted_client("PIPELINING", lmtp=True)
        session.mail(JOE)
        session.rcpt(ANN)
        session.rcpt(recipient("nobody@mx.example"))
        session.rcpt(BEN)
        session.data()
        answers(session, OK.wire * 2 + NO.wire + OK.wire + SEND_IT.wire)
        session.body(b"x\r\n")
        session.end_body()
        self.assertEqual(answers(session, OK.wire), [Answered(Asked.BODY, OK, ANN)])
        self.assertIs(session.state, State.RECEIVING)
        self.assertEqual(answers(session, LATER.wire), [Answered(Asked.BODY, LATER, BEN)])
        self.assertIs(session.state, State.READY)

    def test_next_transaction(self) -> None:
        """The recipients of one message are not waited for in the next."""
        session = receiving(lmtp=True)
        session.end_body()
        answers(session, OK.wire * 2)
        session.mail(JOE)
        session.rcpt(BEN)
        session.data()
        answers(session, OK.wire * 2 + SEND_IT.wire)
        session.end_body()
        self.assertEqual(answers(session, OK.wire), [Answered(Asked.BODY, OK, BEN)])
        self.assertIs(session.state, State.READY)

    def test_354_without_recipients(self) -> None:
        """Nobody could answer for a message without recipients."""
        session = greeted_client("PIPELINING", lmtp=True)
        session.mail(JOE)
        session.rcpt(ANN)
        session.data()
        self.assertRaises(RemoteProtocolError, answers, session, OK.wire + NO.wire + SEND_IT.wire)


class StartTLSTests(SynchronousTestCase):
    def test_upgrade(self) -> None:
        """After the handshake nothing of before counts, and EHLO is said again."""
        session = greeted_client("STARTTLS", "PIPELINING")
        self.assertEqual(session.start_tls(), b"STARTTLS\r\n")
        self.assertEqual(answers(session, READY_FOR_TLS.wire)[0].asked, Asked.STARTTLS)
        self.assertIs(session.state, State.SECURING)
        self.assertRaises(LocalProtocolError, session.hello, "client.example")
        session.tls_started()
        self.assertIs(session.state, State.GREETED)
        self.assertEqual(session.capabilities, Capabilities())
        self.assertRaises(LocalProtocolError, session.mail, JOE)
        session.hello("client.example")
        answers(session, Capabilities.of("STARTTLS").to_reply("mx").wire)
        self.assertRaises(LocalProtocolError, session.start_tls)

    def test_injected_answers(self) -> None:
        """Answers that an attacker put behind the 220 are never taken for the server's."""
        session = greeted_client("STARTTLS")
        session.start_tls()
        session.receive(READY_FOR_TLS.wire + b"250-mx\r\n250 X\r\n")
        self.assertRaises(RemoteProtocolError, session.next_event)
        self.assertIs(session.state, State.CLOSED)
        self.assertIs(session.next_event(), NEED_DATA)

    def test_injected_later(self) -> None:
        """Nor are those that come in a packet of their own before the handshake."""
        for ask in (ClientSession.next_event, ClientSession.tls_started):
            session = greeted_client("STARTTLS")
            session.start_tls()
            answers(session, READY_FOR_TLS.wire)
            session.receive(b"250 2.0.0 OK")
            self.assertRaises(RemoteProtocolError, ask, session)
            self.assertIs(session.state, State.CLOSED)

    def test_refused(self) -> None:
        """A server that cannot now is left to the caller, in the clear."""
        session = greeted_client("STARTTLS")
        session.start_tls()
        answers(session, b"454 4.7.0 Not now\r\n")
        self.assertIs(session.state, State.READY)
        self.assertRaises(LocalProtocolError, session.tls_started)

    def test_not_offered(self) -> None:
        """It is not asked for where it is not offered."""
        self.assertRaises(LocalProtocolError, greeted_client().start_tls)


class BadServerTests(SynchronousTestCase):
    def broken(self, session: ClientSession, octets: bytes, says: str = "") -> None:
        session.receive(octets)
        problem = self.assertRaises(RemoteProtocolError, session.next_event)
        self.assertIsNone(problem.reply)
        self.assertTrue(problem.fatal)
        self.assertIn(says, str(problem))
        self.assertIs(session.state, State.CLOSED)
        session.receive(OK.wire)
        self.assertIs(session.next_event(), NEED_DATA)
        self.assertRaises(LocalProtocolError, session.quit)

    def test_garbage(self) -> None:
        """What is no SMTP server is left at once."""
        for octets in (b"SSH-2.0-x\r\n", b"\x15\x03\x01\r\n", b"220 mx\n", b"\r\n", b"2" * 5000):
            self.broken(ClientSession(), octets, "not a reply")

    def test_unasked(self) -> None:
        """A reply that nobody asked for is never taken for the answer to the next command."""
        self.broken(greeted_client(), OK.wire, "250 2.0.0 OK")
        session = greeted_client()
        session.receive(OK.wire)
        session.mail(JOE)  # the reply was there before
        self.broken(session, b"")
        session = greeted_client()
        session.receive(b"250")
        session.mail(JOE)
        self.broken(session, b" OK\r\n")
        session = greeted_client()
        self.assertEqual(answers(session, b"250-half\r\n"), [])
        session.mail(JOE)
        self.broken(session, b"250 OK\r\n")

    def test_premature_acceptance(self) -> None:
        """A message is not believed to be delivered before its end was sent."""
        session = receiving()
        session.body(b"x\r\n")
        self.broken(session, OK.wire)
        session = receiving()
        session.body(b"x\r\n")
        session.receive(OK.wire)
        session.end_body()
        self.broken(session, b"")

    def test_wrong_kind(self) -> None:
        """A yes of the wrong kind is no yes."""
        self.broken(ClientSession(), b"354 go\r\n")
        session = greeted_client()
        session.mail(JOE)
        self.broken(session, SEND_IT.wire, "MAIL")
        session = greeted_client("PIPELINING", "STARTTLS")
        session.start_tls()
        self.broken(session, OK.wire, "STARTTLS")
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.data()
        answers(session, OK.wire * 2)
        self.broken(session, OK.wire, "DATA")
        session = receiving()
        session.end_body()
        self.broken(session, SEND_IT.wire)

    def test_endless(self) -> None:
        """A server that talks without end is left."""
        self.assertRaises(
            RemoteProtocolError, answers, ClientSession(), *[b"220-" + b"x" * 1000 + b"\r\n"] * 1000
        )

    def test_leaving(self) -> None:
        """421 is why nothing that was asked was done; the caller hears it for each."""
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.rcpt(BEN)
        session.data()
        self.assertEqual(
            answers(session, OK.wire + LEAVING.wire + NO.wire),
            [
                Answered(Asked.MAIL, OK),
                Answered(Asked.RCPT, LEAVING, ANN),
                Answered(Asked.RCPT, LEAVING, BEN),
                Answered(Asked.DATA, LEAVING),
            ],
        )
        self.assertIs(session.state, State.CLOSED)

    def test_left_while_idle(self) -> None:
        """A server that left meanwhile says so in answer to the next command."""
        session = greeted_client()
        session.receive(LEAVING.wire)
        session.mail(JOE)
        self.assertEqual(answers(session, b""), [Answered(Asked.MAIL, LEAVING)])
        self.assertIs(session.state, State.CLOSED)
        # Where nothing is asked any more the reason is told, too.
        self.broken(greeted_client(), LEAVING.wire, "421 4.3.2 Shutting down")

    def test_refused_midway(self) -> None:
        """A message that is refused before its end has its answer; the rest is not sent."""
        for lmtp, about in ((False, [None]), (True, [ANN, BEN])):
            for reply in (LATER, LEAVING, NO):
                session = receiving(lmtp)
                session.body(b"x\r\n")
                expected = [Answered(Asked.BODY, reply, who) for who in about]
                self.assertEqual(answers(session, reply.wire), expected)
                self.assertIs(session.state, State.CLOSED)
                self.assertEqual(session.body(b"y\r\n"), b"")
                self.assertEqual(session.end_body(), b"")
                self.assertIs(session.next_event(), NEED_DATA)

    def test_refused_midway_unread(self) -> None:
        """The same where the refusal is read only after the end was sent."""
        for lmtp, about in ((False, [None]), (True, [ANN, BEN])):
            session = receiving(lmtp)
            session.body(b"x\r\n")
            session.receive(LATER.wire)
            session.end_body()
            expected = [Answered(Asked.BODY, LATER, who) for who in about]
            self.assertEqual(answers(session, b""), expected)
            self.assertIs(session.state, State.CLOSED)

    @given(st.data())
    def test_anything(self, data: st.DataObject) -> None:
        """Garbage gives RemoteProtocolError and nothing else; the cut of it changes nothing."""
        replies = st.sampled_from(
            [OK.wire, NO.wire, SEND_IT.wire, LEAVING.wire, WELCOME.wire, b"250-x\r\n", b"\n", b"\r"]
        )
        octets = data.draw(
            st.binary(max_size=60)
            | st.lists(replies | st.binary(max_size=4), max_size=9).map(b"".join)
        )
        step = data.draw(st.integers(0, 4))
        outcomes = []
        for pieces in ([octets], data.draw(cut(octets))):
            session = _at(step)
            found: list[object] = []
            try:
                for piece in pieces:
                    session.receive(piece)
                    while isinstance(event := session.next_event(), Answered):
                        found.append(event)
            except RemoteProtocolError as problem:
                self.assertIs(session.state, State.CLOSED)
                found.append(type(problem))
            outcomes.append((found, session.state))
        self.assertEqual(outcomes[0], outcomes[1])


def _at(step: int) -> ClientSession:
    if step == 0:
        return ClientSession()
    if step == 1:
        session = greeted_client()
        session.hello("client.example")
        return session
    if step == 2:
        session = greeted_client("PIPELINING")
        session.mail(JOE)
        session.rcpt(ANN)
        session.data()
        return session
    session = receiving(lmtp=step == 4)
    session.body(b"x")
    if step == 3:
        session.end_body()
    return session
