"""The plugin lookup_rdns: names that lead back to their address, and all others."""

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IPeerNameHook, ResolutionFailed
from harakatls.plugins import lookup_rdns
from harakatls.plugins.lookup_rdns import FAILURE_KEPT, KEPT, MOST_AT_ONCE, ReverseLookup
from harakatls.testing.values import FixedResolver
from tests.plugins.support import config_of, connection_from, site_of

V4 = "192.0.2.1"
V6 = "2001:db8::1"
AWAY = ResolutionFailed("away")


@frozen
class SilentResolver(FixedResolver):
    """A DNS that answers no question about *silent*."""

    silent: Sequence[str] = ()

    async def names(self, address: str) -> tuple[str, ...]:
        if address in self.silent:
            await Deferred()
        return await super().names(address)

    async def addresses(self, host: str) -> tuple[str, ...]:
        if host in self.silent:
            await Deferred()
        return await super().addresses(host)


class LookupTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def plugin(self, pointers: Any = (), hosts: Any = (), silent: Any = ()) -> ReverseLookup:
        self.resolver = SilentResolver(
            hosts=dict(hosts), pointers=dict(pointers), silent=tuple(silent)
        )
        return ReverseLookup(self.resolver, self.clock, 4.0)

    def looking(self, plugin: ReverseLookup, host: str = V4) -> "Deferred[str | None]":
        return Deferred.fromCoroutine(plugin.peer_name(connection_from(host)))

    def name(self, plugin: ReverseLookup, host: str = V4) -> str | None:
        found: str | None = self.successResultOf(self.looking(plugin, host))
        return found


class NameTests(LookupTestCase):
    def test_confirmed(self) -> None:
        """A name that leads back, over IPv4, IPv6, and IPv4 within IPv6."""
        for host, back in ((V4, V4), (V6, "2001:DB8:0::1"), (V4, f"::ffff:{V4}")):
            plugin = self.plugin({host: ["a.example"]}, {"a.example": ["198.51.100.1", back]})
            verifyObject(IPeerNameHook, plugin)
            self.assertEqual(self.name(plugin, host), "a.example")
        self.assertEqual(self.resolver.asked, [("name", V4), ("address", "a.example")])

    def test_not_confirmed(self) -> None:
        """One that leads elsewhere, nowhere, or does not exist is none."""
        elsewhere: list[dict[str, list[str]]]
        elsewhere = [{"mx.bank.example": ["198.51.100.1"]}, {"mx.bank.example": []}, {}]
        for hosts in elsewhere:
            self.assertIsNone(self.name(self.plugin({V4: ["mx.bank.example"]}, hosts)))

    def test_no_name(self) -> None:
        """An address without PTR, in both ways."""
        nameless: list[dict[str, list[str]]] = [{}, {V4: []}]
        for pointers in nameless:
            plugin = self.plugin(pointers)
            self.assertIsNone(self.name(plugin))
            self.assertEqual(self.resolver.asked, [("name", V4)])

    def test_several(self) -> None:
        """The first that leads back, also behind others that cannot be looked up."""
        names = ["gone.example", "away.example", "b.example", "c.example"]
        hosts = {"away.example": AWAY, "b.example": [V4], "c.example": [V4]}
        self.assertEqual(self.name(self.plugin({V4: names}, hosts)), "b.example")

    def test_too_many(self) -> None:
        """Whoever has ten thousand names costs no more than five questions."""
        names = [f"n{number}.example" for number in range(10_000)]
        plugin = self.plugin({V4: names}, {names[5]: [V4]})
        self.assertIsNone(self.name(plugin))
        self.assertEqual(len(self.resolver.asked), 1 + 5)

    def test_no_dot(self) -> None:
        """A peer is not "localhost" to others, whatever it writes into its zone."""
        plugin = self.plugin({V4: ["localhost", "mx"]}, {"localhost": [V4], "mx": [V4]})
        self.assertIsNone(self.name(plugin))
        self.assertEqual(self.resolver.asked, [("name", V4)])

    def test_which_addresses(self) -> None:
        """What no zone can have is not asked for; private networks may have a DNS of their own."""
        plugin = self.plugin()
        for host in ("127.0.0.1", "127.1.2.3", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "::"):
            self.assertIsNone(self.name(plugin, host))
        self.assertEqual(self.resolver.asked, [])
        plugin = self.plugin(
            {"10.0.0.7": ["print.corp.example"]}, {"print.corp.example": ["10.0.0.7"]}
        )
        self.assertEqual(self.name(plugin, "10.0.0.7"), "print.corp.example")


class TimeTests(LookupTestCase):
    def test_silence(self) -> None:
        """The time limit is for all questions together, and nothing is left behind it."""
        for silent in ((V4,), ("a.example",)):
            plugin = self.plugin({V4: ["a.example"]}, {"a.example": [V4]}, silent)
            looking = self.looking(plugin)
            self.clock.advance(3.9)
            self.assertNoResult(looking)
            self.clock.advance(0.2)
            self.assertIsNone(self.successResultOf(looking))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peer_leaves(self) -> None:
        """Its place is free again, and nothing is remembered of it."""
        plugin = self.plugin(silent=(V4,))
        for _ in range(MOST_AT_ONCE + 1):
            looking = self.looking(plugin)
            self.assertNoResult(looking)
            looking.cancel()
            self.failureResultOf(looking)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_kept(self) -> None:
        """Five minutes long nobody is asked again, whether there is a name or not."""
        for pointers in ({V4: ["a.example"]}, {}):
            plugin = self.plugin(pointers, {"a.example": [V4]})
            first = self.name(plugin)
            asked = len(self.resolver.asked)
            self.clock.advance(KEPT - 1)
            self.assertEqual((self.name(plugin), len(self.resolver.asked)), (first, asked))
            self.clock.advance(2)
            self.assertEqual((self.name(plugin), len(self.resolver.asked)), (first, 2 * asked))

    def test_failure_is_kept_for_less(self) -> None:
        """A DNS that comes back is asked again soon, but not by every connection."""
        for hosts, pointers in (({}, {V4: AWAY}), ({"a.example": AWAY}, {V4: ["a.example"]})):
            plugin = self.plugin(pointers, hosts)
            self.assertIsNone(self.name(plugin))
            asked = len(self.resolver.asked)
            self.assertIsNone(self.name(plugin))
            self.assertEqual(len(self.resolver.asked), asked)
            self.clock.advance(FAILURE_KEPT + 1)
            self.assertIsNone(self.name(plugin))
            self.assertEqual(len(self.resolver.asked), 2 * asked)

    def test_kept_is_bounded(self) -> None:
        """Whoever has all addresses of the world fills no memory; the oldest goes first."""
        self.patch(lookup_rdns, "MOST_KEPT", 3)
        plugin = self.plugin()
        for number in (1, 2, 3, 4, 4, 3, 1):
            self.name(plugin, f"2001:db8::{number}")
        asked = [address[-1] for _, address in self.resolver.asked]
        self.assertEqual(asked, ["1", "2", "3", "4", "1"])

    def test_many_at_once(self) -> None:
        """Where the DNS is silent, some wait, and others go on without; one line says so."""
        hosts = [f"2001:db8::{number}" for number in range(1, MOST_AT_ONCE + 1)]
        plugin = self.plugin({V4: ["a.example"]}, {"a.example": [V4]}, hosts)
        with capturedLogs() as events:
            waiting = [self.looking(plugin, host) for host in hosts]
            for _ in range(3):
                self.assertIsNone(self.name(plugin))
            self.clock.advance(5)
            for looking in waiting:
                self.assertIsNone(self.successResultOf(looking))
            self.assertEqual(self.name(plugin), "a.example")
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["the DNS is slow: 100 peers wait for their names, and others have none"],
        )


class SettingsTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Seconds, with a fraction or without."""
        for text, seconds in (("", 4.0), ("timeout=0.5", 0.5), ("timeout=10", 10.0)):
            config = config_of(self, {"lookup_rdns.ini": text})
            self.assertEqual(lookup_rdns.time_limit(config), seconds)

    def test_bad_values(self) -> None:
        """Refused, with file and key, what was found and what was expected."""
        for text, problem in (
            ("soon", "'soon' is not a number of seconds of at least 0.1"),
            ("0", "'0' is not a number of seconds of at least 0.1"),
            ("90", "'90' is more than 60 seconds"),
            ("30", "30 is not below the plugin's time limit, 30"),
        ):
            config = config_of(self, {"lookup_rdns.ini": f"timeout={text}"})
            error = self.assertRaises(ConfigError, lookup_rdns.time_limit, config)
            self.assertEqual(str(error), f"lookup_rdns.ini timeout: {problem}")

    def test_time_limit_of_the_plugin(self) -> None:
        """That of all plugins, its own, and none at all."""
        files = {"plugin_timeout": "3"}
        self.assertRaises(ConfigError, lookup_rdns.time_limit, config_of(self, files))
        for own in ("5", "0"):
            files["lookup_rdns.timeout"] = own
            self.assertEqual(lookup_rdns.time_limit(config_of(self, files)), 4.0)

    def test_loaded(self) -> None:
        """With the resolver of the site."""
        self.assertIsInstance(lookup_rdns.load(site_of(self, {})), ReverseLookup)
