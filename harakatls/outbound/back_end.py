"""A client's conversation passed on to a back end, step by step (queue/smtp_proxy)."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, evolve
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import TLSSummary
from harakatls.interfaces import (
    BackEndFailed,
    IBackEnd,
    IMessageBody,
    IStagedMessage,
    SpoolDamaged,
)
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.mail.route import NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.connector import Connector, Opened
from harakatls.outbound.host import bounded, offers_dsn
from harakatls.outbound.seven_bit import seven_bit
from harakatls.queued import Delivered
from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.events import Asked
from harakatls.smtp.parameters import mail_parameters, rcpt_parameters
from harakatls.smtp.reply import Reply
from harakatls.tls.wishes import as_told

log = Logger()

# What a client is told. What has happened at which host is in the log.
GONE = Reply.of(451, "4.4.2", "The mail server behind this one is gone, try later")
MAY_BE_THERE = Reply.of(
    451, "4.4.2", "The mail server behind this one is gone; try later, though it may arrive twice"
)
DAMAGED = Reply.of(451, "4.3.0", "The message cannot be read any more, send it again")
_OTHER_CONNECTION = Reply.of(451, "4.3.0", "This needs another connection, try later")
_NOT_7BIT = Reply.of(
    554, "5.6.3", "The mail server does not take a message of this kind (8-bit, binary)"
)


@implementer(IBackEnd)
@define(eq=False)
class BackEnd:
    """
    One conversation, at the client's own pace.

    @ivar _requires_tls: it was opened for mail with REQUIRETLS.
    """

    _connector: Connector
    _opened: Opened
    _hop: NextHop
    _requires_tls: bool = False
    _envelope: Envelope | None = None

    @property
    def secured(self) -> TLSSummary | None:
        """None in the clear."""
        return self._opened.secured

    async def mail(self, envelope: Envelope) -> Reply:
        """As `IBackEnd.mail`."""
        session = self._opened.protocol.session
        # RFC 9422: it has said how many messages it allows on one connection.
        if session.is_spent or envelope.parameters.requiretls is not self._requires_tls:
            raise BackEndFailed(_OTHER_CONNECTION, reached=False)
        envelope = as_told(envelope, self._opened.decision)
        with self._telling():
            await self._opened.protocol.reset(self._connector.settings.command_timeout)
            self._envelope = envelope
            given, offered = envelope.parameters, session.capabilities
            if given.smtputf8 and "SMTPUTF8" not in offered:
                text = "The mail server behind this one does not offer SMTPUTF8"
                return Reply.of(550, "5.6.7", text)
            # What the client says of the size is all that is known of it.
            size = given.size
            if given.is_binary:  # it goes by DATA, so it will be converted
                size = None
                envelope = evolve(envelope, parameters=evolve(given, body=None))
            told = offered.without("SIZE") if size is None else offered
            command = session.mail(
                envelope.reverse_path, mail_parameters(envelope, size or 0, told)
            )
            return await self._ask(Asked.MAIL, command)

    async def rcpt(self, recipient: Recipient) -> Reply:
        """As `IBackEnd.rcpt`."""
        session = self._opened.protocol.session
        with self._telling():
            parameters = rcpt_parameters(recipient, session.capabilities)
            return await self._ask(Asked.RCPT, session.rcpt(recipient, parameters))

    async def message(self, message: IStagedMessage) -> Reply:
        """As `IBackEnd.message`. In LMTP, the worst of the answers."""
        protocol, settings = self._opened.protocol, self._connector.settings
        with self._telling():
            body = await self._suitable(message)
            if isinstance(body, Reply):
                return body
            try:
                data = await self._ask(Asked.DATA, protocol.session.data())
                if data.code != 354:
                    return data if not data.is_positive else _unexpected(data)
                refusal = await protocol.send_body(b"", body, settings.data_timeout)
                if refusal is not None:
                    return bounded(refusal)
                with self._telling(MAY_BE_THERE):
                    answer = await protocol.answer(Asked.BODY, settings.end_of_data_timeout)
                return bounded(answer)
            finally:
                body.close()

    def taken(self, recipient: Recipient, reply: Reply) -> Delivered:
        """As `IBackEnd.taken`."""
        return Delivered(recipient, reply, self._hop, self.secured, offers_dsn(self._opened))

    def leave(self) -> None:
        """As `IBackEnd.leave`."""
        self._opened.protocol.quit()

    async def _suitable(self, message: IStagedMessage) -> IMessageBody | Reply:
        is_binary = self._envelope is not None and self._envelope.parameters.is_binary
        if "8BITMIME" in self._opened.protocol.session.capabilities and not is_binary:
            return message.open()
        body = await seven_bit(message.open, is_binary)
        return _NOT_7BIT if isinstance(body, Reply) else body

    async def _ask(self, asked: Asked, command: bytes) -> Reply:
        protocol = self._opened.protocol
        protocol.send(command)
        return bounded(await protocol.answer(asked, self._connector.settings.command_timeout))

    @contextmanager
    def _telling(self, gone: Reply = GONE) -> Iterator[None]:
        """@param gone: what the client is told where the connection breaks."""
        protocol = self._opened.protocol
        try:
            yield
        except (ConnectionBroken, LocalProtocolError) as problem:
            protocol.abort()
            log.warn("back end {host}: {problem}", host=self._hop.name, problem=str(problem))
            raise BackEndFailed(gone, reached=True) from None
        except SpoolDamaged:
            protocol.abort()
            raise BackEndFailed(DAMAGED, True) from None
        except BaseException:
            protocol.abort()
            raise


def _unexpected(reply: Reply) -> Reply:
    return Reply.of(451, "4.5.0", f"The mail server behind this one says to DATA: {reply}")
