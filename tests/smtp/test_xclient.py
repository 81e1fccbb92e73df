"""XCLIENT: what is understood, what is refused, and when it may be said."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.xtext import encode
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import NEED_DATA, AuthReceived, UnrecognizedReceived, XClientReceived
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.states import State
from harakatls.smtp.xclient import parse_xclient
from tests.smtp.support import NO, OFFERED, OK, WELCOME, heard, replies, session_in

XCLIENT = b"XCLIENT ADDR=192.0.2.1\r\n"
TRUSTED = OFFERED.adding("XCLIENT", "ADDR")


class ParseTests(SynchronousTestCase):
    def refusal(self, argument: str) -> str:
        with self.assertRaises(RemoteProtocolError, msg=argument) as caught:
            parse_xclient(argument)
        return str(caught.exception)

    def test_all(self) -> None:
        """Each attribute, in any case and order."""
        self.assertEqual(
            parse_xclient(
                "name=client.example ADDR=192.0.2.1 PORT=40000 PROTO=smtp HELO=[192.0.2.1] "
                "LOGIN=joe+40example.org DESTADDR=IPV6:2001:DB8::2  DESTPORT=587"
            ),
            XClientReceived(
                host="192.0.2.1",
                port=40000,
                name="client.example",
                hello="[192.0.2.1]",
                extended=False,
                login="joe@example.org",
                local_host="2001:db8::2",
                local_port=587,
            ),
        )

    def test_addresses(self) -> None:
        """IPv6 with its prefix or without, IPv4 within IPv6 as IPv4."""
        for text, host in (
            ("IPV6:2001:db8::1", "2001:db8::1"),
            ("ipv6:2001:DB8:0::1", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("IPV6:::ffff:192.0.2.1", "192.0.2.1"),
        ):
            self.assertEqual(parse_xclient(f"ADDR={text}").host, host)

    def test_not_told(self) -> None:
        """What the proxy does not know is as if it were not there."""
        told = parse_xclient(
            "ADDR=192.0.2.1 NAME=[UNAVAILABLE] HELO=[unavailable] LOGIN=[UNAVAILABLE] "
            "PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] DESTPORT=[TEMPUNAVAIL] DESTADDR=[UNAVAILABLE]"
        )
        self.assertEqual(told, XClientReceived(host="192.0.2.1"))

    def test_no_address(self) -> None:
        """Without an address of the client nothing can be done, as in Haraka."""
        for argument in (
            "NAME=client.example",
            "ADDR=[UNAVAILABLE]",
            "ADDR=[TEMPUNAVAIL]",
            "ADDR=",
            "ADDR=client.example",
            "ADDR=192.0.2.256",
            "ADDR=192.0.2.01",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=IPV6:fe80::1%eth0",
            "ADDR=[192.0.2.1]",
            "ADDR=192.0.2.1/32",
        ):
            self.assertEqual(self.refusal(argument), "501 5.5.4 No valid IP address found")

    def test_malformed(self) -> None:
        """What is not attribute=value, is unknown, or is there twice."""
        for argument in (
            "",
            "ADDR",
            "ADDR 192.0.2.1",
            "=192.0.2.1",
            "ADDR=192.0.2.1 X=y",
            "ADDR=192.0.2.1 ADDR=192.0.2.2",
            "ADDR=192.0.2.1 addr=[UNAVAILABLE]",
        ):
            self.assertIn("501 5.5.4 Syntax: XCLIENT", self.refusal(argument))

    def test_injection(self) -> None:
        """Nothing gets into a header field, a reply or the log that is not what it claims to be."""
        for attribute in (
            "NAME=a+0D+0ABcc:+20x",
            "NAME=a+00",
            "NAME=a+20b",
            "NAME=a)+20(b",
            "NAME=" + "a" * 256,
            "NAME=",
            "HELO=a+0D+0A",
            "HELO=a(b",
            "HELO=" + "a" * 256,
            "LOGIN=",
            "LOGIN=a+0A",
            "LOGIN=a+C3+A9",
            "LOGIN=" + "a" * 256,
            "LOGIN=a=b",
            "LOGIN=a+zz",
            "PORT=65536",
            "PORT=-1",
            "PORT=4e3",
            "PORT=",
            "DESTPORT=65536",
            "DESTADDR=mx.example",
            "PROTO=LMTP",
            "PROTO=",
        ):
            name = attribute.partition("=")[0]
            found = self.refusal(f"ADDR=192.0.2.1 {attribute}")
            self.assertEqual(found, f"501 5.5.4 Bad {name} value", attribute)

    @given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
    def test_login(self, login: str) -> None:
        """A login is any printable ASCII, as xtext."""
        text = encode(login)
        expected = None if text in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else login
        self.assertEqual(parse_xclient(f"LOGIN={text} ADDR=::1").login, expected)

    @given(st.text())
    def test_any_text(self, argument: str) -> None:
        """It is understood or refused, and nothing else."""
        try:
            parse_xclient(argument)
        except RemoteProtocolError:
            pass


class SessionTests(SynchronousTestCase):
    def test_not_offered(self) -> None:
        """To whom it is not offered, it is refused in every state, and that is an error."""
        for state in (State.GREETED, State.READY, State.SENDER_GIVEN, State.RECIPIENTS_GIVEN):
            session = session_in(state)
            for line in (XCLIENT, b"XCLIENT\r\n", b"xclient ADDR=nonsense\r\n"):
                self.assertEqual(replies(heard(session, line)), ["550 5.5.0"], state)
            self.assertEqual(session._errors, 3)
        self.assertEqual(replies(heard(session_in(State.REFUSED), XCLIENT)), ["503 5.5.1"])

    def test_in_transaction(self) -> None:
        """A transaction belongs to who began it."""
        for state in (State.SENDER_GIVEN, State.RECIPIENTS_GIVEN):
            self.assertEqual(replies(heard(session_in(state, TRUSTED), XCLIENT)), ["503 5.5.0"])

    def test_anew(self) -> None:
        """After it all is as behind the banner: HELO comes first, and nothing is offered."""
        session = session_in(State.READY, TRUSTED)
        session.receive(XCLIENT)
        self.assertEqual(session.next_event(), XClientReceived(host="192.0.2.1"))
        self.assertEqual(session.greet_again(WELCOME, authenticated=False), WELCOME.wire)
        self.assertIs(session.state, State.GREETED)
        self.assertEqual(
            replies(heard(session, b"MAIL FROM:<>\r\n", XCLIENT)), ["503 5.5.1", "550 5.5.0"]
        )

    def test_errors(self) -> None:
        """Nobody is sent away for the mistakes of who was there before."""
        session = session_in(State.READY, TRUSTED, SessionLimits(errors=2))
        heard(session, b"MAIL nonsense\r\n")
        session.receive(XCLIENT)
        session.next_event()
        session.greet_again(WELCOME, authenticated=False)
        found = heard(session, b"MAIL nonsense\r\n", b"NOOP\r\n")
        self.assertEqual(replies(found), ["503 5.5.1"])

    def test_refused(self) -> None:
        """A client that is not welcome hears so to all that follows."""
        session = session_in(State.READY, TRUSTED)
        session.receive(XCLIENT)
        session.next_event()
        session.greet_again(NO, authenticated=False)
        self.assertIs(session.state, State.REFUSED)
        (problem,) = heard(session, b"MAIL FROM:<>\r\n")
        self.assertEqual(str(problem), "503 5.5.1 No")

    def test_login(self) -> None:
        """Who has been authenticated by the proxy is not to do it again; another one may."""
        offered = TRUSTED.adding("AUTH", "PLAIN")
        session = session_in(State.READY, offered, implicit_tls=True)
        for authenticated, answer in ((True, ["503 5.5.1"]), (False, [])):
            session.receive(XCLIENT)
            session.next_event()
            session.greet_again(WELCOME, authenticated)
            session.receive(b"EHLO x\r\n")
            session.next_event()
            session.accept_hello("mx.example", offered)
            found = heard(session, b"AUTH PLAIN\r\n")
            self.assertEqual(replies(found), answer)
            if not authenticated:
                self.assertEqual(found, [AuthReceived("PLAIN", None)])

    def test_wrong_answers(self) -> None:
        """XCLIENT is accepted with a greeting, and only XCLIENT is."""
        session = session_in(State.READY, TRUSTED)
        with self.assertRaises(LocalProtocolError):
            session.greet_again(WELCOME, authenticated=False)
        session.receive(XCLIENT)
        session.next_event()
        with self.assertRaises(LocalProtocolError):
            session.reply(OK)
        session.reply(NO)
        self.assertIs(session.state, State.READY)

    def test_pipelined(self) -> None:
        """What comes right behind it waits for the greeting and is the client's."""
        session = session_in(State.READY, TRUSTED)
        session.receive(XCLIENT + b"NOOP\r\n")
        session.next_event()
        session.greet_again(WELCOME, authenticated=False)
        self.assertIsNot(session.next_event(), NEED_DATA)

    def test_long_line(self) -> None:
        """Three long names have room in one line, for who may send them."""
        line = (
            f"XCLIENT ADDR=::1 NAME={'a' * 255} HELO={'b' * 255} LOGIN={'+41' * 255}\r\n".encode()
        )
        session = session_in(State.READY, TRUSTED)
        session.receive(line)
        self.assertIsInstance(session.next_event(), XClientReceived)
        self.assertEqual(replies(heard(session_in(State.READY), line)), ["500 5.5.2"])


class ProxyHeaderTests(SynchronousTestCase):
    def test_version_2(self) -> None:
        """Where none is awaited it is one unknown command, not a dozen lines of garbage."""
        for header in (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(12), b"PROXY TCP4 x\r\n"):
            session = session_in(State.GREETED)
            session.receive(header)
            event = session.next_event()
            assert isinstance(event, UnrecognizedReceived)
            self.assertEqual(event.verb, "PROXY")

    def test_tls_first(self) -> None:
        """Where TLS is a must, its sender is told all the same."""
        session = session_in(State.GREETED)
        session.tls_first = NO
        session.receive(b"PROXY TCP4 x\r\n")
        self.assertIsInstance(session.next_event(), UnrecognizedReceived)
