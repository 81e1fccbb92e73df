"""Which messages are claimed next, when there are more than are looked at in one go."""

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from harakatls.spool import picking, sqlite
from harakatls.spool.memory import MemorySpool
from harakatls.spool.sqlite import SQLiteSpool
from tests.contracts.spool import ARRIVED
from tests.spool.support import SQLiteCase, new_directory, open_here

FULL = {"big.example": 0}


class SmallCase(SQLiteCase):
    """With small windows and steps, so that few messages are many."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(picking, "WINDOW", 4)
        self.patch(picking, "STEPS", 3)
        self.now = 0.0
        self.spool._ledger.picker._seconds = self.seconds

    def seconds(self) -> float:
        """Each look at the clock finds it a second on."""
        self.now += 1.0
        return self.now

    def queue_for(self, domain: str, count: int = 1) -> None:
        """Messages with ids of the domain's name and a number."""
        for number in range(count):
            self.queue(f"{domain.partition('.')[0]}-{number}", f"to@{domain}")
            self.clock.advance(1)


class PickingTests(SmallCase):
    """Claims from a long queue."""

    def test_behind_a_full_domain(self) -> None:
        """Mail for others is found behind any number of messages for a domain at its limit."""
        self.queue_for("big.example", 30)
        for name in "abcdefgh":
            self.queue_for(f"{name}.example")
        self.assertEqual(
            self.claim_ids(rooms=FULL, per_domain=1), [f"{name}-0.1" for name in "abcdefgh"]
        )
        self.assertEqual(len(self.claim_ids()), 30)

    def test_a_group_behind_a_full_domain(self) -> None:
        """The room that domains share is shared behind it, too, and by several looks."""
        self.queue_for("big.example", 30)
        for name in "abcdefgh":
            self.queue_for(f"{name}.example", 2)
        together = [(5, [f"{name}.example" for name in "bcdef"])]
        found = self.claim_ids(rooms=FULL, together=together)
        domains = [message_id[0] for message_id in found]
        self.assertEqual(sum(domains.count(name) for name in "bcdef"), 5)
        self.assertEqual([domains.count(name) for name in "agh"], [2, 2, 2])

    def test_before_and_behind(self) -> None:
        """Names before and behind that of the full domain are found alike, and the empty one."""
        self.queue_for("m.example", 9)
        for name in ("z.example", "b.example", "a.example", "xn--bcher-kva.example"):
            self.queue_for(name)
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET domain = '' WHERE domain = 'b.example'")
        found = self.claim_ids(rooms={"m.example": 0})
        self.assertEqual(sorted(found), ["a-0.1", "b-0.1", "xn--bcher-kva-0.1", "z-0.1"])

    def test_turns(self) -> None:
        """Where there is room for few, no domain is passed over for ever."""
        self.queue_for("big.example", 5)
        for name in "abcde":
            self.queue_for(f"{name}.example", 3)
        found = [self.claim_ids(1, rooms=FULL) for _ in range(15)]
        self.assertEqual([ids[0][0] for ids in found], list("abcde" * 3))
        self.assertEqual(self.claim_ids(1, rooms=FULL), [])

    def test_only_what_is_due(self) -> None:
        """Domains whose mail is not due are passed over."""
        for name in "abcdefgh":
            self.queue_for(f"{name}.example")
        for queued in self.claim():
            due = ARRIVED if queued.domain == "g.example" else ARRIVED + 10_000
            self.settle(evolve(queued, due=due))
        self.queue_for("big.example", 9)
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET due = 0 WHERE domain = 'big.example'")
        self.assertEqual(self.claim_ids(rooms=FULL), ["g-0.1"])
        self.assertEqual(self.claim_ids(rooms=FULL), [])

    def test_much_mail_for_all(self) -> None:
        """More than one window is taken where nothing stands against it."""
        for name in "abcdefgh":
            self.queue_for(f"{name}.example", 3)
        self.assertEqual(len(self.claim_ids(24)), 24)

    def test_rest(self) -> None:
        """What cannot be had is not looked for over and over; new mail is found soon."""
        self.queue_for("big.example", 9)
        self.assertEqual(self.claim_ids(rooms=FULL), [])  # a round of some seconds
        self.queue_for("a.example")
        self.assertEqual(self.claim_ids(rooms=FULL), [])
        self.assertEqual(self.next_due("big.example"), ARRIVED + 3)  # too early, but not never
        self.now += 100.0
        self.assertEqual(self.claim_ids(rooms=FULL), ["a-0.1"])

    def test_broken_takes_no_place(self) -> None:
        """A message that cannot be read takes no place of one that can, and no room."""
        self.queue_for("big.example", 5)
        self.queue_for("a.example", 3)
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET message = '' WHERE id = 'a-0.1'")
        self.assertEqual(self.claim_ids(rooms={**FULL, "a.example": 2}), ["a-1.1", "a-2.1"])
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET message = '' WHERE id < 'big-4'")
        self.assertEqual(self.claim_ids(1, per_domain=1), ["big-4.1"])

    def test_domains_that_are_no_text(self) -> None:
        """A name that was damaged holds up nothing."""
        self.queue_for("big.example", 5)
        self.queue_for("b.example")
        self.queue_for("z.example")
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET domain = x'ff00ff' WHERE domain = 'b.example'")
        self.assertEqual(self.claim_ids(1, rooms=FULL), ["z-0.1"])
        self.assertEqual(self.claim_ids(rooms=FULL), [])
        self.assertEqual(len(self.claim_ids(per_domain=5)), 6)

    def test_next_due_behind_a_full_domain(self) -> None:
        """The time may be too early, never too late."""
        self.queue_for("big.example", 5)
        self.queue_for("a.example")
        due = self.next_due("big.example")
        assert due is not None
        self.assertLessEqual(due, ARRIVED + 5)


class SliceTests(SmallCase):
    """Changes of many messages."""

    def test_in_slices(self) -> None:
        """Mail that comes in while many messages are hastened is committed in between."""
        self.queue_for("big.example", 10)
        for queued in self.claim():
            self.settle(evolve(queued, due=ARRIVED + 99))
        transactions: list[str] = []
        self.spool.writer._connection.set_trace_callback(transactions.append)
        self.patch(sqlite, "_SLICE", 4)
        self.assertEqual(self.run_to_end(self.spool.flush()), 10)
        self.assertEqual(transactions.count("COMMIT"), 3)


class LikeTheOtherTests(SmallCase):
    """The two queues against each other."""

    @given(
        st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 3)), max_size=40),
        st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 3)),
        st.one_of(st.none(), st.integers(0, 3)),
    )
    @settings(max_examples=60)
    def test_same_room_for_each(
        self, mail: list[tuple[str, int]], rooms: dict[str, int], per_domain: int | None
    ) -> None:
        """With room for all, each domain gets the same from the durable queue as from the other."""
        both: list[SQLiteSpool | MemorySpool] = [self.new(), MemorySpool(self.clock)]
        found = []
        for spool in both:
            self.spool = spool  # type: ignore[assignment]
            for number, (domain, delay) in enumerate(mail):
                self.queue(f"{number}", f"to@{domain}")
                if delay:
                    [queued] = self.claim(1, domains=[domain])
                    self.settle(evolve(queued, due=self.clock.seconds() + delay))
            claimed = self.run_to_end(
                spool.claim(self.clock.seconds() + 2, 100, rooms=rooms, per_domain=per_domain)
            )
            found.append(sorted((queued.domain, queued.due) for queued in claimed))
            self.run_to_end(spool.close())
        self.assertEqual(*found)

    def new(self) -> SQLiteSpool:
        """An empty queue."""
        spool = open_here(new_directory(self.addCleanup), self.clock)
        spool._ledger.picker._seconds = self.seconds
        return spool
