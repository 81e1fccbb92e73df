"""Asks plugins how long what was delayed is to wait, and whether at all (Haraka's deferred)."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from attrs import evolve
from twisted.logger import Logger

from harakatls.outbound.held_back import LONGEST
from harakatls.outbound.log import log_given_up
from harakatls.queued import Delayed, Failed, Outcome, QueuedMessage
from harakatls.smtp.reply import Reply

log = Logger()

SHORTEST = 1.0  # seconds


class DelayAskers(Protocol):
    """What is needed of `hooks.chain.HookChain`."""

    def delay(
        self, queued: QueuedMessage, delayed: tuple[Delayed, ...]
    ) -> Awaitable[float | Reply | None]: ...


async def deferred(
    askers: DelayAskers, waiting: QueuedMessage, outcomes: Sequence[Outcome], now: float
) -> tuple[tuple[Outcome, ...], float]:
    """
    What plugins make of the delays of one attempt, which nobody else has given up.

    @param waiting: the message, as it will be recorded if they have no opinion.
    @return: the outcomes, where a plugin has given them up with its reply for all that were
        delayed, and when to try again.
    """
    delayed = tuple(outcome for outcome in outcomes if isinstance(outcome, Delayed))
    if not delayed:
        return tuple(outcomes), waiting.due
    answer = await askers.delay(waiting, delayed)
    if answer is None:
        return tuple(outcomes), waiting.due
    if not isinstance(answer, Reply):
        seconds = min(max(answer, SHORTEST), LONGEST)
        log.info(
            "a plugin has {queue_id} tried again in {seconds:g} seconds",
            queue_id=waiting.id,
            seconds=seconds,
        )
        return tuple(outcomes), now + seconds
    log.info(
        "a plugin gives {queue_id} up for {recipients} recipients: {response}",
        queue_id=waiting.id,
        recipients=len(delayed),
        response=str(answer),
    )
    # Nobody has heard these words from a host.
    reply = evolve(answer, heard=False)
    failed = [Failed(o.recipient, reply, o.next_hop, o.secured) for o in delayed]
    log_given_up(waiting, failed, now)
    in_place = {outcome.recipient: outcome for outcome in failed}
    return tuple(in_place.get(outcome.recipient, outcome) for outcome in outcomes), waiting.due
