"""Plugins for the tests of the chain: each says what it is told to, and remembers being asked."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from harakatls.hooks.stages import LoadedPlugin
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
    IVerifyHook,
)
from harakatls.verdict import CONTINUE

Answer = Callable[..., Awaitable[Any]]


@implementer(
    INoopHook,
    IQuitHook,
    IRefusedHook,
    IResetHook,
    IRsetHook,
    ITooLargeHook,
    IUnrecognizedHook,
    IVerifyHook,
    IBounceHook,
    IDelayHook,
    ISendHook,
    IPeerNameHook,
    IConnectHook,
    IRelayHook,
    IHelloHook,
    IAcceptedRcptHook,
    ICapabilitiesHook,
    IPasswordHook,
    ISecretHook,
    ICertificateHook,
    IMailHook,
    IRcptHook,
    IDataHook,
    IMessageHook,
    IQueueHook,
    IDisconnectHook,
    IRouteHook,
    IDeliveryObserver,
)
class Everything:
    """
    Hooks every stage.

    @ivar asked: (stage, arguments) in order.
    @ivar answers: by stage: a value, an exception to raise, or a Deferred to wait for.
    """

    def __init__(self, **answers: Any) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.answers = answers

    @property
    def stages(self) -> list[str]:
        """At which it was asked, in order."""
        return [stage for stage, _ in self.asked]

    def told(self, stage: str) -> list[tuple[Any, ...]]:
        """With what it was asked at one."""
        return [arguments for asked, arguments in self.asked if asked == stage]

    async def _answer(self, stage: str, usual: Any, *arguments: Any) -> Any:
        self.asked.append((stage, arguments))
        answer = self.answers.get(stage, usual)
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def peer_name(self, connection: Any) -> Any:
        return await self._answer("peer_name", None, connection)

    async def connect(self, connection: Any) -> Any:
        return await self._answer("connect", CONTINUE, connection)

    async def relaying(self, connection: Any) -> Any:
        return await self._answer("relaying", False, connection)

    async def hello(self, connection: Any, hello: Any) -> Any:
        return await self._answer("hello", CONTINUE, connection, hello)

    async def capabilities(self, connection: Any, offered: Any) -> Any:
        return await self._answer("capabilities", offered, connection, offered)

    async def mechanisms(self, connection: Any) -> Any:
        return await self._answer("mechanisms", (), connection)

    async def password(self, connection: Any, user: Any, password: Any) -> Any:
        return await self._answer("password", CONTINUE, connection, user, password)

    async def secret(self, connection: Any, mechanism: Any, user: Any) -> Any:
        return await self._answer("secret", None, connection, mechanism, user)

    async def certificate(self, connection: Any) -> Any:
        return await self._answer("certificate", None, connection)

    async def mail(self, connection: Any, transaction: Any) -> Any:
        return await self._answer("mail", CONTINUE, connection, transaction)

    async def rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Any:
        return await self._answer("rcpt", CONTINUE, connection, transaction, recipient)

    async def accepted_rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Any:
        return await self._answer("accepted_rcpt", CONTINUE, connection, transaction, recipient)

    async def data(self, connection: Any, transaction: Any) -> Any:
        return await self._answer("data", CONTINUE, connection, transaction)

    async def message(self, connection: Any, transaction: Any, message: Any) -> Any:
        return await self._answer("message", CONTINUE, connection, transaction, message)

    async def queue(self, connection: Any, transaction: Any, message: Any) -> Any:
        return await self._answer("queue", CONTINUE, connection, transaction, message)

    async def too_large(self, connection: Any, transaction: Any, size: int) -> Any:
        return await self._answer("too_large", CONTINUE, connection, transaction, size)

    async def reset(self, connection: Any, transaction: Any) -> None:
        await self._answer("reset", None, connection, transaction)

    async def unrecognized(
        self, connection: Any, transaction: Any, verb: str, argument: str
    ) -> Any:
        about = connection, transaction, verb, argument
        return await self._answer("unrecognized", CONTINUE, *about)

    async def verify(self, connection: Any, transaction: Any, argument: str) -> Any:
        return await self._answer("verify", CONTINUE, connection, transaction, argument)

    async def noop(self, connection: Any, transaction: Any) -> Any:
        return await self._answer("noop", CONTINUE, connection, transaction)

    async def rset(self, connection: Any, transaction: Any) -> None:
        await self._answer("rset", None, connection, transaction)

    async def quit(self, connection: Any, transaction: Any) -> None:
        await self._answer("quit", None, connection, transaction)

    async def refused(self, connection: Any, transaction: Any, refusal: Any) -> Any:
        return await self._answer("refused", CONTINUE, connection, transaction, refusal)

    async def disconnected(self, connection: Any) -> None:
        await self._answer("disconnected", None, connection)

    async def route(self, domain: Any, queued: Any) -> Any:
        return await self._answer("route", None, domain, queued)

    async def send(self, queued: Any) -> Any:
        return await self._answer("send", None, queued)

    async def delay(self, queued: Any, delayed: Any) -> Any:
        return await self._answer("delay", None, queued, delayed)

    async def bounce(self, queued: Any, failed: Any) -> Any:
        return await self._answer("bounce", True, queued, failed)

    async def delivered(self, queued: Any, outcome: Any) -> None:
        await self._answer("delivered", None, queued, outcome)

    async def delayed(self, queued: Any, outcome: Any) -> None:
        await self._answer("delayed", None, queued, outcome)

    async def failed(self, queued: Any, outcome: Any) -> None:
        await self._answer("failed", None, queued, outcome)


@implementer(IRcptHook)
class RcptOnly:
    """Hooks one stage, with any coroutine function."""

    def __init__(self, rcpt: Answer) -> None:
        self._rcpt = rcpt

    async def rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Any:
        return await self._rcpt(connection, transaction, recipient)


def loaded(plugin: object, name: str = "test", timeout: float = 30.0) -> LoadedPlugin:
    return LoadedPlugin(name, plugin, timeout)
