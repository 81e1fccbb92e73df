"""Keeps accepted messages until they are delivered."""

from collections.abc import Callable, Collection, Mapping, Sequence

from zope.interface import Attribute, Interface

from harakatls.connection import Transaction
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.queued import Delivered, QueuedMessage


class IMessageBody(Interface):
    """Reads a message, header and all, in wire form (CRLF, not dot-stuffed), from its start."""

    size: int = Attribute("Octets in all.")

    async def read(length: int) -> bytes:
        """
        @return: up to about *length* octets, or b"" at the end.
        @raise SpoolDamaged: what was stored cannot be read.
        """

    def close() -> None:
        """Nothing more will be read. May be called twice."""


class IStagedMessage(Interface):
    """A message that is being received; it is nobody's responsibility yet."""

    id: str = Attribute("As given to `ISpool.stage`.")
    size: int = Attribute("Octets so far, with the prepended fields.")

    def prepend(fields: bytes) -> None:
        """Put whole header fields (with their CRLF) on top of all that is there."""

    async def write(chunk: bytes) -> None:
        """
        Add to the end. Not to be called again before it has finished.

        @raise SpoolFull: no space.
        """

    async def commit(envelope: Envelope, settling: QueuedMessage | None = None) -> str:
        """
        Make the message ours: when this returns, it survives a crash.

        One transaction queues the message for each domain of its recipients, due at once, and
        settles *settling* as `ISpool.settle` does (for a bounce: the message it is about).

        @return: the queue id.
        @raise SpoolFull: no space; nothing was queued.
        """

    async def abort() -> None:
        """Forget it. May be called after commit, and twice; then it does nothing."""

    def open() -> IMessageBody:
        """Read what has been written so far; also after commit, until `abort`."""


class ISuccessReports(Interface):
    """
    Tells senders that their mail has been delivered here, or handed on (RFC 3461).

    Raises nothing: the message has been taken, with a report or without.
    """

    async def delivered(
        transaction: Transaction, recipients: tuple[Recipient, ...], message: IStagedMessage
    ) -> None:
        """
        In their mailboxes.

        @param recipients: those of whom the sender, who is not null, wants to be told.
        """

    async def relayed(
        transaction: Transaction, handed_on: tuple[Delivered, ...], message: IStagedMessage
    ) -> None:
        """
        To next hops that will not report it themselves.

        @param handed_on: for recipients of whom the sender, who is not null, wants to be told.
        """


class ISpool(Interface):
    """
    Keeps accepted messages until they are delivered.

    Several workers may share one; what one has claimed no other gets while the claim holds. The
    worst crash delivers a message twice; none loses one.
    """

    held: int = Attribute("Octets of the messages that are being received that are in memory.")

    async def stage(message_id: str) -> IStagedMessage:
        """@raise SpoolFull: no space."""

    async def claim(
        now: float,
        limit: int,
        *,
        domains: Collection[str] | None = None,
        rooms: Mapping[str, int] = {},
        per_domain: int | None = None,
        together: Sequence[tuple[int, Collection[str]]] = (),
    ) -> tuple[QueuedMessage, ...]:
        """
        Take up to *limit* due messages, the longest due first, for this worker.

        Mail for a domain without room holds up no other, however much of it there is. It may take
        several calls to find all that is due behind it: `next_due` tells when to ask again.

        @param now: seconds since the epoch.
        @param domains: mail for these alone, which costs nothing for all others; None for all mail.
        @param rooms: by domain, how many of it at most; 0 where it is at its limit or in back-off.
        @param per_domain: how many at most of each other domain; None for any number.
        @param together: how many at most of some domains in all; each is in one such group or none.
        """

    async def settle(queued: QueuedMessage) -> None:
        """
        Record what became of a claimed message and end the claim.

        Removed when nothing is pending, else kept until `queued.due`.
        """

    def recalled() -> Collection[str]:
        """
        Claimed messages that are not to be tried: the operator holds or removes them.

        They are to be settled as they are, where no attempt is under way. Cheap enough to be asked
        before each attempt.

        @return: their ids, those too that were named before; empty where there are no new ones.
        """

    def open_body(queued: QueuedMessage) -> IMessageBody:
        """@raise SpoolDamaged: it is gone or cannot be read."""

    async def set_aside(queued: QueuedMessage, problem: str) -> None:
        """Keep a message that cannot be read, for the operator; it is not claimed again."""

    async def next_due(excluded: Collection[str] = ()) -> float | None:
        """
        When the earliest message that nobody has claimed is due; None with none.

        @param excluded: domains that do not count. Where there is much mail for these, the time
            may be too early: of a message for one of them.
        """

    async def flush(domain: str | None = None) -> int:
        """
        Let all mail be due now that waits for a later attempt.

        @param domain: mail for this one alone.
        @return: how many messages; whoever asked for `when_flushed` has been told.
        """

    def when_added(told: Callable[[Collection[str] | None], None]) -> None:
        """
        Call *told*, in the reactor's thread, whenever messages were committed here.

        @param told: gets the domains that they are for; None where mail of any domain may be due.
        """

    def when_flushed(told: Callable[[], None]) -> None:
        """
        Call *told*, in the reactor's thread, when the operator wants mail to be tried now.

        Whatever keeps a destination waiting is to be forgotten. Those of `when_added` are told
        afterwards.
        """

    async def close() -> None:
        """Finish what was begun; claims fall free."""


class SpoolFull(Exception):
    """There is no space for the message (disk full, quota): answered with 452 4.3.1."""


class SpoolDamaged(Exception):
    """What is stored of a message cannot be read."""
