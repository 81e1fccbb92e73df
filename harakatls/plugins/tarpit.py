"""Keeps peers waiting whom another plugin has marked (Haraka's tarpit)."""

import math
import re

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.timeouts import plugin_timeout
from harakatls.connection import Connection, Hello, Transaction
from harakatls.interfaces import (
    IAcceptedRcptHook,
    IConnectHook,
    IDataHook,
    IHelloHook,
    IMailHook,
    IMessageHook,
    INoopHook,
    IQuitHook,
    IRcptHook,
    IRsetHook,
    IStagedMessage,
    IUnrecognizedHook,
    IVerifyHook,
    Site,
)
from harakatls.mail.envelope import Recipient
from harakatls.verdict import CONTINUE, Verdict

log = Logger()

NAME = "tarpit"
FILE = "tarpit.ini"
NOTE = "tarpit"
HOOKS = (
    "connect",
    "helo",
    "ehlo",
    "mail",
    "rcpt",
    "rcpt_ok",
    "data",
    "data_post",
    "queue",
    "unrecognized_command",
    "vrfy",
    "noop",
    "rset",
    "quit",
)
"""By Haraka's names."""

SPARE = 0.9  # of its plugin_timeout: one that is cancelled has refused


def load(site: Site) -> object:
    """
    From tarpit.ini and tarpit.timeout.

    @return: an object with the hooks that are to be delayed, and no other one.
    """
    chosen = chosen_hooks(site.config)
    limit = plugin_timeout(site.config, NAME)
    longest = limit * SPARE if limit else math.inf
    kinds = dict.fromkeys(_KINDS[hook] for hook in HOOKS if hook in chosen)
    kind = type("Tarpit", tuple(kinds), {})
    return kind(site.clock, longest, chosen)


def chosen_hooks(config: ConfigDirectory) -> frozenset[str]:
    """Those of `HOOKS` that tarpit.ini names; all of them where it names none."""
    main = config.ini(FILE).main
    words = [word for word in re.split(r"[\s,;]+", main.text("hooks_to_delay") or "") if word]
    for word in words:
        if word not in HOOKS:
            problem = f"{word!r} is not a hook to delay; known are {', '.join(HOOKS)}"
            raise main.error("hooks_to_delay", problem)
    return frozenset(words or HOOKS)


@frozen(slots=False)
class Tarpit:
    """
    Waits as many seconds as ``notes["tarpit"]`` of the connection says, else of the transaction.

    @ivar longest: seconds; what is more is cut down to it.
    """

    clock: IReactorTime
    longest: float
    hooks: frozenset[str]

    async def wait(
        self, connection: Connection, transaction: Transaction | None = None, times: int = 1
    ) -> Verdict:
        """Then the next plugin is asked."""
        seconds = connection.notes.get(NOTE)
        if seconds is None and transaction is not None:
            seconds = transaction.notes.get(NOTE)
        if seconds is None:
            return CONTINUE
        if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            log.error("{id}: {seconds!r} is no time to wait", id=connection.id, seconds=seconds)
            return CONTINUE
        log.info("{id} has to wait for {seconds:g} seconds", id=connection.id, seconds=seconds)
        await deferLater(self.clock, min(times * seconds, self.longest))
        return CONTINUE


@implementer(IConnectHook)
class _AtConnect(Tarpit):
    async def connect(self, connection: Connection) -> Verdict:
        return await self.wait(connection)


@implementer(IHelloHook)
class _AtHello(Tarpit):
    async def hello(self, connection: Connection, hello: Hello) -> Verdict:
        named = "ehlo" if hello.extended else "helo"
        return await self.wait(connection) if named in self.hooks else CONTINUE


@implementer(IMailHook)
class _AtMail(Tarpit):
    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(IRcptHook)
class _AtRcpt(Tarpit):
    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(IAcceptedRcptHook)
class _AtAcceptedRcpt(Tarpit):
    async def accepted_rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(IDataHook)
class _AtData(Tarpit):
    async def data(self, connection: Connection, transaction: Transaction) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(IMessageHook)
class _AtMessage(Tarpit):
    async def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        # At the queue stage a peer that has gone could not be told from one that waits: there the
        # message may be ours already.
        times = len(self.hooks & {"data_post", "queue"})
        return await self.wait(connection, transaction, times)


@implementer(IUnrecognizedHook)
class _AtUnrecognized(Tarpit):
    async def unrecognized(
        self, connection: Connection, transaction: Transaction | None, verb: str, argument: str
    ) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(IVerifyHook)
class _AtVerify(Tarpit):
    async def verify(
        self, connection: Connection, transaction: Transaction | None, argument: str
    ) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(INoopHook)
class _AtNoop(Tarpit):
    async def noop(self, connection: Connection, transaction: Transaction | None) -> Verdict:
        return await self.wait(connection, transaction)


@implementer(IRsetHook)
class _AtRset(Tarpit):
    async def rset(self, connection: Connection, transaction: Transaction | None) -> None:
        await self.wait(connection, transaction)


@implementer(IQuitHook)
class _AtQuit(Tarpit):
    async def quit(self, connection: Connection, transaction: Transaction | None) -> None:
        await self.wait(connection, transaction)


_KINDS: dict[str, type[Tarpit]] = {
    "connect": _AtConnect,
    "helo": _AtHello,
    "ehlo": _AtHello,
    "mail": _AtMail,
    "rcpt": _AtRcpt,
    "rcpt_ok": _AtAcceptedRcpt,
    "data": _AtData,
    "data_post": _AtMessage,
    "queue": _AtMessage,
    "unrecognized_command": _AtUnrecognized,
    "vrfy": _AtVerify,
    "noop": _AtNoop,
    "rset": _AtRset,
    "quit": _AtQuit,
}
