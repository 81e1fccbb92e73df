"""Writes down what became of a message: in the spool, in a report to the sender, for observers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.interfaces import ISpool, SpoolDamaged, SpoolFull
from harakatls.outbound.deferral import DelayAskers, deferred
from harakatls.outbound.delivery import HeldBack, Result
from harakatls.outbound.dsn import Reporter, report_envelope
from harakatls.outbound.log import log_given_up
from harakatls.outbound.notices import Action, Notice, notices, warning_is_due
from harakatls.outbound.original import Original, returned
from harakatls.outbound.reports import Takers, hand_over, unique_id
from harakatls.outbound.retry import judged, last_attempt, next_attempt
from harakatls.queued import Attempt, Delayed, Delivered, Failed, Outcome, QueuedMessage

log = Logger()

NOT_RECORDED = 10.0  # seconds until what did not fit on the disk is written again
NOT_REPORTED = 60.0  # seconds until a message is tried again whose report could not be queued
NOT_MADE = 3600.0  # the same where it could not be made, by a mistake that may be made again


class Observers(Takers, DelayAskers, Protocol):
    """What is needed of `hooks.chain.HookChain`."""

    def bounce(self, queued: QueuedMessage, failed: tuple[Failed, ...]) -> Awaitable[bool]: ...
    def delivered(self, queued: QueuedMessage, outcome: Delivered) -> Awaitable[None]: ...
    def delayed(self, queued: QueuedMessage, outcome: Delayed) -> Awaitable[None]: ...
    def failed(self, queued: QueuedMessage, outcome: Failed) -> Awaitable[None]: ...


@frozen
class Recorder:
    """
    @ivar intervals: temp_fail_intervals.
    @ivar delay_warning_time: seconds until the sender of a delayed message is told; 0 is never.
    @ivar may_wait: whether it is worth to wait for space on the disk; not when the server stops.
    """

    spool: ISpool
    observers: Observers
    intervals: Sequence[float]
    reporter: Reporter
    clock: IReactorTime
    delay_warning_time: float = 0.0
    may_wait: Callable[[], bool] = lambda: True
    new_id: Callable[[], str] = unique_id

    async def record(self, queued: QueuedMessage, result: Result) -> QueuedMessage:
        """
        End the claim of *queued* with what one attempt came to.

        @return: the message as it was recorded; nothing is pending where it is gone.
        """
        if isinstance(result, HeldBack):
            waiting = evolve(queued, due=result.due)
            await self._settle(waiting)
            return waiting
        if result.interrupted and all(isinstance(o, Delayed) for o in result.outcomes):
            # As if it had not been tried.
            await self._settle(queued)
            return queued
        now = self.clock.seconds()
        due = next_attempt(queued.attempts + 1, self.intervals, now)
        if result.interrupted:
            due = now
        outcomes = judged(result.outcomes, due)
        attempt = Attempt(now, result.trials)
        settled = queued.after_attempt(outcomes, attempt, now if due is None else due)
        if due is None:
            log_given_up(settled, outcomes, now)
        elif not result.interrupted:
            outcomes, due = await deferred(self.observers, settled, outcomes, now)
            settled = queued.after_attempt(outcomes, attempt, due)
        warns = not result.interrupted and warning_is_due(queued, self.delay_warning_time, now)
        if warns and settled.pending:
            settled = evolve(settled, warned=True)
        told = notices(queued, zip(result.outcomes, outcomes, strict=True), warns)
        told = await self._allowed(settled, outcomes, told)
        if told:
            settled = await self._with_report(queued, settled, told)
        else:
            _log_double_bounce(queued, outcomes)
            await self._settle(settled)
        await self._tell(settled, outcomes)
        return settled

    async def _allowed(
        self, settled: QueuedMessage, outcomes: Sequence[Outcome], told: tuple[Notice, ...]
    ) -> tuple[Notice, ...]:
        """A plugin may keep failures from the sender; of all else he is told."""
        if all(notice.action is not Action.FAILED for notice in told):
            return told
        failed = tuple(outcome for outcome in outcomes if isinstance(outcome, Failed))
        if await self.observers.bounce(settled, failed):
            return told
        log.info(
            "a plugin keeps the failure of {queue_id} for {recipients} recipients from its sender",
            queue_id=settled.id,
            recipients=len(failed),
        )
        return tuple(notice for notice in told if notice.action is not Action.FAILED)

    async def set_aside(self, queued: QueuedMessage, problem: str) -> None:
        """Leave a message that cannot be read to the operator."""
        log.error(
            "{queue_id} cannot be read and is set aside: {problem}",
            queue_id=queued.id,
            problem=problem,
        )
        await self.spool.set_aside(queued, problem)

    async def _settle(self, queued: QueuedMessage) -> None:
        """A full disk is waited for: what has been delivered must not be delivered again."""
        while True:
            try:
                await self.spool.settle(queued)
                return
            except SpoolFull:
                log.error("no space to record {queue_id}; waiting", queue_id=queued.id)
                if not self.may_wait():
                    return
            pause: Deferred[None] = Deferred()
            self.clock.callLater(NOT_RECORDED, pause.callback, None)
            await pause

    async def _tell(self, settled: QueuedMessage, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Delivered):
                await self.observers.delivered(settled, outcome)
            elif isinstance(outcome, Delayed):
                await self.observers.delayed(settled, outcome)
            elif outcome.recipient not in settled.pending:
                await self.observers.failed(settled, outcome)

    # -- reports --------------------------------------------------------------------------------

    async def _with_report(
        self, before: QueuedMessage, settled: QueuedMessage, told: Sequence[Notice]
    ) -> QueuedMessage:
        """
        Record *settled* and queue the report about it: one transaction.

        @return: what was recorded. Where the report cannot be queued, those who failed stay
            pending; who was delivered has been, and who is only late is told the next time.
        """
        try:
            await self._queue_report(settled, told)
        except (SpoolFull, SpoolDamaged) as problem:
            log.error(
                "the report about {queue_id} cannot be queued now: {problem}",
                queue_id=before.id,
                problem=str(problem),
            )
            seconds = NOT_REPORTED
        except Exception:
            log.failure("the report about {queue_id} cannot be made", queue_id=before.id)
            seconds = NOT_MADE
        else:
            return settled
        # Nobody has been told, so they are not settled; they will be tried, and fail, again.
        untold = {notice.recipient for notice in told if notice.action is Action.FAILED}
        waiting = evolve(settled, warned=before.warned)
        if untold:
            waiting = evolve(
                waiting,
                pending=tuple(r for r in before.pending if r in settled.pending or r in untold),
                attempts=before.attempts,
                due=self.clock.seconds() + seconds,
            )
        await self._settle(waiting)
        return waiting

    async def _queue_report(self, settled: QueuedMessage, told: Sequence[Notice]) -> None:
        staged = await self.spool.stage(f"{self.new_id()}.1")
        try:
            original = await self._original(settled, told)
            now, token = self.clock.seconds(), self.new_id()
            until = last_attempt(settled.attempts, self.intervals, settled.due)
            report = self.reporter.report(settled, told, original, now, token, until)
            await staged.write(report)
            envelope = report_envelope(settled, report)
            if not await hand_over(self.observers, staged, envelope, settled):
                # A plugin has it. A crash just now sends it twice, which is better than never.
                await self._settle(settled)
        finally:
            await staged.abort()
        log.info(
            "report {queue_id} about {about} to {sender}: {actions}",
            queue_id=staged.id,
            about=settled.id,
            sender=str(settled.envelope.reverse_path),
            actions=" ".join(dict.fromkeys(notice.action.value for notice in told)),
        )

    async def _original(self, queued: QueuedMessage, told: Sequence[Notice]) -> Original:
        """
        What is returned of the message; nothing where it cannot be read.

        All of it only where it was asked for and something failed (RFC 3461 section 4.3), never
        with REQUIRETLS (RFC 8689 section 5), and where it is text: a report goes to servers that
        take nothing else.
        """
        failed = any(notice.action is Action.FAILED for notice in told)
        try:
            body = self.spool.open_body(queued)
            given = queued.envelope.parameters
            full = failed and given.ret == "FULL" and not (given.requiretls or given.is_binary)
            try:
                return await returned(body, full)
            finally:
                body.close()
        except (SpoolDamaged, OSError):
            return Original()


def _log_double_bounce(queued: QueuedMessage, outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if failed and queued.envelope.reverse_path is None:
        log.warn(
            "double bounce {queue_id} domain={domain}: nobody to tell of {recipients}"
            " recipients: {response}",
            queue_id=queued.id,
            domain=queued.domain,
            recipients=len(failed),
            response=str(failed[0].reply),
        )
