"""Servers that plugins hand mail on to while the client waits (queue/smtp_forward, smtp_proxy)."""

from collections.abc import Mapping

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.errors import ConfigError
from harakatls.interfaces import BackEndFailed, IBackEnds, IStagedMessage, SpoolDamaged
from harakatls.mail.envelope import Envelope, Recipient, TLSWish
from harakatls.mail.route import BackEndOptions, NextHop
from harakatls.outbound.back_end import DAMAGED, GONE, MAY_BE_THERE, BackEnd
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.connector import Connector, Opened, Unusable
from harakatls.outbound.host import bounded, decided
from harakatls.outbound.misses import UNMET_BEHIND, is_unmet
from harakatls.outbound.reach import other_family
from harakatls.outbound.refused_logins import RefusedLogins
from harakatls.outbound.routing import Routing, Skipped
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.tcp import Connect
from harakatls.outbound.transaction import Transaction
from harakatls.queued import Outcome
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import CLOSED
from harakatls.tls.client import ClientTLS
from harakatls.tls.settings import OutboundTLS
from harakatls.tls.wishes import as_told

log = Logger()

# Which host that is, and what is wrong with it, is in the log: it is no concern of a client.
UNUSABLE = Reply.of(451, "4.3.0", "The mail server behind this one takes no mail now, try later")


@implementer(IBackEnds)
class BackEnds:
    """
    Connections are kept for a while, as those to next hops are, for the same options each.

    Each section of tls.ini that is used has to be prepared.

    @ivar logins: those that were refused lately; for other connections that go out as well.
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
        self.logins = RefusedLogins(clock.seconds)
        self._clients: dict[str, ClientTLS] = {}
        self._connectors: dict[BackEndOptions, Connector] = {}

    def prepare(self, section: str) -> None:
        """As `IBackEnds.prepare`."""
        if section in self._clients:
            return
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

    async def knows(self, hop: NextHop, options: BackEndOptions) -> bool:
        """As `IBackEnds.knows`."""
        # What is known of our own logins is not for those to push out who guess at others.
        logins = self.logins.asking_alone()
        connector = self._made(options, logins)
        try:
            opened, _ = await self._opened(connector, hop, TLSWish.NONE, afresh=True)
        except BackEndFailed:
            if logins.problem(hop) is None:
                raise
            return False
        opened.protocol.quit()
        return True

    async def open(
        self, hop: NextHop, options: BackEndOptions, wish: TLSWish = TLSWish.NONE
    ) -> BackEnd:
        """As `IBackEnds.open`; never a connection that was used before."""
        connector = self.connector(options)
        opened, at = await self._opened(connector, hop, wish, afresh=True)
        return BackEnd(connector, opened, at, wish is TLSWish.REQUIRED)

    async def deliver(
        self, hop: NextHop, options: BackEndOptions, envelope: Envelope, message: IStagedMessage
    ) -> Mapping[Recipient, Outcome]:
        """As `IBackEnds.deliver`."""
        connector = self.connector(options)
        wish = envelope.tls_wish
        opened, at = await self._opened(connector, hop, wish, afresh=False)
        try:
            return await self._transaction(connector, opened, at, envelope, message)
        except _Stale:
            opened, at = await self._opened(connector, hop, wish, afresh=True)
            return await self._transaction(connector, opened, at, envelope, message)

    async def _transaction(
        self,
        connector: Connector,
        opened: Opened,
        hop: NextHop,
        envelope: Envelope,
        message: IStagedMessage,
    ) -> Mapping[Recipient, Outcome]:
        transaction = Transaction(
            opened.protocol,
            connector.settings,
            as_told(envelope, opened.decision),
            envelope.recipients,
            message.size,
            b"",
            message.open,
            chunking=False,
            pipelining=False,
            all_or_none=True,
        )
        replies: Mapping[Recipient, Reply] = transaction.replies
        try:
            await transaction.run()
        except ConnectionBroken as problem:
            opened.protocol.abort()
            replies = _broken(transaction, opened, hop, str(problem))
        except SpoolDamaged:
            opened.protocol.abort()
            raise BackEndFailed(DAMAGED, True) from None
        except BaseException:
            # A message of which a part was sent must never be ended with a dot.
            opened.protocol.abort()
            raise
        else:
            connector.leave(opened)
            if _is_stale(transaction, opened):
                raise _Stale
        return {who: decided(who, bounded(reply), hop, opened) for who, reply in replies.items()}

    # -- opening ------------------------------------------------------------------------------

    async def _opened(
        self, connector: Connector, hop: NextHop, wish: TLSWish, afresh: bool
    ) -> tuple[Opened, NextHop]:
        """
        @return: with the address that it came to.
        @raise BackEndFailed: there is no connection to be had.
        """
        found = await self._routing.addresses((hop,))
        for skipped in found.skipped:
            _log_skipped(skipped)
        tried = set()
        failures = [skipped.reply for skipped in found.skipped]
        for number, each in enumerate(found.hops, 1):
            if each in tried:
                continue
            other = other_family(each, found.hops[number:])
            opened = await connector.open(each, 0, afresh, other, wish)
            at = each
            if opened.instead is not None:
                at = opened.instead.hop
                tried.add(at)
                _log_skipped(Skipped(each, opened.instead.reply))
            if isinstance(opened, Opened):
                return opened, at
            _log_unusable(at, opened)
            failures.append(opened.reply)
        if failures and all(map(is_unmet, failures)):
            raise BackEndFailed(UNMET_BEHIND[str(failures[-1].enhanced)], reached=False)
        raise BackEndFailed(UNUSABLE, reached=False)

    def connector(self, options: BackEndOptions) -> Connector:
        """For mail that waits in the queue as well. The section has to be prepared."""
        connector = self._connectors.get(options)
        if connector is None:
            connector = self._connectors[options] = self._made(options, self.logins)
        return connector

    def _made(self, options: BackEndOptions, logins: RefusedLogins) -> Connector:
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
        return Connector(
            self._connect,
            settings,
            self._me,
            self._clock,
            client,
            client.settings,
            logins=logins,
        )


class _Stale(Exception):
    """A connection that was kept is gone, and nothing of the message has been sent on it."""


def _is_stale(transaction: Transaction, opened: Opened) -> bool:
    """It is gone, without a word or with a 421, and was kept: that says nothing of the message."""
    protocol = opened.protocol
    is_gone = protocol.lost or protocol.session.state is CLOSED
    return opened.earlier > 0 and not transaction.answered and is_gone


def _broken(
    transaction: Transaction, opened: Opened, hop: NextHop, problem: str
) -> Mapping[Recipient, Reply]:
    """
    @return: where some recipients have the message, an answer for all.
    @raise BackEndFailed: nobody has it, as far as is known.
    """
    if _is_stale(transaction, opened) and not transaction.unsettled:
        raise _Stale
    reply = MAY_BE_THERE if transaction.unsettled else GONE
    if transaction.unsettled:
        problem = f"{problem}; after the end of data, so it may arrive twice"
    log.warn("back end {host}: {problem}", host=hop.name, problem=problem)
    if not any(answer.is_positive for answer in transaction.replies.values()):
        raise BackEndFailed(reply, reached=True)
    missing = dict.fromkeys(transaction.recipients, reply)
    return {**missing, **transaction.replies}


def _log_skipped(skipped: Skipped) -> None:
    log.warn("back end {host}: {reply}", host=skipped.hop.name, reply=str(skipped.reply))


def _log_unusable(hop: NextHop, unusable: Unusable) -> None:
    log.warn(
        "back end {host} [{ip}]:{port} takes no mail: {reply}",
        host=hop.name,
        ip=hop.host,
        port=hop.port,
        reply=str(unusable.reply),
        tls_reasons="; ".join(unusable.decision.reasons),
    )
