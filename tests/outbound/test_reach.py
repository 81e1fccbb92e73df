"""TCP to hosts with addresses of two families, of which one may be broken."""

from collections.abc import Sequence

from attrs import evolve
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.mail.route import NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.dead_hosts import DeadHosts
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.reach import HEAD_START, Reach, Reached, other_family
from harakatls.queued import Delayed
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import queued_message
from harakatls.tls.settings import NoGoSettings, OutboundTLS
from tests.outbound.support import DOMAIN, FIRST, SECOND, DeliveryTestCase

V6, V4 = "2a01:4f8::1", FIRST
HOP = NextHop(V6, DOMAIN, mx_name="mx1.example")
OTHER = evolve(HOP, host=V4)
REFUSED: Exception = error.ConnectionRefusedError(111)


class OtherFamilyTests(SynchronousTestCase):
    """`other_family`."""

    def test_the_first_one_that_is(self) -> None:
        """Of several addresses of a host."""
        others = [evolve(HOP, host="2a01:4f8::2"), OTHER, evolve(HOP, host="192.0.2.9")]
        self.assertEqual(other_family(HOP, others), OTHER)
        self.assertEqual(other_family(OTHER, [evolve(OTHER, host="192.0.2.9"), HOP]), HOP)

    def test_none(self) -> None:
        """Another host, port, protocol or login is another hop; so is one without a name."""
        for changes in (
            {"mx_name": "mx2.example"},
            {"port": 2525},
            {"protocol": "lmtp"},
            {"preference": 20},
            {"host": "2a01:4f8::2"},
        ):
            self.assertIsNone(other_family(HOP, [evolve(OTHER, **changes)]), changes)
        self.assertIsNone(other_family(HOP, []))
        self.assertIsNone(other_family(evolve(HOP, mx_name=None), [evolve(OTHER, mx_name=None)]))

    def test_an_address_of_ours(self) -> None:
        """It is of one family, so the other cannot be reached from it."""
        bound = evolve(HOP, bind="2a01:4f8::9")
        self.assertIsNone(other_family(bound, [evolve(bound, host=V4)]))


class ReachTests(SynchronousTestCase):
    """`Reach.either`: connections are made and refused by hand."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dead = DeadHosts(60.0, self.clock.seconds)
        self.begun: list[str] = []
        self.given_up: list[str] = []
        self.open: set[OutboundProtocol] = set()
        self.connecting: dict[str, tuple[Deferred[IProtocol], IProtocolFactory]] = {}
        self.reach = Reach(
            self.connect, 30.0, self.clock, self.dead, self.open.add, self.open.discard
        )
        self.running = Deferred.fromCoroutine(self.reach.either(HOP, OTHER))

    def connect(
        self,
        host: str,
        port: int,
        factory: IProtocolFactory,
        seconds: float,
        bind: str | None = None,
    ) -> "Deferred[IProtocol]":
        self.begun.append(host)
        connecting: Deferred[IProtocol] = Deferred(lambda _: self.given_up.append(host))
        self.connecting[host] = connecting, factory
        return connecting

    def answers(self, host: str) -> None:
        connecting, factory = self.connecting[host]
        protocol = factory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        connecting.callback(protocol)

    def refuses(self, host: str) -> None:
        self.connecting[host][0].errback(REFUSED)

    def assert_reached(self, hop: NextHop) -> Reached:
        reached = self.successResultOf(self.running)
        self.assertIs(reached.hop, hop)
        self.assert_left(1)
        self.assertIn(reached.protocol, self.open)
        return reached

    def assert_left(self, number: int) -> None:
        """So many connections, and no timer."""
        self.assertEqual(len(self.open), number)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def is_dead(self) -> list[bool]:
        return [self.dead.problem(host, 25) is not None for host in (V6, V4)]

    def test_one_that_works(self) -> None:
        """The other address is never asked."""
        self.clock.advance(HEAD_START - 0.1)
        self.answers(V6)
        self.assertIsNone(self.assert_reached(HOP).problem)
        self.assertEqual(self.begun, [V6])
        self.assertEqual(self.is_dead(), [False, False])

    def test_one_that_hangs(self) -> None:
        """The other one is spoken to, the first given up, and left alone for a while."""
        self.clock.advance(HEAD_START - 0.1)
        self.assertEqual(self.begun, [V6])
        self.clock.advance(0.1)
        self.assertEqual(self.begun, [V6, V4])
        self.clock.advance(0.5)
        self.answers(V4)
        problem = self.assert_reached(OTHER).problem
        self.assertEqual(problem, f"no connection within 2.5 seconds; {V4} was faster")
        self.assertEqual(self.given_up, [V6])
        self.assertEqual(self.is_dead(), [True, False])

    def test_one_that_is_slow(self) -> None:
        """It may still be the first."""
        self.clock.advance(HEAD_START)
        self.answers(V6)
        self.assert_reached(HOP)
        self.assertEqual(self.given_up, [V4])
        self.assertEqual(self.is_dead(), [False, False])

    def test_a_refusal(self) -> None:
        """That is an answer: the next one in the order of hosts has its turn at once."""
        self.refuses(V6)
        problem = self.failureResultOf(self.running, ConnectionBroken)
        self.assertEqual(str(problem.value), "no connection: Connection refused")
        self.assertEqual(self.begun, [V6])
        self.assert_left(0)

    def test_a_late_refusal(self) -> None:
        """The other one goes on."""
        self.clock.advance(HEAD_START)
        self.refuses(V6)
        self.assertNoResult(self.running)
        self.answers(V4)
        problem = self.assert_reached(OTHER).problem
        self.assertEqual(problem, f"no connection: Connection refused; {V4} was faster")

    def test_both_fail(self) -> None:
        """In either order: what is told is about the first, and both are remembered."""
        for order in ((V6, V4), (V4, V6)):
            self.setUp()
            self.clock.advance(HEAD_START)
            self.refuses(order[0])
            self.assertNoResult(self.running)
            self.refuses(order[1])
            self.failureResultOf(self.running, ConnectionBroken)
            self.assert_left(0)
            self.assertEqual(self.is_dead(), [True, True])

    def test_told_to_stop(self) -> None:
        """At any time: nothing is left, and no host is to blame."""
        for passed, fails in ((0.0, False), (HEAD_START, False), (HEAD_START, True)):
            self.setUp()
            self.clock.advance(passed)
            if fails:
                self.refuses(V6)
            self.running.cancel()
            self.failureResultOf(self.running, CancelledError)
            self.assert_left(0)
            self.assertEqual(self.is_dead(), [fails, False])


class DeliveryTests(DeliveryTestCase):
    """Mail to such hosts. The first has both kinds of address, and IPv6 hangs."""

    def setUp(self) -> None:
        super().setUp()
        self.hosts["mx1.example"] = [V6, V4]
        self.network.swallow(V6)

    def asked(self) -> Sequence[str]:
        return [host for host, _ in self.network.attempts]

    def test_it_goes_by_the_other(self) -> None:
        """In seconds; the history tells of both, and the next message does not try again."""
        self.network.serve(V4, peer := ObligingPeer(), ObligingPeer())
        delivery = self.delivery()
        result = self.after(HEAD_START, self.begin(delivery=delivery))
        self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept")
        self.assertEqual(
            [(t.host, t.result) for t in result.trials],
            [
                (
                    f"mx1.example [{V6}]:25",
                    f"451 4.4.1 mx1.example: no connection within 2.0 seconds; {V4} was faster",
                ),
                (f"mx1.example [{V4}]:25", "250 2.0.0 Kept"),
            ],
        )
        self.assertEqual(len(peer.messages), 1)
        again = self.attempt(delivery=delivery)
        self.assertIn("not asked: no connection within 2.0 seconds", again.trials[0].result)
        self.assertEqual(self.asked(), [V6, V4, V4])
        self.assertNothingIsLeft()

    def test_a_flush_forgets(self) -> None:
        """The operator may have repaired it."""
        self.network.serve(V4, *(ObligingPeer() for _ in range(2)))
        delivery = self.delivery()
        self.after(HEAD_START, self.begin(delivery=delivery))
        delivery.forget_failures()
        self.after(HEAD_START, self.begin(delivery=delivery))
        self.assertEqual(self.asked(), [V6, V4] * 2)

    def test_what_it_says_counts_once(self) -> None:
        """It is not asked again in its own turn, nor the first one; the next host is."""
        self.network.serve(V4, ObligingPeer(MAIL="450 4.7.1 Later"), ObligingPeer())
        self.network.serve(SECOND, ObligingPeer())
        result = self.after(HEAD_START, self.begin())
        self.assertEqual(self.asked(), [V6, V4, SECOND])
        self.assertEqual([t.result[:3] for t in result.trials], ["451", "450", "250"])
        self.assertNothingIsLeft()

    def test_a_host_that_is_refused_there(self) -> None:
        """A greeting of 5yz is told of the address that said it."""
        self.network.serve(V4, ObligingPeer(connect="554 5.7.1 Never"))
        self.exchangers[DOMAIN] = [(10, "mx1.example")]
        result = self.after(HEAD_START, self.begin())
        self.assertIsInstance(result.outcomes[0], Delayed)
        self.assertEqual(
            [(V4 in t.host, t.result[:3]) for t in result.trials], [(False, "451"), (True, "554")]
        )

    def test_neither(self) -> None:
        """Both are told of, each was asked once, and the next host has its turn."""
        self.network.swallow(V4)
        self.network.serve(SECOND, ObligingPeer())
        running = self.begin()
        self.pass_time(HEAD_START)
        result = self.after(30, running)
        self.assertEqual(self.asked(), [V6, V4, SECOND])
        self.assertEqual(
            [t.host.split()[0] for t in result.trials], ["mx1.example"] * 2 + ["mx2.example"]
        )
        self.assertNothingIsLeft()

    def test_the_order_of_hosts(self) -> None:
        """A host of a lower preference is no other address of the first."""
        self.hosts["mx1.example"] = [V6]
        running = self.begin()
        self.pass_time(HEAD_START)
        self.assertEqual(self.asked(), [V6])
        running.cancel()
        self.successResultOf(running)

    def test_inet_prefer(self) -> None:
        """It says which family is first, not that the other is never asked."""
        self.network.swallow(V4)
        running = self.begin(delivery=self.delivery(inet_prefer="v4"))
        self.assertEqual(self.asked(), [V4])
        self.pass_time(HEAD_START)
        self.assertEqual(self.asked(), [V4, V6])
        running.cancel()
        self.successResultOf(running)
        self.assertNothingIsLeft()

    def test_addresses_that_are_not_for_mail(self) -> None:
        """They are not asked by this way either."""
        self.hosts["mx1.example"] = [V6, "127.0.0.1"]
        running = self.begin(delivery=self.delivery(local_mx_ok=False))
        self.pass_time(HEAD_START)
        self.assertEqual(self.asked(), [V6])
        running.cancel()
        self.successResultOf(running)

    def test_what_is_decided_by_address(self) -> None:
        """TLS is decided for the address that is connected to."""
        nogo = NoGoSettings(enabled=True, expiry=1000.0)
        self.successResultOf(Deferred.fromCoroutine(self.memory.remember_failure(V4, 1000.0)))
        self.network.serve(V4, peer := ObligingPeer("STARTTLS"))
        self.after(HEAD_START, self.begin(delivery=self.delivery(nogo=nogo)))
        self.assertEqual((len(peer.messages), peer.secured), (1, False))
        self.assertNotIn("STARTTLS", peer.commands)

    def test_an_address_that_must_have_tls(self) -> None:
        """A list of forced hosts with one of the addresses holds for that one."""
        forced = OutboundTLS(force_tls_hosts=HostList.parse([V4]))
        self.network.serve(V4, peer := ObligingPeer("8BITMIME"))
        self.exchangers[DOMAIN] = [(10, "mx1.example")]
        result = self.after(HEAD_START, self.begin(queued_message(), self.delivery(forced)))
        self.assertIn("TLS is required", self.only(result))
        self.assertEqual(peer.messages, [])
        self.assertNothingIsLeft()

    def test_told_to_stop(self) -> None:
        """While both are asked: the message waits, and no connection is left."""
        self.network.swallow(V4)
        running = self.begin()
        self.pass_time(HEAD_START)
        running.cancel()
        self.assertTrue(self.successResultOf(running).interrupted)
        self.assertNothingIsLeft()
