"""Tests of the plugin relay."""

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IAskedLast, IRcptHook, IRelayHook, IRouteHook
from harakatls.mail.address import parse_forward_path
from harakatls.mail.envelope import Recipient
from harakatls.mail.route import Credentials, NextHop
from harakatls.plugins.relay import Relay, load
from harakatls.testing.values import queued_message
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict
from tests.plugins.support import connection_from, recipient, result_of, site_of, transaction_for

DESTINATIONS = """\
[domains]
accepted.example={"action":"accept","nexthop":"10.0.0.5"}
Checked.Example={"action":"continue","nexthop":"inside.example:2525"}
denied.example={"action":"deny"}
routed.example={"nexthop":"[2001:db8::1]:587"}
direct.example={"action":"accept"}
any={"nexthop":"smarthost.example"}
"""


class RelayTests(SynchronousTestCase):
    def plugin(self, **files: str) -> Relay:
        names = {"relay_ini": "relay.ini", "destinations": "relay_dest_domains.ini"}
        return load(site_of(self, {names.get(k, k): text for k, text in files.items()}))

    def relaying(self, plugin: Relay, host: str) -> bool:
        return result_of(self, plugin.relaying(connection_from(host)))

    def test_interfaces(self) -> None:
        """The hook chain can ask it."""
        plugin = self.plugin(relay_ini="[relay]\ndest_domains=true\n")
        for interface in (IRelayHook, IRcptHook, IRouteHook, IAskedLast):
            verifyObject(interface, plugin)
        verifyObject(IRcptHook, IAskedLast(plugin).asked_last)

    def test_nothing_configured(self) -> None:
        """A server without any of the files is no open relay, not even for its own machine."""
        plugin = self.plugin()
        for host in ("192.0.2.1", "127.0.0.1", "::1"):
            self.assertFalse(self.relaying(plugin, host))
        self.assertFalse(IRcptHook.providedBy(plugin))

    def test_acl(self) -> None:
        """Hosts and networks of relay_acl_allow may relay; others may not."""
        acl = "192.0.2.0/24 # the office\n2001:db8::/32\n198.51.100.7\n"
        plugin = self.plugin(relay_acl_allow=acl)
        for host in ("192.0.2.200", "2001:db8::5", "198.51.100.7"):
            self.assertTrue(self.relaying(plugin, host), host)
        for host in ("192.0.3.1", "2001:db9::5", "198.51.100.8"):
            self.assertFalse(self.relaying(plugin, host), host)

    def test_acl_off(self) -> None:
        """acl=false takes the list out of force."""
        plugin = self.plugin(relay_acl_allow="192.0.2.1\n", relay_ini="[relay]\nacl=false\n")
        self.assertFalse(self.relaying(plugin, "192.0.2.1"))

    def test_open_relay(self) -> None:
        """all=true lets everybody relay: the operator said so."""
        plugin = self.plugin(relay_ini="[relay]\nall=true\n")
        self.assertTrue(self.relaying(plugin, "203.0.113.9"))

    def test_bad_acl(self) -> None:
        """An entry that is no host is named."""
        problem = self.assertRaises(ConfigError, self.plugin, relay_acl_allow="192.0.2.0/99\n")
        self.assertIn("relay_acl_allow: '192.0.2.0/99'", str(problem))


class DestinationTests(SynchronousTestCase):
    def plugin(self, ini: str = "dest_domains=true", destinations: str = DESTINATIONS) -> Relay:
        files = {"relay.ini": f"[relay]\n{ini}\n", "relay_dest_domains.ini": destinations}
        return load(site_of(self, files))

    def rcpt(self, plugin: object, address: str, relaying: bool = False) -> Verdict:
        hook: Any = IRcptHook(plugin)
        transaction = transaction_for(relaying=relaying)
        verdict: Verdict = result_of(
            self, hook.rcpt(connection_from(), transaction, recipient(address))
        )
        return verdict

    def route(self, plugin: Relay, domain: str) -> tuple[NextHop, ...] | None:
        return result_of(self, plugin.route(domain, queued_message()))

    def test_recipients(self) -> None:
        """With dest_domains, relay_dest_domains.ini says for whom anybody may send mail here."""
        plugin = self.plugin()
        self.assertEqual(self.rcpt(plugin, "x@accepted.example"), ACCEPT)
        self.assertEqual(self.rcpt(plugin, "x@checked.example"), CONTINUE)
        for domain in ("denied.example", "unlisted.example", "routed.example"):
            self.assertIsInstance(self.rcpt(plugin, f"x@{domain}"), Reject, domain)

    def test_any_is_no_domain(self) -> None:
        """``any`` is for routes: it lets nobody send to a domain of that name, or of no name."""
        for action in ("accept", "continue"):
            plugin = self.plugin(destinations=f'[domains]\nany={{"action":"{action}"}}\n')
            for address in ("x@any", "x@unlisted.example", "x@[192.0.2.1]"):
                self.assertIsInstance(self.rcpt(plugin, address), Reject, address)
                last = IAskedLast(plugin).asked_last
                self.assertEqual(self.rcpt(last, address), CONTINUE, address)

    def test_postmaster(self) -> None:
        """<postmaster> without a domain is ours, so others say what becomes of it (RFC 5321)."""
        hook = IRcptHook(self.plugin())
        postmaster = Recipient(parse_forward_path("<Postmaster>"))
        asked = hook.rcpt(connection_from(), transaction_for(), postmaster)
        self.assertEqual(result_of(self, asked), CONTINUE)

    def test_continue(self) -> None:
        """``continue`` takes the recipient when no other plugin has refused it; others stay out."""
        last = IAskedLast(self.plugin()).asked_last
        self.assertEqual(self.rcpt(last, "x@checked.example"), ACCEPT)
        for domain in ("accepted.example", "unlisted.example", "routed.example"):
            self.assertEqual(self.rcpt(last, f"x@{domain}"), CONTINUE, domain)

    def test_relaying_clients(self) -> None:
        """A client that may relay may send to any domain, listed or not."""
        plugin = self.plugin()
        for domain in ("denied.example", "unlisted.example"):
            self.assertEqual(self.rcpt(plugin, f"x@{domain}", relaying=True), CONTINUE)

    def test_switched_off(self) -> None:
        """Without dest_domains the file is for routes alone: it opens no relay."""
        plugin = self.plugin("dest_domains=false")
        for interface in (IRcptHook, IAskedLast):
            self.assertFalse(interface.providedBy(plugin))

    def test_routes(self) -> None:
        """Mail goes to the nexthop of its domain, else of ``any``; a name is kept for TLS."""
        plugin = self.plugin()
        for domain, host, port, name in (
            ("accepted.example", "10.0.0.5", 25, None),
            ("checked.example", "inside.example", 2525, "inside.example"),
            ("routed.example", "2001:db8::1", 587, None),
            ("unlisted.example", "smarthost.example", 25, "smarthost.example"),
        ):
            hop = NextHop(host, domain, port, mx_name=name, source="route")
            self.assertEqual(self.route(plugin, domain), (hop,))

    def test_direct(self) -> None:
        """A domain listed without nexthop is kept from the smarthost: it goes by DNS."""
        self.assertIs(self.route(self.plugin(), "direct.example"), None)

    def test_mail_that_another_plugin_has_taken(self) -> None:
        """A smart host for everything does not get what was accepted for a mail store."""
        queued = queued_message()
        taken = evolve(queued, envelope=evolve(queued.envelope, route="lmtp"))
        self.assertIs(result_of(self, self.plugin().route("accepted.example", taken)), None)

    def test_no_routes(self) -> None:
        """force_routing=false leaves all routes to DNS."""
        plugin = self.plugin("force_routing=false")
        self.assertIs(self.route(plugin, "accepted.example"), None)

    def test_mistakes(self) -> None:
        """A line that cannot be used stops the start and says what is wrong with it."""
        for line, told in (
            ("a.example=10.0.0.5", "a.example: '10.0.0.5' is not JSON; expected for example"),
            ('a.example="10.0.0.5"', "is not a JSON object"),
            ('a.example={"pass": "x"', "a.example: what stands here is not JSON"),
            ("a.example=" + "[" * 100_000, "is not JSON"),
            ('a.example={"action":"allow"}', "action 'allow' is not one of accept, continue, deny"),
            ('a.example={"nexthop":"a b"}', "nexthop 'a b' is not a host or host:port"),
            ('a.example={"nexthop":"h:0"}', "nexthop 'h:0' has no port from 1 to 65535"),
            ('a.example={"nexthop":25}', "nexthop '25' is not a host"),
            ('-.example={"nexthop":"h"}', "is neither a domain, *.domain, nor 'any'"),
            ('*.a.*={"nexthop":"h"}', "is neither a domain, *.domain, nor 'any'"),
            ('a.example={"nexthop":"http://h"}', "is neither smtp:// nor lmtp://"),
            ('a.example={"nexthop":{"port":25}}', "nexthop has no exchange"),
            ('a.example={"nexthop":{"exchange":"h","prot":1}}', "has an unknown key 'prot'"),
            ('a.example={"nexthop":["h","h:0"]}', "'h:0' has no port from 1 to 65535"),
            ('a.example={"nexthop":"h"}\nA.example.={"nexthop":"i"}', "is there twice"),
        ):
            problem = self.assertRaises(
                ConfigError, self.plugin, destinations=f"[domains]\n{line}\n"
            )
            self.assertIn("relay_dest_domains.ini [domains] ", str(problem))
            self.assertIn(told, str(problem))

    def test_wildcards(self) -> None:
        """``*.example.com`` stands for all below it, the nearest first; not for example.com."""
        plugin = self.plugin(
            destinations="""[domains]
*.example.com={"action":"accept","nexthop":"a.example"}
*.sub.example.com={"action":"deny","nexthop":"b.example"}
host.sub.example.com={"action":"accept","nexthop":"c.example"}
"""
        )
        for domain, host, accepted in (
            ("x.example.com", "a.example", True),
            ("x.y.example.com", "a.example", True),
            ("sub.example.com", "a.example", True),
            ("x.sub.example.com", "b.example", False),
            ("host.sub.example.com", "c.example", True),
        ):
            (hop,) = self.route(plugin, domain) or ()
            self.assertEqual((hop.host, hop.domain), (host, domain))
            self.assertEqual(self.rcpt(plugin, f"x@{domain}") == ACCEPT, accepted, domain)
        for domain in ("example.com", "other.example", "com"):
            self.assertIs(self.route(plugin, domain), None)
            self.assertIsInstance(self.rcpt(plugin, f"x@{domain}"), Reject)

    def test_smart_host(self) -> None:
        """All mail by one provider that wants a login, but for a domain of our own."""
        plugin = self.plugin(
            destinations="""[domains]
any={"nexthop":"smtp://bob:p%40ss@smart.example:587"}
ours.example={"nexthop":"lmtp://127.0.0.1"}
"""
        )
        (hop,) = self.route(plugin, "anywhere.example") or ()
        self.assertEqual((hop.host, hop.port), ("smart.example", 587))
        self.assertEqual(hop.credentials, Credentials("bob", "p@ss"))
        (ours,) = self.route(plugin, "ours.example") or ()
        self.assertEqual((ours.protocol, ours.credentials), ("lmtp", None))

    def test_several(self) -> None:
        """Tried by priority, and where that is the same, as they stand."""
        plugin = self.plugin(
            destinations="""[domains]
a.example={"nexthop":[{"exchange":"c.example","priority":10},"a.example","b.example"]}
"""
        )
        hops = self.route(plugin, "a.example") or ()
        self.assertEqual([hop.host for hop in hops], ["a.example", "b.example", "c.example"])

    def test_passwords_are_not_told(self) -> None:
        """No mistake in the file puts a password of it into the log."""
        for line in (
            'a.example="smtp://bob:s3cret@h"',
            'a.example={"nexthop":"smtp://bob:s3cret@h:0"}',
            'a.example={"nexthop":"ftp://bob:s3cret@h"}',
            'a.example={"nexthop":"smtp://bob:s3cret@h@a b"}',
            'a.example={"nexthop":{"exchange":"h","auth_user":"bob","auth_pass":"s3cret"},}',
            'a.example={"nexthop":{"exchange":"h","auth_pass":"s3cret"}}',
            'a.example={"nexthop":{"exchange":"h","auth_user":"bob","auth_pass":["s3cret"]}}',
            'a.example={"nexthop":{"exchange":"h","auth_user":"\\u0000","auth_pass":"s3cret"}}',
        ):
            problem = self.assertRaises(
                ConfigError, self.plugin, destinations=f"[domains]\n{line}\n"
            )
            self.assertNotIn("s3cret", str(problem))

    def test_unknown_key(self) -> None:
        """A misspelt key is told, since it would be missed otherwise."""
        site = site_of(
            self, {"relay_dest_domains.ini": '[domains]\na.example={"nextop":"10.0.0.5"}\n'}
        )
        load(site)
        self.assertEqual(
            site.config.warnings,
            ("relay_dest_domains.ini [domains] a.example: unknown key 'nextop'",),
        )
