"""The durable queue: takes whatever no other plugin took, for delivery from here."""

import re
from email.utils import formatdate

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, ISpool, IStagedMessage, Site, SpoolFull
from harakatls.mail.header import HEADER_OCTETS, count, field, header_length, read_start
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, TempFail, Verdict

NO_SPACE = Reply.of(452, "4.3.1", "Insufficient system storage, try later")
_EMPTY_ID = re.compile(
    rb"^message-id[ \t]*:[ \t]*(?:<[ \t]*>)?[ \t]*\r\n(?![ \t])", re.IGNORECASE | re.MULTILINE
)


def load(site: Site) -> "DurableQueue":
    """The message knows the spool it is staged in."""
    return DurableQueue(Completion(site.me, site.clock, site.spool))


@frozen
class Completion:
    """
    What a client that submits mail may leave out (RFC 6409 sections 8.1 and 8.2): many servers
    refuse or mistrust mail without it.

    Only for clients that may relay: other mail is not ours to change (RFC 5321 section 6.4).
    """

    me: str
    clock: IReactorTime
    spool: ISpool

    async def complete(self, transaction: Transaction, message: IStagedMessage) -> IStagedMessage:
        """
        Put the missing fields on top.

        @return: *message*; or a new one in its place, where an empty Message-Id had to go.
        @raise SpoolFull: no space.
        """
        body = message.open()
        start = await read_start(body)
        length = header_length(start)
        if length is None and len(start) >= HEADER_OCTETS:
            return message  # the rest of such a header may hold anything
        header = start if length is None else start[:length]
        if _is_complete(header):
            return message
        without = _EMPTY_ID.sub(b"", header)
        if without != header and body.size == len(start):
            # A second one above it would make many servers refuse the message. It is small, so
            # it is in memory, and to write it anew costs little.
            message = await self.spool.stage(message.id)
            await message.write(without + start[len(header) :])
            header = without
        if not count(header, b"Date"):
            message.prepend(field("Date", formatdate(self.clock.seconds())))
        if not count(header, b"Message-Id"):
            message.prepend(f"Message-Id: <{transaction.id}@{self.me}>\r\n".encode())
        return message


def _is_complete(header: bytes) -> bool:
    """
    Both fields are there, as nearly always. It is asked for each message: plain searching is ten
    times as fast as the patterns that understand every way to write a field.
    """
    text = b"\r\n" + header.lower()
    _, found, rest = text.partition(b"\r\nmessage-id: <")
    return bool(found) and rest[:1] not in b"> \t" and b"\r\ndate: " in text


@implementer(IQueueHook)
@frozen
class DurableQueue:
    """
    Commits every message to the spool. Asked after all plugins, whether listed or not.

    When it accepts, the message survives a crash.

    @ivar completion: of mail from clients that may relay; None leaves it as it is.
    """

    completion: Completion | None = None

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """A spool without space asks the sender to come back (452, RFC 5321 section 4.2.2)."""
        try:
            if transaction.relaying and self.completion is not None:
                message = await self.completion.complete(transaction, message)
            await message.commit(transaction.envelope)
        except SpoolFull:
            return TempFail(NO_SPACE)
        return ACCEPT
