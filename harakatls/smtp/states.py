"""
Where a conversation stands, and what leads from there to where: all of it is in these tables.

A row is read so: in this state, after a positive answer to this, we are there. What is not in the
row is out of order. A refusal leaves the state as it is; but the end of the data ends the
transaction, and QUIT the connection, whatever the answer, and no chunk follows a refused one.
"""

from collections.abc import Mapping
from enum import Enum

from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.events import (
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
    ResponseReceived,
    ServerEvent,
    StartTLSReceived,
    UnrecognizedReceived,
    VerifyReceived,
    XClientReceived,
)


class State(Enum):
    """The same words for both sides."""

    CONNECTED = "connected, not greeted"
    REFUSED = "greeted with a refusal"
    GREETED = "greeted, no HELO or EHLO yet"
    READY = "no transaction"
    SENDER_GIVEN = "a transaction without recipients"
    RECIPIENTS_GIVEN = "a transaction with recipients"
    RECEIVING = "the server receives the message"
    AUTHENTICATING = "a login: the client owes the answer to a challenge"
    RECEIVING_CHUNK = "the server receives a chunk of the message"
    CHUNKS_GIVEN = "a message whose last chunk is missing"
    CHUNK_REFUSED = "a message of which a chunk was refused"
    SECURING = "the TLS handshake"
    CLOSED = "over"

    # By identity, as members are compared: Enum's own hash is a slow function in Python.
    __hash__ = object.__hash__


# Looking a member up in its class costs as much as a call (Python 3.11), so these are for others
# to import as well.
CONNECTED = State.CONNECTED
REFUSED = State.REFUSED
GREETED = State.GREETED
READY = State.READY
SENDER_GIVEN = State.SENDER_GIVEN
RECIPIENTS_GIVEN = State.RECIPIENTS_GIVEN
RECEIVING = State.RECEIVING
AUTHENTICATING = State.AUTHENTICATING
RECEIVING_CHUNK = State.RECEIVING_CHUNK
CHUNKS_GIVEN = State.CHUNKS_GIVEN
CHUNK_REFUSED = State.CHUNK_REFUSED
SECURING = State.SECURING
CLOSED = State.CLOSED

_TRANSACTION: Mapping[State, Mapping[type[ServerEvent], State]] = {
    GREETED: {
        HelloReceived: READY,
        ResetReceived: GREETED,
        QuitReceived: CLOSED,
    },
    READY: {
        HelloReceived: READY,
        StartTLSReceived: SECURING,
        AuthReceived: READY,
        XClientReceived: GREETED,
        MailReceived: SENDER_GIVEN,
        ResetReceived: READY,
        QuitReceived: CLOSED,
    },
    SENDER_GIVEN: {
        HelloReceived: READY,
        RcptReceived: RECIPIENTS_GIVEN,
        ResetReceived: READY,
        QuitReceived: CLOSED,
    },
    RECIPIENTS_GIVEN: {
        HelloReceived: READY,
        RcptReceived: RECIPIENTS_GIVEN,
        DataReceived: RECEIVING,
        ChunkReceived: RECEIVING_CHUNK,
        ResetReceived: READY,
        QuitReceived: CLOSED,
    },
    CHUNKS_GIVEN: {
        HelloReceived: READY,
        ChunkReceived: RECEIVING_CHUNK,
        ResetReceived: READY,
        QuitReceived: CLOSED,
    },
    # RFC 3030 section 2: nothing but RSET. What came behind would be a message without its start.
    CHUNK_REFUSED: {
        HelloReceived: READY,
        ResetReceived: READY,
        QuitReceived: CLOSED,
    },
}
_ANYWHERE = (NoopReceived, HelpReceived, VerifyReceived, UnrecognizedReceived)

# In CONNECTED, SECURING and CLOSED nothing is read.
SERVER_MOVES: Mapping[State, Mapping[type[ServerEvent], State]] = {
    **{
        state: {**row, **dict.fromkeys(_ANYWHERE, state)}  # these leave the state alone
        for state, row in _TRANSACTION.items()
    },
    CONNECTED: {},
    REFUSED: {QuitReceived: CLOSED},  # RFC 5321 section 3.1
    RECEIVING: {BodyEnded: READY},
    # What the client says now is an answer, whatever it looks like; a no ends the login, too.
    AUTHENTICATING: {ResponseReceived: READY},
    RECEIVING_CHUNK: {ChunkEnded: CHUNKS_GIVEN, BodyEnded: READY},
    SECURING: {},
    CLOSED: {},
}

CLIENT_MOVES: Mapping[State, Mapping[Asked, State]] = {
    CONNECTED: {Asked.GREETING: GREETED},
    REFUSED: {Asked.QUIT: CLOSED},
    GREETED: {
        Asked.HELLO: READY,
        Asked.QUIT: CLOSED,
    },
    READY: {
        Asked.HELLO: READY,
        Asked.STARTTLS: SECURING,
        Asked.AUTH: READY,  # after 334 as well: the response to it is asked as AUTH, too
        Asked.XCLIENT: GREETED,
        Asked.MAIL: SENDER_GIVEN,
        Asked.RSET: READY,
        Asked.QUIT: CLOSED,
    },
    SENDER_GIVEN: {
        Asked.RCPT: RECIPIENTS_GIVEN,
        Asked.RSET: READY,
        Asked.QUIT: CLOSED,
    },
    RECIPIENTS_GIVEN: {
        Asked.RCPT: RECIPIENTS_GIVEN,
        Asked.DATA: RECEIVING,
        Asked.RSET: READY,
        Asked.QUIT: CLOSED,
    },
    RECEIVING: {Asked.BODY: READY},
    AUTHENTICATING: {},  # only a server has to tell it from READY
    SECURING: {},
    CLOSED: {},
    # A message is sent in one chunk, so these are the server's alone.
    RECEIVING_CHUNK: {},
    CHUNKS_GIVEN: {},
    CHUNK_REFUSED: {},
}


def starttls_is_legal(offered: Capabilities, secured: bool) -> bool:
    """It was offered, and there is no TLS yet (RFC 3207 section 4)."""
    return "STARTTLS" in offered and not secured


def xclient_is_legal(offered: Capabilities) -> bool:
    """It was offered: to others it does not exist."""
    return "XCLIENT" in offered
