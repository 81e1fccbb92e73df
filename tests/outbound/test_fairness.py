"""No destination holds up another, whatever becomes of it and however much waits for it."""

from collections import Counter
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from harakatls.interfaces import SpoolFull
from harakatls.outbound.claiming import MOST_NAMED, PUT_BACK
from harakatls.outbound.delivery import Admit, Result
from harakatls.outbound.destinations import FIRST_WINDOW, STOCK
from harakatls.outbound.limits import Limits, Rate
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delivered, QueuedMessage
from harakatls.testing.values import NEXT_HOP, envelope
from tests.outbound.runner_case import ME, OK, RunnerTestCase

SILENT, FAST = "silent.example", "fast.example"
AT_HAND = FIRST_WINDOW * (1 + STOCK)


class Hosts:
    """
    In place of `Delivery`: hosts by domain, of which some never answer.

    @ivar ways: domains that lead to a host of another name.
    """

    def __init__(self, *silent: str) -> None:
        self.silent = set(silent)
        self.ways: dict[str, str] = {}
        self.pending: dict[str, list[Deferred[None]]] = {}
        self.tried: list[str] = []
        self.delivered: Counter[str] = Counter()
        self.forgotten = 0

    async def attempt(self, queued: QueuedMessage, admit: Admit) -> Result:
        host = self.ways.get(queued.domain, queued.domain)
        if not admit(host):
            return Result((), postponed=True)
        self.tried.append(queued.domain)
        if host in self.silent:
            answer: Deferred[None] = Deferred()
            self.pending.setdefault(host, []).append(answer)
            try:
                await answer
            except CancelledError:
                return Result((), interrupted=True)
        self.delivered[queued.domain] += 1
        outcomes = tuple(Delivered(one, OK, NEXT_HOP) for one in queued.pending)
        return Result(outcomes, strained=False)

    def answer(self, host: str, number: int = 1) -> None:
        """The oldest attempts come to their end."""
        for _ in range(number):
            self.pending[host].pop(0).callback(None)

    def forget_failures(self) -> None:
        self.forgotten += 1

    def close(self) -> None:
        """Nothing is open."""


class FairnessTests(RunnerTestCase):
    """The runner, the memory spool, and hosts of two kinds."""

    def begin(self, hosts: Hosts, **settings: Any) -> None:
        self.hosts = hosts
        self.runner = QueueRunner(
            self.spool, self.observed, hosts, OutboundSettings(**settings), ME, self.clock
        )
        self.runner.startService()

    def put(self, domain: str, number: int) -> None:
        for _ in range(number):
            self.queue(envelope(recipients=[f"x@{domain}"]))

    def test_due_when_there_is_room_again(self) -> None:
        """What falls due a moment after its destination was full is not left for a minute."""
        self.put(SILENT, 2 + STOCK)
        *_, row = self.spool._rows.values()
        row.queued = evolve(row.queued, due=self.clock.seconds() + 2)
        self.spool._wait(row)
        self.begin(Hosts(SILENT), limits=Limits(usual=1))
        for _ in range(1 + STOCK):
            self.hosts.answer(SILENT)
        self.assertEqual(self.hosts.delivered[SILENT], 1 + STOCK)
        self.clock.advance(2)
        self.hosts.answer(SILENT)
        self.assertEqual(self.hosts.delivered[SILENT], 2 + STOCK)

    def test_a_silent_destination(self) -> None:
        """A thousand messages for it wait; mail for another one is delivered at once."""
        self.put(SILENT, 1000)
        self.put(FAST, 300)
        self.begin(Hosts(SILENT), concurrency_max=20)
        self.assertEqual(self.hosts.delivered, {FAST: 300})
        self.assertEqual(self.hosts.tried.count(SILENT), FIRST_WINDOW)
        self.put(FAST, 1)
        self.assertEqual(self.hosts.delivered, {FAST: 301})

    def test_it_speaks_again(self) -> None:
        """What waits follows, more at once with time, and all of it."""
        self.put(SILENT, 100)
        self.begin(Hosts(SILENT), concurrency_max=20)
        most = 0
        while pending := self.hosts.pending[SILENT]:
            most = max(most, len(pending))
            self.hosts.answer(SILENT)
        self.assertEqual(self.hosts.delivered, {SILENT: 100})
        self.assertEqual(most, 10)

    def test_new_mail_for_it(self) -> None:
        """It is left in the queue, without any look at it for each message."""
        claim = self.spool.claim
        claims: list[object] = []

        async def counted(now: float, limit: int, **which: Any) -> tuple[QueuedMessage, ...]:
            claims.append(which)
            return await claim(now, limit, **which)

        self.spool.claim = counted  # type: ignore[method-assign]
        self.begin(Hosts(SILENT), concurrency_max=20)
        self.put(SILENT, 200)
        at_hand = sum(row.claimed for row in self.spool._rows.values())
        self.assertGreater(at_hand, FIRST_WINDOW)
        self.assertLessEqual(at_hand, AT_HAND)
        self.assertLessEqual(len(claims), AT_HAND + 1)

    def test_new_mail_that_has_to_wait(self) -> None:
        """It follows as soon as the host takes mail, not at the next look at the whole queue."""
        self.begin(Hosts(SILENT), concurrency_max=20)
        self.put(SILENT, 200)
        for _ in range(200):
            self.hosts.answer(SILENT)
        self.assertEqual(self.hosts.delivered, {SILENT: 200})

    def test_new_mail_behind_a_rate(self) -> None:
        """It goes as soon as the rate allows it, not at the next look at the whole queue."""
        hosts = Hosts("none.example")
        self.begin(hosts, limits=Limits(rates={FAST: Rate(1, 10.0)}))
        self.put(FAST, 1)
        self.clock.advance(1)
        self.put(FAST, 1)
        self.assertEqual(hosts.delivered, {FAST: 1})
        self.clock.advance(9.1)
        self.assertEqual(hosts.delivered, {FAST: 2})

    def test_new_mail_for_many_domains(self) -> None:
        """One message for more domains than are looked for by name reaches all of them at once."""
        self.begin(Hosts("none.example"))
        domains = [f"d{number}.example" for number in range(2 * MOST_NAMED)]
        self.queue(envelope(recipients=[f"x@{domain}" for domain in domains]))
        self.assertEqual(self.hosts.delivered, dict.fromkeys(domains, 1))

    def test_domains_of_one_host(self) -> None:
        """Many domains at a silent host are one destination: what is too much is put back."""
        hosts = Hosts("mx.silent.example")
        domains = [f"d{number}.example" for number in range(60)]
        hosts.ways = dict.fromkeys(domains, "mx.silent.example")
        for domain in domains:
            self.put(domain, 3)
        self.put(FAST, 100)
        self.begin(hosts, concurrency_max=20)
        self.clock.pump([PUT_BACK] * 40)
        self.assertEqual(hosts.delivered[FAST], 100)
        self.assertEqual(len(hosts.pending["mx.silent.example"]), FIRST_WINDOW)
        for _ in range(400):
            if hosts.pending["mx.silent.example"]:
                hosts.answer("mx.silent.example")
            self.clock.advance(1.0)
        self.assertEqual(hosts.delivered.total(), 60 * 3 + 100)
        self.assertEqual([queued.attempts for queued in self.waiting()], [])

    def test_a_large_host(self) -> None:
        """Thousands of domains that lead to one host are as fast as one: none waits for a time."""
        hosts = Hosts()
        domains = [f"d{number}.example" for number in range(1000)]
        hosts.ways = dict.fromkeys(domains, "mx.large.example")
        for domain in domains:
            self.put(domain, 2)
        self.begin(hosts, concurrency_max=20)
        self.assertEqual(hosts.delivered.total(), 2000)

    def test_a_large_host_that_is_silent(self) -> None:
        """What leads to it is taken no more, once that is known, and all when it speaks."""
        hosts = Hosts("mx.large.example")
        domains = [f"d{number}.example" for number in range(1000)]
        hosts.ways = dict.fromkeys(domains, "mx.large.example")
        for domain in domains:
            self.put(domain, 1)
        self.put(FAST, 50)
        self.begin(hosts, concurrency_max=20)
        self.assertEqual(hosts.delivered, {FAST: 50})
        self.assertEqual(sum(row.claimed for row in self.spool._rows.values()), AT_HAND)
        while pending := hosts.pending["mx.large.example"]:
            hosts.answer("mx.large.example", len(pending))
        self.assertEqual(hosts.delivered.total(), 1050)

    def test_more_than_may_be_under_way(self) -> None:
        """The limit for all holds, and each has its turn."""
        domains = [f"d{number}.example" for number in range(8)]
        for domain in domains:
            self.put(domain, 5)
        self.begin(Hosts(*domains), concurrency_max=24)
        under_way = {domain: len(self.hosts.pending.get(domain, ())) for domain in domains}
        self.assertEqual(set(under_way.values()), {3})

    def test_rate(self) -> None:
        """A domain gets so many in a time; others do not wait for that."""
        limits = Limits(rates={SILENT: Rate(6, 60.0)})
        self.put(SILENT, 20)
        self.put(FAST, 50)
        self.begin(Hosts(), limits=limits)
        self.assertEqual(self.hosts.delivered, {SILENT: 1, FAST: 50})
        self.clock.pump([1.0] * 61)
        self.assertIn(self.hosts.delivered[SILENT], (6, 7))
        self.clock.pump([1.0] * 140)
        self.assertEqual(self.hosts.delivered[SILENT], 20)

    def test_a_limit_of_its_own(self) -> None:
        """[destination_concurrency]."""
        self.put(SILENT, 20)
        self.begin(Hosts(SILENT), limits=Limits(concurrency={SILENT: 2}))
        self.assertEqual(len(self.hosts.pending[SILENT]), 2)

    def test_the_end(self) -> None:
        """What was at hand and had not begun is in the queue as before, to be taken at once."""
        self.put(SILENT, 100)
        self.begin(Hosts(SILENT))
        stopping = self.runner.stopService()
        self.assertEqual(sum(row.claimed for row in self.spool._rows.values()), FIRST_WINDOW)
        self.clock.advance(31)
        self.successResultOf(stopping)
        self.assertEqual(len(self.waiting()), 100)
        self.assertEqual({queued.attempts for queued in self.waiting()}, {0})
        self.assertEqual({queued.due for queued in self.waiting()}, {self.waiting()[0].due})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_with_a_full_disk(self) -> None:
        """What cannot be put back is no reason to leave deliveries that are under way."""
        self.put(SILENT, 100)
        self.begin(Hosts(SILENT))
        settle = self.spool.settle

        async def full(queued: QueuedMessage) -> None:
            if queued.pending:
                raise SpoolFull("disk")
            await settle(queued)

        self.spool.settle = full  # type: ignore[method-assign]
        stopping = self.runner.stopService()
        self.assertNoResult(stopping)
        self.hosts.answer(SILENT, FIRST_WINDOW)
        self.successResultOf(stopping)
        self.assertEqual(self.hosts.delivered[SILENT], FIRST_WINDOW)
        self.assertEqual(len(self.waiting()), 100 - FIRST_WINDOW)

    def test_the_operator_wants_it_now(self) -> None:
        """A flush forgets what is remembered of hosts."""
        self.begin(Hosts())
        self.successResultOf(Deferred.fromCoroutine(self.spool.flush()))
        self.assertEqual(self.hosts.forgotten, 1)
