"""Tests for harakatls.tls.settings."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.tls.files import PEMFile
from harakatls.tls.parameters import ContextParameters, TLSVersion
from harakatls.tls.settings import InboundTLS, NoGoSettings, OutboundTLS, TLSSettings
from tests.config.files import write_config
from tests.tls.settings_case import SettingsTestCase

KEYS = (
    *("key", "cert", "ca", "ciphers", "minVersion", "maxVersion", "honorCipherOrder", "ecdhCurve"),
    *("dhparam", "requestCert", "rejectUnauthorized", "requireAuthorized", "no_starttls_ports"),
    *("force_tls_hosts", "no_tls_hosts", "secureProtocol", "requestOCSP", "mutual_tls"),
    *("disable_for_failed_hosts", "disable_expiry", "x", "192.0.2.1"),
)
SECTIONS = (
    *("main", "inbound", "outbound", "no_tls_hosts", "redis", "smtp_forward"),
    *("mutual_auth_hosts", "mutual_auth_hosts_exclude", "y", "queue/smtp_forward"),
    *("mx.example.com", "_.example.com"),
)


class DefaultTests(SettingsTestCase):
    """What holds without a word in tls.ini."""

    def test_no_file(self) -> None:
        """An operator without tls.ini gets the defaults of the document."""
        settings = TLSSettings.load(write_config(self))
        missing = "there is no such file"
        self.assertEqual(
            settings.inbound,
            InboundTLS(
                keys=(PEMFile("tls_key.pem", None, missing),),
                certs=(PEMFile("tls_cert.pem", None, missing),),
            ),
        )
        self.assertEqual(settings.outbound, OutboundTLS())
        self.assertEqual(settings.nogo, NoGoSettings())
        self.assertTrue(settings.inbound.request_certificate)
        self.assertFalse(settings.inbound.reject_unauthorized)
        parameters = settings.inbound.parameters
        self.assertIsNone(parameters.ciphers)
        self.assertIs(parameters.min_version, TLSVersion.TLS_1_2)
        self.assertTrue(parameters.honor_cipher_order)
        self.assertEqual(parameters.groups, "prime256v1")
        self.assertEqual((settings.nogo.expiry, settings.nogo.inbound_expiry), (604800, 3600))
        self.assertFalse(settings.nogo.enabled)

    def test_sample(self) -> None:
        """The shipped tls.ini is read without a complaint, and does not change what it explains."""
        sample = Path(__file__).parent.parent.parent / "config" / "tls.ini"
        settings = self.load(sample.read_text())
        self.assertEqual(self.config.warnings, ())
        self.assertIsNone(settings.inbound.parameters.groups)
        self.assertIsNone(settings.outbound.parameters.groups)


class RequiredTests(SettingsTestCase):
    """require_tls_ports and require_tls_hosts."""

    def test_lists(self) -> None:
        """Ports, and networks of clients; of [inbound] or of all."""
        for section in ("", "[inbound]\n"):
            settings = self.load(
                f"{section}require_tls_ports[]=587\nrequire_tls_ports[]=2525;\n"
                "require_tls_hosts[]=198.51.100.0/24\nrequire_tls_hosts[]=2001:db8::1\n"
            ).inbound
            self.assertEqual(settings.require_tls_ports, {587, 2525})
            self.assertIn("198.51.100.7", settings.require_tls_hosts)
            self.assertIn("2001:db8::1", settings.require_tls_hosts)
            self.assertNotIn("203.0.113.1", settings.require_tls_hosts)
            self.assertEqual(self.config.warnings, ())

    def test_names(self) -> None:
        """A name would never be found, so the operator would be less safe than it seems."""
        for name in ("mail.example.com", "*.example.com"):
            with self.assertRaises(ConfigError) as caught:
                self.load(f"require_tls_hosts[]={name}\n")
            self.assertIn(f"require_tls_hosts: '{name}' is not an", str(caught.exception))

    def test_contradiction(self) -> None:
        """A port with required TLS that does not offer it could take no mail at all."""
        with self.assertRaises(ConfigError) as caught:
            self.load("no_starttls_ports[]=587\n[inbound]\nrequire_tls_ports[]=587\n")
        self.assertIn("[inbound] require_tls_ports: lists 587", str(caught.exception))

    def test_public_port(self) -> None:
        """RFC 3207 section 4 forbids it on port 25 of a public server; the operator is told."""
        self.load("require_tls_ports[]=25\n")
        self.assertIn("RFC 3207", self.config.warnings[0])

    def test_outbound(self) -> None:
        """It says nothing about mail that goes out."""
        self.load("[outbound]\nrequire_tls_ports[]=25\n")
        self.assertIn("force_tls_hosts", self.config.warnings[0])


class InheritanceTests(SettingsTestCase):
    """The main section holds for all, a section of its own wins."""

    def test_main(self) -> None:
        """What stands at the top counts in both directions."""
        settings = self.load("minVersion=TLSv1.3\nciphers=ECDHE+AESGCM\necdhCurve=secp384r1\n")
        for parameters in (settings.inbound.parameters, settings.outbound.parameters):
            self.assertIs(parameters.min_version, TLSVersion.TLS_1_3)
            self.assertEqual(parameters.ciphers, "ECDHE+AESGCM")
            self.assertEqual(parameters.groups, "secp384r1")

    def test_own_section(self) -> None:
        """[inbound] and [outbound] win, each for itself (Haraka ignores [inbound], #3370)."""
        settings = self.load(
            "minVersion=TLSv1.2\nciphers=AES\n"
            "[inbound]\nminVersion=TLSv1.3\nhonorCipherOrder=false\n"
            "[outbound]\nciphers=CHACHA20\necdhCurve=auto\n"
        )
        self.assertIs(settings.inbound.parameters.min_version, TLSVersion.TLS_1_3)
        self.assertIs(settings.outbound.parameters.min_version, TLSVersion.TLS_1_2)
        self.assertEqual(settings.inbound.parameters.ciphers, "AES")
        self.assertEqual(settings.outbound.parameters.ciphers, "CHACHA20")
        self.assertEqual(settings.inbound.parameters.groups, "prime256v1")
        self.assertIsNone(settings.outbound.parameters.groups)
        self.assertFalse(settings.inbound.parameters.honor_cipher_order)
        self.assertTrue(settings.outbound.parameters.honor_cipher_order)
        self.assertEqual(self.config.warnings, ())

    def test_every_inbound_option(self) -> None:
        """Each option of incoming mail may stand in [inbound]."""
        settings = self.load(
            "requestCert=true\nno_starttls_ports[]=25\n"
            "[inbound]\nkey=k.pem\ncert=c.pem\nca=a.pem\nrequestCert=false\n"
            "rejectUnauthorized=true\nrequireAuthorized[]=465\nno_starttls_ports[]=2525\n",
            k_pem="K",
            c_pem="C",
            a_pem="A",
        ).inbound
        self.assertEqual([f.content for f in settings.keys + settings.certs], [b"K", b"C"])
        self.assertEqual([f.content for f in settings.anchors], [b"A"])
        self.assertFalse(settings.request_certificate)
        self.assertTrue(settings.reject_unauthorized)
        self.assertEqual(settings.require_authorized, {465})
        self.assertEqual(settings.no_starttls_ports, {2525})

    def test_every_outbound_option(self) -> None:
        """The hosts of outgoing mail: forced ones also from the top, excluded ones not."""
        settings = self.load(
            "rejectUnauthorized=true\nforce_tls_hosts[]=a.example\n"
            "[outbound]\nrejectUnauthorized=false\nno_tls_hosts[]=127.0.0.2\n"
            "no_tls_hosts[]=192.168.31.1/24\n"
        ).outbound
        self.assertFalse(settings.reject_unauthorized)
        self.assertIn("a.example", settings.force_tls_hosts)
        self.assertIn("192.168.31.77", settings.no_tls_hosts)
        self.assertNotIn("192.168.32.1", settings.no_tls_hosts)
        own = self.load("force_tls_hosts[]=a.example\n[outbound]\nforce_tls_hosts[]=b.example\n")
        self.assertEqual(own.outbound.force_tls_hosts.entries, ("b.example",))

    def test_mistake_in_what_does_not_count(self) -> None:
        """A wrong value is told even where another one counts."""
        self.assert_refused(
            "minVersion=1.2\n[inbound]\nminVersion=TLSv1.3\n[outbound]\nminVersion=TLSv1.3\n",
            "minVersion",
        )

    def test_where_an_error_is(self) -> None:
        """An error about an option names the section it was taken from."""
        settings = self.load("ciphers=AES\n[outbound]\nciphers=NONE\n")
        found = settings.outbound.parameters.error("ciphers", "no such cipher")
        self.assertEqual(str(found), "tls.ini [outbound] ciphers: no such cipher")
        found = settings.inbound.parameters.error("ciphers", "no such cipher")
        self.assertEqual(str(found), "tls.ini ciphers: no such cipher")


class ValueTests(SettingsTestCase):
    """What values may be, and what is said about others."""

    def parameters(self, text: str) -> ContextParameters:
        return self.load(text).inbound.parameters

    def test_versions(self) -> None:
        """The spellings of the document; any other is told, with what is possible."""
        for text, version in {
            "TLSv1": 0x0301,
            "TLSv1.1": 0x0302,
            "TLSv1.2": 0x0303,
            "TLSv1.3": 0x0304,
            "tlsv1.3;": 0x0304,
        }.items():
            self.assertEqual(self.parameters(f"minVersion={text}\n").min_version, version)
        for text in ("TLS1.2", "SSLv3", "1.2", "", "TLSv1.4"):
            self.assert_refused(
                f"[inbound]\nminVersion={text}\n", "[inbound] minVersion", "TLSv1.2"
            )

    def test_maximum(self) -> None:
        """maxVersion is ours; below minVersion it would leave nothing."""
        self.assertEqual(self.parameters("maxVersion=TLSv1.2\n").max_version, 0x0303)
        self.assert_refused("minVersion=TLSv1.3\nmaxVersion=TLSv1.2\n", "maxVersion", "TLSv1.3")
        self.assert_refused("maxVersion=TLSv1.1\n", "maxVersion", "TLSv1.2")
        for section in ("inbound", "outbound", "mx.example.com", "smtp_forward"):
            self.assert_refused(
                f"maxVersion=TLSv1.2\n[{section}]\nminVersion=TLSv1.3\n",
                f"tls.ini maxVersion: is below minVersion, which is TLSv1.3 in [{section}]",
            )

    def test_old_versions_are_warned_of(self) -> None:
        """An operator who allows TLS 1.0 learns what else that allows."""
        self.assert_warned("minVersion=TLSv1\n", "minVersion", "security level 0")

    def test_ciphers(self) -> None:
        """TLS 1.3 suites are told from older ciphers, which are in another list of OpenSSL's."""
        found = self.parameters("ciphers=TLS_AES_128_GCM_SHA256:EECDH+AESGCM:!aNULL\n")
        self.assertEqual(
            (found.suites, found.ciphers), ("TLS_AES_128_GCM_SHA256", "EECDH+AESGCM:!aNULL")
        )
        found = self.parameters("ciphers=AES128-SHA, AES256-SHA\n")
        self.assertEqual((found.suites, found.ciphers), (None, "AES128-SHA:AES256-SHA"))

    def test_suites_alone(self) -> None:
        """Where only suites of TLS 1.3 are allowed, so is only TLS 1.3."""
        settings = self.load("ciphers=TLS_AES_128_GCM_SHA256\n")
        self.assertIs(settings.inbound.parameters.min_version, TLSVersion.TLS_1_3)
        self.assertEqual(len(self.config.warnings), 1, self.config.warnings)
        self.assert_refused("ciphers=TLS_AES_128_GCM_SHA256\nmaxVersion=TLSv1.2\n", "ciphers")

    def test_no_ciphers(self) -> None:
        """What cannot be a list of ciphers is refused before OpenSSL sees it."""
        for text in ("", ";", "AES\u00e4", "AES\x00", "AES'"):
            self.assert_refused(f"ciphers={text}\n", "ciphers")

    def test_curves(self) -> None:
        """One curve as documented; a list and auto are ours."""
        self.assertEqual(self.parameters("ecdhCurve=secp384r1\n").groups, "secp384r1")
        self.assertEqual(self.parameters("ecdhCurve=X25519:P-256\n").groups, "X25519:P-256")
        self.assertEqual(self.parameters("ecdhCurve=X25519,P-256\n").groups, "X25519:P-256")
        self.assertIsNone(self.parameters("ecdhCurve=auto\n").groups)
        self.assertIsNone(self.parameters("ecdhCurve=Auto;\n").groups)
        for text in ("", "P 256", "X25519\x00", "b\u00e4"):
            self.assert_refused(f"ecdhCurve={text}\n", "ecdhCurve")

    def test_ports(self) -> None:
        """Ports as the document writes them, semicolon and all; a scalar counts as well."""
        settings = self.load(
            "no_starttls_ports[]=2525\nno_starttls_ports[]=26;\nrequireAuthorized[]=465;\n"
        )
        self.assertEqual(settings.inbound.no_starttls_ports, {2525, 26})
        self.assertEqual(settings.inbound.require_authorized, {465})
        self.assertEqual(self.load("no_starttls_ports=2525\n").inbound.no_starttls_ports, {2525})
        for text in ("smtp", "0", "65536", "-1"):
            self.assert_refused(f"no_starttls_ports[]={text}\n", "no_starttls_ports")

    def test_hosts(self) -> None:
        """[no_tls_hosts] is a section of bare addresses and networks."""
        hosts = self.load(
            "[no_tls_hosts]\n192.168.1.3\n172.16.0.0/16\n2001:db8::/32\n"
        ).inbound.no_tls_hosts
        for inside in ("192.168.1.3", "172.16.9.9", "2001:db8::1", "::ffff:172.16.0.1"):
            self.assertIn(inside, hosts)
        self.assertNotIn("172.17.0.1", hosts)
        self.assert_refused("[no_tls_hosts]\n300.1.1.1\n", "[no_tls_hosts]", "300.1.1.1")
        self.assert_refused("[outbound]\nforce_tls_hosts[]=a/b\n", "force_tls_hosts")

    def test_booleans(self) -> None:
        """A misspelt word is never quietly false."""
        self.assert_refused("honorCipherOrder=ture\n", "honorCipherOrder", "ture")
        self.assert_refused("[outbound]\nrejectUnauthorized=\n", "[outbound] rejectUnauthorized")

    def test_nogo(self) -> None:
        """[redis] switches it on, and says for how long."""
        settings = self.load(
            "[redis]\ndisable_for_failed_hosts=true\ndisable_expiry=60\ndisable_inbound_expiry=5\n"
        )
        self.assertEqual(self.config.warnings, ())
        self.assertEqual(settings.nogo, NoGoSettings(enabled=True, expiry=60, inbound_expiry=5))
        self.assert_refused("[redis]\ndisable_expiry=a week\n", "[redis] disable_expiry")

    @given(st.data())
    def test_any_text(self, data: st.DataObject) -> None:
        """Whatever is in tls.ini, there are settings or an error that says where; nothing else."""
        keys = st.sampled_from(KEYS)
        values = st.one_of(
            st.sampled_from(
                ["true", "TLSv1.2", "25", "auto", "P-256", "AES", "a.example", "x.pem"]
            ),
            st.text(max_size=12),
        )
        sections = st.sampled_from(SECTIONS)
        lines = st.one_of(
            st.builds("{}={}".format, keys, values),
            st.builds("{}[]={}".format, keys, values),
            st.builds("[{}]".format, sections),
            keys,
            st.text(max_size=20),
        )
        text = "\n".join(data.draw(st.lists(lines, max_size=12)))
        config = self._directory(text.encode("utf-8", "surrogatepass"))
        try:
            settings = TLSSettings.load(config)
        except ConfigError as error:
            self.assertEqual(error.file, "tls.ini")
            self.assertNotIn("\n", str(error))
        else:
            self.assertIsInstance(settings, TLSSettings)
            self.assertIsInstance(config.warnings, tuple)

    def _directory(self, content: bytes) -> ConfigDirectory:
        if not hasattr(self, "path"):
            self.path = write_config(self).path
        (self.path / "tls.ini").write_bytes(content)
        return ConfigDirectory(self.path)
