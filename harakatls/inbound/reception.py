"""The mail transactions of one connection: from MAIL to the answer to the end of the data."""

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.connection import Connection, Transaction
from harakatls.hooks.chain import HookChain
from harakatls.inbound.admission import Admission
from harakatls.inbound.incoming_header import IncomingHeader
from harakatls.inbound.replies import (
    AUTHENTICATION_REQUIRED,
    MAIL_LOOP,
    NO_SPACE,
    TOO_MANY_IN_PLACE,
    TOO_MUCH_MAIL,
    reply_to,
)
from harakatls.inbound.settings import InboundSettings
from harakatls.inbound.trace import TraceFields
from harakatls.interfaces import ISpool, IStagedMessage, SpoolFull
from harakatls.mail.address import Address
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.smtp.events import (
    BodyEnded,
    ChunkEnded,
    ChunkReceived,
    MailReceived,
    RcptReceived,
)
from harakatls.smtp.refusals import TOO_LARGE, TOO_MANY_RECIPIENTS
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Continue, Disconnect, Verdict

log = Logger()

YES = (Continue, Accept)
SUBMISSION_PORTS = frozenset({465, 587})  # RFC 6409, RFC 8314


class Tally:
    """How many were accepted, put off and refused."""

    __slots__ = ("accepted", "delayed", "refused")

    def __init__(self) -> None:
        self.accepted = self.delayed = self.refused = 0

    def add(self, reply: Reply) -> None:
        if reply.code < 400:
            self.accepted += 1
        elif reply.code < 500:
            self.delayed += 1
        else:
            self.refused += 1

    @property
    def total(self) -> int:
        return self.accepted + self.delayed + self.refused

    def __str__(self) -> str:
        return f"{self.accepted}/{self.delayed}/{self.refused}"


class Reception:
    """
    One transaction after the other. The connection is handed in anew each time, since it changes.

    @ivar transaction: the one under way, or None.
    @ivar committing: the message may be ours already, so nobody may be cancelled any more: a
        message that is delivered twice is better than one that is lost.
    @ivar disconnecting: the last answer is a hook's last word to this peer.
    @ivar untold: the transaction that is over, where plugins have yet to be told so: see `tell`.
    """

    def __init__(
        self,
        chain: HookChain,
        spool: ISpool,
        settings: InboundSettings,
        me: str,
        clock: IReactorTime,
        admission: Admission | None = None,
    ) -> None:
        """@param admission: knows how much mail there may be at the same time; None for any."""
        self._admission = admission
        self._most_held = settings.peers.memory or float("inf")
        self._chain = chain
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._trace = TraceFields(me, settings.show_version)
        self._begun = 0
        self._addresses: set[Address] = set()
        self._staged: IStagedMessage | None = None
        self._header = IncomingHeader()
        self._refusal: Reply | None = None
        self._abandoned = False
        self._tells = "reset" in chain.hooked
        self._size_is_hooked = "too_large" in chain.hooked
        self._connection: Connection | None = None
        self.untold: Transaction | None = None
        self.transaction: Transaction | None = None
        self.committing = False
        self.disconnecting = False
        self.messages = Tally()
        self.recipients = Tally()

    async def begin_anew(self) -> None:
        """The connection gets another id, under which transactions are counted from the start."""
        await self.forget()
        self._begun = 0

    def abandon(self) -> None:
        """The peer has gone: what is not ours yet will not be."""
        self._abandoned = True

    async def mail(self, connection: Connection, event: MailReceived) -> Reply:
        """MAIL: begins a transaction, unless a hook objects."""
        if connection.local.port in SUBMISSION_PORTS and not (
            connection.relaying or connection.authenticated_as
        ):
            return AUTHENTICATION_REQUIRED
        held = self._spool.held
        if held >= self._most_held and self._admission and not self._admission.has_room(held):
            return TOO_MUCH_MAIL
        self._begun += 1
        transaction = Transaction(
            f"{connection.id}.{self._begun}",
            Envelope(event.reverse_path, (), event.parameters),
            connection.relaying,
        )
        verdict = await self._chain.mail(connection, transaction)
        path = event.reverse_path
        reply = self._reply("mail", verdict, str(path) if path is not None else "")
        self._connection = connection
        if reply.code < 400:
            self.transaction = transaction
        elif self._tells:
            self.untold = transaction
        return reply

    async def rcpt(self, connection: Connection, event: RcptReceived) -> Reply:
        """RCPT: nobody's yes is a no, unless the peer may relay."""
        transaction = self.transaction
        assert transaction is not None
        recipient = event.recipient
        verdict = await self._chain.rcpt(connection, transaction, recipient)
        if transaction.relaying and verdict.__class__ is Continue:
            verdict = ACCEPT
        address = recipient.address
        reply = self._reply("rcpt", verdict, str(address))
        others = verdict.becomes if verdict.__class__ is Accept else None
        if others is not None and reply.code < 400:
            reply = self._replace(transaction, recipient, others) or reply
        elif reply.code < 400 and self._is_new(address, transaction.envelope.recipients):
            # The session counts those who are named, which may stand for many.
            if len(transaction.envelope.recipients) >= self._settings.max_recipients:
                self._addresses.remove(address)
                reply = TOO_MANY_RECIPIENTS
            else:
                self._add(transaction, recipient)
        self.recipients.add(reply)
        return reply

    def _add(self, transaction: Transaction, *recipients: Recipient) -> None:
        before = transaction.envelope
        envelope = Envelope(
            before.reverse_path, (*before.recipients, *recipients), before.parameters
        )
        self.transaction = Transaction(
            transaction.id, envelope, transaction.relaying, transaction.notes
        )

    def _replace(
        self, transaction: Transaction, recipient: Recipient, others: tuple[Recipient, ...]
    ) -> Reply | None:
        """
        Take *others* in place of one recipient.

        @return: why not.
        """
        before = transaction.envelope.recipients
        known = {one.address for one in before}
        new: dict[Address, Recipient] = {}
        for other in others:
            if other.address not in known:
                new.setdefault(other.address, other.in_place_of(recipient))
        if len(before) + len(new) > self._settings.max_recipients:
            return TOO_MANY_RECIPIENTS if before else TOO_MANY_IN_PLACE
        self._addresses = known.union(new)
        self._add(transaction, *new.values())
        return None

    def _is_new(self, address: Address, others: tuple[Recipient, ...]) -> bool:
        """One who is named twice gets the message once."""
        if not others:  # nearly always
            self._addresses = set()
            return True
        if not self._addresses:
            self._addresses.add(others[0].address)
        if address in self._addresses:
            return False
        self._addresses.add(address)
        return True

    async def data(self, connection: Connection) -> Reply:
        """DATA: makes room for the message; its first line will be our Received field."""
        transaction = self.transaction
        assert transaction is not None
        reply = self._reply("data", await self._chain.data(connection, transaction))
        if reply.code >= 400:
            return reply
        try:
            staged = await self._spool.stage(transaction.id)
        except SpoolFull:
            return NO_SPACE
        self._staged = staged
        self._refusal = None
        self._header = IncomingHeader(self._settings.clean_auth_results)
        if self._settings.add_received:
            now = self._clock.seconds()
            staged.prepend(self._trace.received(connection, transaction, now))
        return reply

    async def chunk(self, connection: Connection, event: ChunkReceived) -> Reply | None:
        """
        BDAT: the first one of a message is what DATA is otherwise.

        @return: why the chunk is not taken; None where it is.
        """
        if event.refusal is not None:
            return await self._refuse_chunk(connection, event.size, event.refusal)
        if event.begins:
            reply = await self.data(connection)
            if reply.code >= 400:
                await self.forget()
                return reply
        return None

    async def chunk_end(self, connection: Connection, event: ChunkEnded) -> Reply:
        """The end of a chunk that is not the last one."""
        refusal = event.refusal or self._refusal
        if refusal is None:
            return Reply.of(250, "2.0.0", f"{event.size} octets received")
        return await self._refuse_chunk(connection, event.size, refusal)

    async def _refuse_chunk(self, connection: Connection, size: int, reply: Reply) -> Reply:
        """
        Of the message there will be no more.

        @param size: octets of the chunk.
        @return: the answer.
        """
        transaction = self.transaction
        assert transaction is not None
        if self._size_is_hooked and reply is TOO_LARGE:
            reply = await self._refuse_too_large(connection, size)
        self.messages.add(reply)
        _log(connection, transaction, size, reply)
        await self.forget()
        return reply

    async def body(self, chunk: bytes, ended: bool = False) -> None:
        """
        A piece of the message.

        @param ended: it is over: what is held back of its header goes on.
        """
        header = self._header
        chunk = header.end() if ended else header.pass_on(chunk)
        if not chunk or self._staged is None:
            return  # without space; the peer has to be heard out before it can be told
        try:
            await self._staged.write(chunk)
        except SpoolFull:
            self._refusal = NO_SPACE
            await self._drop_message()

    async def end(self, connection: Connection, event: BodyEnded) -> Reply:
        """
        The end of the data: a yes means that the message is ours for good.

        @raise CancelledError: the peer has gone before it was ours.
        """
        transaction, header = self.transaction, self._header
        assert transaction is not None
        if header.is_open:  # there was nothing but a header
            await self.body(b"", ended=True)
        refusal = event.refusal or self._refusal
        if self._size_is_hooked and refusal is TOO_LARGE:
            refusal = await self._refuse_too_large(connection, event.size)
        if refusal is None and header.received > self._settings.max_received:
            refusal = MAIL_LOOP
        if header.says_tls_is_optional and not transaction.envelope.parameters.requiretls:
            transaction = evolve(
                transaction, envelope=evolve(transaction.envelope, tls_optional=True)
            )
            self.transaction = transaction
        if header.lines > self._settings.max_header_lines:
            log.warn(
                "{id}: a header of {lines} lines, more than max_lines in connection.ini",
                id=transaction.id,
                lines=header.lines,
            )
        reply = refusal or await self._hand_over(connection, transaction)
        self.messages.add(reply)
        _log(connection, transaction, event.size, reply)
        if self._tells:  # once the peer has heard: it may have to wait for the plugins
            self.untold = self.transaction
        self.transaction = None
        await self._drop_message()
        return reply

    async def _refuse_too_large(self, connection: Connection, size: int) -> Reply:
        assert self.transaction is not None
        verdict = await self._chain.too_large(connection, self.transaction, size)
        # There is no message to say yes to.
        return self._reply("too_large", CONTINUE if isinstance(verdict, YES) else verdict)

    async def _hand_over(self, connection: Connection, transaction: Transaction) -> Reply:
        staged = self._staged
        assert staged is not None
        try:
            verdict = await self._chain.message(connection, transaction, staged)
            if not isinstance(verdict, YES):
                return self._reply("message", verdict)
            if self._abandoned:
                raise CancelledError
            if not transaction.envelope.recipients:  # plugins have put nobody in their places
                return self._reply("queue", ACCEPT, transaction.id)
            self.committing = True
            verdict = await self._chain.queue(connection, transaction, staged)
        except SpoolFull:
            return NO_SPACE
        finally:
            self.committing = False
        return self._reply("queue", verdict, transaction.id)

    async def forget(self) -> None:
        """The transaction is over, or never was."""
        if self._tells:
            if self.untold is not None:
                await self.tell()
            self.untold = self.transaction
        self.transaction = None
        await self._drop_message()
        if self.untold is not None:
            await self.tell()

    async def tell(self) -> None:
        """Tell plugins of a transaction that is over."""
        told, self.untold = self.untold, None
        if told is not None and self._connection is not None:
            await self._chain.reset(self._connection, told)

    async def _drop_message(self) -> None:
        staged, self._staged = self._staged, None
        if staged is not None:
            await staged.abort()

    def _reply(self, stage: str, verdict: Verdict, about: str = "") -> Reply:
        reply = reply_to(stage, verdict, about)
        self.disconnecting = verdict.__class__ is Disconnect or reply.closes
        return reply


def _log(connection: Connection, transaction: Transaction, size: int, reply: Reply) -> None:
    envelope, secured = transaction.envelope, connection.secured
    log.info(
        "{id} from <{sender}> recipients={recipients} peer={peer} tls={tls} octets={size}: "
        "{outcome}",
        id=transaction.id,
        queue_id=transaction.id,  # as the lines of its delivery name it
        sender=envelope.reverse_path or "",
        recipients=len(envelope.recipients),
        peer=connection.peer,
        tls=secured.protocol if secured is not None else "no",
        cipher=secured.cipher if secured is not None else "",
        verified=secured is not None and secured.verified,
        size=size,
        outcome=reply,
    )
