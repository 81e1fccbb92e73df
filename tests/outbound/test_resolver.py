"""The DNS, with a client of twisted.names that answers from a table."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSServerError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.interfaces import IResolver, NoSuchDomain, ResolutionFailed
from harakatls.mail.route import MailExchanger
from harakatls.outbound.resolver import TIME_LIMIT, DNSResolver, together

Records = Sequence[tuple[str, Any]]


class Table:
    """
    @ivar answers: by (name, type): records as (owner, payload), an exception, or a Deferred.
    @ivar authority: of all empty answers.
    """

    def __init__(self, answers: dict[tuple[str, int], Any], ttl: int = 300) -> None:
        self.answers = answers
        self.ttl = ttl
        self.authority: list[dns.RRHeader] = []
        self.asked: list[tuple[str, int]] = []

    def _look_up(self, octets: bytes, kind: int) -> "Deferred[Any]":
        name = octets.decode()
        self.asked.append((name, kind))
        found = self.answers.get((name, kind), ())
        if isinstance(found, Deferred):
            return found
        if isinstance(found, Exception):
            return fail(found)
        records = [
            dns.RRHeader(owner, payload.TYPE, ttl=self.ttl, payload=payload)
            for owner, payload in found
        ]
        return succeed((records, [] if records else self.authority, []))

    def lookupMailExchange(self, name: bytes, timeout: Any = None) -> "Deferred[Any]":
        return self._look_up(name, dns.MX)

    def lookupAddress(self, name: bytes, timeout: Any = None) -> "Deferred[Any]":
        return self._look_up(name, dns.A)

    def lookupIPV6Address(self, name: bytes, timeout: Any = None) -> "Deferred[Any]":
        return self._look_up(name, dns.AAAA)


class ResolverTestCase(SynchronousTestCase):
    """Shared by what follows."""

    def resolver(self, answers: dict[tuple[str, int], Any] | None = None) -> DNSResolver:
        self.clock = Clock()
        self.table = Table(answers or {})
        return DNSResolver(self.table, self.clock)

    def mx(self, resolver: DNSResolver, domain: str = "a.example") -> Any:
        return Deferred.fromCoroutine(resolver.mx(domain))

    def addresses(self, resolver: DNSResolver, host: str = "mx.example") -> Any:
        return Deferred.fromCoroutine(resolver.addresses(host))


def exchanger(preference: int, host: str | bytes, owner: str = "a.example") -> tuple[str, Any]:
    return owner, dns.Record_MX(preference, host)


class MXTests(ResolverTestCase):
    """Mail exchangers."""

    HOSTS = (b"m\xff", b"m\x00", b"a b", b"m")

    def test_it_is_a_resolver(self) -> None:
        """Another one can take its place."""
        verifyObject(IResolver, self.resolver())

    def test_records_become_values(self) -> None:
        """Names are compared in one spelling, whatever the zone's."""
        resolver = self.resolver(
            {("a.example", dns.MX): [exchanger(10, "MX1.Example."), exchanger(20, "mx2.example")]}
        )
        self.assertEqual(
            self.successResultOf(self.mx(resolver)),
            (MailExchanger(10, "mx1.example"), MailExchanger(20, "mx2.example")),
        )

    def test_null_mx(self) -> None:
        """The root as a host is the null MX (RFC 7505)."""
        resolver = self.resolver({("a.example", dns.MX): [exchanger(0, b"")]})
        self.assertEqual(self.successResultOf(self.mx(resolver)), (MailExchanger(0, ""),))

    def test_a_target_that_is_no_name_is_left_out(self) -> None:
        """Garbage in a hostile zone reaches neither log nor connection."""
        resolver = self.resolver(
            {("a.example", dns.MX): [exchanger(n, host) for n, host in enumerate(self.HOSTS)]}
        )
        self.assertEqual(self.successResultOf(self.mx(resolver)), (MailExchanger(3, "m"),))

    def test_nothing_is_empty(self) -> None:
        """A domain without MX exists all the same; its address is tried."""
        self.assertEqual(self.successResultOf(self.mx(self.resolver())), ())

    def test_no_such_name_and_no_answer_are_told_apart(self) -> None:
        """A typing error is returned at once, an outage of the DNS is waited for."""
        for raised, expected in (
            (DNSNameError(), NoSuchDomain),
            (DNSServerError(), ResolutionFailed),
            (DeferredTimeout(), ResolutionFailed),
            (OSError("no network"), ResolutionFailed),
        ):
            resolver = self.resolver({("a.example", dns.MX): raised})
            self.failureResultOf(self.mx(resolver), expected)

    def test_a_client_that_never_answers(self) -> None:
        """A lookup that hangs does not hang the delivery."""
        resolver = self.resolver({("a.example", dns.MX): Deferred()})
        asked = self.mx(resolver)
        self.clock.advance(TIME_LIMIT - 1)
        self.assertNoResult(asked)
        self.clock.advance(2)
        self.failureResultOf(asked, ResolutionFailed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AliasTests(ResolverTestCase):
    """CNAME."""

    FOUND = (MailExchanger(10, "mx.example"),)

    def test_the_whole_chain_in_one_answer(self) -> None:
        """As recursive servers give it."""
        resolver = self.resolver(
            {
                ("a.example", dns.MX): [
                    ("a.example", dns.Record_CNAME("b.example")),
                    exchanger(10, "mx.example", "b.example"),
                ]
            }
        )
        self.assertEqual(
            self.successResultOf(self.mx(resolver)), (MailExchanger(10, "mx.example"),)
        )
        self.assertEqual(len(self.table.asked), 1)

    def test_an_answer_that_stops_midway_is_followed(self) -> None:
        """As servers give it that know only a part."""
        resolver = self.resolver(
            {
                ("a.example", dns.MX): [("a.example", dns.Record_CNAME("b.example"))],
                ("b.example", dns.MX): [exchanger(10, "mx.example", "b.example")],
            }
        )
        self.assertEqual(
            self.successResultOf(self.mx(resolver)), (MailExchanger(10, "mx.example"),)
        )

    def test_a_circle_ends(self) -> None:
        """Two aliases that point to each other are a failure, not an endless search."""
        resolver = self.resolver(
            {
                ("a.example", dns.MX): [("a.example", dns.Record_CNAME("b.example"))],
                ("b.example", dns.MX): [("b.example", dns.Record_CNAME("a.example"))],
            }
        )
        self.failureResultOf(self.mx(resolver), ResolutionFailed)


class AddressTests(ResolverTestCase):
    """A and AAAA."""

    V4 = [("mx.example", dns.Record_A("192.0.2.1"))]
    V6 = [("mx.example", dns.Record_AAAA("2001:db8::1"))]

    def test_both_families_with_ipv6_first(self) -> None:
        """Hosts with both are reached over either."""
        resolver = self.resolver(
            {("mx.example", dns.A): self.V4, ("mx.example", dns.AAAA): self.V6}
        )
        self.assertEqual(
            self.successResultOf(self.addresses(resolver)), ("2001:db8::1", "192.0.2.1")
        )

    def test_one_family_is_enough(self) -> None:
        """Servers that fail for AAAA, of which there are many, do not keep mail from IPv4."""
        resolver = self.resolver(
            {("mx.example", dns.A): self.V4, ("mx.example", dns.AAAA): DNSServerError()}
        )
        self.assertEqual(self.successResultOf(self.addresses(resolver)), ("192.0.2.1",))

    def test_an_empty_family_does_not_hide_a_failure(self) -> None:
        """ "No address" is final; it is not said while one family is not known."""
        resolver = self.resolver({("mx.example", dns.A): DNSServerError()})
        self.failureResultOf(self.addresses(resolver), ResolutionFailed)

    def test_no_addresses(self) -> None:
        """A name without addresses is an empty answer."""
        self.assertEqual(self.successResultOf(self.addresses(self.resolver())), ())

    def test_no_such_name(self) -> None:
        """As for MX."""
        resolver = self.resolver(
            {("mx.example", dns.A): DNSNameError(), ("mx.example", dns.AAAA): DNSNameError()}
        )
        self.failureResultOf(self.addresses(resolver), NoSuchDomain)


class CacheTests(ResolverTestCase):
    """Answers live as long as their zone says."""

    ANSWERS = {("a.example", dns.MX): [exchanger(10, "mx.example")]}

    def test_an_answer_is_asked_for_once(self) -> None:
        """A thousand messages to one domain are not a thousand lookups."""
        resolver = self.resolver(dict(self.ANSWERS))
        for _ in range(3):
            self.successResultOf(self.mx(resolver))
        self.assertEqual(len(self.table.asked), 1)

    def test_it_expires(self) -> None:
        """A domain that moves is found at its new place when its TTL is over."""
        resolver = self.resolver(dict(self.ANSWERS))
        self.successResultOf(self.mx(resolver))
        self.clock.advance(301)
        self.successResultOf(self.mx(resolver))
        self.assertEqual(len(self.table.asked), 2)

    def test_failures_are_not_kept(self) -> None:
        """When the DNS is back, the next attempt finds it."""
        resolver = self.resolver({("a.example", dns.MX): DNSServerError()})
        self.failureResultOf(self.mx(resolver), ResolutionFailed)
        self.table.answers = dict(self.ANSWERS)
        self.assertEqual(len(self.successResultOf(self.mx(resolver))), 1)

    def test_empty_answers_live_as_the_soa_says(self) -> None:
        """RFC 2308; a domain without AAAA is not asked for it with every message."""
        resolver = self.resolver()
        self.table.authority = [
            dns.RRHeader("example", dns.SOA, ttl=600, payload=dns.Record_SOA(minimum=60))
        ]
        self.successResultOf(self.mx(resolver))
        self.clock.advance(59)
        self.successResultOf(self.mx(resolver))
        self.assertEqual(len(self.table.asked), 1)
        self.clock.advance(2)
        self.successResultOf(self.mx(resolver))
        self.assertEqual(len(self.table.asked), 2)

    def test_the_cache_is_bounded(self) -> None:
        """Mail to a million domains does not fill the memory."""
        resolver = self.resolver()
        self.patch(DNSResolver, "_ask", _one_answer)
        for number in range(10_200):
            self.successResultOf(self.mx(resolver, f"d{number}.example"))
        self.assertLessEqual(len(resolver._cache), 10_000)
        self.assertIn(("d10199.example", dns.MX), resolver._cache)


async def _one_answer(self: DNSResolver, name: str, kind: int, look_up: object) -> Any:
    from harakatls.outbound.resolver import _Answer

    return _Answer((), 60.0)


class CancellationTests(ResolverTestCase):
    """A server that stops."""

    def test_one_delivery_does_not_cancel_anothers_lookup(self) -> None:
        """twisted.names shares a question between all who ask it at the same time."""
        shared: Deferred[Any] = Deferred()
        resolver = self.resolver({("a.example", dns.MX): shared})
        asked = self.mx(resolver)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertFalse(shared.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_together_is_cancelled_together(self) -> None:
        """Nothing is left waiting, and no error is left over."""

        async def wait(for_what: "Deferred[int]") -> int:
            return await for_what

        waiting: list[Deferred[int]] = [Deferred(), Deferred(), Deferred()]
        running = Deferred.fromCoroutine(together(*map(wait, waiting)))
        waiting[0].callback(1)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertTrue(all(each.called for each in waiting))
