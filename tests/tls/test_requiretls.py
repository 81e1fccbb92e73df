"""requiretls, requiretls_secure_mx and [requiretls_hosts] of tls.ini."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.mail.route import NextHop
from harakatls.tls.requiretls import RequireTLS, RequireTLSPolicy
from harakatls.tls.settings import TLSSettings
from tests.plugins.support import config_of

DISABLE, OPPORTUNISTIC, STARTTLS, ENFORCE = RequireTLS
HOP = NextHop("192.0.2.7", "example.com", mx_name="mx.example.net")


class SettingsCase(SynchronousTestCase):
    def load(self, ini: str) -> TLSSettings:
        self.config = config_of(self, {"tls.ini": ini, "me": "mx.example\n"})
        return TLSSettings.load(self.config)

    def policy(self, ini: str) -> RequireTLSPolicy:
        return self.load(ini).outbound.requiretls

    def refused(self, ini: str) -> str:
        return str(self.assertRaises(ConfigError, self.load, ini))


class ValueTests(SettingsCase):
    def test_usual(self) -> None:
        """To others it is enforced, to our own hosts it is passed on where it is offered."""
        settings = self.load("")
        self.assertEqual(settings.outbound.requiretls, RequireTLSPolicy(ENFORCE, OPPORTUNISTIC))
        for tls in settings.plugins.values():
            self.assertEqual(tls.requiretls, RequireTLSPolicy(OPPORTUNISTIC, OPPORTUNISTIC))

    def test_levels(self) -> None:
        """Postfix's words, in any case."""
        for word, usual, internal in (
            ("enforce", ENFORCE, OPPORTUNISTIC),
            ("Opportunistic+STARTTLS", STARTTLS, OPPORTUNISTIC),
            ("opportunistic", OPPORTUNISTIC, OPPORTUNISTIC),
            ("disable", DISABLE, DISABLE),
        ):
            found = self.policy(f"[outbound]\nrequiretls={word}\n")
            self.assertEqual(found, RequireTLSPolicy(usual, internal))
        self.assertTrue(self.policy("[outbound]\nrequiretls_secure_mx=true\n").secure_mx)

    def test_back_ends(self) -> None:
        """Their section is about them; what [outbound] says is not."""
        settings = self.load("[outbound]\nrequiretls=disable\n[smtp_forward]\nrequiretls=enforce\n")
        forward, proxy = settings.plugins["smtp_forward"], settings.plugins["smtp_proxy"]
        self.assertEqual(forward.requiretls.level(HOP)[0], ENFORCE)
        self.assertEqual(forward.requiretls.internal, ENFORCE)
        self.assertEqual(proxy.requiretls.usual, OPPORTUNISTIC)

    def test_hosts(self) -> None:
        """The narrowest entry, and the address before the name before the domain."""
        policy = self.policy(
            "[requiretls_hosts]\n192.0.2.0/24=disable\n192.0.2.8=enforce\n"
            "*.example.net=opportunistic\nmx.example.net=opportunistic+starttls\n"
            "example.com=enforce\n"
        )
        for host, name, domain, expected in (
            ("192.0.2.8", "mx.example.net", "x.example", ENFORCE),
            ("192.0.2.7", "mx.example.net", "x.example", DISABLE),
            ("203.0.113.1", "mx.example.net", "example.com", STARTTLS),
            ("203.0.113.1", "mx2.example.net", "example.com", OPPORTUNISTIC),
            ("203.0.113.1", "mx.example.org", "example.com", ENFORCE),
        ):
            level, why = policy.level(NextHop(host, domain, mx_name=name))
            self.assertIs(level, expected)
            self.assertIn("requiretls_hosts lists ", why)
        self.assertEqual(
            policy.level(NextHop("203.0.113.1", "x.example"))[1], "requiretls is enforce"
        )

    def test_entries_count_for_our_own_hosts(self) -> None:
        """Who names a mail store means it."""
        policy = self.policy("[requiretls_hosts]\n127.0.0.1=enforce\n")
        hop = NextHop("127.0.0.1", "example.com", 24, source="route", protocol="lmtp")
        self.assertIs(policy.level(hop)[0], ENFORCE)


class BadValueTests(SettingsCase):
    """Each error names file, section, key, what was found and what was expected."""

    def test_levels(self) -> None:
        """A level that is none is refused in both places, and the four are named."""
        words = "one of enforce, opportunistic+starttls, opportunistic, disable"
        self.assertEqual(
            self.refused("[outbound]\nrequiretls=always\n"),
            f"tls.ini [outbound] requiretls: 'always' is not {words}",
        )
        self.assertEqual(
            self.refused("[requiretls_hosts]\nmx.example=yes\n"),
            f"tls.ini [requiretls_hosts] mx.example: 'yes' is not {words}",
        )

    def test_hosts(self) -> None:
        """No host, no level, or two levels for one."""
        self.assertIn("is not an address", self.refused("[requiretls_hosts]\na..b=enforce\n"))
        self.assertEqual(
            self.refused("[requiretls_hosts]\nmx.example\n"),
            "tls.ini [requiretls_hosts] mx.example: has no level: write mx.example=enforce, for "
            "example",
        )
        self.assertIn(
            "mx.example is there twice, with different levels",
            self.refused("[requiretls_hosts]\nmx.example=enforce\nMX.example.=disable\n"),
        )

    def test_secure_mx(self) -> None:
        """What is neither yes nor no is refused."""
        told = self.refused("[outbound]\nrequiretls_secure_mx=perhaps\n")
        self.assertIn("tls.ini [outbound] requiretls_secure_mx: 'perhaps' is neither", told)

    def test_wrong_place(self) -> None:
        """Where it has no effect, that is told."""
        self.load("requiretls=disable\n[inbound]\nrequiretls=false\n")
        told = "\n".join(self.config.warnings)
        self.assertIn("tls.ini requiretls", told)
        self.assertIn("write it in connection.ini", told)
