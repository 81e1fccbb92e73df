"""One mail transaction on an open connection: what the server says about each recipient."""

from collections.abc import Callable, Sequence

from attrs import Factory, define, evolve

from harakatls.interfaces import IMessageBody
from harakatls.mail.envelope import BINARYMIME, Envelope, Recipient
from harakatls.mail.header import header_length, read_start
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.protocol import CHUNK, OutboundProtocol
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.seven_bit import seven_bit
from harakatls.smtp.events import Asked
from harakatls.smtp.parameters import mail_parameters, rcpt_parameters
from harakatls.smtp.reply import Reply

# A command that is not understood (RFC 5321 section 4.2.2). Where that is BDAT, the server has read
# the message as commands: nothing more can be said on the connection.
_UNKNOWN = range(500, 505)


@define
class Transaction:
    """
    Runs once. `replies` is filled as the answers come, so it holds what is known even when the
    connection breaks midway.

    @ivar size: octets of the message, with *top*.
    @ivar top: header fields to be put on top of the message.
    @ivar chunking: use BDAT where it is offered.
    @ivar pipelining: send commands in groups where that is offered.
    @ivar kept: the connection was kept from another message, so it may be dead; then the message
        goes anew, and must not be there already. Nothing of it is sent before an answer.
    @ivar replies: the reply that counts, for each recipient about whom there is one. 2yz: the
        server has taken the message for it.
    @ivar mail: the answer to MAIL.
    @ivar unsettled: the whole message was sent, but not answered: the server may have it.
    @ivar all_or_none: where one recipient is refused, nothing is sent to the others. Those have no
        reply then.
    """

    protocol: OutboundProtocol
    settings: OutboundSettings
    envelope: Envelope
    recipients: Sequence[Recipient]
    size: int
    top: bytes
    open_body: Callable[[], IMessageBody]
    chunking: bool
    pipelining: bool
    replies: dict[Recipient, Reply] = Factory(dict)
    mail: Reply | None = None
    unsettled: bool = False
    kept: bool = False
    all_or_none: bool = False
    _chunked: bool = False

    @property
    def answered(self) -> bool:
        """MAIL is, and not by 421, with which a server leaves."""
        return self.mail is not None and not self.mail.closes

    async def run(self) -> None:
        """
        @raise ConnectionBroken: nothing more can be sent on the connection.
        @raise SpoolDamaged: the message cannot be read; the connection must be given up.
        """
        refusal = await self._refused_beforehand()
        if refusal is not None:
            self._answer_all(self.recipients, refusal)
            return
        # Before MAIL, so that nothing is begun with a message that cannot be read.
        body = await self._suitable_body()
        if isinstance(body, Reply):
            self._answer_all(self.recipients, body)
            return
        try:
            await self._transfer(body)
        finally:
            body.close()

    async def _transfer(self, body: IMessageBody) -> None:
        offered = self.protocol.session.capabilities
        if self.all_or_none:
            await self._transfer_to_all(body)
            return
        if "CHUNKING" in offered and self.chunking:
            self._chunked = True
            await self._transfer_chunk(body)
            return
        if "PIPELINING" in offered and self.pipelining:
            accepted, data = await self._pipelined()
        else:
            accepted, data = await self._in_turn(Asked.DATA)
        if data is None:
            return
        if data.code != 354:
            self._answer_all(accepted, data)
        elif accepted:
            await self._message(accepted, body)
        else:
            # RFC 2920 section 3.1: a server that says 354 without recipients gets a lone dot.
            self.protocol.send(self.protocol.session.end_body())
            await self._end_of_data()

    async def _transfer_to_all(self, body: IMessageBody) -> None:
        """Nothing is in the same group as the message, which may not be sent."""
        accepted, _ = await self._in_turn(Asked.RCPT)
        if len(accepted) < len(self.recipients):
            return
        data = await self._ask(Asked.DATA, self.protocol.session.data())
        if data.code != 354:
            self._answer_all(accepted, data)
            return
        await self._message(accepted, body)

    # -- before anything is sent --------------------------------------------------------------

    async def _suitable_body(self) -> IMessageBody | Reply:
        """The message as this server takes it, or why it does not."""
        is_binary = self.envelope.parameters.is_binary and not self._takes_binary()
        if "8BITMIME" in self.protocol.session.capabilities and not is_binary:
            return self.open_body()
        body = await seven_bit(self.open_body, is_binary)
        if isinstance(body, Reply):
            return body
        if is_binary:
            parameters = evolve(self.envelope.parameters, body=None)
            self.envelope = evolve(self.envelope, parameters=parameters)
        self.size = body.size + len(self.top)
        return self._too_large() or body

    def _takes_binary(self) -> bool:
        """DATA cannot carry it."""
        offered = self.protocol.session.capabilities
        all_there = all(name in offered for name in ("8BITMIME", "CHUNKING", BINARYMIME))
        return all_there and self.chunking and not self.all_or_none

    async def _refused_beforehand(self) -> Reply | None:
        """What this server cannot take, by what it offers."""
        too_large = self._too_large()
        if too_large is not None or "SMTPUTF8" in self.protocol.session.capabilities:
            return too_large
        if not self._addresses_are_ascii():
            text = "An address is not ASCII, and the server does not offer SMTPUTF8"
            return Reply.of(550, "5.6.7", text)
        if self.envelope.parameters.smtputf8 and not await self._header_is_ascii():
            text = "The header is not ASCII, and the server does not offer SMTPUTF8"
            return Reply.of(550, "5.6.9", text)
        return None

    def _too_large(self) -> Reply | None:
        limit = self.protocol.session.capabilities.size_limit
        if limit is None or self.size <= limit:
            return None
        # RFC 1870 section 6.2
        text = f"The message has {self.size} octets, the server takes {limit}"
        return Reply.of(552, "5.3.4", text)

    def _addresses_are_ascii(self) -> bool:
        sender = self.envelope.reverse_path
        return (sender is None or sender.is_ascii) and all(
            recipient.address.is_ascii for recipient in self.recipients
        )

    async def _header_is_ascii(self) -> bool:
        """Some clients ask for SMTPUTF8 always; such a message needs it only by its header."""
        start = await read_start(self.open_body())
        length = header_length(start)
        return start[:length].isascii()  # all of it, if no end of the header was found

    # -- MAIL, RCPT, DATA ---------------------------------------------------------------------

    def _mail(self) -> bytes:
        session, envelope = self.protocol.session, self.envelope
        if len(envelope.recipients) != len(self.recipients):
            # What other recipients need is no concern of these.
            envelope = evolve(envelope, recipients=tuple(self.recipients))
        if envelope.parameters.smtputf8 and "SMTPUTF8" not in session.capabilities:
            # `_refused_beforehand` has found that it is not needed.
            envelope = evolve(envelope, parameters=evolve(envelope.parameters, smtputf8=False))
        parameters = mail_parameters(envelope, self.size, session.capabilities)
        return session.mail(envelope.reverse_path, parameters)

    def _rcpt(self, recipient: Recipient) -> bytes:
        session = self.protocol.session
        return session.rcpt(recipient, rcpt_parameters(recipient, session.capabilities))

    async def _pipelined(self) -> tuple[list[Recipient], Reply | None]:
        """All of it at once (RFC 2920); then the answers, which are read in any case."""
        session, seconds = self.protocol.session, self.settings.command_timeout
        commands = [self._mail(), *(self._rcpt(r) for r in self.recipients), session.data()]
        self.protocol.send(b"".join(commands))
        mail, accepted = await self._envelope_answers(seconds)
        data = await self.protocol.answer(Asked.DATA, seconds)
        if mail.accepts:
            return accepted, data
        if data.is_positive:
            # It refuses the sender and waits for the message all the same: nothing is sent.
            raise ConnectionBroken("the server refused MAIL and accepted DATA")
        return [], None

    async def _envelope_answers(self, seconds: float) -> tuple[Reply, list[Recipient]]:
        """To MAIL and RCPT, which were sent together; with the recipients that were accepted."""
        mail = await self.protocol.answer(Asked.MAIL, seconds)
        self.mail = mail
        if not mail.accepts:
            # Whatever is said of the recipients, this is why.
            self._answer_all(self.recipients, mail)
        accepted: list[Recipient] = []
        for recipient in self.recipients:
            reply = await self.protocol.answer(Asked.RCPT, seconds)
            accepted.extend(self._accepted(recipient, reply))
        return mail, accepted

    async def _in_turn(self, last: Asked) -> tuple[list[Recipient], Reply | None]:
        """@param last: RCPT or DATA."""
        mail = await self._ask(Asked.MAIL, self._mail())
        self.mail = mail
        if not mail.accepts:
            self._answer_all(self.recipients, mail)
            return [], None
        accepted: list[Recipient] = []
        for recipient in self.recipients:
            reply = await self._ask(Asked.RCPT, self._rcpt(recipient))
            accepted.extend(self._accepted(recipient, reply))
            if reply.closes:
                self._answer_all(self.recipients, reply)
                return [], None
        if not accepted or last is Asked.RCPT:
            return accepted, None
        return accepted, await self._ask(Asked.DATA, self.protocol.session.data())

    async def _ask(self, asked: Asked, command: bytes) -> Reply:
        self.protocol.send(command)
        return await self.protocol.answer(asked, self.settings.command_timeout)

    def _accepted(self, recipient: Recipient, reply: Reply) -> tuple[Recipient, ...]:
        """The recipient, if it was accepted; if not, the reply counts at once."""
        if reply.accepts:
            return (recipient,)
        self.replies.setdefault(recipient, reply)
        return ()

    # -- BDAT (RFC 3030) ----------------------------------------------------------------------

    async def _transfer_chunk(self, body: IMessageBody) -> None:
        session, size = self.protocol.session, len(self.top) + body.size
        grouped = "PIPELINING" in session.capabilities and self.pipelining
        if grouped and not session.lmtp and not self.kept and body.size <= CHUNK:
            await self._at_once(await body.read(CHUNK), size)
            return
        accepted = await self._grouped() if grouped else (await self._in_turn(Asked.RCPT))[0]
        if accepted:
            self.protocol.send(session.bdat(size))
            await self._message(accepted, body)

    async def _grouped(self) -> list[Recipient]:
        """MAIL and RCPT in one group. @return: the recipients that were accepted."""
        self.protocol.send(b"".join([self._mail(), *(self._rcpt(r) for r in self.recipients)]))
        mail, accepted = await self._envelope_answers(self.settings.command_timeout)
        if not mail.accepts:
            return []
        for reply in tuple(self.replies.values()):
            if reply.closes:
                self._answer_all(accepted, reply)
                return []
        return accepted

    async def _at_once(self, message: bytes, size: int) -> None:
        """
        All of a small message with its envelope, for one round trip.

        What a refused sender or recipient costs in vain is the sending of it.
        """
        session, seconds = self.protocol.session, self.settings.command_timeout
        commands = [self._mail(), *(self._rcpt(r) for r in self.recipients), session.bdat(size)]
        commands += [session.body(self.top + message), session.end_body()]
        self.protocol.send(b"".join(commands))
        self.unsettled = True
        mail, accepted = await self._envelope_answers(seconds)
        self.unsettled = bool(accepted)
        end = await self._end_of_data()
        self.unsettled = False
        if mail.accepts:
            self._answer_message(accepted, end)
        elif end.is_positive:
            raise ConnectionBroken("the server refused MAIL and accepted the message")

    # -- the message --------------------------------------------------------------------------

    async def _message(self, accepted: Sequence[Recipient], body: IMessageBody) -> None:
        refusal = await self.protocol.send_body(self.top, body, self.settings.data_timeout)
        if refusal is not None:
            self._answer_message(accepted, refusal)
            return
        self.unsettled = True
        if self.protocol.session.lmtp:
            # RFC 2033 section 4.2: an answer for each, in the order of RCPT.
            for recipient in accepted:
                self._answer_message((recipient,), await self._end_of_data())
        else:
            self._answer_message(accepted, await self._end_of_data())
        self.unsettled = False

    async def _end_of_data(self) -> Reply:
        return await self.protocol.answer(Asked.BODY, self.settings.end_of_data_timeout)

    def _answer_message(self, recipients: Sequence[Recipient], reply: Reply) -> None:
        """@raise ConnectionBroken: it is no answer about the message, see `_UNKNOWN`."""
        if self._chunked and recipients and reply.code in _UNKNOWN:
            self.unsettled = False
            raise ConnectionBroken(f"the server offers CHUNKING and does not know BDAT: {reply}")
        self._answer_all(recipients, reply)

    def _answer_all(self, recipients: Sequence[Recipient], reply: Reply) -> None:
        for recipient in recipients:
            self.replies.setdefault(recipient, reply)
