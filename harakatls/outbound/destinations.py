"""
How much may be under way to each destination, so that none holds up another and none is overrun.

A destination is the host to which a route leads first: many domains may lead to one. Where a domain
leads is learned when its first message is routed; until then it counts as its own destination.

Each begins with a few deliveries at once. That number grows by one with as many successes as it
is, and is halved when the host strains: it cannot be reached, breaks off, or says 4yz to the
greeting or MAIL. Nothing here knows messages, or the network.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection

from attrs import define, field

from harakatls.outbound.limits import Limits, Rate

FIRST_WINDOW = 5  # deliveries at once to a destination of which nothing is known
STOCK = 2  # messages that wait for it, for each that may be under way, ...
AHEAD = 0.5  # ... or as many as it takes in so many seconds, ...
MOST_STOCK = 200  # ... but no more than these
MOST_DOMAINS = 5000  # whose destination is remembered
MOST_SHARES = 4  # one domain gets so large a part of the room at once that many share
MOST_DESTINATIONS = 2000  # of which more is remembered than that they are


@define
class Pace:
    """How many messages a second have been taken of late."""

    _since: float = 0.0
    _count: int = 0
    _before: float = 0.0

    def count(self, now: float) -> None:
        """One more."""
        self._turn(now)
        self._count += 1

    def at(self, now: float) -> float:
        """Messages a second."""
        self._turn(now)
        return max(self._before, self._count / AHEAD)

    def _turn(self, now: float) -> None:
        passed = now - self._since
        if not 0 <= passed < AHEAD:
            # After a pause nothing is known.
            self._before = self._count / passed if 0 < passed < 4 * AHEAD else 0.0
            self._since, self._count = now, 0


@define(eq=False)
class Destination:
    """
    @ivar limit: deliveries at once when all is well.
    @ivar window: deliveries at once now.
    @ivar under_way: deliveries now.
    @ivar halvings: how often the window was halved.
    @ivar saved: messages that the rate allows.
    @ivar domains: that are known to lead here.
    """

    name: str
    limit: int
    window: int
    rate: Rate | None = None
    under_way: int = 0
    halvings: int = 0
    saved: float = 0.0
    domains: dict[str, None] = field(factory=dict)
    pace: Pace = field(factory=Pace)
    _successes: int = 0
    _counted: float = 0.0  # when that was

    @property
    def domain(self) -> str | None:
        """The one that counts for itself; None for a host."""
        return self.name[1:] if self.name.startswith("@") else None

    def room(self, now: float) -> int:
        """How many deliveries may begin."""
        room = max(self.window - self.under_way, 0)
        return room if self.rate is None else min(room, int(self._allowance(now)))

    def stock(self, now: float) -> int:
        """How many messages may wait for it: a fast one must not wait for the queue."""
        if self.rate is not None:
            return 0
        return max(self.window * STOCK, min(int(self.pace.at(now) * AHEAD), MOST_STOCK))

    def opens(self, now: float) -> float | None:
        """In how many seconds the rate allows what it forbids now; None where it does not."""
        if self.rate is None:
            return None
        missing = 1.0 - self._allowance(now)
        return missing * self.rate.seconds / self.rate.messages if missing > 0 else None

    def begin(self, now: float) -> None:
        """One more delivery."""
        self.under_way += 1
        if self.rate is not None:
            self.saved = self._allowance(now) - 1.0
            self._counted = now

    def end(self) -> None:
        """One less."""
        self.under_way -= 1

    def take_back(self) -> None:
        """One was begun that is not for this destination."""
        self.under_way -= 1
        if self.rate is not None:
            self.saved += 1.0

    def succeeded(self) -> None:
        """The host took a message, or refused it for what it was."""
        if self.window >= self.limit:
            return
        self._successes += 1
        if self._successes >= self.window:
            self._successes = 0
            self.window += 1

    def strained(self, halvings: int) -> None:
        """@param halvings: when the delivery began: what has begun together counts once."""
        if halvings == self.halvings:
            self.halvings += 1
            self._successes = 0
            self.window = max(self.window // 2, 1)

    def _allowance(self, now: float) -> float:
        assert self.rate is not None
        grown = max(now - self._counted, 0.0) * self.rate.messages / self.rate.seconds
        return min(self.saved + grown, self.rate.most_at_once)


class Destinations:
    """All that something is known of."""

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        self._known: OrderedDict[str, Destination] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()  # of destinations, by domain

    def of(self, domain: str) -> Destination:
        """Where mail for *domain* goes, as far as that is known."""
        name = self._names.get(domain)
        if name is None:
            return self._named(f"@{domain}")
        self._names.move_to_end(domain)
        return self._named(name)

    def learn(self, domain: str, host: str) -> Destination:
        """@param host: to which the route of *domain* leads first."""
        name = f"@{domain}" if self._limits.names(domain) else host
        before = self._names.pop(domain, None)
        if before is not None and before != name:
            self._forget_domain(domain, before)
        self._names[domain] = name
        if len(self._names) > MOST_DOMAINS:
            self._forget_domain(*self._names.popitem(last=False))
        destination = self._named(name)
        destination.domains[domain] = None
        return destination

    def rooms(self, wanted: Callable[[Destination], int], usual: int) -> dict[str, int]:
        """
        How many more messages for each domain may be taken, where that is not as for any other.

        @param wanted: the same for a destination.
        @param usual: for one of which nothing is known.
        """
        rooms: dict[str, int] = {}
        for destination in self._known.values():
            room = max(wanted(destination), 0)
            domains = destination.domains
            if room == usual and len(domains) < 2:
                continue
            if domains:
                # Most of them may have no mail at all.
                each = max(room // min(len(domains), MOST_SHARES), 1) if room else 0
                rooms.update(dict.fromkeys(domains, each))
            elif (domain := destination.domain) is not None and domain not in self._names:
                rooms[domain] = room
        return rooms

    def together(self, wanted: Callable[[Destination], int]) -> list[tuple[int, Collection[str]]]:
        """How many more messages for domains that lead to one host, in all; as for `rooms`."""
        return [
            (max(wanted(one), 0), one.domains)
            for one in self._known.values()
            if len(one.domains) > 1
        ]

    @property
    def is_full(self) -> bool:
        """A domain that is learned makes another one forgotten."""
        return len(self._names) >= MOST_DOMAINS

    def next_opening(self, domains: Collection[str] | None = None) -> float | None:
        """
        In how many seconds a rate allows more of what it forbids now.

        @param domains: to these; None to any.
        """
        now = self._seconds()
        some = self._known.values() if domains is None else map(self.of, domains)
        waits = (one.opens(now) for one in some if one.rate is not None)
        return min((wait for wait in waits if wait is not None), default=None)

    def forget(self) -> None:
        """What strained is tried anew; what is under way stays counted."""
        for destination in tuple(self._known.values()):
            destination.window = max(destination.window, min(FIRST_WINDOW, destination.limit))

    def _named(self, name: str) -> Destination:
        destination = self._known.get(name)
        if destination is not None:
            self._known.move_to_end(name)
            return destination
        plain = name.removeprefix("@")
        host = plain.rpartition(":")[0] or plain
        limits = self._limits
        limit = limits.concurrency.get(plain, limits.concurrency.get(host, limits.usual))
        rate = limits.rates.get(plain, limits.rates.get(host))
        saved = rate.most_at_once if rate is not None else 0.0
        destination = Destination(name, limit, min(FIRST_WINDOW, limit), rate, saved=saved)
        self._known[name] = destination
        if len(self._known) > MOST_DESTINATIONS:
            self._make_room()
        return destination

    def _make_room(self) -> None:
        """
        Forget the one not heard of for longest to which nothing is under way.

        Not one with a rate, which would begin anew; the configuration has few of these.
        """
        for name, destination in self._known.items():
            if not destination.under_way and destination.rate is None:
                del self._known[name]
                for domain in destination.domains:
                    self._names.pop(domain, None)
                return

    def _forget_domain(self, domain: str, name: str) -> None:
        destination = self._known.get(name)
        if destination is not None:
            destination.domains.pop(domain, None)
