"""Tests of the plugin rcpt_to.in_host_list."""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IMailHook, IRcptHook
from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.plugins.host_list import InHostList, LocalDomains, load
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict
from tests.plugins.support import (
    config_of,
    connection_from,
    recipient,
    result_of,
    site_of,
    transaction_for,
)


class LocalDomainsTests(SynchronousTestCase):
    def domains(self, **files: str) -> LocalDomains:
        return LocalDomains.load(config_of(self, files))

    def test_names(self) -> None:
        """A domain is ours however the operator wrote it; its neighbours are not."""
        domains = self.domains(host_list="Example.COM\n# comment\nbücher.example\ndot.example.\n")
        for name in ("example.com", "xn--bcher-kva.example", "dot.example"):
            self.assertIn(name, domains)
        for name in ("mail.example.com", "example.co", "com", "xexample.com"):
            self.assertNotIn(name, domains)

    def test_postmaster_alone(self) -> None:
        """RCPT TO:<postmaster> is for us even where no domain is."""
        self.assertIn("", self.domains())

    def test_patterns(self) -> None:
        """Each line of host_list_regex matches a whole domain, in any case."""
        domains = self.domains(host_list_regex="mx[0-9]\\.example\\.com\na\\.b|C\\.D\n")
        for name in ("mx1.example.com", "a.b", "c.d"):
            self.assertIn(name, domains)
        for name in ("mx10.example.com", "mx1.example.com.net", "xa.b", "a.bb"):
            self.assertNotIn(name, domains)

    def test_not_a_domain(self) -> None:
        """A line that is no domain stops the start with its text, not with a silent refusal."""
        problem = self.assertRaises(
            ConfigError, self.domains, host_list="good.example\nbad domain\n"
        )
        self.assertEqual(
            str(problem), "host_list: 'bad domain' is not a domain such as example.com"
        )

    def test_not_a_pattern(self) -> None:
        """A wrong regular expression is named."""
        problem = self.assertRaises(ConfigError, self.domains, host_list_regex="(open\n")
        self.assertIn("host_list_regex: '(open' is not a regular expression", str(problem))

    def test_lines_do_not_meddle(self) -> None:
        """Groups, numbered or named, and flags of one line have nothing to do with another's."""
        lines = r"(a)(b)\.(?P<top>net)", r"(x|y)\1\.example", r"mx\.(?P<top>com)", r"(?x) f l a g"
        domains = self.domains(host_list_regex="\n".join(lines))
        for name in ("ab.net", "xx.example", "yy.example", "mx.com", "flag"):
            self.assertIn(name, domains)
        for name in ("xy.example", "xa.example", "ab.com"):
            self.assertNotIn(name, domains)


class InHostListTests(SynchronousTestCase):
    def plugin(self, **files: str) -> InHostList:
        return load(site_of(self, {"host_list": "example.com\n", **files}))

    def rcpt(self, plugin: InHostList, of: Recipient) -> Verdict:
        asked = plugin.rcpt(connection_from(), transaction_for(), of)
        return result_of(self, asked)

    def test_interfaces(self) -> None:
        """The hook chain can ask it."""
        verifyObject(IRcptHook, self.plugin())

    def test_recipients(self) -> None:
        """Mail for our domain and for postmaster is taken, other mail is left to others."""
        plugin = self.plugin()
        self.assertEqual(self.rcpt(plugin, recipient("me@EXAMPLE.com")), ACCEPT)
        self.assertEqual(self.rcpt(plugin, Recipient(Address("postmaster", ""))), ACCEPT)
        self.assertEqual(self.rcpt(plugin, recipient("you@example.org")), CONTINUE)


class AntiSpoofTests(SynchronousTestCase):
    def verdict(self, sender: str | None, relaying: bool = False) -> Verdict:
        files = {"host_list": "example.com\n", "host_list.anti_spoof": "true\n"}
        hook = IMailHook(load(site_of(self, files)))
        verifyObject(IMailHook, hook)
        asked = hook.mail(connection_from(), transaction_for(sender=sender, relaying=relaying))
        return result_of(self, asked)

    def test_stranger_as_us(self) -> None:
        """With anti_spoof a stranger cannot send in the name of our own domain."""
        verdict = self.verdict("boss@example.com")
        assert isinstance(verdict, Reject)
        self.assertEqual(
            str(verdict.reply),
            "550 5.7.1 Mail from domain 'example.com' is not allowed from your host",
        )

    def test_others(self) -> None:
        """Our own clients, other domains and bounces are not concerned."""
        self.assertEqual(self.verdict("boss@example.com", relaying=True), CONTINUE)
        self.assertEqual(self.verdict("boss@example.org"), CONTINUE)
        self.assertEqual(self.verdict(None), CONTINUE)

    def test_switched_off(self) -> None:
        """Without anti_spoof, or with false in it, senders are not looked at."""
        for files in ({}, {"host_list.anti_spoof": "false\n"}):
            plugin = load(site_of(self, {"host_list": "example.com\n", **files}))
            self.assertIs(IMailHook(plugin, None), None)

    def test_not_a_boolean(self) -> None:
        """A word that is neither true nor false stops the start."""
        site = site_of(self, {"host_list": "a.example\n", "host_list.anti_spoof": "perhaps\n"})
        problem = self.assertRaises(ConfigError, load, site)
        self.assertIn("host_list.anti_spoof", str(problem))
