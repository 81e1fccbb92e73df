"""Servers that plugins hand mail on to while the client waits (queue/smtp_forward, smtp_proxy)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from attrs import define, evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.errors import ConfigError
from harakatls.connection import TLSSummary
from harakatls.interfaces import (
    BackEndFailed,
    IBackEnd,
    IBackEnds,
    IMessageBody,
    IStagedMessage,
    SpoolDamaged,
)
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.mail.route import BackEndOptions, NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.connector import Connector, Opened, Unusable
from harakatls.outbound.host import bounded
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.seven_bit import seven_bit
from harakatls.outbound.tcp import Connect
from harakatls.outbound.transaction import Transaction
from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.events import Asked
from harakatls.smtp.parameters import mail_parameters, rcpt_parameters
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import READY
from harakatls.tls.client import ClientTLS
from harakatls.tls.settings import OutboundTLS

log = Logger()

DAMAGED = Reply.of(451, "4.3.0", "The message cannot be read any more, send it again")
_NOT_7BIT = Reply.of(554, "5.6.3", "The message is 8-bit, which the mail server does not take")


@implementer(IBackEnds)
class BackEnds:
    """
    Connections are kept for a while, as those to next hops are, for the same options each.

    Each section of tls.ini that is used has to be prepared.
    """

    def __init__(
        self,
        connect: Connect,
        routing: Routing,
        settings: OutboundSettings,
        me: str,
        clock: IReactorTime,
        tls: Mapping[str, OutboundTLS],
    ) -> None:
        """@param tls: by section of tls.ini."""
        self._connect = connect
        self._routing = routing
        self._settings = settings
        self._me = me
        self._clock = clock
        self._tls = dict(tls)
        self._clients: dict[str, ClientTLS] = {}
        self._connectors: dict[BackEndOptions, Connector] = {}

    def prepare(self, section: str) -> None:
        """As `IBackEnds.prepare`."""
        client = self._clients[section] = ClientTLS(self._tls[section])
        for problem in client.problems:
            log.error("TLS: {problem}", problem=problem)

    def take_on(self, tls: Mapping[str, OutboundTLS]) -> None:
        """New settings count for connections that are made from now on."""
        for section, client in self._clients.items():
            try:
                client.adopt(ClientTLS(tls[section]))
            except ConfigError as problem:
                log.error("{problem}; the settings before hold", problem=str(problem))
        for options, connector in self._connectors.items():
            connector.take_on(self._clients[options.section].settings)

    def close(self) -> None:
        """Give all connections up."""
        for connector in self._connectors.values():
            connector.close()

    async def open(self, hop: NextHop, options: BackEndOptions) -> "BackEnd":
        """As `IBackEnds.open`; never a connection that was used before."""
        connector = self.connector(options)
        opened = await self._opened(connector, hop, afresh=True)
        return BackEnd(connector, opened, hop)

    async def deliver(
        self, hop: NextHop, options: BackEndOptions, envelope: Envelope, message: IStagedMessage
    ) -> Mapping[Recipient, Reply]:
        """As `IBackEnds.deliver`."""
        connector = self.connector(options)
        opened = await self._opened(connector, hop, afresh=False)
        try:
            return await self._transaction(connector, opened, hop, envelope, message)
        except _Stale:
            opened = await self._opened(connector, hop, afresh=True)
            return await self._transaction(connector, opened, hop, envelope, message)

    async def _transaction(
        self,
        connector: Connector,
        opened: Opened,
        hop: NextHop,
        envelope: Envelope,
        message: IStagedMessage,
    ) -> Mapping[Recipient, Reply]:
        settings, recipients = connector.settings, envelope.recipients
        transaction = Transaction(
            opened.protocol,
            settings,
            envelope,
            recipients,
            message.size,
            b"",
            message.open,
            chunking=False,
            pipelining=False,
            all_or_none=True,
        )
        try:
            await transaction.run()
        except ConnectionBroken as problem:
            opened.protocol.abort()
            return _broken(transaction, opened, hop, str(problem))
        except SpoolDamaged:
            opened.protocol.abort()
            raise BackEndFailed(DAMAGED, True) from None
        except BaseException:
            # A message of which a part was sent must never be ended with a dot.
            opened.protocol.abort()
            raise
        connector.leave(opened)
        return {who: bounded(reply) for who, reply in transaction.replies.items()}

    # -- opening ------------------------------------------------------------------------------

    async def _opened(self, connector: Connector, hop: NextHop, afresh: bool) -> Opened:
        found = await self._routing.addresses((hop,))
        reasons = [skipped.reply for skipped in found.skipped]
        for each in found.hops:
            opened = await connector.open(each, 0, afresh)
            if isinstance(opened, Opened):
                return opened
            reasons.append(opened.reply)
            _log_unusable(each, opened)
        raise BackEndFailed(_delay(reasons), reached=False)

    def connector(self, options: BackEndOptions) -> Connector:
        """For mail that waits in the queue as well. The section has to be prepared."""
        connector = self._connectors.get(options)
        if connector is None:
            client = self._clients[options.section]
            settings = evolve(
                self._settings,
                enable_tls=options.use_tls,
                connect_timeout=options.connect_timeout,
                greeting_timeout=options.timeout,
                command_timeout=options.timeout,
                data_timeout=options.timeout,
                # A client waits, and plugins know for themselves which host to ask last.
                dead_host_retry=0.0,
            )
            connector = self._connectors[options] = Connector(
                self._connect, settings, self._me, self._clock, client, client.settings
            )
        return connector


class _Stale(Exception):
    """A connection that was kept is gone, and nothing of the message has been sent on it."""


def _broken(
    transaction: Transaction, opened: Opened, hop: NextHop, problem: str
) -> Mapping[Recipient, Reply]:
    """
    @return: where some recipients have the message, an answer for all.
    @raise BackEndFailed: nobody has it, as far as is known.
    """
    if opened.earlier and not transaction.answered and not transaction.unsettled:
        raise _Stale
    if transaction.unsettled:
        problem = f"{problem}; after the end of data, so it may arrive twice"
    text = f"The mail server behind this one is gone: {problem}"
    log.warn("back end {host}: {problem}", host=hop.name, problem=problem)
    reply = bounded(Reply.of(451, "4.4.2", text))
    if not any(answer.is_positive for answer in transaction.replies.values()):
        raise BackEndFailed(reply, reached=True)
    missing = dict.fromkeys(transaction.recipients, reply)
    return {**missing, **transaction.replies}


@implementer(IBackEnd)
@define(eq=False)
class BackEnd:
    """One conversation, at the client's own pace."""

    _connector: Connector
    _opened: Opened
    _hop: NextHop
    _envelope: Envelope | None = None

    @property
    def secured(self) -> TLSSummary | None:
        """None in the clear."""
        return self._opened.secured

    async def mail(self, envelope: Envelope) -> Reply:
        """As `IBackEnd.mail`."""
        session = self._opened.protocol.session
        with self._telling():
            if session.state is not READY:
                reset = await self._ask(Asked.RSET, session.reset())
                if reset.code != 250:
                    raise ConnectionBroken(f"it refused RSET: {reset}")
            self._envelope = envelope
            given, offered = envelope.parameters, session.capabilities
            if given.smtputf8 and "SMTPUTF8" not in offered:
                text = "The mail server behind this one does not offer SMTPUTF8"
                return Reply.of(550, "5.6.7", text)
            # What the client says of the size is all that is known of it.
            size = given.size
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
                try:
                    answer = await protocol.answer(Asked.BODY, settings.end_of_data_timeout)
                except ConnectionBroken as problem:
                    text = f"{problem}; after the end of data, so it may arrive twice"
                    raise ConnectionBroken(text) from None
                return bounded(answer)
            finally:
                body.close()

    def leave(self) -> None:
        """As `IBackEnd.leave`."""
        self._opened.protocol.quit()

    async def _suitable(self, message: IStagedMessage) -> IMessageBody | Reply:
        if "8BITMIME" in self._opened.protocol.session.capabilities:
            return message.open()
        body = await seven_bit(message.open)
        return _NOT_7BIT if isinstance(body, Reply) else body

    async def _ask(self, asked: Asked, command: bytes) -> Reply:
        protocol = self._opened.protocol
        protocol.send(command)
        return bounded(await protocol.answer(asked, self._connector.settings.command_timeout))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        protocol = self._opened.protocol
        try:
            yield
        except (ConnectionBroken, LocalProtocolError) as problem:
            protocol.abort()
            log.warn("back end {host}: {problem}", host=self._hop.name, problem=str(problem))
            text = f"The mail server behind this one is gone: {problem}"
            raise BackEndFailed(bounded(Reply.of(451, "4.4.2", text)), reached=True) from None
        except SpoolDamaged:
            protocol.abort()
            raise BackEndFailed(DAMAGED, True) from None
        except BaseException:
            protocol.abort()
            raise


def _unexpected(reply: Reply) -> Reply:
    return Reply.of(451, "4.5.0", f"The mail server behind this one says to DATA: {reply}")


def _delay(reasons: Sequence[Reply]) -> Reply:
    """The client is told to come back, and why."""
    if not reasons:
        return Reply.of(451, "4.4.4", "The mail server behind this one has no address")
    last = bounded(reasons[-1])
    status = str(last.enhanced) if last.enhanced is not None else "4.4.1"
    text = " ".join(last.lines)
    return Reply.of(451, f"4{status[1:]}", f"The mail server behind this one: {text}")


def _log_unusable(hop: NextHop, unusable: Unusable) -> None:
    log.warn(
        "back end {host} [{ip}]:{port} takes no mail: {reply}",
        host=hop.name,
        ip=hop.host,
        port=hop.port,
        reply=str(unusable.reply),
        tls_reasons="; ".join(unusable.decision.reasons),
    )
