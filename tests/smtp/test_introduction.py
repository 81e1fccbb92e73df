"""What a server behind us is told of a client (XCLIENT), and what becomes of the conversation."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.mail.route import IntroducedClient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.events import Answered, Asked, XClientReceived
from harakatls.smtp.states import State
from harakatls.smtp.xclient import ATTRIBUTES, introduction, parse_xclient
from tests.smtp.support import NO, OK, WELCOME, answers, greeted_client

JOE = Address("joe", "client.example")
ALL = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
CLIENT = IntroducedClient(
    host="192.0.2.7",
    port=40000,
    name="client.example",
    hello="laptop.local",
    extended=True,
    login="ann smith+1@example.com",
    local_host="2001:db8::25",
    local_port=587,
)
NOT_TOLD = "[UNAVAILABLE]"


def told(offered: str = ALL, **about: Any) -> dict[str, str]:
    """By attribute, of a client of which only this is known."""
    argument = introduction(IntroducedClient(**{"host": "192.0.2.7", **about}), offered)
    assert argument is not None
    return dict(word.split("=", 1) for word in argument.split(" "))


class IntroductionTests(SynchronousTestCase):
    def test_all_of_it(self) -> None:
        """Values are xtext, IPv6 has its prefix; in the order in which the server asks."""
        self.assertEqual(
            introduction(CLIENT, ALL),
            "NAME=client.example ADDR=192.0.2.7 PORT=40000 PROTO=ESMTP HELO=laptop.local"
            " LOGIN=ann+20smith+2B1@example.com DESTADDR=IPV6:2001:db8::25 DESTPORT=587",
        )

    def test_only_what_is_asked_for(self) -> None:
        """A server refuses attributes that it does not know, and with them the rest."""
        self.assertEqual(introduction(CLIENT, "ADDR"), "ADDR=192.0.2.7")
        self.assertEqual(
            introduction(CLIENT, "addr TTL HELO TIMEOUT ADDR"), "ADDR=192.0.2.7 HELO=laptop.local"
        )

    def test_no_use(self) -> None:
        """Not offered, or without the address."""
        for offered in ("", "NAME HELO", "XADDR"):
            self.assertIsNone(introduction(CLIENT, offered), offered)

    def test_not_known(self) -> None:
        """The server is not left to take what it knows of us for the client's."""
        expected = dict.fromkeys(ALL.split(), NOT_TOLD)
        del expected["PROTO"]  # Postfix takes nothing but SMTP and ESMTP
        self.assertEqual(told(host=None), expected)
        self.assertEqual(told(port=0)["PORT"], NOT_TOLD)
        self.assertEqual(told(hello="x", extended=False)["PROTO"], "SMTP")

    def test_hostile_names(self) -> None:
        """
        With a name that the server refuses, the client would go on in our own name: so such a name
        is not told.
        """
        for name in (
            "-x.example",
            "a..b",
            "x" * 64,
            "192.0.2.9",
            "a_b",
            "a b",
            "",
            "x\r\nQUIT",
            "\xfc",
        ):
            with self.subTest(name=name):
                self.assertEqual(told(name=name)["NAME"], NOT_TOLD)
        for hello in ("", "a b", "a=b", "x" * 256, "\u2028", "a\r\nMAIL FROM:<>", "<x>"):
            with self.subTest(hello=hello):
                self.assertEqual(told(hello=hello)["HELO"], NOT_TOLD)
        for login in ("", "x" * 256, "j\xf6rg", "a\r\nb", "[unavailable]"):
            with self.subTest(login=login):
                self.assertEqual(told(login=login)["LOGIN"], NOT_TOLD)
        self.assertEqual(told(host="not an address")["ADDR"], NOT_TOLD)

    def test_too_long(self) -> None:
        """What is least needed goes first; rights hang on the login."""
        long = ".".join(["x" * 49] * 5)
        self.assertLess(len(long), 256)
        all_of = told(name=long, hello=long, login="l" * 20)
        self.assertEqual(all_of["HELO"], NOT_TOLD)
        self.assertEqual((all_of["NAME"], all_of["LOGIN"]), (long, "l" * 20))
        all_of = told(name=long, hello=long, login="+" * 80)
        self.assertEqual((all_of["HELO"], all_of["NAME"]), (NOT_TOLD, NOT_TOLD))
        self.assertEqual(all_of["LOGIN"], "+2B" * 80)

    @given(
        name=st.none() | st.text(max_size=300),
        hello=st.none() | st.text(max_size=300),
        login=st.none() | st.text(st.characters(max_codepoint=0x17F), max_size=300),
        port=st.integers(0, 0xFFFF),
    )
    def test_ours_is_read_by_ours(self, **about: Any) -> None:
        """Whatever a client calls itself: one line, which a server of ours takes."""
        client = IntroducedClient(host="2001:db8::1", **about)
        argument = introduction(client, " ".join(ATTRIBUTES))
        assert argument is not None
        self.assertLessEqual(len(f"XCLIENT {argument}\r\n"), 512)
        received = parse_xclient(argument)
        self.assertEqual(received.host, client.host)
        for ours, theirs in (
            (client.name, received.name),
            (client.hello, received.hello),
            (client.login, received.login),
        ):
            self.assertIn(theirs, (None, ours))

    def test_round_trip(self) -> None:
        """All that is known of the client arrives as it was."""
        argument = introduction(CLIENT, ALL)
        assert argument is not None
        self.assertEqual(
            parse_xclient(argument),
            XClientReceived(
                host="192.0.2.7",
                port=40000,
                name="client.example",
                hello="laptop.local",
                login="ann smith+1@example.com",
                local_host="2001:db8::25",
                local_port=587,
            ),
        )


class SessionTests(SynchronousTestCase):
    """The command in a conversation."""

    def test_told(self) -> None:
        """The conversation begins anew: nothing is offered until the next EHLO."""
        session = greeted_client("PIPELINING", "XCLIENT ADDR")
        self.assertEqual(session.introduce("ADDR=192.0.2.1"), b"XCLIENT ADDR=192.0.2.1\r\n")
        self.assertRaises(LocalProtocolError, session.mail, JOE)  # nothing behind it in a group
        self.assertEqual(answers(session, WELCOME.wire), [Answered(Asked.XCLIENT, WELCOME)])
        self.assertIs(session.state, State.GREETED)
        self.assertEqual(session.capabilities, Capabilities())
        self.assertRaises(LocalProtocolError, session.mail, JOE)
        self.assertEqual(session.hello("client.example"), b"EHLO client.example\r\n")

    def test_refused(self) -> None:
        """A server that refuses XCLIENT is spoken to as before."""
        session = greeted_client("SIZE", "XCLIENT ADDR")
        session.introduce("ADDR=192.0.2.1")
        answers(session, NO.wire)
        self.assertIs(session.state, State.READY)
        self.assertIn("SIZE", session.capabilities)

    def test_out_of_place(self) -> None:
        """Only where it was offered, and outside of a transaction; a line end is no argument."""
        self.assertRaises(LocalProtocolError, greeted_client().introduce, "ADDR=192.0.2.1")
        session = greeted_client("XCLIENT ADDR")
        self.assertRaises(LocalProtocolError, session.introduce, "ADDR=1\r\nMAIL FROM:<>")
        session.mail(JOE)
        answers(session, OK.wire)
        self.assertRaises(LocalProtocolError, session.introduce, "ADDR=192.0.2.1")
