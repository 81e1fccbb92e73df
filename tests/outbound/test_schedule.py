"""Which message begins next."""

from collections import Counter

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.destinations import FIRST_WINDOW, MOST_STOCK, STOCK
from harakatls.outbound.limits import Limits, Rate
from harakatls.outbound.schedule import EXTRA, Schedule, Slot
from harakatls.queued import QueuedMessage
from harakatls.testing.values import queued_message

A, B = "a.example", "b.example"
UNKNOWN = FIRST_WINDOW * (1 + STOCK)  # how many are taken of a domain that is not known


class ScheduleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.number = 0
        self.make(20)

    def make(self, most: int, limits: Limits | None = None) -> None:
        self.schedule = Schedule(most, limits or Limits(), lambda: self.now)

    def message(self, domain: str) -> QueuedMessage:
        self.number += 1
        return evolve(queued_message(), id=f"M{self.number}", domain=domain)

    def add(self, domain: str, number: int) -> int:
        """@return: how many there was a place for."""
        return sum(self.schedule.add(self.message(domain)) for _ in range(number))

    def begun(self) -> list[tuple[str, Slot]]:
        """What begins now."""
        return [(queued.domain, slot) for queued, slot in self.schedule.begin()]

    def count(self) -> dict[str, int]:
        """The same, in numbers."""
        return dict(Counter(domain for domain, _ in self.begun()))

    def test_one_destination(self) -> None:
        """Five begin, ten wait; there is no place for more."""
        self.assertEqual(self.add(A, 100), UNKNOWN)
        self.assertEqual(self.count(), {A: FIRST_WINDOW})
        self.assertEqual(self.schedule.waiting, UNKNOWN - FIRST_WINDOW)

    def test_one_ends(self) -> None:
        """The next one begins, and the window grows."""
        self.add(A, UNKNOWN)
        slots = [slot for _, slot in self.begun()]
        for slot in slots:
            self.schedule.end(slot, False)
        self.assertEqual(self.count(), {A: FIRST_WINDOW + 1})

    def test_one_strains(self) -> None:
        """None begins until there is room in half the window."""
        self.add(A, UNKNOWN)
        slots = [slot for _, slot in self.begun()]
        for slot in slots[:3]:
            self.schedule.end(slot, True)
        self.assertEqual(self.count(), {})
        self.schedule.end(slots[3], None)
        self.assertEqual(self.count(), {A: 1})

    def test_in_turn(self) -> None:
        """Where there is room for few, all destinations have their turn."""
        self.make(4)
        for domain in (A, B):
            self.add(domain, UNKNOWN)
        begun = self.begun()
        self.assertEqual([domain for domain, _ in begun], [A, B, A, B])
        for _, slot in begun[:1] + begun[2:3]:
            self.schedule.end(slot, False)
        self.assertEqual(self.count(), {A: 1, B: 1})

    def test_one_that_is_full(self) -> None:
        """It does not keep another one from its turn."""
        self.add(A, UNKNOWN)
        self.begun()
        self.add(B, 1)
        self.assertEqual(self.count(), {B: 1})

    def test_the_way_is_known(self) -> None:
        """What leads to one host shares its room; for what is too much there is a place to wait."""
        slots = {}
        for domain in (A, B):
            self.add(domain, FIRST_WINDOW)
            slots[domain] = [slot for _, slot in self.begun()]
        self.assertTrue(all(self.schedule.move(slot, A, "mx") for slot in slots[A]))
        moved = [self.schedule.move(slot, B, "mx") for slot in slots[B]]
        self.assertEqual(moved, [False] * FIRST_WINDOW)
        for slot in slots[B]:
            self.schedule.end(slot, None)
        self.assertEqual(self.add(B, FIRST_WINDOW), FIRST_WINDOW)
        self.assertEqual(self.count(), {})
        self.schedule.end(slots[A][0], None)
        self.assertEqual(self.count(), {B: 1})
        self.assertEqual(self.schedule.under_way, FIRST_WINDOW)

    def test_what_waits_moves(self) -> None:
        """With the first message whose way is known."""
        self.add(A, UNKNOWN)
        self.add(B, UNKNOWN)
        begun = self.begun()
        for domain, slot in begun:
            self.schedule.move(slot, domain, "mx")
        self.assertEqual(len(self.schedule.too_many()), FIRST_WINDOW * STOCK)
        self.assertEqual(self.schedule.waiting, FIRST_WINDOW * STOCK)
        for _, slot in begun:
            self.schedule.end(slot, None)
        self.assertEqual(sum(self.count().values()), FIRST_WINDOW)
        self.assertEqual(self.schedule.drain()[0].domain, A)
        self.assertEqual(self.schedule.waiting, 0)

    def test_a_place_is_given_up(self) -> None:
        """The guess of a destination is not counted when the way is known."""
        self.add(A, 1)
        ((_, slot),) = self.begun()
        self.assertTrue(self.schedule.move(slot, A, "mx1"))
        self.assertTrue(self.schedule.move(slot, A, "mx1"))
        self.assertTrue(self.schedule.move(slot, A, "mx2"))
        self.schedule.end(slot, False)
        self.assertEqual(self.schedule.under_way, 0)
        self.assertEqual(self.add(A, 100), UNKNOWN)
        self.assertEqual(self.count(), {A: FIRST_WINDOW})

    def test_rate(self) -> None:
        """As many as the rate allows, none beforehand, and it tells when to go on."""
        self.make(20, Limits(rates={A: Rate(6, 60.0)}))
        self.assertEqual(self.add(A, 9), 1)
        self.assertEqual(self.count(), {A: 1})
        self.assertEqual(self.schedule.demand().rooms, {A: 0})
        self.assertEqual(self.schedule.next_opening(), 10.0)
        self.now = 10.0
        self.assertEqual(self.schedule.demand().rooms, {A: 1})


class StockTests(ScheduleTests):
    """How many messages wait here."""

    def deliver(self, domain: str, number: int) -> None:
        """At once."""
        for _ in range(number):
            self.add(domain, 1)
            for _, slot in self.begun():
                self.schedule.end(slot, False)

    def test_a_fast_one(self) -> None:
        """More wait for it, and no more than for half a second, nor than MOST_STOCK."""
        usual = 10 * (1 + STOCK)
        self.deliver(A, 60)
        self.deliver(B, 1000)
        self.assertEqual(self.schedule.demand().rooms, {A: 10 + 60, B: 10 + MOST_STOCK})
        self.now = 1.0
        self.assertEqual(self.schedule.demand().rooms, {A: 10 + 30, B: 10 + MOST_STOCK})
        self.now = 3.0
        self.assertEqual(self.schedule.demand().rooms, {A: usual, B: usual})

    def test_it_is_fast_no_more(self) -> None:
        """What has begun to wait for it goes back where others need the room."""
        self.deliver(A, 1000)
        self.add(A, MOST_STOCK)
        self.begun()
        self.now = 9.0
        self.assertEqual(self.schedule.surplus(), [])
        for number in range(EXTRA - MOST_STOCK + 20):
            self.add(f"{number}.example", 1)
        back = self.schedule.surplus()
        self.assertEqual({queued.domain for queued in back}, {A})
        self.assertEqual(len(back), MOST_STOCK - 10 * (1 + STOCK))
        self.assertFalse(any(self.schedule.holds(queued.id) for queued in back))
        self.assertEqual(self.schedule.surplus(), [])


class HungerTests(ScheduleTests):
    """When the queue is asked for more."""

    def take(self, *messages: QueuedMessage) -> int:
        """As the runner does, with what the queue has given. @return: how many were too many."""
        return len(self.schedule.taken(messages, self.schedule.demand()))

    def test_not_before_there_was_any(self) -> None:
        """Nor where the queue had less than there was room for."""
        self.assertFalse(self.schedule.is_hungry())
        self.take(self.message(A))
        self.assertFalse(self.schedule.is_hungry())

    def test_what_was_cut_off(self) -> None:
        """When half of what waited has begun, and not before."""
        self.make(50)
        self.take(*[self.message(A) for _ in range(UNKNOWN)])
        begun = self.begun()
        self.assertFalse(self.schedule.is_hungry())
        ends = 0
        while not self.schedule.hunger(begun[0][1].destination):
            self.schedule.end(begun.pop(0)[1], None)
            begun += self.begun()
            ends += 1
        self.assertEqual(ends, FIRST_WINDOW + 1)
        self.assertEqual(self.schedule.demand().rooms[A], ends)

    def test_another_end(self) -> None:
        """It is no reason to ask for what there is no room for."""
        self.make(50)
        self.take(*[self.message(A) for _ in range(UNKNOWN)], self.message(B))
        slots = dict(self.begun())
        self.schedule.end(slots[B], False)
        self.assertEqual(self.schedule.hunger(slots[B].destination), ())

    def test_all_was_cut_off(self) -> None:
        """Where there was more of anything than is wanted at all."""
        self.make(4)
        self.take(*[self.message(f"{number}.example") for number in range(8 + EXTRA)])
        self.assertEqual(self.schedule.wanted, 0)
        begun = self.begun()
        hungry = []
        for _ in range(4):
            self.schedule.end(begun.pop(0)[1], None)
            begun += self.begun()
            hungry.append(self.schedule.is_hungry())
        self.assertEqual(hungry, [False, True, True, True])

    def test_too_many(self) -> None:
        """Of domains that lead to one host more may come than it has places: they are put back."""
        self.make(50)
        domains = [f"{number}.example" for number in range(40)]
        for domain in domains:
            self.add(domain, 1)
        for domain, slot in self.begun():
            self.schedule.move(slot, domain, "mx")
            self.schedule.end(slot, None)
        self.assertEqual(set(self.schedule.demand().rooms.values()), {UNKNOWN // 4})
        ((room, together),) = self.schedule.demand().together
        self.assertEqual((room, set(together)), (UNKNOWN, set(domains)))
        self.assertEqual(self.take(*[self.message(domain) for domain in domains]), 40 - UNKNOWN)
