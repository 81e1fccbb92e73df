"""From a domain to the hosts that take its mail."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.hooks.asking import HookFailed
from harakatls.interfaces import ResolutionFailed
from harakatls.mail.route import MailExchanger, NextHop
from harakatls.outbound.routing import Addresses, Route, Routing, is_local_address
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.testing.values import FixedResolver, queued_message

ME = "mta.example"
OURS = "198.51.100.1"
DOMAIN = "recipient.example"

Exchangers = Mapping[str, Sequence[tuple[int, str]] | Exception]
Hosts = Mapping[str, Sequence[str] | Exception]


@frozen
class Plugins:
    """Route hooks that give what they are told."""

    hops: tuple[NextHop, ...] | Exception | None = None
    asked: list[str] = Factory(list)

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        self.asked.append(domain)
        if isinstance(self.hops, Exception):
            raise self.hops
        return self.hops


class RoutingTestCase(SynchronousTestCase):
    """Shared by what follows."""

    def routing(
        self,
        exchangers: Exchangers | None = None,
        hosts: Hosts | None = None,
        hops: tuple[NextHop, ...] | Exception | None = None,
        listens: tuple[tuple[str, int], ...] = (),
        **settings: Any,
    ) -> Routing:
        """With a DNS of its own; nothing is shuffled."""
        self.resolver = FixedResolver(exchangers or {}, hosts or {})
        self.plugins = Plugins(hops)
        return Routing(
            self.plugins,
            self.resolver,
            OutboundSettings(**settings),
            ME,
            is_ours=OURS.__eq__,
            is_listener=lambda address, port: (address, port) in listens,
            shuffle=lambda equals: None,
        )

    def route(self, routing: Routing, domain: str = DOMAIN) -> Route:
        """Of a message for *domain*."""
        queued = queued_message(domain=domain)
        return self.successResultOf(Deferred.fromCoroutine(routing.route(queued)))

    def all_hosts(self, routing: Routing, domain: str = DOMAIN) -> list[Addresses]:
        """Every group, looked up, until one ends the search."""
        found = []
        for group in self.route(routing, domain).groups:
            addresses = Deferred.fromCoroutine(routing.addresses(group))
            found.append(self.successResultOf(addresses))
            if found[-1].ends:
                break
        return found

    def order(self, routing: Routing, domain: str = DOMAIN) -> list[str]:
        """The addresses in the order of trying."""
        return [hop.host for each in self.all_hosts(routing, domain) for hop in each.hops]

    def only_reply(self, routing: Routing) -> Reply:
        """Why the one host is not tried."""
        (addresses,) = self.all_hosts(routing)
        self.assertEqual(addresses.hops, ())
        (skipped,) = addresses.skipped
        return skipped.reply


class MailExchangerTests(RoutingTestCase):
    """RFC 5321 section 5.1."""

    def test_lower_preferences_come_first(self) -> None:
        """Mail goes to the first choice of the domain, to the others only when that fails."""
        routing = self.routing(
            {DOMAIN: [(20, "b.example"), (5, "c.example"), (10, "a.example")]},
            {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"], "c.example": ["192.0.2.3"]},
        )
        self.assertEqual(self.order(routing), ["192.0.2.3", "192.0.2.1", "192.0.2.2"])

    def test_equal_preferences_are_shuffled(self) -> None:
        """The load is spread over equal hosts; others are not mixed in."""
        reverse = lambda equals: equals.reverse()  # noqa: E731
        exchangers = {DOMAIN: [(10, "a.example"), (10, "b.example"), (20, "c.example")]}
        hosts = {
            "a.example": ["192.0.2.1"],
            "b.example": ["192.0.2.2"],
            "c.example": ["192.0.2.3"],
        }
        routing = Routing(
            Plugins(),
            FixedResolver(exchangers, hosts),
            OutboundSettings(),
            ME,
            lambda address: False,
            shuffle=reverse,
        )
        self.assertEqual(self.order(routing), ["192.0.2.2", "192.0.2.1", "192.0.2.3"])

    def test_the_name_goes_with_the_address(self) -> None:
        """SNI and the check of the certificate use the name of the MX, not its address."""
        routing = self.routing({DOMAIN: [(7, "mx.example")]}, {"mx.example": ["192.0.2.1"]})
        ((hop,),) = (found.hops for found in self.all_hosts(routing))
        self.assertEqual(
            hop, NextHop("192.0.2.1", DOMAIN, 25, 7, mx_name="mx.example", source="mx")
        )

    def test_without_mx_the_domain_itself_is_the_host(self) -> None:
        """Small sites without MX records get mail at their address record."""
        routing = self.routing({}, {DOMAIN: ["192.0.2.1"]})
        ((hop,),) = (found.hops for found in self.all_hosts(routing))
        self.assertEqual((hop.host, hop.mx_name, hop.source), ("192.0.2.1", DOMAIN, "implicit mx"))

    def test_a_last_resort_is_not_looked_up_before_its_turn(self) -> None:
        """Slow DNS of a secondary MX does not hold up mail for the primary."""
        routing = self.routing(
            {DOMAIN: [(10, "a.example"), (20, "b.example")]},
            {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"]},
        )
        first, _ = self.route(routing).groups
        self.successResultOf(Deferred.fromCoroutine(routing.addresses(first)))
        self.assertEqual(self.resolver.asked, [("mx", DOMAIN), ("address", "a.example")])

    def test_thousands_of_hosts_are_not_tried(self) -> None:
        """A malicious zone cannot keep a delivery busy for days."""
        routing = self.routing({DOMAIN: [(n, f"mx{n}.example") for n in range(5000)]})
        self.assertEqual(len(self.route(routing).groups), 16)


class FamilyTests(RoutingTestCase):
    """inet_prefer."""

    EXCHANGERS = {DOMAIN: [(10, "a.example"), (10, "b.example"), (20, "c.example")]}
    HOSTS = {
        "a.example": ["2001:db8::1", "192.0.2.1"],
        "b.example": ["2001:db8::2", "192.0.2.2"],
        "c.example": ["2001:db8::3", "192.0.2.3"],
    }

    def test_default_keeps_the_order_of_the_resolver(self) -> None:
        """IPv6 first, host by host."""
        self.assertEqual(
            self.order(self.routing(self.EXCHANGERS, self.HOSTS)),
            [
                "2001:db8::1",
                "192.0.2.1",
                "2001:db8::2",
                "192.0.2.2",
                "2001:db8::3",
                "192.0.2.3",
            ],
        )

    def test_v4_comes_first_within_each_preference(self) -> None:
        """A backup MX is not asked before the first choice just for its address family."""
        self.assertEqual(
            self.order(self.routing(self.EXCHANGERS, self.HOSTS, inet_prefer="v4")),
            [
                "192.0.2.1",
                "192.0.2.2",
                "2001:db8::1",
                "2001:db8::2",
                "192.0.2.3",
                "2001:db8::3",
            ],
        )

    def test_v6_comes_first_within_each_preference(self) -> None:
        """The other way round."""
        order = self.order(self.routing(self.EXCHANGERS, self.HOSTS, inet_prefer="v6"))
        self.assertEqual(order[:4], ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"])


class RefusalTests(RoutingTestCase):
    """Domains to which no mail can go, and whether that may change."""

    def refusal(self, routing: Routing) -> str:
        """Code and status."""
        reply = self.route(routing).refusal
        assert reply is not None
        return f"{reply.code} {reply.enhanced}"

    def test_a_null_mx_is_final(self) -> None:
        """The sender learns at once that the domain takes no mail (RFC 7505)."""
        self.assertEqual(self.refusal(self.routing({DOMAIN: [(0, "")]})), "556 5.1.10")

    def test_a_null_mx_beside_others_is_not_obeyed(self) -> None:
        """RFC 7505 section 3: it has to stand alone; the real host gets the mail."""
        routing = self.routing({DOMAIN: [(0, ""), (10, "a.example")]}, {"a.example": ["192.0.2.1"]})
        self.assertEqual(self.order(routing), ["192.0.2.1"])

    def test_a_domain_that_does_not_exist_is_final(self) -> None:
        """A typing error in the domain comes back at once."""
        self.assertEqual(self.refusal(self.routing()), "550 5.1.2")

    def test_a_dns_that_does_not_answer_is_not(self) -> None:
        """An outage of the DNS returns no mail."""
        routing = self.routing({DOMAIN: ResolutionFailed("timeout")})
        self.assertEqual(self.refusal(routing), "451 4.4.3")

    def test_neither_mx_nor_address_is_final(self) -> None:
        """A domain without any host cannot get mail."""
        reply = self.only_reply(self.routing({DOMAIN: []}, {DOMAIN: []}))
        self.assertEqual((reply.code, str(reply.enhanced)), (550, "5.1.2"))

    def test_a_host_of_many_addresses(self) -> None:
        """Eight of them are tried, of both families: the machine may have no way to one."""
        v6 = [f"2001:db8::{n}" for n in range(1, 10)]
        v4 = [f"192.0.2.{n}" for n in range(1, 10)]
        for has, tried in (
            (v6 + v4, v6[:4] + v4[:4]),
            (v6 + v4[:1], v6[:7] + v4[:1]),
            (v6[:1] + v4, v6[:1] + v4[:7]),
            (v6, v6[:8]),
            (v4, v4[:8]),
            (v6[:4] + v4[:4], v6[:4] + v4[:4]),
        ):
            routing = self.routing({DOMAIN: [(10, "a.example")]}, {"a.example": has})
            self.assertEqual(self.order(routing), tried)

    def test_an_address_that_is_not_known_is_passing(self) -> None:
        """Haraka returns mail when the address lookup merely timed out."""
        reply = self.only_reply(self.routing({DOMAIN: []}, {DOMAIN: ResolutionFailed("timeout")}))
        self.assertEqual((reply.code, str(reply.enhanced)), (451, "4.4.3"))

    def test_an_mx_without_address_is_skipped(self) -> None:
        """A stale MX does not keep mail from the next one."""
        routing = self.routing(
            {DOMAIN: [(10, "gone.example"), (20, "b.example")]}, {"b.example": ["192.0.2.2"]}
        )
        first, second = self.all_hosts(routing)
        self.assertEqual(str(first.skipped[0].reply), "550 5.4.4 MX gone.example has no address")
        self.assertEqual([hop.host for hop in second.hops], ["192.0.2.2"])

    def test_an_mx_that_is_an_address_is_skipped(self) -> None:
        """RFC 2181 section 10.3; the reason says what the domain's owner has to repair."""
        reply = self.only_reply(self.routing({DOMAIN: [(10, "192.0.2.1")]}))
        self.assertIn("MX 192.0.2.1 is an address, not a host name", str(reply))

    def test_a_failing_route_hook_delays(self) -> None:
        """Mail is not sent astray because a plugin was broken for a moment."""
        routing = self.routing(hops=HookFailed("relay at route"))
        self.assertEqual(self.refusal(routing), "451 4.3.0")


class OurselvesTests(RoutingTestCase):
    """Mail never runs in a circle."""

    def test_the_best_mx_is_this_server(self) -> None:
        """The mail waits, and the reason says what the operator has to set."""
        routing = self.routing({DOMAIN: [(10, "a.example")]}, {"a.example": [OURS]})
        reply = self.only_reply(routing)
        self.assertEqual((reply.code, str(reply.enhanced)), (451, "4.4.6"))
        self.assertIn(f"a.example [{OURS}] is this server", str(reply))

    def test_hosts_behind_this_server_are_not_asked(self) -> None:
        """A backup MX does not give mail to another backup, which would give it back."""
        routing = self.routing(
            {DOMAIN: [(10, "a.example"), (20, "us.example"), (30, "c.example")]},
            {"a.example": ["192.0.2.1"], "us.example": [OURS], "c.example": ["192.0.2.3"]},
        )
        self.assertEqual(self.order(routing), ["192.0.2.1"])

    def test_hosts_beside_this_server_are_not_asked(self) -> None:
        """Two backups of the same preference do not give mail to each other in turns."""
        for ours in ({"us.example": [OURS]}, {"us.example": ["192.0.2.9", OURS]}):
            routing = self.routing(
                {DOMAIN: [(10, "a.example"), (20, "b.example"), (20, "us.example")]},
                {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"], **ours},
            )
            self.assertEqual(self.order(routing), ["192.0.2.1"])

    def test_our_name_is_enough(self) -> None:
        """Behind NAT the address of the MX is not one of this machine, but the name is ours."""
        routing = self.routing({DOMAIN: [(10, ME)]}, {ME: ["203.0.113.9"]})
        self.assertEqual(str(self.only_reply(routing).enhanced), "4.4.6")

    def test_our_public_address_is_enough(self) -> None:
        """public_ip of smtp.ini tells what the machine cannot know."""
        routing = self.routing(
            {DOMAIN: [(10, "a.example")]},
            {"a.example": ["203.0.113.9"]},
            public_ip=HostList.parse(["203.0.113.9"]),
        )
        self.assertEqual(str(self.only_reply(routing).enhanced), "4.4.6")

    def test_addresses_that_are_not_for_the_world_are_skipped(self) -> None:
        """Nobody's MX makes this server talk to itself or to its neighbours' link."""
        for address in ("127.0.0.1", "::1", "0.0.0.0", "169.254.1.1", "fe80::1", "fd00::1"):
            routing = self.routing(
                {DOMAIN: [(10, "a.example"), (20, "b.example")]},
                {"a.example": [address], "b.example": ["192.0.2.2"]},
            )
            self.assertEqual(self.order(routing), ["192.0.2.2"], address)

    def test_mapped_addresses_are_seen_through(self) -> None:
        """::ffff:127.0.0.1 is the loopback as well."""
        routing = self.routing({DOMAIN: [(10, "a.example")]}, {"a.example": ["::ffff:127.0.0.1"]})
        self.assertEqual(self.order(routing), [])

    def test_local_mx_ok_allows_them(self) -> None:
        """An operator who runs another server on the same machine can say so."""
        routing = self.routing(
            {DOMAIN: [(10, "a.example"), (20, ME)]},
            {"a.example": ["127.0.0.1"], ME: [OURS]},
            local_mx_ok=True,
        )
        self.assertEqual(self.order(routing), ["127.0.0.1", OURS])


class RouteHookTests(RoutingTestCase):
    """What plugins say."""

    def test_hosts_are_tried_in_the_order_given(self) -> None:
        """A configured next hop is asked without MX lookup, on its own port."""
        hops = (
            NextHop("10.0.0.5", DOMAIN, 2525, source="route"),
            NextHop("relay.example", DOMAIN, 587, source="route"),
        )
        routing = self.routing({}, {"relay.example": ["192.0.2.9"]}, hops)
        first, second = (hop for found in self.all_hosts(routing) for hop in found.hops)
        self.assertEqual((first.host, first.port, first.mx_name), ("10.0.0.5", 2525, None))
        self.assertEqual((second.host, second.port), ("192.0.2.9", 587))
        self.assertEqual(second.mx_name, "relay.example")
        self.assertEqual(self.resolver.asked, [("address", "relay.example")])

    def test_this_machine_is_allowed(self) -> None:
        """Mail can be handed to a mailbox server on the same machine."""
        hops = (NextHop("127.0.0.1", DOMAIN, 24, source="route"),)
        self.assertEqual(self.order(self.routing(hops=hops)), ["127.0.0.1"])

    def test_a_route_to_ourselves(self) -> None:
        """A port on which we listen is no next hop: told as that, and the mail waits."""
        hops = (NextHop(OURS, DOMAIN, 2525, source="route"),)
        routing = self.routing(hops=hops, listens=((OURS, 2525),))
        reply = self.only_reply(routing)
        self.assertEqual((reply.code, str(reply.enhanced)), (451, "4.4.6"))
        self.assertIn("leads back to this server", str(reply))
        other_port = (NextHop(OURS, DOMAIN, 10025, source="route"),)
        routing = self.routing(hops=other_port, listens=((OURS, 2525),))
        self.assertEqual(self.order(routing), [OURS])

    def test_another_machine_on_our_port(self) -> None:
        """That we listen on port 25 of all addresses says nothing about port 25 elsewhere."""
        hops = (NextHop("192.0.2.9", DOMAIN, 25, source="route"),)
        routing = self.routing(hops=hops, listens=(("192.0.2.9", 25),))
        self.assertEqual(self.order(routing), ["192.0.2.9"])

    def test_a_next_hop_without_address_delays(self) -> None:
        """A mistake in our own configuration returns no mail."""
        hops = (NextHop("relay.example", DOMAIN, source="route"),)
        self.assertTrue(self.only_reply(self.routing(hops=hops)).is_transient)


class OtherDomainTests(RoutingTestCase):
    """Address literals and <postmaster>."""

    def test_an_address_literal(self) -> None:
        """user@[192.0.2.1] goes to that address."""
        self.assertEqual(self.order(self.routing(), "[192.0.2.1]"), ["192.0.2.1"])
        self.assertEqual(self.order(self.routing(), "[IPv6:2001:db8::1]"), ["2001:db8::1"])

    def test_an_address_literal_of_this_machine(self) -> None:
        """user@[127.0.0.1] does not make this server talk to itself."""
        self.assertEqual(self.order(self.routing(), "[127.0.0.1]"), [])

    def test_postmaster_without_domain_is_ours(self) -> None:
        """Mail for <postmaster> goes where mail for this host's name goes."""
        routing = self.routing({ME: [(10, "mail.example")]}, {"mail.example": ["192.0.2.4"]})
        self.assertEqual(self.order(routing, ""), ["192.0.2.4"])
        self.assertEqual(self.plugins.asked, [ME])


class ShuffleTests(SynchronousTestCase):
    """Any DNS."""

    @given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 99)), max_size=30))
    def test_preferences_never_fall(self, records: list[tuple[int, int]]) -> None:
        """Whatever the shuffling, no host of a worse preference comes before a better one."""
        routing = Routing(Plugins(), FixedResolver(), OutboundSettings(), ME, lambda address: False)
        exchangers = [MailExchanger(p, f"mx{n}.example") for p, n in records]
        groups = list(routing._groups(DOMAIN, exchangers))
        preferences = [hop.preference for group in groups for hop in group]
        self.assertEqual(preferences, sorted(preferences))
        self.assertEqual(len({group[0].preference for group in groups}), len(groups))


class IsLocalAddressTests(SynchronousTestCase):
    """The kernel is asked; nothing is sent."""

    def test_the_loopback_is_local(self) -> None:
        """An address of this machine is found without any list of interfaces."""
        self.assertTrue(is_local_address("127.0.0.1"))

    def test_others_and_nonsense_are_not(self) -> None:
        """A documentation address is nobody's, and nonsense raises nothing."""
        self.assertFalse(is_local_address("192.0.2.1"))
        self.assertFalse(is_local_address("2001:db8::1"))
        self.assertFalse(is_local_address("no address"))
