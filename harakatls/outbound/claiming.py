"""
When messages are taken from the queue, and for which destinations.

The queue is asked when mail has come, when some is due, and when there is room for what was left
there: for the mail of a few domains where these are known, else for all.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from harakatls.interfaces import ISpool, SpoolDamaged, SpoolFull
from harakatls.outbound.schedule import Demand, Schedule
from harakatls.queued import QueuedMessage

log = Logger()

LOOK_AGAIN = 60.0  # seconds; another process may have added mail, or died with claims
AT_ONCE = 1.0
BROKEN_SPOOL = 5.0  # seconds until a spool that raised is asked again
MOST_NAMED = 64  # domains; mail for more is looked for among all
PUT_BACK = 5.0  # seconds until a message is taken again whose destination is full and forgotten


class Hands(Protocol):
    """Who takes the messages: the queue runner."""

    @property
    def may_take(self) -> bool:
        """It is at work."""

    def has(self, queued: QueuedMessage) -> bool:
        """It has this one in hand already."""

    def begin(self) -> None:
        """Deliver what has room."""

    def let_go(self) -> None:
        """Give back what the operator wants."""

    def claimed(self) -> None:
        """No claim is under way any more."""


class Claiming:
    """
    Keeps the schedule filled.

    @ivar under_way: the spool is being asked.
    """

    def __init__(
        self, spool: ISpool, schedule: Schedule, clock: IReactorTime, hands: Hands
    ) -> None:
        self.under_way = False
        self._spool = spool
        self._schedule = schedule
        self._clock = clock
        self._hands = hands
        self._look_at_all = False  # mail of any domain may be due
        self._look_for: set[str] = set()  # domains whose mail may be
        self._alarm: IDelayedCall | None = None
        self._left_out = False  # domains, when it was asked for what the alarm is set

    def stop(self) -> None:
        """Look no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def wake(self, domains: Collection[str] | None = None) -> None:
        """
        Something may be due, and there may be room for it.

        @param domains: mail for these; None for any.
        """
        if not self._hands.may_take:
            return
        if domains is None or len(domains) > MOST_NAMED:
            self._look_at_all = True
        else:
            self._look_for.update(domains)
        if not self.under_way:
            self.under_way = True
            Deferred.fromCoroutine(self._claim()).addBoth(self._claimed)

    def _claimed(self, _: object) -> None:
        self.under_way = False
        self._hands.claimed()

    async def _claim(self) -> None:
        """Take until there is enough at hand or nothing is due."""
        try:
            while self._hands.may_take and await self._take_some():
                pass
        except (SpoolDamaged, SpoolFull) as problem:
            if self._hands.may_take:
                log.error("nothing is taken from the queue for now: {why}", why=str(problem))
            self.look_again(BROKEN_SPOOL)
        except Exception:
            log.failure("the queue cannot be read; it is tried again")
            self.look_again(BROKEN_SPOOL)

    async def _take_some(self) -> bool:
        """@return: there may be more to take."""
        schedule = self._schedule
        if self._look_at_all:
            self._hands.let_go()
        await self.give_back(schedule.surplus())
        demand = self._demand()
        if demand.limit <= 0:
            return False  # the end of a delivery wakes
        if demand.domains is None or demand.domains:
            claimed = await self._spool.claim(
                self._clock.seconds(),
                demand.limit,
                domains=demand.domains,
                rooms=demand.rooms,
                per_domain=demand.per_domain,
                together=demand.together,
            )
            if not self._hands.may_take:
                await self.put_back(claimed)
                return False
            ours = [queued for queued in claimed if not self._hands.has(queued)]
            too_many = schedule.taken(ours, demand)
            self._hands.begin()
            await self.give_back(too_many)
            if claimed and schedule.is_hungry(demand.domains):
                self.wake(demand.domains)
            if self._is_to_look:
                return True
        await self._set_alarm(demand)
        return self._is_to_look

    def _demand(self) -> Demand:
        at_all, some = self._look_at_all or self._alarm is None, self._look_for
        self._look_at_all, self._look_for = False, set()
        if at_all or len(some) > MOST_NAMED:
            return self._schedule.demand()
        return self._schedule.demand_of(some)

    @property
    def _is_to_look(self) -> bool:
        return self._look_at_all or bool(self._look_for)

    async def _set_alarm(self, demand: Demand) -> None:
        """For what is due next, as far as it is not known already."""
        schedule = self._schedule
        if demand.about is not None:
            if self._left_out:
                self.look_again(AT_ONCE)  # it may have room now; but that costs more to tell
        elif self._alarm is None or self._left_out:
            full = [domain for domain, room in schedule.demand().rooms.items() if not room]
            self._left_out = bool(full)
            due = await self._spool.next_due(full)
            self.look_again(LOOK_AGAIN if due is None else due - self._clock.seconds())
        opening = schedule.next_opening(demand.about)
        if opening is not None:
            self.look_again(opening)

    async def put_back(self, messages: Iterable[QueuedMessage], seconds: float = 0.0) -> None:
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
            self.look_again(seconds)

    async def _put_one_back(self, queued: QueuedMessage) -> None:
        try:
            await self._spool.settle(queued)
        except (SpoolFull, SpoolDamaged) as problem:
            # The claim falls free in time. The others, and deliveries, are no worse for it.
            log.error("{queue_id} cannot be put back: {why}", queue_id=queued.id, why=str(problem))

    async def give_back(self, messages: Sequence[QueuedMessage]) -> None:
        """There is no room for them where they lead; as soon as there is, they are taken anew."""
        if not messages:
            return
        # What is not known to lead there when it is looked for is found again at once, in vain.
        await self.put_back(messages, PUT_BACK if self._schedule.forgets else 0.0)
        self._schedule.returned(messages)
        if self._schedule.is_hungry():
            self.wake()

    def look_again(self, seconds: float) -> None:
        """At the latest in *seconds*."""
        if not self._hands.may_take:
            return
        # What is due already and yet was not given out must not be asked for without a pause.
        wait = min(seconds, LOOK_AGAIN) if seconds > 0 else AT_ONCE
        if self._alarm is None:
            self._alarm = self._clock.callLater(wait, self._due)
        elif self._alarm.getTime() > self._clock.seconds() + wait:
            self._alarm.reset(wait)

    def _due(self) -> None:
        self._alarm = None
        self._hands.begin()
        self.wake()
