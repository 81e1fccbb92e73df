"""The client's side of a conversation (SMTP, LMTP): commands to bytes, bytes to answers."""

import re
from collections import deque

from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.data import ChunkEncoder, DotEncoder
from harakatls.smtp.errors import Injected, LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import NEED_DATA, Answered, Asked, Pause
from harakatls.smtp.lines import BadLine, LineBuffer
from harakatls.smtp.reply import REPLY_LINE_OCTETS, Reply, ReplyParser
from harakatls.smtp.states import (
    CLIENT_MOVES,
    CLOSED,
    CONNECTED,
    GREETED,
    READY,
    RECEIVING,
    RECIPIENTS_GIVEN,
    REFUSED,
    SECURING,
    SENDER_GIVEN,
)

# RFC 2920 section 3.1: nothing may follow these before their answer is there.
_LAST_OF_GROUP = frozenset(Asked) - {Asked.MAIL, Asked.RCPT, Asked.BODY, Asked.RSET}
# 2yz accepts the rest.
_EXPECTED = {Asked.DATA: (354,), Asked.STARTTLS: (220,), Asked.AUTH: (235, 334)}
_INTERMEDIATE = 300
# Where a positive answer leads. The state before is not asked for: in a group of commands one may
# be accepted though the one before it was not (354 without recipients, RFC 2920 section 3.1).
_AFTER = {asked: state for row in CLIENT_MOVES.values() for asked, state in row.items()}
_NOBODY: Recipient | None = None
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAINTEXT = "the server sent plaintext behind STARTTLS"


class ClientSession:
    """
    One connection, from the server's greeting on.

    The methods that ask give the octets to send; `next_event` gives the answers, in the order of
    asking. The first answer is the greeting. Where PIPELINING is offered, more may be asked before
    the answers are there, until DATA or another command that RFC 2920 wants at the end of a group.

    421 answers everything that was asked: the server is leaving. So does a refusal while a message
    is being sent, as what follows could not be told from an answer to the rest of the message.

    @ivar state: where the conversation stands by the answers that were given out.
    @ivar capabilities: of the last EHLO; nothing before, after HELO, and after `tls_started`.
    @ivar transactions: how many were begun, each with MAIL.
    @ivar lmtp: it is LMTP (RFC 2033) that is spoken.
    """

    __slots__ = (
        "_accepted",
        "_answers",
        "_came_early",
        "_chunked",
        "_cut_off",
        "_encoder",
        "_extended",
        "_hoped",
        "_lines",
        "_outstanding",
        "_parser",
        "_secured",
        "capabilities",
        "lmtp",
        "state",
        "transactions",
    )

    def __init__(self, lmtp: bool = False) -> None:
        """@param lmtp: LHLO, and an answer for each recipient at the end of the data (RFC 2033)."""
        self.state = CONNECTED
        self.capabilities = Capabilities()
        self.lmtp = lmtp
        self.transactions = 0
        self._secured = False
        self._extended = False  # the last hello was EHLO or LHLO
        self._lines = LineBuffer()
        self._parser = ReplyParser()
        self._outstanding = deque([(Asked.GREETING, _NOBODY)])
        self._hoped = GREETED  # the state where all that is outstanding has been accepted
        self._answers: deque[Answered] = deque()  # understood and not given out
        self._came_early = False  # what the buffer holds was there before the question
        self._accepted: list[Recipient] = []  # in this transaction
        self._encoder: DotEncoder | ChunkEncoder | None = None  # while a message is being sent
        self._chunked = False  # the last message was sent with BDAT
        self._cut_off = False  # the message was refused before its end

    @property
    def is_idle(self) -> bool:
        """All that was asked is answered, nothing came beside it, and there may be more to ask."""
        return not (
            self.state is CLOSED
            or self._outstanding
            or self._answers
            or self._encoder is not None
            or self._has_unread()
        )

    # -- what the server says ---------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Octets of the server. They are only kept; after the end they are thrown away."""
        if self.state is not CLOSED:
            self._lines.append(data)

    def next_event(self) -> Answered | Pause:
        """
        The next answer, or NEED_DATA.

        @raise RemoteProtocolError: what came is no reply, or to no question. The state is CLOSED.
        """
        if self._answers:
            return self._answers.popleft()
        if self.state is CLOSED:
            return NEED_DATA
        try:
            reply = self._next_reply()
            return NEED_DATA if reply is None else self._answered(reply)
        except RemoteProtocolError:
            self._close()
            raise

    def _next_reply(self) -> Reply | None:
        if self.state is SECURING and self._lines:
            raise Injected(_PLAINTEXT)
        while True:
            try:
                line = self._lines.next_line(REPLY_LINE_OCTETS)
            except BadLine as problem:
                raise RemoteProtocolError(f"not a reply: {problem}") from None
            if line is None:
                return None
            reply = self._parser.line(line)
            if reply is not None:
                return reply

    def _answered(self, reply: Reply) -> Answered:
        is_last = reply.closes
        if self.state is RECEIVING and not reply.is_positive:
            if self._encoder is not None:
                self._message_sent()
                self._cut_off = is_last = True
            elif self._came_early:
                is_last = True
        if not self._outstanding or (self._came_early and not is_last):
            raise RemoteProtocolError(f"the server said without being asked: {reply}")
        asked, recipient = self._outstanding.popleft()
        if is_last:
            self._answers.extend(Answered(a, reply, r) for a, r in self._outstanding)
            self._close()
        else:
            self._move(asked, recipient, reply)
        return Answered(asked, reply, recipient)

    def _move(self, asked: Asked, recipient: Recipient | None, reply: Reply) -> None:
        if reply.is_positive:
            expected = _EXPECTED.get(asked)
            if reply.code not in expected if expected else reply.code >= _INTERMEDIATE:
                raise RemoteProtocolError(f"{asked.value} cannot be answered with: {reply}")
            self._accept(asked, recipient, reply)
        if asked is Asked.BODY:
            if not self._outstanding or self._outstanding[0][0] is not Asked.BODY:
                # RFC 3030 section 2: after a refused chunk, nothing but RSET.
                self.state = READY if reply.is_positive or not self._chunked else SENDER_GIVEN
        elif asked is Asked.QUIT:
            self._close()
        elif reply.is_positive:
            self.state = _AFTER[asked]
        elif asked is Asked.GREETING:
            self.state = REFUSED
        if not self._outstanding:
            self._hoped = self.state

    def _accept(self, asked: Asked, recipient: Recipient | None, reply: Reply) -> None:
        if asked is Asked.HELLO:
            lines = reply.lines[1:] if self._extended else ()
            self.capabilities = Capabilities.parse(lines)
            if not self._secured:
                # RFC 8689 section 2: nobody who keeps to it offers it in the clear.
                self.capabilities = self.capabilities.without("REQUIRETLS")
        elif asked is Asked.XCLIENT:
            self.capabilities = Capabilities()
        elif asked is Asked.MAIL:
            self._accepted.clear()
        elif asked is Asked.RCPT and recipient is not None:
            self._accepted.append(recipient)
        elif asked is Asked.DATA:
            if self.lmtp and not self._accepted:
                # RFC 2033 section 4.2 forbids it: nobody is there whose answer could be awaited.
                raise RemoteProtocolError("354 without any recipient")
            self._encoder = DotEncoder()
            self._chunked = False
        elif asked is Asked.STARTTLS and self._lines:
            # RFC 3207 section 6: an attacker put it there, to be taken for part of what TLS
            # protects.
            raise Injected(_PLAINTEXT)

    def _close(self) -> None:
        self.state = self._hoped = CLOSED
        self._outstanding.clear()
        self._lines.clear()
        self._encoder = None

    # -- what is asked ----------------------------------------------------------------------------

    def hello(self, name: str, extended: bool = True) -> bytes:
        """
        EHLO, LHLO in LMTP, or HELO for a server that refuses EHLO.

        @param name: ours: a host name (A-labels) or address literal.
        """
        if self.lmtp and not extended:
            raise LocalProtocolError("LMTP has no HELO")
        self._extended = extended
        verb = "LHLO" if self.lmtp else "EHLO" if extended else "HELO"
        return self._ask(Asked.HELLO, f"{verb} {name}")

    def start_tls(self) -> bytes:
        """STARTTLS. After a positive answer: the handshake, then `tls_started`."""
        if self._secured or "STARTTLS" not in self.capabilities:
            raise LocalProtocolError("STARTTLS is not offered")
        return self._ask(Asked.STARTTLS, "STARTTLS")

    def tls_started(self) -> None:
        """
        The handshake is done. Nothing that was heard before it counts; say hello again.

        @raise RemoteProtocolError: there was plaintext behind the answer to STARTTLS.
        """
        if self.state is not SECURING:
            raise LocalProtocolError("TLS was not asked for")
        if self._lines:
            self._close()
            raise Injected(_PLAINTEXT)
        self.state = self._hoped = GREETED
        self.capabilities = Capabilities()
        self._secured = True

    def authenticate(self, mechanism: str, initial: str | None = None) -> bytes:
        """
        AUTH (RFC 4954). It may be answered with 334, and that with `respond`, any number of times.

        @param initial: the first response, in base64; None where the server begins.
        """
        if "AUTH" not in self.capabilities:
            raise LocalProtocolError("AUTH is not offered")
        # Section 4: an empty one is written so.
        return self._ask(
            Asked.AUTH, f"AUTH {mechanism}" + ("" if initial is None else f" {initial or '='}")
        )

    def respond(self, response: str | None) -> bytes:
        """
        To a 334 and nothing else; the answer is one to AUTH.

        @param response: in base64; None gives the login up.
        """
        return self._ask(Asked.AUTH, "*" if response is None else response)

    def introduce(self, argument: str) -> bytes:
        """XCLIENT, with what `xclient.introduction` gives. Who is told so wants another hello."""
        if "XCLIENT" not in self.capabilities:
            raise LocalProtocolError("XCLIENT is not offered")
        return self._ask(Asked.XCLIENT, f"XCLIENT {argument}")

    def mail(self, reverse_path: Address | None, parameters: str = "") -> bytes:
        """
        MAIL.

        @param reverse_path: None is the null reverse-path.
        @param parameters: from `mail_parameters`.
        """
        path = "" if reverse_path is None else str(reverse_path)
        wire = self._ask(Asked.MAIL, f"MAIL FROM:<{path}>{parameters}")
        self.transactions += 1
        return wire

    @property
    def is_spent(self) -> bool:
        """The server has said that it allows no further transaction here (RFC 9422)."""
        return 0 < self.capabilities.limits.transactions <= self.transactions

    def rcpt(self, recipient: Recipient, parameters: str = "") -> bytes:
        """RCPT; the answer names *recipient*."""
        return self._ask(Asked.RCPT, f"RCPT TO:<{recipient.address}>{parameters}", recipient)

    def data(self) -> bytes:
        """
        DATA. After 354 the message: `body`, and `end_body`.

        A server may say 354 though it refused MAIL or all of RCPT, if they were pipelined. Then
        send `end_body` alone (RFC 2920 section 3.1), and believe no answer.
        """
        return self._ask(Asked.DATA, "DATA")

    def bdat(self, size: int) -> bytes:
        """
        BDAT, for all of the message in one chunk (RFC 3030), which follows at once: `body`, and
        `end_body`. What answers it is the answer to the message.

        In a group it stands last, and the message may be refused like any other command. In LMTP,
        where each recipient that was accepted has an answer, their answers must be there.

        @param size: octets of the message.
        """
        if "CHUNKING" not in self.capabilities:
            raise LocalProtocolError("CHUNKING is not offered")
        if self._hoped is not RECIPIENTS_GIVEN or (self.lmtp and self._outstanding):
            raise LocalProtocolError(f"BDAT when {self._hoped.value}")
        if self._outstanding and "PIPELINING" not in self.capabilities:
            raise LocalProtocolError("BDAT before the answer to RCPT")
        self._encoder = ChunkEncoder(size)
        self._chunked = True
        self._hoped = RECEIVING
        if not self._outstanding:
            self.state = RECEIVING
            self._came_early = self._has_unread()
        return self._line(f"BDAT {size} LAST")

    def body(self, chunk: bytes) -> bytes:
        """
        A piece of the message in wire form (CRLF), cut anywhere; after 354 or with BDAT.

        A server may refuse the message before its end. That is the answer, the state is CLOSED,
        and the rest is b"", so that who sends it need not know.
        """
        if self._encoder is None:
            return self._unwanted()
        return self._encoder.encode(chunk)

    def end_body(self) -> bytes:
        """The end of the message. The answer is one, or in LMTP one for each recipient."""
        if self._encoder is None:
            return self._unwanted()
        wire = self._encoder.end()
        if not self._outstanding:
            self._came_early = self._has_unread()
        self._message_sent()
        return wire

    def reset(self) -> bytes:
        """RSET."""
        return self._ask(Asked.RSET, "RSET")

    def quit(self) -> bytes:
        """QUIT. Whatever the answer is, it is the last."""
        return self._ask(Asked.QUIT, "QUIT")

    def _ask(self, asked: Asked, text: str, recipient: Recipient | None = None) -> bytes:
        if self._outstanding:
            last = self._outstanding[-1][0]
            if last in _LAST_OF_GROUP or "PIPELINING" not in self.capabilities:
                raise LocalProtocolError(f"{asked.value} before the answer to {last.value}")
        moves = CLIENT_MOVES[self._hoped]
        if asked not in moves:
            raise LocalProtocolError(f"{asked.value} when {self._hoped.value}")
        wire = self._line(text)
        if not self._outstanding:
            self._came_early = self._has_unread()
        self._outstanding.append((asked, recipient))
        self._hoped = moves[asked]
        return wire

    def _line(self, text: str) -> bytes:
        # An address with a line end would be a command of its own.
        if _CONTROL.search(text):
            raise LocalProtocolError(f"control characters in {text!a}")
        if not text.isascii() and "SMTPUTF8" not in self.capabilities:
            raise LocalProtocolError(f"SMTPUTF8 is not offered for {text!a}")
        try:
            return f"{text}\r\n".encode()
        except UnicodeEncodeError:
            raise LocalProtocolError(f"not Unicode: {text!a}") from None

    def _has_unread(self) -> bool:
        return bool(self._lines) or self._parser.has_begun

    def _message_sent(self) -> None:
        self._encoder = None
        recipients = self._accepted if self.lmtp else (_NOBODY,)
        self._outstanding.extend((Asked.BODY, recipient) for recipient in recipients)
        self._hoped = READY

    def _unwanted(self) -> bytes:
        if not self._cut_off:
            raise LocalProtocolError("there was no 354")
        return b""
