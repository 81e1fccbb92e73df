"""The tables, walked by every state and command."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    NEED_DATA,
    Asked,
    AuthReceived,
    BodyEnded,
    ChunkEnded,
    ChunkReceived,
    DataReceived,
    HelloReceived,
    HelpReceived,
    MailReceived,
    NoopReceived,
    QuitReceived,
    RcptReceived,
    ResetReceived,
    ServerEvent,
    StartTLSReceived,
    UnrecognizedReceived,
    VerifyReceived,
    XClientReceived,
)
from harakatls.smtp.states import (
    CLIENT_MOVES,
    SERVER_MOVES,
    State,
    starttls_is_legal,
)
from tests.smtp.support import NO, OFFERED, OK, accept, session_in

COMMANDS: dict[type[ServerEvent], bytes] = {
    HelloReceived: b"EHLO client.example\r\n",
    StartTLSReceived: b"STARTTLS\r\n",
    AuthReceived: b"AUTH PLAIN\r\n",
    MailReceived: b"MAIL FROM:<joe@client.example>\r\n",
    RcptReceived: b"RCPT TO:<joe@mx.example>\r\n",
    DataReceived: b"DATA\r\n",
    ChunkReceived: b"BDAT 0\r\n",
    ResetReceived: b"RSET\r\n",
    QuitReceived: b"QUIT\r\n",
    NoopReceived: b"NOOP\r\n",
    HelpReceived: b"HELP\r\n",
    VerifyReceived: b"VRFY joe\r\n",
    UnrecognizedReceived: b"XYZZY\r\n",
}
READS = (
    State.REFUSED,
    State.GREETED,
    State.READY,
    State.SENDER_GIVEN,
    State.RECIPIENTS_GIVEN,
    State.CHUNKS_GIVEN,
    State.CHUNK_REFUSED,
)
EVERYTHING = OFFERED.adding("AUTH", "PLAIN")

# RFC 5321 section 4.1.4, RFC 3207 section 4, RFC 4954 section 4, RFC 3030 section 2, written out
# once more.
HOUSE = """
                 Hello StartTLS Auth  Mail         Rcpt             Data      Chunk           Reset   Quit
GREETED          READY -        -     -            -                -         -               GREETED CLOSED
READY            READY SECURING READY SENDER_GIVEN -                -         -               READY   CLOSED
SENDER_GIVEN     READY -        -     -            RECIPIENTS_GIVEN -         -               READY   CLOSED
RECIPIENTS_GIVEN READY -        -     -            RECIPIENTS_GIVEN RECEIVING RECEIVING_CHUNK READY   CLOSED
CHUNKS_GIVEN     READY -        -     -            -                -         RECEIVING_CHUNK READY   CLOSED
CHUNK_REFUSED    READY -        -     -            -                -         -               READY   CLOSED
REFUSED          -     -        -     -            -                -         -               -       CLOSED
"""  # noqa: E501


class ServerTableTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The order of commands is that of the RFCs."""
        head, *rows = (line.split() for line in HOUSE.strip().splitlines())
        for name, *targets in rows:
            for verb, target in zip(head, targets, strict=True):
                kind = next(k for k in COMMANDS if k.__name__ == f"{verb}Received")
                expected = None if target == "-" else State[target]
                self.assertIs(SERVER_MOVES[State[name]].get(kind), expected, f"{name} {verb}")

    def test_every_state_and_command(self) -> None:
        """A command in order is asked about, moves on a yes and stays on a no; others get 503."""
        for state in READS:
            for kind, line in COMMANDS.items():
                where = f"{kind.__name__} when {state.name}"
                over_tls = kind is AuthReceived
                session = session_in(state, EVERYTHING, implicit_tls=over_tls)
                session.receive(line)
                if kind not in SERVER_MOVES[state]:
                    problem = self.assertRaises(RemoteProtocolError, session.next_event)
                    self.assertEqual(problem.reply.code, 503, where)
                    self.assertFalse(problem.fatal, where)
                    broken = kind is ChunkReceived and state is State.SENDER_GIVEN
                    self.assertIs(session.state, State.CHUNK_REFUSED if broken else state, where)
                    self.assertIs(session.next_event(), NEED_DATA, where)
                    continue
                event = session.next_event()
                self.assertIs(type(event), kind, where)
                assert not isinstance(event, RemoteProtocolError)
                accept(session, event, EVERYTHING)
                self.assertIs(session.state, SERVER_MOVES[state][kind], where)

                session = session_in(state, EVERYTHING, implicit_tls=over_tls)
                session.receive(line)
                session.next_event()
                session.reply(NO)
                stays = {QuitReceived: State.CLOSED, ChunkReceived: State.CHUNK_REFUSED}.get(
                    kind, state
                )
                self.assertIs(session.state, stays, where)

    def test_end_of_data(self) -> None:
        """After a message, taken or not, the next can begin."""
        for reply in (OK, NO):
            session = session_in(State.RECEIVING)
            session.receive(b".\r\n")
            self.assertIsInstance(session.next_event(), BodyEnded)
            session.reply(reply)
            self.assertIs(session.state, State.READY)

    def test_end_of_chunk(self) -> None:
        """After a chunk the next may come, if it was taken."""
        for reply, state in ((OK, State.CHUNKS_GIVEN), (NO, State.CHUNK_REFUSED)):
            session = session_in(State.RECEIVING_CHUNK)
            session.receive(b"x" * 100)
            session.next_event()
            self.assertIsInstance(session.next_event(), ChunkEnded)
            session.reply(reply)
            self.assertIs(session.state, state)

    def test_nothing_is_read(self) -> None:
        """While TLS is being set up, and after the end, no command is obeyed."""
        session = session_in(State.SECURING)
        self.assertRaises(LocalProtocolError, session.receive, b"NOOP\r\n")
        self.assertIs(session.next_event(), NEED_DATA)
        session = session_in(State.CLOSED)
        session.receive(b"NOOP\r\n")
        self.assertIs(session.next_event(), NEED_DATA)

    def test_all_states_are_there(self) -> None:
        """No state is forgotten in a table."""
        self.assertEqual(set(SERVER_MOVES), set(State))
        self.assertEqual(set(CLIENT_MOVES), set(State))

    def test_predicates(self) -> None:
        """STARTTLS is for those to whom it was offered, and only once."""
        offered = Capabilities.of("STARTTLS", "AUTH PLAIN")
        self.assertTrue(starttls_is_legal(offered, secured=False))
        self.assertFalse(starttls_is_legal(offered, secured=True))
        self.assertFalse(starttls_is_legal(Capabilities(), secured=False))


class ClientTableTests(SynchronousTestCase):
    def test_server_agrees(self) -> None:
        """What a client may ask in a state, a server answers there."""
        kinds = {
            Asked.HELLO: HelloReceived,
            Asked.STARTTLS: StartTLSReceived,
            Asked.AUTH: AuthReceived,
            Asked.XCLIENT: XClientReceived,
            Asked.MAIL: MailReceived,
            Asked.RCPT: RcptReceived,
            Asked.DATA: DataReceived,
            Asked.BODY: BodyEnded,
            Asked.RSET: ResetReceived,
            Asked.QUIT: QuitReceived,
        }
        for state, row in CLIENT_MOVES.items():
            for asked, target in row.items():
                if asked is not Asked.GREETING:
                    self.assertIs(SERVER_MOVES[state].get(kinds[asked]), target, (state, asked))

    def test_one_place_for_each(self) -> None:
        """A positive answer leads to one state only, which the client relies upon in a group."""
        targets: dict[Asked, set[State]] = {}
        for row in CLIENT_MOVES.values():
            for asked, target in row.items():
                targets.setdefault(asked, set()).add(target)
        self.assertEqual(set(map(len, targets.values())), {1})
        self.assertEqual(set(targets), set(Asked))
