"""Whatever a client sends, however it is cut: the server's side stays in its rules."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    NEED_DATA,
    BodyEnded,
    BodyReceived,
    ChunkEnded,
)
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from tests.smtp.support import (
    LIMITS,
    NO,
    OK,
    WELCOME,
    Heard,
    accept,
    cut,
    heard,
    in_words,
    kinds,
    pieces_of,
    session_in,
)

SMUGGLING = (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r")


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
