"""The server's side of a conversation: bytes in, events out, replies back to bytes."""

from typing import NoReturn

from attrs import evolve

from harakatls.smtp import refusals
from harakatls.smtp.answers import CHALLENGE, check_answer
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.commands import COMMANDS, NOTHING_OFFERED, parse_response, split_command
from harakatls.smtp.data import DotDecoder
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    AWAITING_REPLY,
    NEED_DATA,
    AuthReceived,
    BodyEnded,
    BodyReceived,
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
from harakatls.smtp.lines import BadLine, LineBuffer
from harakatls.smtp.offer import SessionLimits, offer_of
from harakatls.smtp.refusals import greeting_again, is_error, out_of_order, refuse
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import (
    AUTHENTICATING,
    CLOSED,
    CONNECTED,
    GREETED,
    READY,
    RECEIVING,
    REFUSED,
    SECURING,
    SERVER_MOVES,
    starttls_is_legal,
    xclient_is_legal,
)

# Octets of a message that are given out at once, at most.
CHUNK = 65536
# Of a line of AUTH, with its CRLF: RFC 4954 section 4.
AUTH_LINE = 12288
# So many times the limit of a message is read, to be refused at its end: a client that is cut off
# only sends it all again.
ABSURD_MESSAGE = 20

_TLS_HANDSHAKE = b"\x16\x03"  # record type and the major version of TLS
_PROXY_HEADER = b"\r\n\r\n\0\r\nQUIT\n"  # version 2 of HAProxy's PROXY protocol
_WEB_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "PRI"})

_OK = 250
_NEGATIVE = 400


class ServerSession:
    """
    One connection, from the greeting on.

    Ask `next_event` until it gives a `Pause`. Answer an event with `reply` (a HELO or EHLO that is
    welcome with `accept_hello`), and send what these return. A `RemoteProtocolError` is answered
    by sending its reply, and with nothing else.

    @ivar state: where the conversation stands.
    @ivar secured: it is inside TLS.
    @ivar tls_first: what is said before that to all commands that need TLS (RFC 3207 section 4);
        None where none does. It may be set until the first command is read.
    """

    __slots__ = (
        "_auth_refusal",
        "_awaiting",
        "_decoder",
        "_errors",
        "_grammar",
        "_greeting",
        "_limits",
        "_line_limit",
        "_lines",
        "_recipients",
        "_refused",
        "secured",
        "state",
        "tls_first",
    )

    def __init__(self, limits: SessionLimits, implicit_tls: bool = False) -> None:
        """@param implicit_tls: the connection is inside TLS from the start (RFC 8314)."""
        self.state = CONNECTED
        self.secured = implicit_tls
        self.tls_first: Reply | None = None
        self._limits = limits
        self._lines = LineBuffer()
        self._line_limit = limits.line
        self._grammar = NOTHING_OFFERED
        self._awaiting: ServerEvent | None = None  # has no answer yet
        self._greeting: Reply | None = None
        self._auth_refusal: Reply | None = refusals.NO_AUTH  # None where AUTH is legal
        self._errors = 0
        self._recipients = 0
        self._refused: type[ServerEvent] | None = None  # of MAIL and RCPT the last, if it was
        self._decoder: DotDecoder | None = None

    @property
    def has_more(self) -> bool:
        """Octets have come behind what the last event was made of."""
        return bool(self._lines)

    @property
    def is_receiving(self) -> bool:
        """A message has begun and not ended."""
        return self._decoder is not None

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
        if state is RECEIVING:
            return self._next_of_message()
        if state is CLOSED or state is SECURING:
            return NEED_DATA
        if self._errors >= self._limits.errors > 0:
            self._close(refusals.TOO_MANY_ERRORS)
        limit = self._line_limit
        if state is AUTHENTICATING or (state is READY and self._auth_refusal is None):
            limit = AUTH_LINE
        try:
            if state is GREETED and not self.secured:
                if self._lines.starts_with(_TLS_HANDSHAKE):
                    self._close(refusals.NOT_SMTP)
                if self._lines.starts_with(_PROXY_HEADER):
                    self._lines.clear()
                    self._awaiting = UnrecognizedReceived("PROXY", "")
                    return self._awaiting
            line = self._lines.next_line(limit)
            if line is None:
                return NEED_DATA
            answers = state is AUTHENTICATING
            event = self._awaiting = parse_response(line) if answers else self._understood(line)
        except BadLine as problem:
            self._errors += 1
            if problem.is_endless:
                self._close(refusals.ENDLESS_LINE)
            if state is AUTHENTICATING:
                self.state = READY
            too_long = refusals.AUTH_TOO_LONG if limit == AUTH_LINE else refusals.LINE_TOO_LONG
            refuse(too_long if problem.is_too_long else refusals.BAD_LINE)
        except RemoteProtocolError as problem:
            if state is AUTHENTICATING:
                self.state = READY
            assert problem.reply is not None, "a server always answers"
            if state is REFUSED or is_error(problem.reply):
                self._errors += 1
            raise
        return event

    def _understood(self, line: bytes) -> ServerEvent:
        verb, argument = split_command(line)
        if len(line) + 2 > self._line_limit and verb != "AUTH":
            refuse(refusals.LINE_TOO_LONG)
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
        decoder, limit = self._decoder, self._limits.message
        assert decoder is not None
        while True:
            if 0 < limit * ABSURD_MESSAGE < decoder.size:
                self._close(refusals.TOO_LARGE)
            if decoder.ended:
                break
            data = self._lines.take(CHUNK)
            if not data:
                return NEED_DATA
            text = decoder.decode(data)
            self._lines.give_back(decoder.unused)
            if text:
                return BodyReceived(text)
        refusal = None
        if decoder.is_too_large:
            refusal = refusals.TOO_LARGE
        elif decoder.has_bare_line_ends:
            refusal = refusals.BARE_LINE_ENDS
        self._awaiting = BodyEnded(decoder.size, refusal)
        return self._awaiting

    def _close(self, reply: Reply) -> NoReturn:
        self.state = CLOSED
        self._lines.clear()
        self._decoder = None
        raise RemoteProtocolError(str(reply), reply, fatal=True)

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
        elif type(event) is ResponseReceived:
            self.state = READY
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
            if event.parameters.smtputf8:
                self._grammar = evolve(self._grammar, utf8=True)
        elif kind is DataReceived:
            self._decoder = DotDecoder(self._limits.data_line, self._limits.message)
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

    def _end_transaction(self) -> None:
        self._decoder = None
        self._recipients = 0
        self._refused = None
        if self._grammar.utf8:
            self._grammar = evolve(self._grammar, utf8=False)
