"""[smtp_forward] and [smtp_proxy], with queue/ before them or without."""

from OpenSSL import SSL

from harakatls.config.errors import ConfigError
from harakatls.tls.client import ClientTLS
from harakatls.tls.policy import outbound_decision
from harakatls.tls.requiretls import IN_OUR_HOUSE
from harakatls.tls.settings import OutboundTLS
from tests.tls.options_case import ECDSA_PEER, HOP, PEER, OptionsTestCase
from tests.tls.peers import TLS_1_2, TLS_1_3, Outcome, from_us, plain_server

SPELLINGS = {
    "smtp_forward": "smtp_forward",
    "queue/smtp_forward": "smtp_forward",
    "smtp_proxy": "smtp_proxy",
    "queue/smtp_proxy": "smtp_proxy",
}


class PluginSectionTests(OptionsTestCase):
    def forward(self, ini: str, server: SSL.Connection, plugin: str = "smtp_forward") -> Outcome:
        """The plugin's handshake with a server."""
        settings = self.settings(ini).plugins[plugin]
        return from_us(ClientTLS(settings), outbound_decision(HOP, settings, None), server)

    def test_main(self) -> None:
        """Without a section of its own, what stands at the top counts, and not [outbound]."""
        settings = self.settings(
            "minVersion=TLSv1.3\nforce_tls_hosts[]=a.example\nca=ca.pem\n"
            "[outbound]\nminVersion=TLSv1.2\nrejectUnauthorized=true\nno_tls_hosts[]=b.example\n"
        )
        for plugin in ("smtp_forward", "smtp_proxy"):
            found = settings.plugins[plugin]
            self.assertEqual(found.parameters.min_version, 0x0304)
            self.assertEqual(found.force_tls_hosts.entries, ("a.example",))
            self.assertFalse(found.reject_unauthorized)
            self.assertEqual(found.no_tls_hosts.entries, ())
            self.assertEqual(found.anchors, ())  # those of the top are for clients
        usual = OutboundTLS(requiretls=IN_OUR_HOUSE)
        self.assertEqual(self.settings("").plugins["smtp_proxy"], usual)

    def test_own(self) -> None:
        """A plugin's section counts for it alone, in each spelling, on real handshakes."""
        for section, plugin in SPELLINGS.items():
            (other,) = {*SPELLINGS.values()} - {plugin}
            ini = f"minVersion=TLSv1.2\n[{section}]\nminVersion=TLSv1.3\n"
            self.assert_failed(self.forward(ini, plain_server(PEER, TLS_1_2), plugin), "version")
            self.assert_succeeded(self.forward(ini, plain_server(PEER, TLS_1_3), plugin))
            self.assert_succeeded(self.forward(ini, plain_server(PEER, TLS_1_2), other))
            self.assert_succeeded(self.outbound(ini, plain_server(PEER, TLS_1_2))[0])

    def test_every_option(self) -> None:
        """ciphers and suites, ecdhCurve, secureProtocol."""
        for version, cipher in (
            (TLS_1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
            (TLS_1_3, "TLS_AES_128_GCM_SHA256"),
        ):
            ini = f"[smtp_forward]\nciphers=ECDHE-ECDSA-CHACHA20-POLY1305:{cipher}\n"
            outcome = self.forward(ini, plain_server(ECDSA_PEER, version))
            self.assertEqual(self.assert_succeeded(outcome).client.get_cipher_name(), cipher)
        outcome = self.forward("[smtp_forward]\necdhCurve=secp521r1\n", plain_server(PEER))
        self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), "secp521r1")
        ini = "[smtp_forward]\nsecureProtocol=TLSv1_2_method\n"
        self.assert_failed(self.forward(ini, plain_server(PEER, TLS_1_3)), "version")

    def test_verified(self) -> None:
        """rejectUnauthorized, ca and force_tls_hosts of the plugin's own."""
        for key in ("rejectUnauthorized=true", "force_tls_hosts[]=mx.example.net"):
            good, bad = (f"[smtp_forward]\n{key}\nca={ca}.pem\n" for ca in ("ca", "other_ca"))
            self.assert_succeeded(self.forward(good, plain_server(PEER)))
            self.assert_failed(self.forward(bad, plain_server(PEER)), "certificate verify failed")
            self.assert_succeeded(self.forward(bad, plain_server(PEER), "smtp_proxy"))

    def test_never_tls(self) -> None:
        """no_tls_hosts of the plugin's own."""
        settings = self.settings("[queue/smtp_forward]\nno_tls_hosts[]=mx.example.net\n")
        forward, proxy = (settings.plugins[name] for name in ("smtp_forward", "smtp_proxy"))
        self.assertEqual(outbound_decision(HOP, forward, None).level, 0)
        self.assertNotEqual(outbound_decision(HOP, proxy, None).level, 0)

    def test_both_spellings(self) -> None:
        """Two sections about one plugin contradict each other."""
        with self.assertRaises(ConfigError) as caught:
            self.settings("[smtp_proxy]\nca=ca.pem\n[queue/smtp_proxy]\n")
        self.assertIn("tls.ini [queue/smtp_proxy]: is about the same", str(caught.exception))

    def test_mistakes(self) -> None:
        """An error names the section as it is written, also where OpenSSL finds it."""
        for section, plugin in SPELLINGS.items():
            for line in ("ciphers=TLS_NONE", "ciphers=NONE", "ecdhCurve=brainpool999"):
                settings = self.settings(f"[{section}]\n{line}\n").plugins[plugin]
                with self.assertRaises(ConfigError) as caught:
                    ClientTLS(settings)
                self.assertIn(f"tls.ini [{section}] ", str(caught.exception))
        (problem,) = ClientTLS(self.settings("[smtp_proxy]\nca=x\n").plugins["smtp_proxy"]).problems
        self.assertEqual(problem, "ca of [smtp_proxy]: x: there is no such file")

    def test_client_certificate(self) -> None:
        """mutual_tls for one plugin: its own certificate, for it alone."""
        ini = "[smtp_proxy]\nmutual_tls=true\nkey=rsa.key\ncert=rsa.crt\n"
        settings = self.settings(ini)
        self.assertTrue(settings.plugins["smtp_proxy"].mutual)
        self.assertEqual(settings.plugins["smtp_proxy"].certs[0].name, "rsa.crt")
        self.assertFalse(settings.plugins["smtp_forward"].mutual)
        self.assertFalse(settings.outbound.mutual)
        for section in ("[smtp_proxy]\n", "[outbound]\n", ""):
            warnings = self.loaded(
                f"{section}mutual_tls=true\n[mutual_auth_hosts_exclude]\na.example\n"
            ).warnings
            self.assertFalse(any("exclude" in warning for warning in warnings), warnings)

    def test_unused(self) -> None:
        """What means nothing there is told."""
        for key in ("dhparam", "requestCert", "requireAuthorized", "pfx", "no_starttls_ports"):
            warnings = self.loaded(f"[queue/smtp_forward]\n{key}=25\n").warnings
            self.assertTrue(any(f"[queue/smtp_forward] {key}: " in w for w in warnings), warnings)
        warnings = self.loaded("[smtp_forward]\nminVerson=TLSv1.3\n").warnings
        self.assertTrue(any("did you mean minVersion" in w for w in warnings), warnings)
