"""What a server session knows, and how a transaction and the session come to their ends."""

from typing import NoReturn

from attrs import evolve

from harakatls.smtp import refusals
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.chunks import ChunkReader
from harakatls.smtp.commands import NOTHING_OFFERED
from harakatls.smtp.data import ABSURD_MESSAGE, DataReader
from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import ChunkEnded, ChunkReceived, ServerEvent
from harakatls.smtp.lines import LineBuffer
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import CHUNK_REFUSED, CLOSED, CONNECTED, READY

_USUAL_MESSAGE = SessionLimits().message


class SessionState:
    """
    @ivar state: where the conversation stands.
    @ivar secured: it is inside TLS.
    @ivar tls_first: what is said before that to all commands that need TLS (RFC 3207 section 4);
        None where none does. It may be set until the first command is read.
    """

    __slots__ = (
        "_auth_refusal",
        "_awaiting",
        "_errors",
        "_grammar",
        "_greeting",
        "_limits",
        "_line_limit",
        "_lines",
        "_reader",
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
        self._reader: DataReader | ChunkReader | None = None

    @property
    def has_more(self) -> bool:
        """Octets have come behind what the last event was made of."""
        return bool(self._lines)

    @property
    def is_receiving(self) -> bool:
        """A message has begun and not ended."""
        return self._reader is not None

    @property
    def offered(self) -> Capabilities:
        """What the answer to EHLO has offered; nothing before and after HELO."""
        return self._grammar.offered

    def _pass_by(self, octets: int) -> None:
        """Of a chunk that is refused."""
        self._lines.pass_by(octets, (self._limits.message or _USUAL_MESSAGE) * ABSURD_MESSAGE)

    def _close(self, reply: Reply) -> NoReturn:
        self.state = CLOSED
        self._lines.clear()
        self._reader = None
        raise RemoteProtocolError(str(reply), reply, fatal=True)

    def _break_message(self, event: ChunkReceived | ChunkEnded) -> None:
        """A chunk was refused."""
        if type(event) is ChunkReceived:
            self._pass_by(event.size)
            if event.last:
                self._end_transaction()
                self.state = READY
                return
        self._reader = None
        self.state = CHUNK_REFUSED

    def _end_transaction(self) -> None:
        self._reader = None
        self._recipients = 0
        self._refused = None
        if self._grammar.utf8 or self._grammar.binary:
            self._grammar = evolve(self._grammar, utf8=False, binary=False)
