"""
Takes due messages from the spool, has them delivered, and has recorded what became of them.

A message is in one of three hands: the spool's; ours, where it waits a moment or is being
delivered; or nobody's because its outcome was recorded. Whatever goes wrong in between, the claim
ends and the message is due again.
"""

from collections.abc import Callable, Iterable, Sequence

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from harakatls.interfaces import ISpool, SpoolDamaged, SpoolFull
from harakatls.outbound.delivery import OURS, Attempts, Result
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.recorder import Observers, Recorder
from harakatls.outbound.reports import unique_id
from harakatls.outbound.schedule import Schedule, Slot
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, QueuedMessage

_log = Logger()

LOOK_AGAIN = 60.0  # seconds; another process may have added mail, or died with claims
AT_ONCE = 1.0
GRACE = 30.0  # seconds for deliveries under way when the service stops
BROKEN_SPOOL = 5.0  # seconds until a spool that raised is asked again
PUT_BACK = 5.0  # seconds until a message is taken again whose destination is full and forgotten


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
        self._in_hand: dict[str, Deferred[None]] = {}
        self._interruptible: set[str] = set()  # those of which nothing is being recorded
        self._recalled: set[str] = set()  # what the operator wants back, as soon as that can be
        self._beginning = False
        self._held_up = False  # by what is not recorded yet
        self._claiming = False
        self._again = False  # something changed while claiming
        self._alarm: IDelayedCall | None = None
        self._left_out = False  # domains, when it was asked for what the alarm is set
        self._idle: Deferred[None] | None = None  # somebody waits for the last one to end
        self._patient = False  # and would break it off
        spool.when_added(self._wake)
        spool.when_flushed(self._forget_failures)

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
        await self._put_back(self._schedule.drain())
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
        """Take until there is enough at hand or nothing is due."""
        try:
            while self.running and await self._take_some():
                pass
        except (SpoolDamaged, SpoolFull) as problem:
            if self.running:
                _log.error("nothing is taken from the queue for now: {why}", why=str(problem))
            self._look_again(BROKEN_SPOOL)
        except Exception:
            _log.failure("the queue cannot be read; it is tried again")
            self._look_again(BROKEN_SPOOL)

    async def _take_some(self) -> bool:
        """@return: there may be more to take."""
        schedule = self._schedule
        self._let_go()
        await self._return(schedule.surplus())
        limit, rooms, together = schedule.wanted, schedule.rooms(), schedule.together()
        if limit <= 0:
            return False  # the end of a delivery wakes
        self._again = False
        claimed = await self._spool.claim(
            self._clock.seconds(),
            limit,
            rooms=rooms,
            per_domain=schedule.per_domain,
            together=together,
        )
        if not self.running:
            await self._put_back(claimed)
            return False
        ours = [queued for queued in claimed if not self._has(queued)]
        too_many = schedule.taken(ours, limit, rooms, together)
        self._begin()
        await self._return(too_many)
        if self._again or (claimed and schedule.is_hungry()):
            return True
        if self._alarm is None or self._left_out:  # then nobody knows what is due next
            full = [domain for domain, room in schedule.rooms().items() if not room]
            self._left_out = bool(full)
            due = await self._spool.next_due(full)
            self._look_again(LOOK_AGAIN if due is None else due - self._clock.seconds())
        opening = schedule.next_opening()
        if opening is not None:
            self._look_again(opening)
        return self._again

    def _has(self, queued: QueuedMessage) -> bool:
        """So slow that its claim was taken for forgotten. It will settle this one."""
        if queued.id not in self._interruptible and not self._schedule.holds(queued.id):
            return False
        _log.warn("{queue_id} is being delivered still", queue_id=queued.id)
        return True

    async def _put_back(self, messages: Iterable[QueuedMessage], seconds: float = 0.0) -> None:
        """
        As if they had not been taken.

        @param seconds: until they are due.
        """
        due = self._clock.seconds() + seconds
        # At once, so that it is one transaction.
        await gatherResults(
            Deferred.fromCoroutine(
                self._put_one_back(evolve(queued, due=due) if seconds else queued)
            )
            for queued in tuple(messages)
        )
        if seconds:
            self._look_again(seconds)

    async def _put_one_back(self, queued: QueuedMessage) -> None:
        try:
            await self._spool.settle(queued)
        except (SpoolFull, SpoolDamaged) as problem:
            # The claim falls free in time. The others, and deliveries, are no worse for it.
            _log.error("{queue_id} cannot be put back: {why}", queue_id=queued.id, why=str(problem))

    async def _return(self, messages: Sequence[QueuedMessage]) -> None:
        """There is no room for them where they lead; as soon as there is, they are taken anew."""
        if not messages:
            return
        # What is not known to lead there when it is looked for is found again at once, in vain.
        await self._put_back(messages, PUT_BACK if self._schedule.forgets else 0.0)
        self._schedule.returned(messages)
        if self._schedule.is_hungry():
            self._wake()

    def _forget_failures(self) -> None:
        self._schedule.forget()
        self._delivery.forget_failures()

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
        self._begin()
        self._wake()

    # -- one message ----------------------------------------------------------------------------

    def _begin(self) -> None:
        """All that is at hand and has room."""
        if not self.running or self._beginning:
            return
        self._beginning = True
        self._held_up = False
        if self._schedule.waiting:
            self._let_go()
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

    def _let_go(self) -> None:
        """What the operator holds or removes is his as long as no attempt has begun."""
        self._recalled.update(self._spool.recalled())
        if not self._recalled:
            return
        for queued in self._schedule.take_out(self._recalled):
            self._recalled.discard(queued.id)
            self._keep_in_hand(queued, Deferred.fromCoroutine(self._put_back([queued])))

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
            self._ended()
            if self._held_up:
                self._begin()

        under_way.addErrback(_never).addBoth(ended)

    def _free(self, slot: Slot, strained: bool | None) -> None:
        """The host is done with a message; the next one may begin while this one is recorded."""
        self._schedule.end(slot, strained)
        self._begin()
        if self._schedule.is_hungry(slot.destination):
            self._wake()

    def _ended(self) -> None:
        if not self._in_hand and not self._claiming:
            self._not_idle()

    async def _delivered(self, queued: QueuedMessage, slot: Slot) -> None:
        """Deliver and record; raises nothing but what is a mistake of ours."""
        result = await self._attempted(queued, slot)
        recalled = queued.id in self._recalled
        self._recalled.discard(queued.id)
        if isinstance(result, Result) and result.postponed:
            if recalled or not self.running:
                await self._put_back([queued])
            elif not self._schedule.add(queued):
                await self._return([queued])
            return
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

    async def _attempted(self, queued: QueuedMessage, slot: Slot) -> Result | str:
        """@return: as a text, why the message cannot be read."""

        def admit(host: str) -> bool:
            admitted = self._schedule.move(slot, queued.domain, host)
            for surplus in self._schedule.too_many():
                self._keep_in_hand(surplus, Deferred.fromCoroutine(self._return([surplus])))
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
            _log.failure("the delivery of {queue_id} failed; it is delayed", queue_id=queued.id)
            return Result(tuple(Delayed(recipient, OURS) for recipient in queued.pending))
        finally:
            self._interruptible.discard(queued.id)
            self._free(slot, strained)


def _never(failure: Failure) -> None:
    _log.failure("a mistake in the queue runner", failure=failure)
