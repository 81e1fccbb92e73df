"""How much may be under way to one destination."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.destinations import (
    FIRST_WINDOW,
    MOST_DESTINATIONS,
    MOST_DOMAINS,
    Destination,
    Destinations,
)
from harakatls.outbound.limits import Limits, Rate


class WindowTests(SynchronousTestCase):
    """How many at once."""

    def test_it_grows_with_success(self) -> None:
        """By one with as many successes as it is, up to the limit."""
        one = Destination("mx.example", 10, 5)
        windows = []
        for _ in range(60):
            one.succeeded()
            windows.append(one.window)
        self.assertEqual(windows[:12], [5] * 4 + [6] * 6 + [7, 7])
        self.assertEqual(windows[-1], 10)

    def test_it_is_halved(self) -> None:
        """Once for all that began together, and never to nothing."""
        one = Destination("mx.example", 10, 10)
        began = one.halvings
        for _ in range(10):
            one.strained(began)
        self.assertEqual(one.window, 5)
        windows = []
        for _ in range(4):
            one.strained(one.halvings)
            windows.append(one.window)
        self.assertEqual(windows, [2, 1, 1, 1])

    def test_room(self) -> None:
        """What is under way does not count as room, also where the window has shrunk meanwhile."""
        one = Destination("mx.example", 10, 3)
        for _ in range(2):
            one.begin(0.0)
        self.assertEqual(one.room(0.0), 1)
        one.strained(one.halvings)
        self.assertEqual(one.room(0.0), 0)
        one.end()
        one.end()
        self.assertEqual(one.room(0.0), 1)


class RateTests(SynchronousTestCase):
    """How many in a time."""

    def sent(self, rate: Rate, seconds: int) -> int:
        """How many begin if as many as possible do, looked at each tenth of a second."""
        one = Destination("mx.example", 1000, 1000, rate, saved=rate.most_at_once)
        count = 0
        for tenth in range(seconds * 10):
            now = tenth / 10
            while one.room(now):
                one.begin(now)
                one.end()
                count += 1
        return count

    def test_never_more(self) -> None:
        """Evenly, and never more than a second's worth above the rate."""
        self.assertLessEqual(self.sent(Rate(60, 60.0), 60), 61)
        self.assertGreaterEqual(self.sent(Rate(60, 60.0), 60), 59)
        self.assertLessEqual(self.sent(Rate(100, 1.0), 10), 1100)
        self.assertEqual(self.sent(Rate(1, 3600.0), 1800), 1)

    def test_when(self) -> None:
        """When the next one may begin."""
        one = Destination("mx.example", 10, 10, Rate(6, 60.0), saved=1.0)
        self.assertIsNone(one.opens(0.0))
        one.begin(0.0)
        self.assertEqual(one.opens(0.0), 10.0)
        self.assertEqual(one.opens(4.0), 6.0)
        self.assertIsNone(one.opens(10.0))

    def test_what_went_elsewhere(self) -> None:
        """It is not counted."""
        one = Destination("mx.example", 10, 10, Rate(1, 60.0), saved=1.0)
        one.begin(0.0)
        self.assertEqual(one.room(0.0), 0)
        one.take_back()
        self.assertEqual(one.room(0.0), 1)


class DestinationsTests(SynchronousTestCase):
    """Which destinations there are."""

    def setUp(self) -> None:
        self.now = 0.0

    def make(self, limits: Limits | None = None) -> Destinations:
        return Destinations(limits or Limits(), lambda: self.now)

    def test_a_domain_until_it_is_known(self) -> None:
        """Each domain counts for itself; those that lead to one host count together then."""
        known = self.make()
        first, second = known.of("a.example"), known.of("b.example")
        self.assertIsNot(first, second)
        host = known.learn("a.example", "mx.example")
        self.assertIs(known.learn("b.example", "mx.example"), host)
        self.assertIs(known.of("a.example"), host)
        self.assertEqual(list(host.domains), ["a.example", "b.example"])

    def test_a_domain_that_moves(self) -> None:
        """A route may change."""
        known = self.make()
        before = known.learn("a.example", "mx1.example")
        after = known.learn("a.example", "mx2.example")
        self.assertEqual((list(before.domains), list(after.domains)), ([], ["a.example"]))
        self.assertIs(known.of("a.example"), after)

    def test_a_domain_is_no_host(self) -> None:
        """A domain and a host of the same name are two things."""
        known = self.make()
        self.assertIsNot(known.of("example.com"), known.learn("other.example", "example.com"))

    def test_limits(self) -> None:
        """Of the host, with any port; a domain with a line of its own counts for itself."""
        limits = Limits(
            7,
            {"mx.example": 3, "big.example": 50, "192.0.2.1": 2},
            {"slow.example": Rate(1, 60.0)},
        )
        known = self.make(limits)
        self.assertEqual(known.learn("a.example", "mx.example").limit, 3)
        self.assertEqual(known.learn("b.example", "mx.example:2525").limit, 3)
        self.assertEqual(known.learn("c.example", "192.0.2.1").limit, 2)
        self.assertEqual(known.learn("d.example", "any.example").limit, 7)
        big = known.learn("big.example", "mx.example")
        self.assertEqual((big.name, big.limit, big.window), ("@big.example", 50, FIRST_WINDOW))
        self.assertIsNotNone(known.learn("slow.example", "mx.example").rate)

    def test_rooms(self) -> None:
        """Domains that lead to one host share its room; none where there is none."""
        known = self.make()
        for domain in ("a.example", "b.example"):
            known.learn(domain, "mx.example")
        known.of("c.example")
        rooms = known.rooms(lambda one: 6 if one.domain is None else 9, 15)
        self.assertEqual(rooms, {"a.example": 3, "b.example": 3, "c.example": 9})
        self.assertEqual(set(known.rooms(lambda _: 0, 15).values()), {0})

    def test_together(self) -> None:
        """One domain of many gets a part of the room, and all of them no more than it."""
        known = self.make()
        for number in range(40):
            known.learn(f"{number}.example", "mx.example")
        known.learn("alone.example", "other.example")
        self.assertEqual(set(known.rooms(lambda _: 12, 12).values()), {3})
        ((room, domains),) = known.together(lambda _: 12)
        self.assertEqual((room, len(domains)), (12, 40))

    def test_as_any_other(self) -> None:
        """What is as if nothing were known is not named; there may be thousands of such."""
        known = self.make()
        known.learn("a.example", "mx.example")
        self.assertEqual(known.rooms(lambda _: 15, 15), {})
        known.learn("b.example", "mx.example")
        self.assertEqual(known.rooms(lambda _: 15, 15), {"a.example": 7, "b.example": 7})

    def test_what_was_a_guess(self) -> None:
        """When it is known where a domain leads, it does not count for itself any more."""
        known = self.make()
        known.of("a.example")
        known.learn("a.example", "mx.example")
        self.assertEqual(
            known.rooms(lambda one: 0 if one.domain is None else 9, 15), {"a.example": 0}
        )

    def test_bounds(self) -> None:
        """However many domains there are, memory is bounded; what is under way is not forgotten."""
        known = self.make()
        busy = known.learn("busy.example", "busy-mx.example")
        busy.begin(0.0)
        for number in range(MOST_DOMAINS + MOST_DESTINATIONS):
            known.learn(f"d{number}.example", f"mx{number}.example")
        self.assertLessEqual(len(known.rooms(lambda _: 1, 15)), MOST_DESTINATIONS)
        self.assertIs(known.learn("another.example", "busy-mx.example"), busy)

    def test_a_rate_is_not_forgotten(self) -> None:
        """However many others there are meanwhile, what was sent counts."""
        known = Destinations(Limits(rates={"slow.example": Rate(1, 86400.0)}), lambda: 0.0)
        slow = known.learn("slow.example", "mx.example")
        slow.begin(0.0)
        slow.end()
        for number in range(MOST_DOMAINS + MOST_DESTINATIONS):
            known.learn(f"d{number}.example", f"mx{number}.example")
        self.assertEqual(known.of("slow.example").room(0.0), 0)
        self.assertLessEqual(len(known.rooms(lambda _: 1, 15)), MOST_DESTINATIONS)

    def test_forgetting(self) -> None:
        """A flush lets what strained begin as if nothing were known; what has grown stays."""
        known = self.make()
        one, other = known.learn("a.example", "mx1"), known.learn("b.example", "mx2")
        for _ in range(3):
            one.strained(one.halvings)
        for _ in range(40):
            other.succeeded()
        known.forget()
        self.assertEqual((one.window, other.window), (FIRST_WINDOW, 10))
