"""What the sessions give out."""

from enum import Enum

from attrs import field, frozen

from harakatls.mail.address import Address
from harakatls.mail.envelope import MailParameters, Recipient
from harakatls.smtp.reply import Reply


class Pause(Enum):
    """Why `next_event` has no event."""

    NEED_DATA = "everything received has been given out"
    AWAITING_REPLY = "the last event has not been answered"


NEED_DATA = Pause.NEED_DATA
AWAITING_REPLY = Pause.AWAITING_REPLY


# What a server hears from its client. Each needs one reply, but BodyReceived, which needs none.


@frozen
class HelloReceived:
    """@ivar extended: EHLO, not HELO."""

    name: str
    extended: bool


@frozen
class StartTLSReceived:
    """RFC 3207."""


@frozen
class AuthReceived:
    """
    RFC 4954.

    @ivar mechanism: upper case.
    @ivar initial: the initial response, decoded; None where none was sent.
    """

    mechanism: str
    initial: bytes | None = field(repr=False)


@frozen
class ResponseReceived:
    """
    The answer to a challenge, which is a reply of 334 to AUTH or to one of these (RFC 4954).

    @ivar response: decoded.
    """

    response: bytes = field(repr=False)


@frozen
class MailReceived:
    """@ivar reverse_path: None is the null reverse-path."""

    reverse_path: Address | None
    parameters: MailParameters


@frozen
class RcptReceived:
    """RCPT."""

    recipient: Recipient


@frozen
class DataReceived:
    """DATA; a reply of 354 starts the body."""


@frozen
class ChunkReceived:
    """
    BDAT (RFC 3030): `accept_chunk` lets the octets of the chunk through, which are on their way.

    @ivar size: octets of the chunk, as it is sent.
    @ivar last: the message ends with it.
    @ivar begins: so far there is nothing of the message.
    @ivar refusal: why it cannot be accepted; then it must be answered with this reply or another
        negative one.
    """

    size: int
    last: bool
    begins: bool = True
    refusal: Reply | None = None


@frozen
class ChunkEnded:
    """
    The end of a chunk that is not the last one.

    @ivar size: octets of the chunk.
    @ivar refusal: as in `BodyEnded`.
    """

    size: int
    refusal: Reply | None


@frozen
class BodyReceived:
    """A piece of the message, dot-unstuffed, in wire form (CRLF). Needs no reply."""

    chunk: bytes


@frozen
class BodyEnded:
    """
    The end of the data, or of the last chunk.

    @ivar size: octets of the message, as they were given out and counted.
    @ivar refusal: why the message cannot be accepted (too big, bare line ends); None where it
        can. A refused message must be answered with this reply or another negative one.
    """

    size: int
    refusal: Reply | None


@frozen
class ResetReceived:
    """RSET."""


@frozen
class NoopReceived:
    """NOOP."""


@frozen
class VerifyReceived:
    """VRFY, or EXPN where *expand*."""

    argument: str
    expand: bool = False


@frozen
class HelpReceived:
    """HELP."""

    argument: str


@frozen(kw_only=True)
class XClientReceived:
    """
    XCLIENT: what a proxy tells of its client (Postfix's XCLIENT_README); None where it does not.

    @ivar host: the client's IP address, IPv6 without a prefix.
    @ivar name: what the client's address is called in the DNS.
    @ivar hello: what the client has said at HELO, or EHLO where *extended*.
    @ivar login: as whom the client has authenticated itself.
    @ivar local_host: the address that the client has connected to.
    """

    host: str
    port: int | None = None
    name: str | None = None
    hello: str | None = None
    extended: bool = True
    login: str | None = None
    local_host: str | None = None
    local_port: int | None = None


@frozen
class UnrecognizedReceived:
    """A verb that no table knows; the last word is a plugin's. @ivar verb: upper case."""

    verb: str
    argument: str


@frozen
class QuitReceived:
    """QUIT."""


ServerEvent = (
    HelloReceived
    | StartTLSReceived
    | AuthReceived
    | ResponseReceived
    | MailReceived
    | RcptReceived
    | DataReceived
    | ChunkReceived
    | ChunkEnded
    | BodyReceived
    | BodyEnded
    | ResetReceived
    | NoopReceived
    | VerifyReceived
    | HelpReceived
    | XClientReceived
    | UnrecognizedReceived
    | QuitReceived
)


# What a client hears from its server.


class Asked(Enum):
    """What a reply answers."""

    GREETING = "connect"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    XCLIENT = "XCLIENT"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "end of data"
    RSET = "RSET"
    QUIT = "QUIT"

    # By identity, as members are compared: Enum's own hash is a slow function in Python.
    __hash__ = object.__hash__


@frozen
class Answered:
    """
    The server answered what was asked first and not yet answered.

    @ivar recipient: for RCPT (and the end of data in LMTP) the recipient it is about.
    """

    asked: Asked
    reply: Reply
    recipient: Recipient | None = None


ClientEvent = Answered
