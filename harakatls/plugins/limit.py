"""Keeps peers, senders and recipients within limits (Haraka's limit)."""

from collections.abc import Iterator

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.hosts import host_address
from harakatls.config.timeouts import plugin_timeout
from harakatls.connection import Connection, Hello, Transaction
from harakatls.interfaces import (
    IConnectHook,
    IDataHook,
    IDisconnectHook,
    IHelloHook,
    IMailHook,
    IRcptHook,
    IUnrecognizedHook,
    Site,
)
from harakatls.mail.envelope import Recipient
from harakatls.plugins.counters import Counters, MemoryCounters, RedisCounters
from harakatls.plugins.limit_settings import LimitSettings, Rate, one_of
from harakatls.redis.link import redis_link
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Disconnect, TempFail, Verdict

log = Logger()

NAME = "limit"

TOO_MANY_CONNECTIONS = Disconnect(Reply.of(421, "4.7.0", "Too many concurrent connections"))
CONNECTIONS_TOO_FAST = Disconnect(Reply.of(421, "4.7.0", "connection rate limit exceeded"))
TOO_MANY_ERRORS = Disconnect(Reply.of(421, "4.7.0", "Too many errors"))
TOO_MANY_COMMANDS = Disconnect(Reply.of(421, "4.7.0", "Too many unrecognized commands"))
TOO_MANY_RECIPIENTS = TempFail(Reply.of(450, "4.5.3", "Too many recipient attempts"))
HOST_TOO_FAST = TempFail(Reply.of(450, "4.7.1", "recipient rate limit exceeded"))
SENDER_TOO_FAST = TempFail(Reply.of(450, "4.7.1", "rcpt rate limit exceeded"))
RECIPIENT_TOO_FAST = TempFail(Reply.of(450, "4.7.1", "rate limit exceeded"))
NULL_TOO_FAST = TempFail(Reply.of(450, "4.7.1", "null recip rate limit"))


def load(site: Site) -> "Limit":
    """From limit.ini, and redis.ini for where to count."""
    settings = LimitSettings.load(site.config, plugin_timeout(site.config, NAME))
    return Limit(settings, _counters(settings, site.clock), site.clock)


def _counters(settings: LimitSettings, clock: IReactorTime) -> Counters:
    here = MemoryCounters(clock)
    if settings.redis is None:
        return here
    link = redis_link(settings.redis, clock, meanwhile="limits are counted here alone")
    return RedisCounters(link, clock.seconds, here)


class _Visit:
    """
    What is counted of one connection, in its notes.

    @ivar held: under which key it was counted as being there, and as whom.
    """

    __slots__ = ("held", "recipients", "unrecognized")

    def __init__(self) -> None:
        self.held: tuple[str, str] | None = None
        self.recipients = self.unrecognized = 0


def _visit(connection: Connection) -> _Visit:
    visit: _Visit = connection.notes.setdefault(NAME, _Visit())
    return visit


@implementer(
    IConnectHook,
    IHelloHook,
    IMailHook,
    IRcptHook,
    IDataHook,
    IUnrecognizedHook,
    IDisconnectHook,
)
@frozen
class Limit:
    """
    What is over a limit hears 4yz, after a while.

    Each attempt counts, the refused ones too; but a time that began is not prolonged by them.
    """

    settings: LimitSettings
    counters: Counters
    clock: IReactorTime

    async def connect(self, connection: Connection) -> Verdict:
        """How many connections at a time, and within a time."""
        settings, host = self.settings, connection.peer.host
        if settings.concurrency:
            peer = one_of(host_address(host))
            there = await self._enter(connection, f"connections|{peer}")
            if there > settings.concurrency:
                return await self._refuse(connection, TOO_MANY_CONNECTIONS)
        if settings.rate_conn is not None:
            what = settings.rate_conn.of_host(host, connection.peer_name)
            if await self._is_over("rate_conn", *what):
                return await self._refuse(connection, CONNECTIONS_TOO_FAST)
        return CONTINUE

    async def _enter(self, connection: Connection, key: str) -> int:
        visit = _visit(connection)
        await self._leave(visit)  # it may have become another's, as a proxy has told
        visit.held = key, connection.id
        return await self.counters.enter(key, connection.id)

    async def _leave(self, visit: _Visit) -> None:
        held, visit.held = visit.held, None
        if held is not None:
            await self.counters.leave(*held)

    async def disconnected(self, connection: Connection) -> None:
        """Whoever was counted is no longer there."""
        visit = connection.notes.get(NAME)
        if visit is not None:
            await self._leave(visit)

    async def hello(self, connection: Connection, hello: Hello) -> Verdict:
        """How many errors."""
        return await self._errors(connection)

    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        """How many errors."""
        return await self._errors(connection)

    async def data(self, connection: Connection, transaction: Transaction) -> Verdict:
        """How many errors."""
        return await self._errors(connection)

    async def _errors(self, connection: Connection) -> Verdict:
        most = self.settings.errors
        if not most or connection.errors <= most:
            return CONTINUE
        return await self._refuse(connection, TOO_MANY_ERRORS)

    async def unrecognized(
        self,
        connection: Connection,
        transaction: Transaction | None,
        verb: str,
        argument: str,
    ) -> Verdict:
        """How many commands that nobody knows."""
        most = self.settings.unrecognized_commands
        if not most:
            return CONTINUE
        visit = _visit(connection)
        visit.unrecognized += 1
        if visit.unrecognized <= most:
            return CONTINUE
        return await self._refuse(connection, TOO_MANY_COMMANDS)

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """How many errors, recipients, and messages for one recipient."""
        verdict = await self._errors(connection)
        if verdict is not CONTINUE:
            return verdict
        if self._is_one_too_many(connection, transaction):
            return await self._refuse(connection, TOO_MANY_RECIPIENTS)
        for name, key, rate, refusal in self._rates(connection, transaction, recipient):
            if await self._is_over(name, key, rate):
                return await self._refuse(connection, refusal)
        return CONTINUE

    def _is_one_too_many(self, connection: Connection, transaction: Transaction) -> bool:
        settings = self.settings
        most = settings.recipients
        if transaction.relaying and settings.recipients_relaying is not None:
            most = settings.recipients_relaying
        visit = _visit(connection)
        visit.recipients += 1
        return 0 < most < visit.recipients

    def _rates(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Iterator[tuple[str, str, Rate, TempFail]]:
        settings, sender = self.settings, transaction.envelope.reverse_path
        if settings.rate_rcpt_host is not None:
            host = connection.peer.host, connection.peer_name
            yield "rate_rcpt_host", *settings.rate_rcpt_host.of_host(*host), HOST_TOO_FAST
        if settings.rate_rcpt_sender is not None and sender is not None:
            yield "rate_rcpt_sender", *settings.rate_rcpt_sender.of_address(sender), SENDER_TOO_FAST
        to = recipient.address
        if settings.rate_rcpt_null is not None and sender is None:
            yield "rate_rcpt_null", *settings.rate_rcpt_null.of_address(to), NULL_TOO_FAST
        if settings.rate_rcpt is not None:
            yield "rate_rcpt", *settings.rate_rcpt.of_address(to), RECIPIENT_TOO_FAST

    async def _is_over(self, name: str, key: str, rate: Rate) -> bool:
        if rate.count == 0:
            return False
        return await self.counters.count(f"{name}:{key}", rate.seconds) > rate.count

    async def _refuse(
        self, connection: Connection, refusal: TempFail | Disconnect
    ) -> TempFail | Disconnect:
        reply = refusal.reply
        assert reply is not None
        log.info(
            "{id} {peer} is over a limit: {reply}",
            id=connection.id,
            peer=connection.peer,
            reply=reply.lines[0],
        )
        delay = self.settings.tarpit_delay
        if delay:
            await deferLater(self.clock, delay)
        return refusal
