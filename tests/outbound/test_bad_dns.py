"""Zones and name servers that are wrong, absurd or hostile: from the DNS to the outcome."""

import tracemalloc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSServerError

from harakatls.interfaces import ResolutionFailed
from harakatls.mail.route import MailExchanger
from harakatls.outbound.resolver import MOST_KEPT, DNSResolver
from harakatls.outbound.routing import MOST_HOSTS, Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, ME, NoPlugins
from tests.outbound.test_resolver import ResolverTestCase, Table, exchanger

MANY = 10_000


def address(host: str, text: str) -> tuple[str, Any]:
    """An A or AAAA record."""
    make = dns.Record_AAAA if ":" in text else dns.Record_A
    return host, make(text)


class BadZoneTests(ResolverTestCase):
    """What a resolver makes of them."""

    def test_an_alias_of_itself(self) -> None:
        """It ends as a passing failure, after few questions."""
        resolver = self.resolver(
            {("a.example", dns.MX): [("a.example", dns.Record_CNAME("a.example"))]}
        )
        self.failureResultOf(self.mx(resolver), ResolutionFailed)
        self.assertLess(len(self.table.asked), 10)

    def test_a_circle_in_one_answer(self) -> None:
        """Aliases that name each other in a single answer."""
        circle = [
            ("a.example", dns.Record_CNAME("b.example")),
            ("b.example", dns.Record_CNAME("c.example")),
            ("c.example", dns.Record_CNAME("a.example")),
        ]
        resolver = self.resolver({(f"{n}.example", dns.MX): circle for n in "abc"})
        self.failureResultOf(self.mx(resolver), ResolutionFailed)
        self.assertLess(len(self.table.asked), 10)

    def test_a_chain_without_an_end(self) -> None:
        """Each name an alias of the next: not followed for long."""
        chain = {
            (f"{n}.example", dns.MX): [(f"{n}.example", dns.Record_CNAME(f"{n + 1}.example"))]
            for n in range(1000)
        }
        resolver = self.resolver(chain)
        self.failureResultOf(self.mx(resolver, "0.example"), ResolutionFailed)
        self.assertLess(len(self.table.asked), 10)

    def test_records_of_other_names(self) -> None:
        """A server that adds what was not asked for is not believed."""
        resolver = self.resolver(
            {
                ("a.example", dns.MX): [
                    exchanger(1, "thief.example", "b.example"),
                    exchanger(10, "mx.example"),
                ],
                ("b.example", dns.MX): [exchanger(1, "thief.example", "c.example")],
                ("mx.example", dns.A): [
                    address("other.example", "192.0.2.66"),
                    address("MX.Example", "192.0.2.1"),
                ],
            }
        )
        self.assertEqual(
            self.successResultOf(self.mx(resolver)), (MailExchanger(10, "mx.example"),)
        )
        self.assertEqual(self.successResultOf(self.mx(resolver, "b.example")), ())
        self.assertEqual(self.successResultOf(self.addresses(resolver)), ("192.0.2.1",))

    def test_only_targets_that_are_no_names(self) -> None:
        """The domain has MX, so its own address must not get the mail (RFC 5321 section 5.1)."""
        resolver = self.resolver(
            {("a.example", dns.MX): [exchanger(1, b"two words"), exchanger(2, b"\xff.example")]}
        )
        failure = self.failureResultOf(self.mx(resolver), ResolutionFailed)
        self.assertIn("a.example: no MX names a host", str(failure.value))

    def test_thousands_of_records_are_not_kept(self) -> None:
        """A zone made for it must not fill the memory by way of the cache."""
        crowd = [exchanger(n % 7, f"mx{n}.example") for n in range(MANY)]
        resolver = self.resolver({("a.example", dns.MX): crowd})
        for _ in range(2):
            self.assertEqual(len(self.successResultOf(self.mx(resolver))), MANY)
        self.assertEqual(len(self.table.asked), 2)
        few = {("a.example", dns.MX): crowd[:MOST_KEPT]}
        resolver = self.resolver(few)
        for _ in range(2):
            self.successResultOf(self.mx(resolver))
        self.assertEqual(len(self.table.asked), 1)

    def test_absurd_times_to_live(self) -> None:
        """Neither for ever nor not at all: an hour at most, and 0 is asked for each time."""
        for ttl, later, asked in ((2**31 - 1, 3599, 1), (2**31 - 1, 3601, 2), (0, 0, 2)):
            resolver = self.resolver({("a.example", dns.MX): [exchanger(1, "mx.example")]})
            self.table.ttl = ttl
            self.successResultOf(self.mx(resolver))
            self.clock.advance(later)
            self.successResultOf(self.mx(resolver))
            self.assertEqual(len(self.table.asked), asked, (ttl, later))


class BadRouteTests(ResolverTestCase):
    """What becomes of mail for such domains: which hosts are tried, or why none."""

    def routed(self, answers: dict[tuple[str, int], Any]) -> tuple[list[str], list[str]]:
        """Addresses in their order, and why others, or all, are none."""
        clock = Clock()
        self.table = Table(answers)
        resolver = DNSResolver(self.table, clock)
        routing = Routing(
            NoPlugins(),
            resolver,
            OutboundSettings(),
            ME,
            is_ours=lambda address: address == "198.51.100.1",
            shuffle=lambda hosts: None,
        )

        async def run() -> tuple[list[str], list[str]]:
            route = await routing.route(queued_message())
            if route.refusal is not None:
                return [], [str(route.refusal)]
            hosts, reasons = [], []
            for group in route.groups:
                found = await routing.addresses(group)
                hosts += [hop.host for hop in found.hops]
                reasons += [str(skipped.reply) for skipped in found.skipped]
            return hosts, reasons

        routed: tuple[list[str], list[str]] = self.successResultOf(Deferred.fromCoroutine(run()))
        return routed

    def reason(self, answers: dict[tuple[str, int], Any]) -> str:
        """The one reason why no host is there."""
        hosts, (reason,) = self.routed(answers)
        self.assertEqual(hosts, [])
        return reason

    def test_failures_are_told_apart(self) -> None:
        """What does not exist comes back at once; what nobody knows just now is waited for."""
        implicit = {(DOMAIN, dns.MX): (), (DOMAIN, dns.AAAA): ()}
        for answers, reason in (
            ({(DOMAIN, dns.MX): DNSNameError()}, f"550 5.1.2 The domain {DOMAIN} does not exist"),
            ({(DOMAIN, dns.MX): DNSServerError()}, "451 4.4.3 Where mail for"),
            ({(DOMAIN, dns.MX): DeferredTimeout()}, "451 4.4.3 Where mail for"),
            ({**implicit, (DOMAIN, dns.A): ()}, "550 5.1.2 The domain"),
            ({**implicit, (DOMAIN, dns.A): DNSServerError()}, "451 4.4.3 The address of"),
            ({**implicit, (DOMAIN, dns.A): DeferredTimeout()}, "451 4.4.3 The address of"),
            ({(DOMAIN, dns.MX): [exchanger(1, b"a b", DOMAIN)]}, "451 4.4.3 Where mail for"),
        ):
            self.assertTrue(self.reason(answers).startswith(reason), (answers, reason))

    def test_null_mx_and_what_looks_like_it(self) -> None:
        """One record for the root is "no mail here", whatever its preference (RFC 7505)."""
        for preference in (0, 10):
            reason = self.reason({(DOMAIN, dns.MX): [exchanger(preference, b"", DOMAIN)]})
            self.assertTrue(reason.startswith("556 5.1.10 "), reason)
        hosts, reasons = self.routed(
            {(DOMAIN, dns.MX): [exchanger(0, b"", DOMAIN), exchanger(10, b".", DOMAIN)]}
        )
        self.assertEqual((hosts, set(reasons)), ([], {"550 5.4.4 MX is no host name"}))
        hosts, _ = self.routed(
            {
                (DOMAIN, dns.MX): [exchanger(0, b"", DOMAIN), exchanger(5, b"m.example", DOMAIN)],
                ("m.example", dns.A): [address("m.example", "192.0.2.1")],
            }
        )
        self.assertEqual(hosts, ["192.0.2.1"])

    def test_an_mx_that_is_an_alias(self) -> None:
        """It should not be (RFC 2181 section 10.3), and works."""
        answers = {
            (DOMAIN, dns.MX): [exchanger(1, "m.example", DOMAIN)],
            ("m.example", dns.A): [("m.example", dns.Record_CNAME("n.example"))],
            ("n.example", dns.A): [address("n.example", "192.0.2.1")],
        }
        self.assertEqual(self.routed(answers), (["192.0.2.1"], []))

    def test_an_mx_that_is_the_domain(self) -> None:
        """It is a host like any other, if it has an address."""
        answers = {(DOMAIN, dns.MX): [exchanger(1, DOMAIN, DOMAIN)]}
        self.assertEqual(self.routed(answers), ([], [f"550 5.4.4 MX {DOMAIN} has no address"]))
        answers[DOMAIN, dns.A] = [address(DOMAIN, "192.0.2.1")]
        self.assertEqual(self.routed(answers), (["192.0.2.1"], []))

    def test_ten_thousand_hosts(self) -> None:
        """The best few are looked up; the rest costs nothing that lasts."""
        crowd = [exchanger(n % 60_000, f"mx{n}.example", DOMAIN) for n in reversed(range(MANY))]
        answers: dict[tuple[str, int], Any] = {(DOMAIN, dns.MX): crowd}
        for n in range(MANY):
            answers[f"mx{n}.example", dns.A] = [address(f"mx{n}.example", f"192.0.2.{n % 250}")]
        hosts, reasons = self.routed(answers)
        self.assertEqual(hosts, [f"192.0.2.{n}" for n in range(MOST_HOSTS)])
        self.assertEqual(reasons, [])
        self.assertEqual(len(self.table.asked), 1 + 2 * MOST_HOSTS)

    def test_ten_thousand_addresses(self) -> None:
        """Of one host; some of each family are tried."""
        v4 = [address("m.example", f"192.0.{n >> 8}.{n & 255}") for n in range(MANY)]
        v6 = [address("m.example", f"2001:db8::{n:x}") for n in range(1, MANY)]
        answers: dict[tuple[str, int], Any] = {
            (DOMAIN, dns.MX): [exchanger(1, "m.example", DOMAIN)],
            ("m.example", dns.A): v4,
            ("m.example", dns.AAAA): v6,
        }
        hosts, _ = self.routed(answers)
        self.assertLessEqual(len(hosts), 8)
        self.assertEqual({":" in host for host in hosts}, {True, False})

    def test_nothing_of_it_stays(self) -> None:
        """A hundred such domains later, memory is what it was."""
        crowd = [exchanger(n, f"mx{n}.example") for n in range(2000)]
        names = [f"{n}.example" for n in range(100)]
        table = Table({(n, dns.MX): [(n, payload) for _, payload in crowd] for n in names})
        resolver = DNSResolver(table, Clock())
        self.successResultOf(self.mx(resolver, names[0]))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        for name in names:
            self.successResultOf(self.mx(resolver, name))
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 1 << 20)

    def test_hosts_that_must_not_be_asked(self) -> None:
        """A zone cannot send our mail to this machine or its networks."""
        for text in ("127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "::1", "::", "fe80::1",
                     "ff02::1", "fd00::1", "::ffff:127.0.0.1", "198.51.100.1"):  # fmt: skip
            kind = dns.AAAA if ":" in text else dns.A
            hosts, reasons = self.routed(
                {
                    (DOMAIN, dns.MX): [exchanger(1, "m.example", DOMAIN)],
                    ("m.example", kind): [address("m.example", text)],
                }
            )
            self.assertEqual(hosts, [], text)
            self.assertTrue(reasons[0].startswith("451 4.4."), reasons)
