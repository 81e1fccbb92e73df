"""Passes the client's conversation on to a back end, step by step (Haraka's queue/smtp_proxy)."""

from attrs import Factory, define, evolve, frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import (
    BackEndFailed,
    IAcceptedRcptHook,
    IBackEnd,
    IBackEnds,
    IDisconnectHook,
    IMailHook,
    IQueueHook,
    IStagedMessage,
    Site,
)
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.mail.route import LMTP, NextHop
from harakatls.plugins.back_end_settings import BackEndSettings, read_back_end, ready_back_ends
from harakatls.plugins.host_pool import HostPool
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Accept, Reject, TempFail, Verdict

log = Logger()

FILE, NAME = "smtp_proxy.ini", "smtp_proxy"
GONE = Reply.of(451, "4.4.2", "The mail server behind this one is gone, try later")


def load(site: Site) -> "SMTPProxy":
    """From smtp_proxy.ini."""
    settings = read_settings(site.config)
    back_ends = ready_back_ends(site, NAME)
    pool = HostPool(settings.hops, site.clock.seconds, settings.retry)
    return SMTPProxy(settings, back_ends, pool)


def read_settings(config: ConfigDirectory) -> BackEndSettings:
    """@raise ConfigError: a value cannot be used."""
    main = config.ini(FILE).main
    settings = read_back_end(NAME, main, None, True)
    if settings.hops[0].protocol == LMTP:
        raise main.error("using_lmtp", "LMTP has an answer for each recipient; use smtp_forward")
    return settings


@define(eq=False)
class _Talk:
    """
    The back end's side of one client's conversation.

    @ivar hop: where it is, and what it was told of the client.
    @ivar place: the same without that.
    @ivar transaction: the id of the one that was begun with it; "" for none.
    @ivar accepted: the recipients that it has accepted in that.
    """

    back_end: IBackEnd
    hop: NextHop
    place: NextHop
    transaction: str = ""
    accepted: dict[Recipient, Reply] = Factory(dict)


@implementer(IMailHook, IAcceptedRcptHook, IQueueHook, IDisconnectHook)
@frozen
class SMTPProxy:
    """
    Each answer of the back end is ours. Recipients are asked about there when all plugins have
    accepted them. Where the back end is gone, the client is told to come back.
    """

    settings: BackEndSettings
    back_ends: IBackEnds
    pool: HostPool
    _talks: dict[str, _Talk] = Factory(dict)

    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        """The back end is connected to at the first MAIL."""
        if transaction.relaying and not self.settings.enable_outbound:
            return CONTINUE
        try:
            reply = await self._begun(connection, transaction.id, transaction.envelope)
        except BackEndFailed as problem:
            return _verdict(problem.reply)
        # Its yes is not the last word: plugins behind this one may still object.
        return CONTINUE if reply.is_positive else _verdict(reply)

    async def accepted_rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Asked behind all plugins."""
        talk = self._talks.get(connection.id)
        if talk is None or talk.transaction != transaction.id:
            return self._without(transaction)
        if recipient in talk.accepted:
            return Accept(talk.accepted[recipient])
        try:
            reply = await talk.back_end.rcpt(recipient)
        except BackEndFailed as problem:
            self._lost(connection)
            return TempFail(_quiet(problem.reply))
        if reply.is_positive:
            talk.accepted[recipient] = reply
        return self._passed_on(connection, reply)

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """The back end's yes makes the message its own."""
        talk = self._talks.get(connection.id)
        if talk is None or talk.transaction != transaction.id:
            return self._without(transaction)
        try:
            refusal = await self._only_those(talk, transaction)
            reply = refusal or await talk.back_end.message(message)
        except BackEndFailed as problem:
            self._lost(connection)
            return TempFail(_quiet(problem.reply))
        except BaseException:
            self._lost(connection)
            raise
        talk.transaction = ""
        verdict = self._passed_on(connection, reply)
        if not isinstance(verdict, Accept):
            return verdict
        recipients = transaction.envelope.recipients
        return evolve(
            verdict, handed_on=tuple(talk.back_end.taken(who, reply) for who in recipients)
        )

    async def disconnected(self, connection: Connection) -> None:
        """The back end is left as well."""
        self._lost(connection)

    # -- the back end -------------------------------------------------------------------------

    async def _begun(self, connection: Connection, number: str, envelope: Envelope) -> Reply:
        """@raise BackEndFailed: no host takes it."""
        talk = self._talks.get(connection.id)
        if talk is not None and self.settings.hop_for(talk.place, connection) != talk.hop:
            # Since then the client has logged in, or has another name: that is to be told.
            self._lost(connection)
        elif talk is not None:
            try:
                return await self._mail(talk, number, envelope)
            except BackEndFailed:
                # It was kept since the last message: another connection may do.
                self._lost(connection)
        failure = None
        for hop in self.pool.hosts():
            try:
                at = self.settings.hop_for(hop, connection)
                back_end = await self.back_ends.open(at, self.settings.options, envelope.tls_wish)
                talk = self._talks[connection.id] = _Talk(back_end, at, hop)
                reply = await self._mail(talk, number, envelope)
            except BackEndFailed as problem:
                self._lost(connection)
                if problem.reply.is_transient:
                    self.pool.failed(hop)
                if failure is None or failure.reply.is_permanent:
                    failure = problem
            else:
                self.pool.worked(hop)
                return reply
        assert failure is not None, "no pool is empty"
        raise failure

    async def _mail(self, talk: _Talk, number: str, envelope: Envelope) -> Reply:
        talk.transaction = ""
        talk.accepted.clear()
        reply = await talk.back_end.mail(envelope)
        if reply.closes:
            raise BackEndFailed(reply, reached=False)
        if reply.is_positive:
            talk.transaction = number
        return reply

    async def _only_those(self, talk: _Talk, transaction: Transaction) -> Reply | None:
        """
        Where another plugin has taken some of the recipients, the back end hears of the others
        alone.

        @return: why it does not take them.
        """
        wanted = transaction.envelope.recipients
        if len(wanted) == len(talk.accepted) and all(who in talk.accepted for who in wanted):
            return None
        reply = await self._mail(talk, transaction.id, transaction.envelope)
        for recipient in wanted:
            if not reply.is_positive:
                return reply
            reply = await talk.back_end.rcpt(recipient)
        return None if reply.is_positive else reply

    def _lost(self, connection: Connection) -> None:
        talk = self._talks.pop(connection.id, None)
        if talk is not None:
            talk.back_end.leave()

    def _without(self, transaction: Transaction) -> Verdict:
        """Mail that went to the back end does not go elsewhere because that is gone."""
        if transaction.relaying and not self.settings.enable_outbound:
            return CONTINUE
        return TempFail(GONE)

    def _passed_on(self, connection: Connection, reply: Reply) -> Verdict:
        if reply.closes:
            self._lost(connection)
        return _verdict(reply)


def _verdict(reply: Reply) -> Verdict:
    if reply.is_positive:
        return Accept(reply)
    return Reject(reply) if reply.is_permanent else TempFail(_quiet(reply))


def _quiet(reply: Reply) -> Reply:
    """The back end leaves us; that is no reason for us to leave the client."""
    return evolve(reply, code=451) if reply.closes else reply
