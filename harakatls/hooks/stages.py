"""The stages at which plugins are asked, in the order of a session, and who is asked at each."""

from collections.abc import Sequence, Set
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import Interface

from harakatls.connection import Connection, Transaction
from harakatls.hooks.asking import Hook, HookCancelled, HookFailed, ask, nonsense
from harakatls.interfaces import (
    IAcceptedRcptHook,
    IBounceHook,
    ICapabilitiesHook,
    ICertificateHook,
    IConnectHook,
    IDataHook,
    IDelayHook,
    IDeliveryObserver,
    IDisconnectHook,
    IHelloHook,
    IMailHook,
    IMessageHook,
    INoopHook,
    IPasswordHook,
    IPeerNameHook,
    IQueueHook,
    IQuitHook,
    IRcptHook,
    IRefusedHook,
    IRelayHook,
    IResetHook,
    IRouteHook,
    IRsetHook,
    ISecretHook,
    ISendHook,
    ITooLargeHook,
    IUnrecognizedHook,
    IUsersHook,
    IVerifyHook,
)
from harakatls.mail.envelope import Recipient
from harakatls.queued import Delivered
from harakatls.verdict import (
    CONTINUE,
    Accept,
    Continue,
    Disconnect,
    Refusal,
    Reject,
    TempFail,
    Verdict,
)

STAGES: tuple[tuple[str, type[Interface]], ...] = (
    ("peer_name", IPeerNameHook),
    ("connect", IConnectHook),
    ("relaying", IRelayHook),
    ("hello", IHelloHook),
    ("mechanisms", IUsersHook),
    ("capabilities", ICapabilitiesHook),
    ("password", IPasswordHook),
    ("secret", ISecretHook),
    ("certificate", ICertificateHook),
    ("mail", IMailHook),
    ("rcpt", IRcptHook),
    ("accepted_rcpt", IAcceptedRcptHook),
    ("data", IDataHook),
    ("message", IMessageHook),
    ("too_large", ITooLargeHook),
    ("queue", IQueueHook),
    ("reset", IResetHook),
    ("unrecognized", IUnrecognizedHook),
    ("verify", IVerifyHook),
    ("noop", INoopHook),
    ("rset", IRsetHook),
    ("quit", IQuitHook),
    ("refused", IRefusedHook),
    ("disconnected", IDisconnectHook),
    ("route", IRouteHook),
    ("send", ISendHook),
    ("delay", IDelayHook),
    ("bounce", IBounceHook),
    ("delivered", IDeliveryObserver),
    ("delayed", IDeliveryObserver),
    ("failed", IDeliveryObserver),
)
"""Each stage with its interface; the method that is asked has the name of the stage."""

LAST_QUEUE = "queue/spool"

FAILED = TempFail()

_REFUSALS = frozenset((Reject, TempFail, Disconnect))


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


class Stages:
    """
    Asks the hooks of one stage, in order.

    @ivar hooked: the stages that anybody hooks. Asked before a stage that few plugins need, so
        that it costs nothing where none does.
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
        self.hooked = frozenset(stage for stage in hooks if hooks[stage])

    def stages(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each stage that anybody hooks, with the names of the plugins in the order of asking."""
        return tuple(
            (stage, tuple(hook.plugin for hook in hooks))
            for stage, hooks in self._hooks.items()
            if hooks
        )

    async def _verdict(self, hooks: tuple[Hook, ...], *arguments: Any) -> Verdict:
        for hook in hooks:
            try:
                verdict: Any = await ask(hook, self._clock, *arguments)
            except HookCancelled:
                return FAILED  # nobody hears it any more
            except HookFailed:
                verdict = FAILED
            kind = verdict.__class__
            if kind is Continue:
                continue
            if kind is Accept and _makes_sense(verdict):
                return verdict  # type: ignore[no-any-return]
            if kind not in _REFUSALS:
                nonsense(hook, verdict, *arguments)
                verdict = FAILED
            if self._hooks["refused"] and await self._is_cancelled(hook, verdict, arguments):
                continue
            return verdict  # type: ignore[no-any-return]
        return CONTINUE

    async def _is_cancelled(
        self, hook: Hook, verdict: Reject | TempFail | Disconnect, arguments: tuple[Any, ...]
    ) -> bool:
        connection, *others = arguments
        # Every stage names its transaction second, if it has one.
        transaction = others[0] if others and isinstance(others[0], Transaction) else None
        recipient = others[-1] if others and isinstance(others[-1], Recipient) else None
        refusal = Refusal(hook.stage, hook.plugin, verdict, recipient)
        return await self.refused(connection, transaction, refusal)

    async def refused(
        self, connection: Connection, transaction: Transaction | None, refusal: Refusal
    ) -> bool:
        """
        Tell of a refusal, which the other stages do by themselves.

        @return: a plugin has cancelled it. One that fails has not.
        """
        about = connection, transaction, refusal
        for hook in self._hooks["refused"]:
            try:
                answer = await ask(hook, self._clock, *about)
            except HookFailed:
                continue
            if isinstance(answer, Accept):
                return True
            if answer.__class__ is not Continue and answer.__class__ not in _REFUSALS:
                nonsense(hook, answer, *about)
        return False

    async def _tell(self, stage: str, *arguments: Any) -> None:
        for hook in self._hooks[stage]:
            try:
                await ask(hook, self._clock, *arguments)
            except HookFailed:
                pass


def _makes_sense(verdict: Accept) -> bool:
    becomes, taken, handed_on = verdict.becomes, verdict.recipients, verdict.handed_on
    return (
        (becomes is None or _are_recipients(becomes))
        and (taken is None or isinstance(taken, Set))
        and (handed_on == () or _are_deliveries(handed_on))
    )


def _are_deliveries(handed_on: object) -> bool:
    return isinstance(handed_on, tuple) and all(isinstance(one, Delivered) for one in handed_on)


def _are_recipients(becomes: object) -> bool:
    return isinstance(becomes, tuple) and all(isinstance(r, Recipient) for r in becomes)
