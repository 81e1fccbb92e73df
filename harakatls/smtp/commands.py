"""The commands of a client (RFC 5321 section 4.1), from line to event."""

import binascii
import re
from collections.abc import Callable, Mapping

from attrs import field, frozen

from harakatls.mail.address import AddressError, parse_forward_path, parse_reverse_path
from harakatls.mail.envelope import NO_PARAMETERS, Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.chunks import parse_chunk
from harakatls.smtp.events import (
    AuthReceived,
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
from harakatls.smtp.parameters import read_mail_parameters, read_rcpt_parameters
from harakatls.smtp.refusals import (
    AUTH_CANCELLED,
    AUTH_NOT_BASE64,
    AUTH_SYNTAX,
    BAD_LINE,
    BDAT_SYNTAX,
    MAIL_SYNTAX,
    NOT_ASCII,
    NOT_UTF8,
    RCPT_SYNTAX,
    RECIPIENT_NOT_ASCII,
    RESPONSE_NOT_BASE64,
    SENDER_NOT_ASCII,
    SERVER_BEGINS,
    UNKNOWN_MECHANISM,
    refuse,
)
from harakatls.smtp.reply import Reply
from harakatls.smtp.sasl_server import MECHANISMS
from harakatls.smtp.xclient import parse_xclient

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# A path ends at the first > that no quotes hold.
_PATH = re.compile(r' *(<[^"<> ]*(?:"(?:[^"\\]|\\.)*"[^"<> ]*)*>)')
_NAKED_PATH = re.compile(r" *([^\s<>]+)")
_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}\Z")  # RFC 4422 section 3.1


@frozen
class Grammar:
    """
    What the syntax of a command depends on.

    @ivar offered: what the answer to EHLO named; nothing after HELO.
    @ivar utf8: the sender of this transaction was given with SMTPUTF8.
    @ivar binary: and with BODY=BINARYMIME.
    @ivar secured: the session is inside TLS.
    """

    offered: Capabilities = field(factory=Capabilities)
    utf8: bool = False
    binary: bool = False
    secured: bool = False


NOTHING_OFFERED = Grammar()


@frozen
class Command:
    """
    @ivar event: what *parse* makes of the argument.
    @ivar utf8: the argument may be more than ASCII.
    """

    event: type[ServerEvent]
    parse: Callable[[str, Grammar], ServerEvent]
    utf8: bool = False


def parse_command(line: bytes, grammar: Grammar = NOTHING_OFFERED) -> ServerEvent:
    """
    @param line: without its CRLF.
    @raise RemoteProtocolError: it is wrong, whatever the state.
    """
    verb, argument = split_command(line)
    command = COMMANDS.get(verb)
    if command is None:
        return UnrecognizedReceived(verb, argument)
    return command.parse(argument, grammar)


def split_command(line: bytes) -> tuple[str, str]:
    """
    The verb in upper case, and what stands behind it without spaces around.

    @raise RemoteProtocolError: it is no text, or has no verb.
    """
    try:
        text = line.decode("ascii")
        is_text = text.isprintable()
    except UnicodeDecodeError:
        text = _utf8_text(line)
        is_text = not _CONTROL.search(text)
    verb, _, argument = text.partition(" ")
    if not is_text or not verb:
        refuse(BAD_LINE)
    return verb.upper(), argument.strip(" ")


def _utf8_text(line: bytes) -> str:
    verb = line.split(b" ", 1)[0].upper().decode("latin-1")
    command = COMMANDS.get(verb)
    if command is None or not command.utf8:
        # RFC 2034 section 4: no enhanced status in an answer to HELO or EHLO.
        refuse(Reply(501, None, NOT_ASCII.lines) if verb in ("EHLO", "HELO") else NOT_ASCII)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        refuse(NOT_UTF8)


def _hello(verb: str, extended: bool) -> Command:
    missing = Reply.of(501, None, f"{verb} needs your name - see RFC 5321 section 4.1.1.1")

    def parse(argument: str, _: Grammar) -> HelloReceived:
        if not argument:
            refuse(missing)
        # More than a name is wrong, but harmless, and sent by clients of good faith.
        return HelloReceived(argument.partition(" ")[0], extended)

    return Command(HelloReceived, parse)


def _without_argument(verb: str, event: ServerEvent) -> Command:
    too_much = Reply.of(501, "5.5.4", f"{verb} takes no argument")

    def parse(argument: str, _: Grammar) -> ServerEvent:
        if argument:
            refuse(too_much)
        return event

    return Command(type(event), parse)


def _verify(verb: str, expand: bool) -> Command:
    missing = Reply.of(501, "5.5.4", f"Syntax: {verb} address")

    def parse(argument: str, _: Grammar) -> VerifyReceived:
        if not argument:
            refuse(missing)
        return VerifyReceived(argument, expand)

    return Command(VerifyReceived, parse, utf8=True)


def _auth(argument: str, grammar: Grammar) -> AuthReceived:
    words = argument.split(maxsplit=1)
    name = words[0].upper() if words else ""
    if not _MECHANISM.match(name):
        refuse(AUTH_SYNTAX)
    if name not in grammar.offered.parameters("AUTH").split():
        refuse(UNKNOWN_MECHANISM)
    if len(words) == 1:
        return AuthReceived(name, None)
    mechanism = MECHANISMS.get(name)
    if mechanism is not None and mechanism.server_begins:
        refuse(SERVER_BEGINS)
    initial = words[1]
    if initial == "=":  # RFC 4954 section 4: an empty one
        return AuthReceived(name, b"")
    try:
        return AuthReceived(name, binascii.a2b_base64(initial, strict_mode=True))
    except binascii.Error:
        refuse(AUTH_NOT_BASE64)


def parse_response(line: bytes) -> ResponseReceived:
    """
    The answer to a challenge (RFC 4954 section 4).

    @param line: without its CRLF.
    @raise RemoteProtocolError: the client cancels, or it is not base64.
    """
    if line == b"*":
        refuse(AUTH_CANCELLED)
    try:
        return ResponseReceived(binascii.a2b_base64(line, strict_mode=True))
    except binascii.Error:
        refuse(RESPONSE_NOT_BASE64)


def _bdat(argument: str, _: Grammar) -> ChunkReceived:
    chunk = parse_chunk(argument)
    if chunk is None:
        refuse(BDAT_SYNTAX)
    return ChunkReceived(*chunk)


def _mail(argument: str, grammar: Grammar) -> MailReceived:
    path, rest = _path_and_rest(argument, "FROM:", MAIL_SYNTAX)
    try:
        reverse_path = parse_reverse_path(path)
    except AddressError as problem:
        refuse(Reply.of(501, "5.1.7", f"Bad sender address: {problem}"))
    parameters = NO_PARAMETERS
    if rest:
        parameters = read_mail_parameters(rest, grammar.offered, grammar.secured)
    if not path.isascii() and not parameters.smtputf8:
        refuse(SENDER_NOT_ASCII)
    return MailReceived(reverse_path, parameters)


def _rcpt(argument: str, grammar: Grammar) -> RcptReceived:
    path, rest = _path_and_rest(argument, "TO:", RCPT_SYNTAX)
    try:
        address = parse_forward_path(path)
    except AddressError as problem:
        refuse(Reply.of(501, "5.1.3", f"Bad recipient address: {problem}"))
    given = read_rcpt_parameters(rest, grammar.offered, grammar.utf8) if rest else {}
    if not grammar.utf8 and not path.isascii():
        refuse(RECIPIENT_NOT_ASCII)
    return RcptReceived(Recipient(address, **given))


def _path_and_rest(argument: str, keyword: str, syntax: Reply) -> tuple[str, str]:
    """
    More is taken than RFC 5321 allows: spaces before the path, and a path without its angle
    brackets. Such clients are met, and there is no doubt about what they mean.
    """
    start = len(keyword)
    if not argument.startswith(keyword) and argument[:start].upper() != keyword:
        refuse(syntax)
    found = _PATH.match(argument, start)
    if found is not None:
        path = found[1]
    else:
        found = _NAKED_PATH.match(argument, start)
        if found is None:
            refuse(syntax)
        path = f"<{found[1]}>"
    rest = argument[found.end() :]
    if rest and rest[0] != " ":
        refuse(syntax)
    return path, rest


COMMANDS: Mapping[str, Command] = {
    "MAIL": Command(MailReceived, _mail, utf8=True),
    "RCPT": Command(RcptReceived, _rcpt, utf8=True),
    "DATA": _without_argument("DATA", DataReceived()),
    "BDAT": Command(ChunkReceived, _bdat),
    "RSET": _without_argument("RSET", ResetReceived()),
    "QUIT": _without_argument("QUIT", QuitReceived()),
    "EHLO": _hello("EHLO", extended=True),
    "HELO": _hello("HELO", extended=False),
    "STARTTLS": _without_argument("STARTTLS", StartTLSReceived()),
    "AUTH": Command(AuthReceived, _auth),
    "NOOP": Command(NoopReceived, lambda _, __: NoopReceived()),
    "VRFY": _verify("VRFY", expand=False),
    "EXPN": _verify("EXPN", expand=True),
    "XCLIENT": Command(XClientReceived, lambda argument, _: parse_xclient(argument)),
    "HELP": Command(HelpReceived, lambda argument, _: HelpReceived(argument)),
}
