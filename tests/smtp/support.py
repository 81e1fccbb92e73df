"""What the tests of the sessions share."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from attrs import evolve
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.client import ClientSession
from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import (
    AWAITING_REPLY,
    NEED_DATA,
    Answered,
    BodyEnded,
    BodyReceived,
    ChunkEnded,
    ChunkReceived,
    DataReceived,
    HelloReceived,
    Pause,
    QuitReceived,
    ServerEvent,
    StartTLSReceived,
)
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State

WELCOME = Reply.of(220, None, "mx.example ESMTP")
OK = Reply.of(250, "2.0.0", "OK")
READY_FOR_TLS = Reply.of(220, "2.0.0", "Go ahead")
CHALLENGE = Reply.of(334, None, "")
SEND_IT = Reply.of(354, None, "Send it")
BYE = Reply.of(221, "2.0.0", "Bye")
NO = Reply.of(550, "5.7.1", "No")

EHLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<joe@client.example>\r\nRCPT TO:<ann@mx.example>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

_TO_RCPT = ("EHLO client.example", "MAIL FROM:<>", "RCPT TO:<postmaster>")

LIMITS = SessionLimits()
OFFERED = LIMITS.capabilities.adding("STARTTLS")

Heard = ServerEvent | RemoteProtocolError | Pause


def session_in(
    state: State,
    offered: Capabilities = OFFERED,
    limits: SessionLimits = LIMITS,
    implicit_tls: bool = False,
) -> ServerSession:
    """A server session that has come to *state* by the ordinary way."""
    if state is State.AUTHENTICATING:
        offered, implicit_tls = offered.adding("AUTH", "PLAIN"), True
    session = ServerSession(limits, implicit_tls)
    if state is State.CONNECTED:
        return session
    session.greet(NO if state is State.REFUSED else WELCOME)
    for line in {
        State.READY: ("EHLO client.example",),
        State.SENDER_GIVEN: ("EHLO client.example", "MAIL FROM:<>"),
        State.RECIPIENTS_GIVEN: _TO_RCPT,
        State.RECEIVING: (*_TO_RCPT, "DATA"),
        State.AUTHENTICATING: ("EHLO client.example", "AUTH PLAIN"),
        State.RECEIVING_CHUNK: (*_TO_RCPT, "BDAT 100"),
        State.CHUNKS_GIVEN: (*_TO_RCPT, "BDAT 0"),
        State.CHUNK_REFUSED: ("EHLO client.example", "MAIL FROM:<>", "BDAT 0"),
        State.SECURING: ("EHLO client.example", "STARTTLS"),
        State.CLOSED: ("QUIT",),
    }.get(state, ()):
        if line.startswith("AUTH"):
            session.receive(line.encode() + b"\r\n")
            session.next_event()
            session.reply(CHALLENGE)
            continue
        for event in heard(session, line.encode() + b"\r\n", offered=offered):
            assert state is State.CHUNK_REFUSED or not isinstance(event, RemoteProtocolError)
    assert session.state is state, session.state
    return session


def accept(session: ServerSession, event: Heard, offered: Capabilities = OFFERED) -> bytes:
    """Say yes, whatever was asked."""
    if isinstance(event, HelloReceived):
        return session.accept_hello("mx.example at your service", offered)
    if isinstance(event, DataReceived):
        return session.reply(SEND_IT)
    if isinstance(event, StartTLSReceived):
        return session.reply(READY_FOR_TLS)
    if isinstance(event, QuitReceived):
        return session.reply(BYE)
    if isinstance(event, BodyEnded | ChunkEnded | ChunkReceived) and event.refusal is not None:
        return session.reply(event.refusal)
    if isinstance(event, ChunkReceived):
        session.accept_chunk()
        return b""
    return session.reply(OK)


def heard(session: ServerSession, *pieces: bytes, offered: Capabilities = OFFERED) -> list[Heard]:
    """
    All that the session understands of *pieces*, each answered with yes.

    Pieces of a message that follow each other are one, as they may be cut anywhere.
    """
    events: list[Heard] = []
    for piece in pieces:
        if session.state is State.SECURING:
            session.tls_started()
        session.receive(piece)
        for event in _events(session, offered):
            if (
                isinstance(event, BodyReceived)
                and events
                and isinstance(last := events[-1], BodyReceived)
            ):
                events[-1] = evolve(last, chunk=last.chunk + event.chunk)
            else:
                events.append(event)
    return events


def _events(session: ServerSession, offered: Capabilities) -> Iterator[Heard]:
    while True:
        try:
            event = session.next_event()
        except RemoteProtocolError as problem:
            yield problem
            continue
        if event is NEED_DATA:
            return
        assert event is not AWAITING_REPLY
        yield event
        if not isinstance(event, BodyReceived):
            accept(session, event, offered)


def in_words(events: Iterable[Heard | Answered]) -> list[object]:
    """Errors as something that can be compared."""
    return [(str(e), e.reply, e.fatal) if isinstance(e, RemoteProtocolError) else e for e in events]


def replies(events: Iterable[Heard]) -> list[str]:
    """The codes with which the session itself refused: ["503 5.5.1"]."""
    found = []
    for event in events:
        if isinstance(event, RemoteProtocolError):
            assert event.reply is not None
            status = f" {event.reply.enhanced}" if event.reply.enhanced else ""
            found.append(f"{event.reply.code}{status}")
    return found


def greeted_client(*offered: str, lmtp: bool = False) -> ClientSession:
    """A client session after EHLO."""
    session = ClientSession(lmtp)
    session.receive(WELCOME.wire)
    session.next_event()
    session.hello("client.example")
    session.receive(Capabilities.of(*offered).to_reply("mx.example").wire)
    session.next_event()
    assert session.state is State.READY
    return session


def answers(session: ClientSession, *pieces: bytes) -> list[Answered]:
    """All that the client session understands of *pieces*."""
    found = []
    for piece in pieces:
        session.receive(piece)
        while isinstance(event := session.next_event(), Answered):
            found.append(event)
    return found


def recipient(text: str) -> Recipient:
    """By its address."""
    return Recipient(parse_address(text))


@st.composite
def cut(draw: Callable[..., object], octets: bytes) -> list[bytes]:
    """*octets* in pieces."""
    places = draw(st.lists(st.integers(0, len(octets)), max_size=8))
    assert isinstance(places, list)
    borders = [0, *sorted(places), len(octets)]
    return [octets[a:b] for a, b in pairwise(borders)]


def pieces_of(octets: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Some octets, in pieces."""
    return octets.flatmap(cut)


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
