"""Asks plugins before each attempt whether a message is to wait (Haraka's hook send_email)."""

from collections.abc import Awaitable
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.outbound.delivery import Admit, Attempts, HeldBack, Result
from harakatls.queued import QueuedMessage

log = Logger()

LONGEST = 7 * 86400.0  # seconds; who wants to hold a message for longer asks again then


class Askers(Protocol):
    """What is needed of `hooks.chain.HookChain`."""

    def send(self, queued: QueuedMessage) -> Awaitable[float | None]: ...


@frozen
class AskedFirst:
    """Attempts that plugins do not hold back."""

    askers: Askers
    attempts: Attempts
    clock: IReactorTime

    async def attempt(self, queued: QueuedMessage, admit: Admit) -> Result:
        """As `Delivery.attempt`; nothing is tried, nor counted, where a plugin wants it to wait."""
        seconds = await self.askers.send(queued)
        if seconds is None:
            return await self.attempts.attempt(queued, admit)
        wait = min(max(seconds, 1.0), LONGEST)
        log.info("{queue_id} is held back for {wait:g} seconds", queue_id=queued.id, wait=wait)
        return HeldBack((), due=self.clock.seconds() + wait)

    def forget_failures(self) -> None:
        """As `Delivery.forget_failures`."""
        self.attempts.forget_failures()

    def close(self) -> None:
        """As `Delivery.close`."""
        self.attempts.close()
