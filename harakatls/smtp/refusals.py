"""What a server session says by itself where a client breaks the rules."""

from collections.abc import Mapping
from typing import NoReturn

from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import (
    AuthReceived,
    ChunkReceived,
    DataReceived,
    HelloReceived,
    MailReceived,
    RcptReceived,
    ServerEvent,
    StartTLSReceived,
    XClientReceived,
)
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import State

# -- lines

BAD_LINE = Reply.of(500, "5.5.2", "Lines are text that ends in CRLF")
LINE_TOO_LONG = Reply.of(500, "5.5.2", "Line too long")
ENDLESS_LINE = Reply.of(421, "4.7.0", "A line without an end")
ENDLESS_CHUNK = Reply.of(421, "4.7.0", "Too much behind a BDAT that was refused")
NOT_ASCII = Reply.of(500, "5.5.2", "8-bit characters are not allowed here")
NOT_UTF8 = Reply.of(501, "5.5.2", "The command is not UTF-8")
NOT_SMTP = Reply.of(501, "5.5.2", "SSL attempted over a non-SSL socket")
NOT_THE_WEB = Reply.of(421, "4.7.0", "This is not a web server")
TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors")

# -- commands

MAIL_SYNTAX = Reply.of(501, "5.5.4", "Syntax: MAIL FROM:<address>")
RCPT_SYNTAX = Reply.of(501, "5.5.4", "Syntax: RCPT TO:<address>")
BDAT_SYNTAX = Reply.of(501, "5.5.4", "Syntax: BDAT octets [LAST]")
AUTH_SYNTAX = Reply.of(501, "5.5.4", "Syntax: AUTH mechanism [initial response]")
AUTH_NOT_BASE64 = Reply.of(501, "5.5.2", "The initial response is not base64")
# RFC 6531 section 3.5 chooses the codes.
SENDER_NOT_ASCII = Reply.of(550, "5.6.7", "This sender needs SMTPUTF8")
RECIPIENT_NOT_ASCII = Reply.of(553, "5.6.7", "This recipient needs SMTPUTF8")
NO_STARTTLS = Reply.of(503, "5.5.1", "STARTTLS is not offered now")

# -- AUTH: RFC 4954 sections 4 and 6

NO_AUTH = Reply.of(503, "5.5.1", "AUTH is not offered now")
AUTH_NEEDS_TLS = Reply.of(538, "5.7.11", "AUTH needs encryption; use STARTTLS first")
SECOND_AUTH = Reply.of(503, "5.5.1", "You have logged in already")
UNKNOWN_MECHANISM = Reply.of(504, "5.5.4", "This AUTH mechanism is not offered")
AUTH_TOO_LONG = Reply.of(500, "5.5.6", "The line is too long, even for AUTH")
AUTH_CANCELLED = Reply.of(501, "5.7.0", "AUTH cancelled")
RESPONSE_NOT_BASE64 = Reply.of(501, "5.5.2", "The response is not base64; AUTH is over")
SERVER_BEGINS = Reply.of(501, "5.5.4", "In this AUTH mechanism the server speaks first")

XCLIENT_NOT_ALLOWED = Reply.of(550, "5.5.0", "Not authorized")
XCLIENT_SYNTAX = Reply.of(501, "5.5.4", "Syntax: XCLIENT attribute=value...")
XCLIENT_NO_ADDRESS = Reply.of(501, "5.5.4", "No valid IP address found")

# -- BDAT: RFC 3030

NO_CHUNKING = Reply.of(503, "5.5.1", "BDAT is not offered now")
# RFC 3030 section 3: CR and LF are octets like others in it, and DATA has no way to say so.
BINARY_BY_DATA = Reply.of(503, "5.5.1", "A BINARYMIME message comes by BDAT")

# RFC 3207 section 4, and the commands it lets through.
TLS_FIRST = Reply.of(530, "5.7.0", "Must issue a STARTTLS command first")
WITHOUT_TLS = frozenset({"NOOP", "EHLO", "STARTTLS", "QUIT"})

# RFC 8689 section 2 offers it within TLS alone; RFC 5248 section 2.4 has the codes of a client that
# has to come back with TLS.
REQUIRETLS_IN_THE_CLEAR = Reply.of(523, "5.7.10", "REQUIRETLS is for mail that comes over TLS")

# -- messages

TOO_MANY_RECIPIENTS = Reply.of(452, "4.5.3", "Too many recipients")
TOO_LARGE = Reply.of(552, "5.3.4", "Message too big!")
# As Postfix answers. The same message would be as wrong the next time, so 4yz would be untrue; and
# the error is one of the transfer (RFC 5321 section 2.3.8), not of the content or a policy.
BARE_LINE_ENDS = Reply.of(550, "5.5.2", "The message has a bare CR or LF; lines end in CRLF")

# -- order

SENDER_REFUSED = Reply.of(503, "5.5.1", "The sender was refused")
NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
_OUT_OF_ORDER = Reply.of(503, "5.5.1", "Bad sequence of commands")
_NO_HELLO = Reply.of(503, "5.5.1", "Use EHLO/HELO first")
_NO_SENDER = Reply.of(503, "5.5.1", "MAIL required first")
_NO_RECIPIENT = Reply.of(503, "5.5.1", "RCPT required first")
_CHUNK_REFUSED = Reply.of(503, "5.5.1", "A chunk was refused, RSET required first")
_SECOND_SENDER = Reply.of(503, "5.5.1", "Use RSET before another MAIL")
_IN_TRANSACTION = Reply.of(503, "5.5.0", "Mail transaction in progress")
_OUT_OF_ORDER_IN: Mapping[tuple[State, type[ServerEvent]], Reply] = {
    (State.GREETED, MailReceived): _NO_HELLO,
    (State.GREETED, RcptReceived): _NO_HELLO,
    (State.GREETED, DataReceived): _NO_HELLO,
    (State.GREETED, ChunkReceived): _NO_HELLO,
    (State.GREETED, StartTLSReceived): _NO_HELLO,
    (State.GREETED, AuthReceived): _NO_HELLO,
    (State.READY, RcptReceived): _NO_SENDER,
    (State.READY, DataReceived): _NO_SENDER,
    (State.READY, ChunkReceived): _NO_SENDER,
    (State.SENDER_GIVEN, DataReceived): _NO_RECIPIENT,
    (State.SENDER_GIVEN, ChunkReceived): _NO_RECIPIENT,
    (State.SENDER_GIVEN, MailReceived): _SECOND_SENDER,
    (State.RECIPIENTS_GIVEN, MailReceived): _SECOND_SENDER,
    (State.SENDER_GIVEN, XClientReceived): _IN_TRANSACTION,
    (State.RECIPIENTS_GIVEN, XClientReceived): _IN_TRANSACTION,
    (State.CHUNKS_GIVEN, MailReceived): _SECOND_SENDER,
    (State.CHUNKS_GIVEN, DataReceived): Reply.of(503, "5.5.1", "DATA cannot follow BDAT"),
    (State.CHUNK_REFUSED, MailReceived): _SECOND_SENDER,
    (State.CHUNK_REFUSED, RcptReceived): _CHUNK_REFUSED,
    (State.CHUNK_REFUSED, DataReceived): _CHUNK_REFUSED,
    (State.CHUNK_REFUSED, ChunkReceived): _CHUNK_REFUSED,
}
_ERRORS = frozenset({500, 501, 502, 503, 504, 555})  # of syntax and order


def refuse(reply: Reply) -> NoReturn:
    """@raise RemoteProtocolError: with *reply*."""
    raise RemoteProtocolError(str(reply), reply)


def is_error(reply: Reply) -> bool:
    """The client does not know the rules; it did not just have bad luck."""
    # Who pipelines sends RCPT, DATA and chunks before knowing that the sender or the chunk before
    # is refused.
    wrong = reply.code in _ERRORS or reply is XCLIENT_NOT_ALLOWED
    return wrong and reply is not SENDER_REFUSED and reply is not _CHUNK_REFUSED


def out_of_order(
    state: State, kind: type[ServerEvent], refused: type[ServerEvent] | None = None
) -> Reply:
    """
    The answer to a command that *state* does not allow.

    @param refused: MAIL or RCPT, where the last one was refused.
    """
    if kind is RcptReceived or kind is DataReceived or kind is ChunkReceived:
        if state is State.READY and refused is MailReceived:
            return SENDER_REFUSED
        if state is State.SENDER_GIVEN and refused is RcptReceived:
            return NO_RECIPIENTS
    return _OUT_OF_ORDER_IN.get((state, kind), _OUT_OF_ORDER)


def greeting_again(greeting: Reply, kind: type[ServerEvent]) -> Reply:
    """
    What a refusing greeting said, as the answer to a command.

    RFC 5321 section 3.1 wants 503. But 503 is for ever: a client that did not mind a greeting of
    4yz is told so again.
    """
    code, status = (greeting.code, "4.7.0") if greeting.is_transient else (503, "5.5.1")
    # RFC 2034 section 4: no enhanced status in an answer to HELO or EHLO.
    return Reply.of(code, None if kind is HelloReceived else status, *greeting.lines)
