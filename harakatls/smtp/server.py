"""The server's side of a conversation: bytes in, events out, replies back to bytes."""

from typing import NoReturn

from attrs import evolve

from harakatls.smtp import refusals
from harakatls.smtp.answers import CHALLENGE, check_answer
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.chunks import ChunkReader, parse_chunk
from harakatls.smtp.commands import COMMANDS, NOTHING_OFFERED, parse_response, split_command
from harakatls.smtp.data import DataReader
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    AWAITING_REPLY,
    NEED_DATA,
    AuthReceived,
    BodyEnded,
    BodyReceived,
    ChunkEnded,
    ChunkReceived,
    DataReceived,
    HelloReceived,
    MailReceived,
    Pause,
    QuitReceived,
    RcptReceived,
    ResetReceived,
    ResponseReceived,
    ServerEvent,
    StartTLSReceived,
    UnrecognizedReceived,
    XClientReceived,
)
from harakatls.smtp.lines import BadLine
from harakatls.smtp.offer import offer_of
from harakatls.smtp.refusals import greeting_again, is_error, out_of_order, refuse
from harakatls.smtp.reply import Reply
from harakatls.smtp.session_state import SessionState
from harakatls.smtp.states import (
    AUTHENTICATING,
    CHUNK_REFUSED,
    CLOSED,
    CONNECTED,
    GREETED,
    READY,
    RECEIVING,
    RECEIVING_CHUNK,
    RECIPIENTS_GIVEN,
    REFUSED,
    SECURING,
    SENDER_GIVEN,
    SERVER_MOVES,
    starttls_is_legal,
    xclient_is_legal,
)

# Of a line of AUTH, with its CRLF: RFC 4954 section 4.
AUTH_LINE = 12288

_TLS_HANDSHAKE = b"\x16\x03"  # record type and the major version of TLS
_PROXY_HEADER = b"\r\n\r\n\0\r\nQUIT\n"  # version 2 of HAProxy's PROXY protocol
_WEB_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "PRI"})

_OK = 250
_NEGATIVE = 400
_ENVELOPE = frozenset({SENDER_GIVEN, RECIPIENTS_GIVEN})


class ServerSession(SessionState):
    """
    One connection, from the greeting on.

    Ask `next_event` until it gives a `Pause`. Answer an event with `reply` (a HELO or EHLO that is
    welcome with `accept_hello`, a chunk with `accept_chunk`), and send what these return. A
    `RemoteProtocolError` is answered by sending its reply, and with nothing else.
    """

    __slots__ = ()

    # -- what the client says ---------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Octets of the client. They are only kept; after the end they are thrown away."""
        if self.state is SECURING:
            raise LocalProtocolError("what comes now belongs to the TLS handshake")
        if self.state is not CLOSED:
            self._lines.append(data)

    def next_event(self) -> ServerEvent | Pause:
        """
        @raise RemoteProtocolError: the client did something wrong. What was wrong is over and the
            conversation goes on; but after a fatal error the state is CLOSED.
        """
        state = self.state
        if self._awaiting is not None or state is CONNECTED:
            return AWAITING_REPLY
        if state is RECEIVING or state is RECEIVING_CHUNK:
            return self._next_of_message()
        if state is CLOSED or state is SECURING:
            return NEED_DATA
        if self._errors >= self._limits.errors > 0:
            self._close(refusals.TOO_MANY_ERRORS)
        limit = self._line_limit
        if state is AUTHENTICATING or (state is READY and self._auth_refusal is None):
            limit = AUTH_LINE
        try:
            if state is GREETED and not self.secured and self._begins_as_proxy():
                self._awaiting = UnrecognizedReceived("PROXY", "")
                return self._awaiting
            line = self._lines.next_line(limit)
            if line is None:
                return NEED_DATA
            answers = state is AUTHENTICATING
            event = self._awaiting = parse_response(line) if answers else self._understood(line)
        except BadLine as problem:
            self._refuse_line(problem, limit)
        except RemoteProtocolError as problem:
            if state is AUTHENTICATING:
                self.state = READY
            assert problem.reply is not None, "a server always answers"
            if state is REFUSED or is_error(problem.reply):
                self._errors += 1
            raise
        return event

    def _begins_as_proxy(self) -> bool:
        """
        The client sends the header of a proxy, which cannot be read as lines.

        @raise RemoteProtocolError: it speaks TLS, which is not the time.
        """
        if self._lines.starts_with(_TLS_HANDSHAKE):
            self._close(refusals.NOT_SMTP)
        if not self._lines.starts_with(_PROXY_HEADER):
            return False
        self._lines.clear()
        return True

    def _refuse_line(self, problem: BadLine, limit: int) -> NoReturn:
        """@param limit: of its length."""
        self._errors += 1
        if problem.is_endless:
            endless_line = problem.is_too_long
            self._close(refusals.ENDLESS_LINE if endless_line else refusals.ENDLESS_CHUNK)
        if self.state is AUTHENTICATING:
            self.state = READY
        too_long = refusals.AUTH_TOO_LONG if limit == AUTH_LINE else refusals.LINE_TOO_LONG
        refuse(too_long if problem.is_too_long else refusals.BAD_LINE)

    def _understood(self, line: bytes) -> ServerEvent:
        verb, argument = split_command(line)
        if len(line) + 2 > self._line_limit and verb != "AUTH":
            refuse(refusals.LINE_TOO_LONG)
        if verb == "BDAT":
            return self._understood_chunk(argument)
        if self.tls_first is not None and not self._is_allowed(verb):
            refuse(self.tls_first)
        command = COMMANDS.get(verb)
        kind = UnrecognizedReceived if command is None else command.event
        if kind not in SERVER_MOVES[self.state]:
            refuse(self._out_of_order(kind))
        if command is None:
            if verb in _WEB_VERBS:
                # A browser can be made to send commands as the body of a request.
                self._close(refusals.NOT_THE_WEB)
            return UnrecognizedReceived(verb, argument)
        if kind is RcptReceived or kind is MailReceived:
            self._refused = kind  # until it is accepted
        elif kind is StartTLSReceived and not starttls_is_legal(
            self._grammar.offered, self.secured
        ):
            refuse(refusals.NO_STARTTLS)
        elif kind is DataReceived and self._grammar.binary:
            refuse(refusals.BINARY_BY_DATA)
        elif kind is AuthReceived and self._auth_refusal is not None:
            refuse(self._auth_refusal)
        elif kind is XClientReceived and not xclient_is_legal(self._grammar.offered):
            refuse(refusals.XCLIENT_NOT_ALLOWED)
        event = command.parse(argument, self._grammar)
        if type(event) is RcptReceived:
            if self._recipients >= self._limits.recipients:
                refuse(refusals.TOO_MANY_RECIPIENTS)
        elif type(event) is MailReceived:
            size = event.parameters.size
            if size is not None and 0 < self._limits.message < size:
                refuse(refusals.TOO_LARGE)
        return event

    def _understood_chunk(self, argument: str) -> ChunkReceived:
        """BDAT. The octets of the chunk follow at once, whatever is said to it."""
        chunk = parse_chunk(argument)
        if chunk is None:
            self._close(refusals.BDAT_SYNTAX)  # nobody knows where the next command starts
        size, last = chunk
        refusal = self._chunk_out_of_order()
        if refusal is not None:
            self._pass_by(size)
            if not last and self.state in _ENVELOPE:
                self.state = CHUNK_REFUSED
            refuse(refusal)
        reader, limit = self._reader, self._limits.message
        too_large = 0 < limit < size + (0 if reader is None else reader.size)
        return ChunkReceived(size, last, reader is None, refusals.TOO_LARGE if too_large else None)

    def _chunk_out_of_order(self) -> Reply | None:
        if self.tls_first is not None and not self._is_allowed("BDAT"):
            return self.tls_first
        if ChunkReceived not in SERVER_MOVES[self.state]:
            return self._out_of_order(ChunkReceived)
        return None if "CHUNKING" in self._grammar.offered else refusals.NO_CHUNKING

    def _is_allowed(self, verb: str) -> bool:
        """Although TLS must come first. Who is sent away anyway hears why."""
        return (
            self.secured
            or verb in refusals.WITHOUT_TLS
            or verb in _WEB_VERBS
            or verb == "PROXY"
            or self.state is REFUSED
        )

    def _out_of_order(self, kind: type[ServerEvent]) -> Reply:
        if self.state is REFUSED and self._greeting is not None:
            return greeting_again(self._greeting, kind)
        if kind is XClientReceived and not xclient_is_legal(self._grammar.offered):
            return refusals.XCLIENT_NOT_ALLOWED
        return out_of_order(self.state, kind, self._refused)

    def _next_of_message(self) -> ServerEvent | Pause:
        assert self._reader is not None
        try:
            event = self._reader.next_event(self._lines)
        except RemoteProtocolError as problem:
            assert problem.reply is not None, "a server always answers"
            self._close(problem.reply)
        if event.__class__ is not BodyReceived and not isinstance(event, Pause):
            self._awaiting = event
        return event

    # -- what the server answers ------------------------------------------------------------------

    def greet(self, reply: Reply) -> bytes:
        """
        The first words. After a refusal (RFC 5321 section 3.1) all but QUIT is refused.

        @return: what has to be sent; so do the others.
        """
        if self.state is not CONNECTED:
            raise LocalProtocolError("the client has been greeted")
        self._greeting = reply
        self.state = GREETED if reply.is_positive else REFUSED
        return reply.wire

    def greet_again(self, reply: Reply, authenticated: bool) -> bytes:
        """
        Answer XCLIENT: it is somebody else who speaks from now on, and all begins anew.

        @param authenticated: that one has been by the proxy, so AUTH is not for it.
        """
        if type(self._awaiting) is not XClientReceived:
            raise LocalProtocolError("nobody has said XCLIENT")
        self._awaiting = None
        self._errors = 0
        self._forget_hello()
        self._auth_refusal = refusals.SECOND_AUTH if authenticated else refusals.NO_AUTH
        self.state = CONNECTED
        return self.greet(reply)

    def reply(self, reply: Reply) -> bytes:
        """
        Answer the last event, or say 421 at any time. 421 is the end.

        @raise LocalProtocolError: there is nothing to answer, or not so: 354 starts a message, 220
            TLS, 334 goes on with AUTH, other commands are accepted with 2yz, and what was refused
            is not accepted.
        """
        event = self._awaiting
        if event is None:
            if not reply.closes or self.state is SECURING or self.state is CLOSED:
                raise LocalProtocolError(f"there is nothing to answer with {reply}")
        elif reply.code < _NEGATIVE:
            check_answer(event, reply.code)
            if reply.code == CHALLENGE:
                self.state = AUTHENTICATING
            else:
                self._accepted(event)
        elif type(event) is BodyEnded:
            self._end_transaction()
            self.state = READY
        elif type(event) is ChunkReceived or type(event) is ChunkEnded:
            self._break_message(event)
        elif type(event) is AuthReceived or type(event) is ResponseReceived:
            self.state = READY
            self._errors += is_error(reply)
        elif type(event) is QuitReceived:
            self.state = CLOSED
        elif type(event) is UnrecognizedReceived:
            self._errors += 1
        self._awaiting = None
        if reply.closes:
            self.state = CLOSED
        if self.state is CLOSED:
            self._lines.clear()
        return reply.wire

    def accept_chunk(self) -> None:
        """Yes to BDAT: its octets may come. That is said to nobody; the end of it is answered."""
        event = self._awaiting
        if type(event) is not ChunkReceived or event.refusal is not None:
            raise LocalProtocolError("there is no chunk to accept")
        self._accepted(event)
        self._awaiting = None

    def accept_hello(self, greeting: str, capabilities: Capabilities) -> bytes:
        """
        Yes to HELO or EHLO.

        @param greeting: the first line: our name and a word of welcome.
        @param capabilities: what is offered; nothing is after HELO. What cannot be had now
            (STARTTLS within TLS, AUTH without, SMTPUTF8 where the limits say no) is left out.
        """
        event = self._awaiting
        if type(event) is not HelloReceived:
            raise LocalProtocolError("there is no HELO or EHLO to accept")
        items = capabilities.items if event.extended else ()
        offer = offer_of(items, self.secured, self._limits.smtputf8)
        self._accepted(event)
        self._awaiting = None
        self._grammar = offer.grammar
        self._line_limit = self._limits.line + offer.longer
        if self._auth_refusal is not refusals.SECOND_AUTH:
            self._auth_refusal = offer.auth_refusal
        first = Reply(_OK, None, (greeting,))
        return first.wire_before(offer.lines) if offer.lines else first.wire

    def tls_started(self) -> None:
        """The handshake is done: back to the start, without another greeting."""
        if self.state is not SECURING:
            raise LocalProtocolError("TLS was not asked for")
        self.state = GREETED
        self.secured = True

    def _accepted(self, event: ServerEvent) -> None:
        kind = type(event)
        self.state = SERVER_MOVES[self.state][kind]
        if kind is RcptReceived:
            self._refused = None
            self._recipients += 1
        elif type(event) is MailReceived:
            self._refused = None
            given = event.parameters
            if given.smtputf8 or given.is_binary:
                self._grammar = evolve(self._grammar, utf8=given.smtputf8, binary=given.is_binary)
        elif kind is DataReceived:
            self._reader = DataReader(self._limits.data_line, self._limits.message)
        elif type(event) is ChunkReceived:
            reader = self._reader
            if reader is None:
                limits, binary = self._limits, self._grammar.binary
                reader = self._reader = ChunkReader(limits.data_line, limits.message, binary)
            assert isinstance(reader, ChunkReader), "nothing else lasts from command to command"
            reader.begin(event)
        elif kind is BodyEnded:
            self._errors = 0
            self._end_transaction()
        elif kind is ResetReceived or kind is HelloReceived:
            self._end_transaction()
        elif kind is AuthReceived or kind is ResponseReceived:
            self._auth_refusal = refusals.SECOND_AUTH
        elif kind is StartTLSReceived:
            # RFC 3207 section 4.2: whatever came before the handshake may be an attacker's, so
            # neither what he sent behind STARTTLS nor what he said before it survives.
            self._lines.clear()
            self._auth_refusal = refusals.NO_AUTH
            self._forget_hello()

    def _forget_hello(self) -> None:
        self._grammar = NOTHING_OFFERED
        self._line_limit = self._limits.line
        self._end_transaction()
