"""Asks the hooks of delivery: where mail goes, when, and who is told what became of it."""

from collections.abc import Coroutine
from typing import Any

from harakatls.hooks.asking import HookFailed, ask, nonsense
from harakatls.hooks.stages import Stages
from harakatls.mail.route import NextHop
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.smtp.reply import Reply


class DeliveryStages(Stages):
    """The stages of one delivery."""

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
            if _is_time(seconds):
                return float(seconds)
            if seconds is not None:
                nonsense(hook, seconds, queued)
        return None

    async def delay(
        self, queued: QueuedMessage, delayed: tuple[Delayed, ...]
    ) -> float | Reply | None:
        """As `IDelayHook.delay`. Whoever fails to answer changes nothing."""
        for hook in self._hooks["delay"]:
            try:
                answer = await ask(hook, self._clock, queued, delayed)
            except HookFailed:
                continue
            if isinstance(answer, Reply) and answer.is_permanent:
                return answer
            if _is_time(answer):
                return float(answer)
            if answer is not None:
                nonsense(hook, answer, queued, delayed)
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


def _is_time(answer: object) -> bool:
    """Seconds; C{True}, which Python takes for one, is a mistake, and so is NaN."""
    return type(answer) in (int, float) and answer == answer
