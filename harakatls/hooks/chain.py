"""Asks the hooks of all plugins, in the order of config/plugins."""

from collections.abc import Coroutine, Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import Interface

from harakatls.connection import Connection, Hello, Transaction
from harakatls.hooks.asking import Hook, HookFailed, ask, nonsense
from harakatls.interfaces import (
    IAcceptedRcptHook,
    IBounceHook,
    ICapabilitiesHook,
    IConnectHook,
    IDataHook,
    IDeliveryObserver,
    IDisconnectHook,
    IHelloHook,
    IMailHook,
    IMessageHook,
    IQueueHook,
    IRcptHook,
    IRelayHook,
    IRouteHook,
    ISendHook,
    IStagedMessage,
    ISuccessReports,
)
from harakatls.mail.envelope import Recipient
from harakatls.mail.route import NextHop
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import (
    CONTINUE,
    Accept,
    Continue,
    Disconnect,
    Reject,
    TempFail,
    Verdict,
)

STAGES: tuple[tuple[str, type[Interface]], ...] = (
    ("connect", IConnectHook),
    ("relaying", IRelayHook),
    ("hello", IHelloHook),
    ("capabilities", ICapabilitiesHook),
    ("mail", IMailHook),
    ("rcpt", IRcptHook),
    ("accepted_rcpt", IAcceptedRcptHook),
    ("data", IDataHook),
    ("message", IMessageHook),
    ("queue", IQueueHook),
    ("disconnected", IDisconnectHook),
    ("route", IRouteHook),
    ("send", ISendHook),
    ("bounce", IBounceHook),
    ("delivered", IDeliveryObserver),
    ("delayed", IDeliveryObserver),
    ("failed", IDeliveryObserver),
)
"""Each stage with its interface; the method that is asked has the name of the stage."""

LAST_QUEUE = "queue/spool"

NOBODY_QUEUED = TempFail(Reply.of(451, "4.3.0", "Queuing declined or disabled, try later"))

FAILED = TempFail()

_VERDICTS = frozenset((Continue, Accept, Reject, TempFail, Disconnect))


@frozen
class LoadedPlugin:
    """
    @ivar name: as written in config/plugins.
    @ivar plugin: provides one or more hooks.
    @ivar timeout: seconds it may take at one hook; 0 is without limit.
    """

    name: str
    plugin: object
    timeout: float = 0.0


class HookChain:
    """
    All hooks, stage by stage.

    @ivar success_reports: told of recipients that a queue plugin has put into their mailboxes, or
        handed on, if the sender asked to hear of it; it raises nothing. None where nobody sends
        reports.

    A hook that does not wait for anything costs no timer and no Deferred. One that raises, takes
    too long, or returns what is no verdict counts as TempFail, so that a broken filter lets no
    mail pass.
    """

    def __init__(
        self,
        plugins: Sequence[LoadedPlugin],
        clock: IReactorTime,
        last_queue: IQueueHook | None = None,
    ) -> None:
        """
        @param plugins: in the order of asking.
        @param last_queue: takes what no plugin took; it has all the time it needs, since to give
            up a commit half-way is to not know whose the message is.
        """
        self.success_reports: ISuccessReports | None = None
        self._clock = clock
        hooks: dict[str, tuple[Hook, ...]] = {}
        for stage, interface in STAGES:
            providers = [(p, interface(p.plugin, None)) for p in plugins]
            hooks[stage] = tuple(
                Hook(stage, p.name, getattr(provider, stage), p.timeout)
                for p, provider in providers
                if provider is not None
            )
        if last_queue is not None:
            hooks["queue"] += (Hook("queue", LAST_QUEUE, last_queue.queue, 0.0),)
        self._hooks = hooks

    def stages(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each stage that anybody hooks, with the names of the plugins in the order of asking."""
        return tuple(
            (stage, tuple(hook.plugin for hook in hooks))
            for stage, hooks in self._hooks.items()
            if hooks
        )

    # -- the stages of a connection ---------------------------------------------------------

    def connect(self, connection: Connection) -> Coroutine[Any, Any, Verdict]:
        """As `IConnectHook.connect`; CONTINUE where nobody has an opinion."""
        return self._verdict(self._hooks["connect"], connection)

    async def relaying(self, connection: Connection) -> bool:
        """One yes is enough; a hook that fails has not said yes."""
        for hook in self._hooks["relaying"]:
            try:
                if await ask(hook, self._clock, connection) is True:
                    return True
            except HookFailed:
                pass
        return False

    def hello(self, connection: Connection, hello: Hello) -> Coroutine[Any, Any, Verdict]:
        """As `IHelloHook.hello`."""
        return self._verdict(self._hooks["hello"], connection, hello)

    async def capabilities(self, connection: Connection, offered: Capabilities) -> Capabilities:
        """What all hooks together make of *offered*; a hook that fails changes nothing."""
        for hook in self._hooks["capabilities"]:
            try:
                edited = await ask(hook, self._clock, connection, offered)
            except HookFailed:
                continue
            if isinstance(edited, Capabilities):
                offered = edited
            else:
                nonsense(hook, edited, connection)
        return offered

    def mail(
        self, connection: Connection, transaction: Transaction
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IMailHook.mail`."""
        return self._verdict(self._hooks["mail"], connection, transaction)

    def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IRcptHook.rcpt`; then as `IAcceptedRcptHook.accepted_rcpt`."""
        if self._hooks["accepted_rcpt"]:
            return self._rcpt(connection, transaction, recipient)
        return self._verdict(self._hooks["rcpt"], connection, transaction, recipient)

    async def _rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        about = connection, transaction, recipient
        verdict = await self._verdict(self._hooks["rcpt"], *about)
        # Whoever may relay needs nobody's yes.
        if isinstance(verdict, Accept) or (transaction.relaying and isinstance(verdict, Continue)):
            last = await self.accepted_rcpt(*about)
            return verdict if isinstance(last, Continue) else last
        return verdict

    def accepted_rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IAcceptedRcptHook.accepted_rcpt`; part of `rcpt`."""
        return self._verdict(self._hooks["accepted_rcpt"], connection, transaction, recipient)

    def data(
        self, connection: Connection, transaction: Transaction
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IDataHook.data`."""
        return self._verdict(self._hooks["data"], connection, transaction)

    def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IMessageHook.message`."""
        return self._verdict(self._hooks["message"], connection, transaction, message)

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """
        Ask until every recipient has been taken.

        @return: Accept only when each was; never Continue.
        @raise SpoolFull: no space.
        """
        for hook in self._hooks["queue"]:
            verdict = await self._verdict((hook,), connection, transaction, message)
            if isinstance(verdict, Continue):
                continue
            if isinstance(verdict, Accept):
                await self._report_success(transaction, message, verdict)
            if not isinstance(verdict, Accept) or verdict.recipients is None:
                return verdict
            taken = verdict.recipients
            recipients = transaction.envelope.recipients
            others = tuple(r for r in recipients if r.address not in taken)
            if not others:
                return verdict
            transaction = evolve(
                transaction, envelope=evolve(transaction.envelope, recipients=others)
            )
        return NOBODY_QUEUED

    async def _report_success(
        self, transaction: Transaction, message: IStagedMessage, verdict: Accept
    ) -> None:
        reports, envelope = self.success_reports, transaction.envelope
        if reports is None or envelope.reverse_path is None:
            return
        if verdict.delivered:
            taken = verdict.recipients
            told = tuple(
                recipient
                for recipient in envelope.recipients
                if "SUCCESS" in recipient.notify and (taken is None or recipient.address in taken)
            )
            if told:
                await reports.delivered(transaction, told, message)
        relayed = tuple(
            outcome
            for outcome in verdict.handed_on
            if "SUCCESS" in outcome.recipient.notify and not outcome.will_report
        )
        if relayed:
            await reports.relayed(transaction, relayed, message)

    def disconnected(self, connection: Connection) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("disconnected", connection)

    # -- the stages of delivery -------------------------------------------------------------

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        """
        As `IRouteHook.route`; None where nobody has an opinion.

        @raise HookFailed: a hook failed, so that nobody knows at present where the mail belongs;
            to ask the DNS instead might send it astray.
        """
        for hook in self._hooks["route"]:
            hops = await ask(hook, self._clock, domain, queued)
            if isinstance(hops, tuple):
                return hops
            if hops is not None:
                nonsense(hook, hops, domain, queued)
                raise HookFailed(f"{hook.plugin} at {hook.stage}")
        return None

    async def send(self, queued: QueuedMessage) -> float | None:
        """As `ISendHook.send`. Whoever fails to answer holds nothing back."""
        for hook in self._hooks["send"]:
            try:
                seconds = await ask(hook, self._clock, queued)
            except HookFailed:
                continue
            if isinstance(seconds, int | float) and seconds == seconds:  # no NaN
                return float(seconds)
            if seconds is not None:
                nonsense(hook, seconds, queued)
        return None

    async def bounce(self, queued: QueuedMessage, failed: tuple[Failed, ...]) -> bool:
        """As `IBounceHook.bounce`; a sender is rather told twice than never."""
        for hook in self._hooks["bounce"]:
            try:
                if await ask(hook, self._clock, queued, failed) is False:
                    return False
            except HookFailed:
                pass
        return True

    def delivered(self, queued: QueuedMessage, outcome: Delivered) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("delivered", queued, outcome)

    def delayed(self, queued: QueuedMessage, outcome: Delayed) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("delayed", queued, outcome)

    def failed(self, queued: QueuedMessage, outcome: Failed) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("failed", queued, outcome)

    # -- asking -----------------------------------------------------------------------------

    async def _verdict(self, hooks: tuple[Hook, ...], *arguments: Any) -> Verdict:
        for hook in hooks:
            try:
                verdict: Verdict = await ask(hook, self._clock, *arguments)
            except HookFailed:
                return FAILED
            kind = verdict.__class__
            if kind is Continue:
                continue
            if kind in _VERDICTS:
                return verdict
            nonsense(hook, verdict, *arguments)
            return FAILED
        return CONTINUE

    async def _tell(self, stage: str, *arguments: Any) -> None:
        for hook in self._hooks[stage]:
            try:
                await ask(hook, self._clock, *arguments)
            except HookFailed:
                pass
