"""
Takes due messages from the spool, has them delivered, and has recorded what became of them.

A message is in one of three hands: the spool's, a delivery's, or nobody's because its outcome was
recorded. Whatever goes wrong in between, the claim ends and the message is due again.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from harakatls.interfaces import ISpool, SpoolDamaged, SpoolFull
from harakatls.outbound.delivery import OURS, Result
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.recorder import Observers, Recorder
from harakatls.outbound.reports import unique_id
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, QueuedMessage

_log = Logger()

LOOK_AGAIN = 60.0  # seconds; another process may have added mail, or died with claims
AT_ONCE = 1.0
GRACE = 30.0  # seconds for deliveries under way when the service stops
BROKEN_SPOOL = 5.0  # seconds until a spool that raised is asked again


class Attempts(Protocol):
    """What is needed of `delivery.Delivery`."""

    def attempt(self, queued: QueuedMessage) -> Awaitable[Result]: ...
    def close(self) -> None: ...


class QueueRunner(Service):
    """Keeps up to `concurrency_max` deliveries under way."""

    name = "queue"

    def __init__(
        self,
        spool: ISpool,
        chain: Observers,
        delivery: Attempts,
        settings: OutboundSettings,
        me: str,
        clock: IReactorTime,
        grace: float = GRACE,
        new_id: Callable[[], str] = unique_id,
    ) -> None:
        """
        @param clock: its time is in seconds since the epoch, as the reactor's is.
        @param grace: seconds that deliveries under way get when the service stops.
        """
        self._spool = spool
        self._delivery = delivery
        self._settings = settings
        self._clock = clock
        self._grace = grace
        self._recorder = Recorder(
            spool,
            chain,
            settings.temp_fail_intervals,
            Reporter(me, settings.templates),
            clock,
            settings.delay_warning_time,
            lambda: bool(self.running),
            new_id,
        )
        self._in_hand: dict[str, Deferred[None]] = {}
        self._interruptible: set[str] = set()  # those of which nothing is being recorded
        self._claiming = False
        self._again = False  # something changed while claiming
        self._alarm: IDelayedCall | None = None
        self._idle: Deferred[None] | None = None  # somebody waits for the last one to end
        self._patient = False  # and would break it off
        spool.when_added(self._wake)

    # -- the service ----------------------------------------------------------------------------

    def startService(self) -> None:
        """Take what is due."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._settings.disabled:
            _log.warn("outbound.ini: disabled is true: mail is queued and not delivered")
        self._wake()

    async def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._in_hand:
            _log.info("waiting for {deliveries} deliveries", deliveries=len(self._in_hand))
        self._patient = True
        await self._until_idle(self._grace)
        self._patient = False
        for queue_id in tuple(self._interruptible):
            self._in_hand[queue_id].cancel()
        # What is being recorded is waited for: it is on its way to the disk.
        await self._until_idle(None)
        self._delivery.close()

    def stopService(self) -> "Deferred[None]":
        """Fires when nothing is in hand any more; the spool can be closed then."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """While it stops: break deliveries off now, and record what they came to."""
        if self._patient:
            self._not_idle()

    async def _until_idle(self, seconds: float | None) -> None:
        if not self._in_hand and not self._claiming:
            return
        self._idle = Deferred()
        if seconds is not None:
            late = self._clock.callLater(seconds, self._not_idle)
            await self._idle
            if late.active():
                late.cancel()
        else:
            await self._idle

    def _not_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    # -- claiming -------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Something may be due, and there may be room for it."""
        if not self.running or self._settings.disabled:
            return
        if self._claiming:
            self._again = True
            return
        self._claiming = True
        Deferred.fromCoroutine(self._claim()).addBoth(self._claimed)

    def _claimed(self, _: object) -> None:
        self._claiming = False
        self._ended()

    async def _claim(self) -> None:
        """Take until there is no room or nothing is due."""
        try:
            while self.running:
                room = self._settings.concurrency_max - len(self._in_hand)
                if room <= 0:
                    return  # the end of a delivery wakes
                self._again = False
                claimed = await self._spool.claim(self._clock.seconds(), room)
                for queued in claimed:
                    if queued.id in self._interruptible:
                        # So slow that its claim was taken for forgotten. It will settle this one.
                        _log.warn("{queue_id} is being delivered still", queue_id=queued.id)
                    elif self.running:
                        self._deliver(queued)
                    else:
                        await self._spool.settle(queued)
                if len(claimed) == room or self._again:
                    continue
                if self._alarm is None:  # then nobody knows what is due next
                    due = await self._spool.next_due()
                    self._look_again(LOOK_AGAIN if due is None else due - self._clock.seconds())
                if not self._again:
                    return
        except (SpoolDamaged, SpoolFull) as problem:
            if self.running:
                _log.error("nothing is taken from the queue for now: {why}", why=str(problem))
            self._look_again(BROKEN_SPOOL)
        except Exception:
            _log.failure("the queue cannot be read; it is tried again")
            self._look_again(BROKEN_SPOOL)

    def _look_again(self, seconds: float) -> None:
        """At the latest in *seconds*."""
        if not self.running:
            return
        # What is due already and yet was not given out must not be asked for without a pause.
        wait = min(seconds, LOOK_AGAIN) if seconds > 0 else AT_ONCE
        if self._alarm is None:
            self._alarm = self._clock.callLater(wait, self._due)
        elif self._alarm.getTime() > self._clock.seconds() + wait:
            self._alarm.reset(wait)

    def _due(self) -> None:
        self._alarm = None
        self._wake()

    # -- one message ----------------------------------------------------------------------------

    def _deliver(self, queued: QueuedMessage) -> None:
        under_way = Deferred.fromCoroutine(self._delivered(queued))
        if under_way.called:
            under_way.addErrback(_never)
            return
        self._in_hand[queued.id] = under_way

        def ended(_: object) -> None:
            # While observers were being told, it may have become due and been taken once more.
            if self._in_hand.get(queued.id) is under_way:
                del self._in_hand[queued.id]
            self._ended()
            self._wake()

        under_way.addErrback(_never).addBoth(ended)

    def _ended(self) -> None:
        if not self._in_hand and not self._claiming:
            self._not_idle()

    async def _delivered(self, queued: QueuedMessage) -> None:
        """Deliver and record; raises nothing but what is a mistake of ours."""
        self._interruptible.add(queued.id)
        result: Result | str
        try:
            result = await self._delivery.attempt(queued)
        except SpoolDamaged as problem:
            result = str(problem)
        except CancelledError:
            result = Result((), interrupted=True)
        except Exception:
            _log.failure("the delivery of {queue_id} failed; it is delayed", queue_id=queued.id)
            result = Result(tuple(Delayed(recipient, OURS) for recipient in queued.pending))
        finally:
            self._interruptible.discard(queued.id)
        try:
            if isinstance(result, str):
                await self._recorder.set_aside(queued, result)
                return
            recorded = await self._recorder.record(queued, result)
        except Exception:
            # The claim falls free in time, so it is neither lost nor tried over and over.
            _log.failure("what became of {queue_id} was not recorded", queue_id=queued.id)
            return
        if recorded.pending:
            self._look_again(recorded.due - self._clock.seconds())


def _never(failure: Failure) -> None:
    _log.failure("a mistake in the queue runner", failure=failure)
