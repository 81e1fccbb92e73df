"""A message that is being received, and its division among domains."""

import re
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from attrs import evolve
from zope.interface import implementer

from harakatls.interfaces import IMessageBody, IStagedMessage, SpoolDamaged, SpoolFull
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.queued import QueuedMessage
from harakatls.spool.bodies import BLOCK, SUFFIX, BodyFile, BytesBody, FileBody, InThread
from harakatls.spool.gathering import Gathering

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class StagedState(Enum):
    """How far a staged message is."""

    RECEIVING = auto()
    FAILED = auto()  # part of it was not written: it can only be aborted
    HANDED_OVER = auto()  # a commit has begun; where it failed, it can only be aborted
    COMMITTED = auto()
    ABORTED = auto()


# Looking a member up in its class costs as much as a call (Python 3.11).
_RECEIVING = StagedState.RECEIVING
_FAILED = StagedState.FAILED
_HANDED_OVER = StagedState.HANDED_OVER
_COMMITTED = StagedState.COMMITTED
_ABORTED = StagedState.ABORTED


class Keeper(Protocol):
    """
    What a staged message needs of its spool.

    @ivar bodies: the directory for large bodies; None keeps them all in memory.
    """

    bodies: Path | None
    gathering: Gathering
    in_thread: InThread

    def seconds(self) -> float:
        """Since the epoch."""

    def check_space(self) -> None:
        """@raise SpoolFull: no space."""

    async def keep(
        self, staged: "StagedMessage", messages: list[QueuedMessage], settling: QueuedMessage | None
    ) -> None:
        """Queue *messages*, all of them or none; returns when that is on disk."""


@implementer(IStagedMessage)
class StagedMessage:
    """
    Small in memory, large in a file: see `BLOCK`.

    Fields on top stay apart, so that putting one there never rewrites a body.

    @ivar top: the fields put on top.
    @ivar tail: what has not been written to the file.
    """

    __slots__ = (
        "_failure",
        "_gathering",
        "_has_ended",
        "_keeper",
        "file",
        "id",
        "size",
        "state",
        "tail",
        "top",
    )

    def __init__(self, keeper: Keeper, message_id: str) -> None:
        """@raise ValueError: *message_id* cannot be the name of a file."""
        if not _SAFE_ID.match(message_id):
            raise ValueError(f"{message_id!r} cannot be the id of a message")
        self.id = message_id
        self.size = 0
        self.top = b""
        self.tail = bytearray()
        self.file: BodyFile | None = None
        self.state = _RECEIVING
        self._failure: SpoolFull | SpoolDamaged | None = None
        self._keeper = keeper
        self._gathering = keeper.gathering
        self._gathering.begin()
        self._has_ended = False

    def prepend(self, fields: bytes) -> None:
        self._must_be_receiving()
        self.top = fields + self.top
        self.size += len(fields)

    async def write(self, chunk: bytes) -> None:
        if self.state is not _RECEIVING:
            self._must_be_receiving()
        tail, gathering, octets = self.tail, self._gathering, len(chunk)
        tail += chunk
        self.size += octets
        gathering.held += octets
        if len(tail) > gathering.each:
            await self._write_tail()

    async def commit(self, envelope: Envelope, settling: QueuedMessage | None = None) -> str:
        self._must_be_receiving()
        messages = division(self.id, envelope, self._keeper.seconds(), self.size)
        try:
            if self.file is not None or self._is_large():
                await self._write_tail()
                assert self.file is not None
                await self._keeper.in_thread(self.file.sync)
                self._must_be_receiving()  # not aborted meanwhile
            self.state = _HANDED_OVER
            await self._keeper.keep(self, messages, settling)
            self.state = _COMMITTED
        finally:
            self._let_go()
        return self.id

    async def abort(self) -> None:
        # A commit that is under way goes on: whoever waited for it may have gone away, but the
        # message may be on disk already. Where it fails, the spool removes the file.
        file = self.file
        ours = self.state in (_RECEIVING, _FAILED)
        self.state = _ABORTED
        self._let_go()
        self.top, self.tail, self.file = b"", bytearray(), None
        if ours and file is not None:
            await self._keeper.in_thread(file.remove)

    def open(self) -> IMessageBody:
        if self.state is _ABORTED:
            raise SpoolDamaged(f"{self.id} was aborted")
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args)
        if self.file is None:
            return BytesBody(self.whole())
        assert self.file.descriptor is not None
        return FileBody(
            self._keeper.in_thread, self.top, self.file.descriptor, self.file.size, bytes(self.tail)
        )

    def whole(self) -> bytes:
        """What stands in memory."""
        return self.top + self.tail if self.top else bytes(self.tail)

    def _let_go(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._gathering.end(len(self.tail))

    def _is_large(self) -> bool:
        return self._keeper.bodies is not None and len(self.tail) > BLOCK

    async def _write_tail(self) -> None:
        try:
            self._keeper.check_space()
            if self.file is None:
                assert self._keeper.bodies is not None
                self.file = BodyFile(self._keeper.bodies / (self.id + SUFFIX))
            block, self.tail = self.tail, bytearray()
            try:
                await self._keeper.in_thread(self.file.append, block)
            finally:
                self._gathering.held -= len(block)
        except (SpoolFull, SpoolDamaged) as error:
            self._failed(error)
            raise
        except BaseException:  # cancelled: the thread may have written the block, or not
            self._failed(SpoolDamaged(f"writing {self.id} was broken off"))
            raise

    def _failed(self, error: SpoolFull | SpoolDamaged) -> None:
        self._failure = error
        if self.state is _RECEIVING:
            self.state = _FAILED

    def _must_be_receiving(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args)
        if self.state is not _RECEIVING:
            raise RuntimeError(f"{self.id} is {self.state.name}, not RECEIVING")


def division(message_id: str, envelope: Envelope, arrived: float, size: int) -> list[QueuedMessage]:
    """
    One message for each domain of the recipients, in the order in which they were named.

    @raise ValueError: there are no recipients.
    """
    if not envelope.recipients:
        raise ValueError(f"{message_id} has no recipients")
    domain = envelope.recipients[0].address.domain
    if len(envelope.recipients) == 1:
        return [
            QueuedMessage(
                f"{message_id}.1", envelope, domain, arrived, arrived, size, envelope.recipients
            )
        ]
    domains: dict[str, list[Recipient]] = {}
    for recipient in envelope.recipients:
        domains.setdefault(recipient.address.domain, []).append(recipient)
    return [
        QueuedMessage(
            f"{message_id}.{number}",
            evolve(envelope, recipients=(some := tuple(recipients))),
            domain,
            arrived,
            arrived,
            size,
            some,
        )
        for number, (domain, recipients) in enumerate(domains.items(), 1)
    ]
