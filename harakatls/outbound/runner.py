"""
Takes due messages from the spool, has them delivered, and has recorded what became of them.

A message is in one of three hands: the spool's; ours, where it waits a moment or is being
delivered; or nobody's because its outcome was recorded. Whatever goes wrong in between, the claim
ends and the message is due again.
"""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from harakatls.interfaces import ISpool, SpoolDamaged
from harakatls.outbound.claiming import Claiming
from harakatls.outbound.delivery import OURS, Attempts, Result
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.recorder import Observers, Recorder
from harakatls.outbound.reports import unique_id
from harakatls.outbound.schedule import Schedule, Slot
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, QueuedMessage

log = Logger()

GRACE = 30.0  # seconds for deliveries under way when the service stops


class QueueRunner(Service):
    """
    Keeps up to `concurrency_max` deliveries under way, and some messages at hand for the next.

    The queue is asked when mail has come, when some is due, and when there is room for what was
    left there.
    """

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
        self._schedule = Schedule(settings.concurrency_max, settings.limits, clock.seconds)
        self._claiming = Claiming(spool, self._schedule, clock, self)
        self._in_hand: dict[str, Deferred[None]] = {}
        self._interruptible: set[str] = set()  # those of which nothing is being recorded
        self._recalled: set[str] = set()  # what the operator wants back, as soon as that can be
        self._beginning = False
        self._held_up = False  # by what is not recorded yet
        self._idle: Deferred[None] | None = None  # somebody waits for the last one to end
        self._patient = False  # and would break it off
        spool.when_added(self._claiming.wake)
        spool.when_flushed(self._forget_failures)

    # -- the service ----------------------------------------------------------------------------

    def startService(self) -> None:
        """Take what is due."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._settings.disabled:
            log.warn("outbound.ini: disabled is true: mail is queued and not delivered")
        self._claiming.wake()

    async def _stop(self) -> None:
        self._claiming.stop()
        await self._claiming.put_back(self._schedule.drain())
        if self._in_hand:
            log.info("waiting for {deliveries} deliveries", deliveries=len(self._in_hand))
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

    def _forget_failures(self) -> None:
        self._schedule.forget()
        self._delivery.forget_failures()

    async def _until_idle(self, seconds: float | None) -> None:
        if not self._in_hand and not self._claiming.under_way:
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

    # -- what is at hand ------------------------------------------------------------------------

    @property
    def may_take(self) -> bool:
        """See `Hands`."""
        return bool(self.running) and not self._settings.disabled

    def has(self, queued: QueuedMessage) -> bool:
        """So slow that its claim was taken for forgotten. It will settle this one."""
        if queued.id not in self._interruptible and not self._schedule.holds(queued.id):
            return False
        log.warn("{queue_id} is being delivered still", queue_id=queued.id)
        return True

    def begin(self) -> None:
        """All that is at hand and has room."""
        if not self.running or self._beginning:
            return
        self._beginning = True
        self._held_up = False
        if self._schedule.waiting:
            self.let_go()
        begun = self._schedule.begin()
        # What a host has taken is sent again after a crash, as long as that is not recorded. So
        # where the disk is slow, no more is sent than would be bearable.
        while len(self._in_hand) < 2 * self._settings.concurrency_max:
            one = next(begun, None)
            if one is None:
                break
            self._deliver(*one)
        else:
            self._held_up = True
        self._beginning = False

    def let_go(self) -> None:
        """What the operator holds or removes is his as long as no attempt has begun."""
        recalled = self._spool.recalled()
        if not recalled:
            return
        # What is being recorded is his when that is done, and may be released and taken again.
        self._recalled.update(self._interruptible.intersection(recalled))
        for queued in self._schedule.take_out(recalled):
            self._keep_in_hand(queued, Deferred.fromCoroutine(self._claiming.put_back([queued])))

    def _deliver(self, queued: QueuedMessage, slot: Slot) -> None:
        self._keep_in_hand(queued, Deferred.fromCoroutine(self._delivered(queued, slot)))

    def _keep_in_hand(self, queued: QueuedMessage, under_way: "Deferred[None]") -> None:
        """The service does not stop before it is over."""
        if under_way.called:
            under_way.addErrback(_never)
            return
        self._in_hand[queued.id] = under_way

        def ended(_: object) -> None:
            # While observers were being told, it may have become due and been taken once more.
            if self._in_hand.get(queued.id) is under_way:
                del self._in_hand[queued.id]
            self._tell_if_idle()
            if self._held_up:
                self.begin()

        under_way.addErrback(_never).addBoth(ended)

    def _free(self, slot: Slot, strained: bool | None) -> None:
        """The host is done with a message; the next one may begin while this one is recorded."""
        self._schedule.end(slot, strained)
        self.begin()
        hungry = self._schedule.hunger(slot.destination)
        if hungry is None or hungry:
            self._claiming.wake(hungry)

    def claimed(self) -> None:
        """See `Hands`."""
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if not self._in_hand and not self._claiming.under_way:
            self._not_idle()

    async def _delivered(self, queued: QueuedMessage, slot: Slot) -> None:
        """Deliver and record; raises nothing but what is a mistake of ours."""
        result = await self._attempted(queued, slot)
        recalled = queued.id in self._recalled
        self._recalled.discard(queued.id)
        if isinstance(result, Result) and result.postponed:
            if recalled or not self.running:
                await self._claiming.put_back([queued])
            elif not self._schedule.add(queued):
                await self._claiming.give_back([queued])
            return
        try:
            if isinstance(result, str):
                await self._recorder.set_aside(queued, result)
                return
            recorded = await self._recorder.record(queued, result)
        except Exception:
            # The claim falls free in time, so it is neither lost nor tried over and over.
            log.failure("what became of {queue_id} was not recorded", queue_id=queued.id)
            return
        if recorded.pending:
            self._claiming.look_again(recorded.due - self._clock.seconds())

    async def _attempted(self, queued: QueuedMessage, slot: Slot) -> Result | str:
        """@return: as a text, why the message cannot be read."""

        def admit(host: str) -> bool:
            admitted = self._schedule.move(slot, queued.domain, host)
            for surplus in self._schedule.too_many():
                self._keep_in_hand(
                    surplus, Deferred.fromCoroutine(self._claiming.give_back([surplus]))
                )
            return admitted

        strained = None
        self._interruptible.add(queued.id)
        try:
            result = await self._delivery.attempt(queued, admit)
            strained = result.strained
            return result
        except SpoolDamaged as problem:
            return str(problem)
        except CancelledError:
            return Result((), interrupted=True)
        except Exception:
            log.failure("the delivery of {queue_id} failed; it is delayed", queue_id=queued.id)
            return Result(tuple(Delayed(recipient, OURS) for recipient in queued.pending))
        finally:
            self._interruptible.discard(queued.id)
            self._free(slot, strained)


def _never(failure: Failure) -> None:
    log.failure("a mistake in the queue runner", failure=failure)
