"""
Which of the messages in hand begins next: in turn for all destinations that have room.

A few messages wait here behind those that are under way, so that the queue is asked for many at
once, and the next one begins when another ends. More than a few never do, so that nothing that does
not move takes the room of what does.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from attrs import define, frozen

from harakatls.outbound.destinations import (
    FIRST_WINDOW,
    MOST_DESTINATIONS,
    STOCK,
    Destination,
    Destinations,
)
from harakatls.outbound.limits import Limits
from harakatls.queued import QueuedMessage

EXTRA = 400  # messages in hand beside those that may be under way and as many again


@define(eq=False)
class Slot:
    """
    The place of one delivery.

    @ivar destination: None where it turned out to have no room.
    @ivar halvings: of its window, when the delivery began.
    """

    destination: Destination | None
    halvings: int


@frozen
class Demand:
    """
    What is to be taken from the queue, as `ISpool.claim` is asked for it.

    @ivar domains: mail for these alone; None for all.
    @ivar about: these, and those that were asked about and have too little room.
    """

    limit: int
    rooms: Mapping[str, int]
    per_domain: int
    together: Sequence[tuple[int, Collection[str]]] = ()
    domains: Collection[str] | None = None
    about: Collection[str] | None = None


class Schedule:
    """Knows what is under way to where, and what waits."""

    def __init__(self, most: int, limits: Limits, seconds: Callable[[], float]) -> None:
        """
        @param most: deliveries at once, to all destinations.
        @param seconds: the time.
        """
        self._most = most
        self._seconds = seconds
        self._destinations = Destinations(limits, seconds)
        self._usual = min(FIRST_WINDOW, limits.usual)
        self._waiting: dict[Destination, deque[QueuedMessage]] = {}  # whose turn it is comes first
        self._guessed: list[QueuedMessage] = []  # waited for what was but a guess
        self._ids: set[str] = set()
        self._cut: set[Destination] = set()  # there may be more for these than was taken
        self._more = False  # the same for all
        self.under_way = 0

    @property
    def waiting(self) -> int:
        """How many messages wait here."""
        return len(self._ids)

    def holds(self, message_id: str) -> bool:
        """It waits here."""
        return message_id in self._ids

    # -- what is to be taken from the queue -----------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many messages."""
        return 2 * self._most + EXTRA - self.under_way - len(self._ids)

    def demand(self) -> Demand:
        """As much as there is room for."""
        self._more = self._more or self.wanted <= 0
        per_domain = self._usual * (1 + STOCK)  # of which nothing is known
        rooms = self._destinations.rooms(self._room, per_domain)
        return Demand(self.wanted, rooms, per_domain, self._destinations.together(self._room))

    def demand_of(self, domains: Collection[str]) -> Demand:
        """
        Of mail for these alone, which may have come. It costs nothing that others are known.

        What has too little room for that to be worth a look is taken when it has more.
        """
        limit = self.wanted
        self._more = self._more or limit <= 0
        rooms: dict[str, int] = {}
        shared: dict[Destination, list[str]] = {}
        for domain in domains:
            destination = self._destinations.of(domain)
            if limit > 0 and self._has_much_room(destination):
                rooms[domain] = self._room(destination)
                shared.setdefault(destination, []).append(domain)
            else:
                self._cut.add(destination)
        together = [(rooms[some[0]], some) for some in shared.values() if len(some) > 1]
        return Demand(limit, rooms, 0, together, rooms.keys(), domains)

    def taken(self, messages: Iterable[QueuedMessage], demand: Demand) -> list[QueuedMessage]:
        """
        What was found.

        @return: those that are too many. They are to be put back.
        """
        found = Counter(queued.domain for queued in messages)
        is_all = demand.domains is None
        self._more = found.total() == demand.limit or (self._more and not is_all)
        if len(self._cut) > MOST_DESTINATIONS:
            self._cut.clear()  # some are not known any more; the others are found among all
            self._more = True
        cut: dict[Destination, bool] = {}
        for domain in {*demand.rooms, *found}:
            destination = self._destinations.of(domain)
            all_of_it = found[domain] < demand.rooms.get(domain, demand.per_domain)
            cut[destination] = cut.get(destination, False) or not all_of_it
        for room, domains in demand.together:
            if sum(found[domain] for domain in domains) >= room:
                cut.update((self._destinations.of(domain), True) for domain in domains)
        for destination, is_cut in cut.items():
            if is_cut:
                self._cut.add(destination)
            elif is_all or destination.domains.keys() <= demand.rooms.keys():
                self._cut.discard(destination)
        return [queued for queued in messages if not self.add(queued)]

    def is_hungry(self, domains: Iterable[str] | None = None) -> bool:
        """
        Whether to look into the queue, where no mail has come.

        @param domains: whose destinations may have more room than before; None for all.
        """
        if self.wanted <= 0:
            return False
        if self._more and 2 * self.wanted >= self._most:
            return True
        some: Collection[Destination] = self._cut
        if domains is not None:
            some = self._cut.intersection(map(self._destinations.of, domains))
        return any(map(self._has_much_room, some))

    def hunger(self, destination: Destination | None) -> Collection[str] | None:
        """
        For which domains to look into the queue, now that one delivery has ended.

        @param destination: which has more room than before; None where all may.
        @return: None for all; often none.
        """
        if self.wanted <= 0:
            return ()
        if self._more and 2 * self.wanted >= self._most:
            return None
        if destination is None or self.forgets:
            return None if self.is_hungry() else ()
        if destination not in self._cut or not self._has_much_room(destination):
            return ()
        name = destination.domain
        return destination.domains if name is None or destination.domains else (name,)

    def _has_much_room(self, destination: Destination) -> bool:
        return 2 * self._room(destination) > destination.stock(self._seconds())

    def next_opening(self, domains: Collection[str] | None = None) -> float | None:
        """
        In how many seconds a rate allows what it forbids now.

        @param domains: to these; None to any.
        """
        return self._destinations.next_opening(domains)

    def _room(self, destination: Destination) -> int:
        now = self._seconds()
        room = destination.room(now) + destination.stock(now)
        return room - len(self._waiting.get(destination, ()))

    # -- what begins and ends ---------------------------------------------------------------------

    def add(self, queued: QueuedMessage) -> bool:
        """@return: it waits now; if not, too many do."""
        destination = self._destinations.of(queued.domain)
        if self._room(destination) <= 0:
            self._cut.add(destination)
            return False
        self._waiting.setdefault(destination, deque()).append(queued)
        self._ids.add(queued.id)
        return True

    def begin(self) -> Iterator[tuple[QueuedMessage, Slot]]:
        """All that may begin now, one by one."""
        while self.under_way < self._most:
            now = self._seconds()
            destination = next((one for one in self._waiting if one.room(now)), None)
            if destination is None:
                return
            messages = self._waiting.pop(destination)
            queued = messages.popleft()
            if messages:
                self._waiting[destination] = messages
            self._ids.discard(queued.id)
            destination.begin(now)
            self.under_way += 1
            yield queued, Slot(destination, destination.halvings)

    def move(self, slot: Slot, domain: str, host: str) -> bool:
        """
        The route of *domain* is known now.

        @param host: where it leads first.
        @return: there is room for the delivery. If not, the slot is of no destination.
        """
        before, destination = slot.destination, self._destinations.learn(domain, host)
        if before is None or destination is before:
            return before is not None
        before.take_back()
        if before in self._cut:
            self._cut.discard(before)
            self._cut.add(destination)
        if before.domain == domain:
            self._guessed.extend(self._waiting.pop(before, ()))
        now = self._seconds()
        if not destination.room(now):
            slot.destination = None
            return False
        destination.begin(now)
        slot.destination, slot.halvings = destination, destination.halvings
        return True

    def too_many(self) -> list[QueuedMessage]:
        """What waited for a destination that was but a guess, and has no place at the real one."""
        guessed, self._guessed = self._guessed, []
        self._ids.difference_update(queued.id for queued in guessed)
        return [queued for queued in guessed if not self.add(queued)]

    def end(self, slot: Slot, strained: bool | None) -> None:
        """@param strained: the host did; None where nothing was learned about it."""
        self.under_way -= 1
        destination = slot.destination
        if destination is None:
            return
        destination.end()
        if strained:
            destination.strained(slot.halvings)
        elif strained is not None:
            destination.pace.count(self._seconds())
            destination.succeeded()

    def forget(self) -> None:
        """What strained may be tried as if nothing were known of it."""
        self._destinations.forget()

    def surplus(self) -> list[QueuedMessage]:
        """
        What waits for destinations that are not as fast any more and takes the room of others.

        It does not wait any more.
        """
        if self.wanted > self._most:
            return []
        now, found = self._seconds(), []
        for destination, messages in self._waiting.items():
            places = destination.room(now) + destination.stock(now)
            while len(messages) > max(places, 1):
                found.append(messages.pop())
                self._cut.add(destination)
        self._ids.difference_update(queued.id for queued in found)
        return found

    @property
    def forgets(self) -> bool:
        """There are so many domains that what is learned of one is soon forgotten."""
        return self._destinations.is_full

    def returned(self, messages: Iterable[QueuedMessage]) -> None:
        """These are in the queue again, to be taken as soon as there is room."""
        self._cut.update(self._destinations.of(queued.domain) for queued in messages)

    def take_out(self, ids: Collection[str]) -> list[QueuedMessage]:
        """
        Those of *ids* do not wait here any more.

        @return: those that did.
        """
        if self._ids.isdisjoint(ids):
            return []
        found = []
        for destination, messages in tuple(self._waiting.items()):
            found += [queued for queued in messages if queued.id in ids]
            stay = deque(queued for queued in messages if queued.id not in ids)
            if stay:
                self._waiting[destination] = stay
            else:
                del self._waiting[destination]
        self._ids.difference_update(queued.id for queued in found)
        return found

    def drain(self) -> list[QueuedMessage]:
        """All that waits; it does not any more."""
        messages = [queued for some in self._waiting.values() for queued in some] + self._guessed
        self._waiting.clear()
        self._guessed = []
        self._ids.clear()
        return messages
