"""The DNS, with a client of twisted.names that answers from a table."""

import errno
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import DNSNameError, DNSServerError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.interfaces import IResolver, NoSuchDomain, ResolutionFailed
from harakatls.mail.route import MailExchanger
from harakatls.outbound.resolver import TIME_LIMIT, DNSClient, DNSResolver, together

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
        name = octets.decode("latin-1")
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

    def lookupPointer(self, name: bytes, timeout: Any = None) -> "Deferred[Any]":
        return self._look_up(name, dns.PTR)

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


class NameTests(ResolverTestCase):
    """PTR, and names that are none."""

    REVERSE = "1.2.0.192.in-addr.arpa"
    REVERSE_V6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    ODD = (b"a\r\nb.example", b"a b.example", b"j\xc3\xb6rg.example", b"[192.0.2.1]", b"192.0.2.1")
    LONG = (b"", b".".join([b"a" * 60] * 5), b"a" * 64 + b".example", b"a..example", b"(x).example")

    def names(self, resolver: DNSResolver, address: str = "192.0.2.1") -> Any:
        return Deferred.fromCoroutine(resolver.names(address))

    def pointers(self, *names: bytes | str, owner: str = REVERSE) -> Any:
        return [(owner, dns.Record_PTR(name)) for name in names]

    def test_names(self) -> None:
        """In one spelling, each of them once, for both families; IPv4 within IPv6 is IPv4."""
        for address, reverse in (
            ("192.0.2.1", self.REVERSE),
            ("::ffff:192.0.2.1", self.REVERSE),
            ("2001:db8::1", self.REVERSE_V6),
        ):
            found = self.pointers("A.Example.", "b.example", "a.example", owner=reverse)
            resolver = self.resolver({(reverse, dns.PTR): found})
            names = self.successResultOf(self.names(resolver, address))
            self.assertEqual(names, ("a.example", "b.example"))
        self.failureResultOf(self.names(resolver, "a.example"), ValueError)

    def test_what_is_no_name(self) -> None:
        """Whoever has an address writes there what he likes."""
        found = self.pointers(*self.ODD, *self.LONG, "a.example")
        resolver = self.resolver({(self.REVERSE, dns.PTR): found})
        self.assertEqual(self.successResultOf(self.names(resolver)), ("a.example",))

    def test_part_of_a_network(self) -> None:
        """The address is an alias (RFC 2317), of what is no host name."""
        classless = "1.0/25.2.0.192.in-addr.arpa"
        alias = (self.REVERSE, dns.Record_CNAME(classless))
        resolver = self.resolver(
            {
                (self.REVERSE, dns.PTR): [alias],
                (classless, dns.PTR): self.pointers("a.example", owner=classless),
            }
        )
        self.assertEqual(self.successResultOf(self.names(resolver)), ("a.example",))

    def test_none(self) -> None:
        """No name, no such address and no answer are told apart, as for all names."""
        self.assertEqual(self.successResultOf(self.names(self.resolver())), ())
        for raised, expected in (
            (DNSNameError(), NoSuchDomain),
            (DNSServerError(), ResolutionFailed),
        ):
            resolver = self.resolver({(self.REVERSE, dns.PTR): raised})
            self.failureResultOf(self.names(resolver), expected)

    def test_octets_beyond_ascii(self) -> None:
        """A hostile zone is no mistake of the server, wherever they stand."""
        odd = b"\xff.example"
        alias = (self.REVERSE, dns.Record_CNAME(odd))
        answers: list[tuple[Any, tuple[str, ...]]] = [
            ([(odd, dns.Record_PTR("x.example")), *self.pointers("a.example")], ("a.example",)),
            ([alias, (odd, dns.Record_PTR("a.example"))], ("a.example",)),
            ([alias], ()),
        ]
        for records, expected in answers:
            resolver = self.resolver({(self.REVERSE, dns.PTR): records})
            self.assertEqual(self.successResultOf(self.names(resolver)), expected)

    def test_reason(self) -> None:
        """The alias of a hostile zone does not end the line that tells of it."""
        alias = [("a.example", dns.Record_CNAME(b"x\r\nX-Evil: \x1b[2J\xff"))]
        odd = ("x\r\nx-evil: \x1b[2j\xff", dns.MX)
        for raised, expected in (
            (DNSNameError(), NoSuchDomain),
            (DNSServerError(), ResolutionFailed),
            (DeferredTimeout(), ResolutionFailed),
        ):
            resolver = self.resolver({("a.example", dns.MX): alias, odd: raised})
            problem = str(self.failureResultOf(self.mx(resolver), expected).value)
            self.assertTrue(problem.isascii() and problem.isprintable(), problem)


class NoSocketReactor(Clock):
    """No file descriptor is left."""

    def listenUDP(self, *_: Any, **__: Any) -> Any:
        raise CannotListenError("", 0, OSError(errno.EMFILE, "Too many open files"))


class ClientTests(SynchronousTestCase):
    def test_question_that_cannot_be_sent(self) -> None:
        """Each of them fails at once; the second one does not wait for an answer to the first."""
        reactor: Any = NoSocketReactor()
        client: Any = DNSClient(servers=[("127.0.0.1", 53)], reactor=reactor)
        resolver = DNSResolver(client, reactor)
        for _ in range(2):
            asked = Deferred.fromCoroutine(resolver.mx("a.example"))
            self.failureResultOf(asked, ResolutionFailed)


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
