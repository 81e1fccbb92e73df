"""Tests for harakatls.tls.settings."""

import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.tls.files import PEMFile
from harakatls.tls.parameters import ContextParameters, TLSVersion
from harakatls.tls.settings import InboundTLS, NoGoSettings, OutboundTLS, TLSSettings
from tests.config.files import write_config

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


class SettingsTestCase(SynchronousTestCase):
    def load(self, text: str, **files: str) -> TLSSettings:
        """tls.ini with this text, and other files by name (``_`` for the dot)."""
        named = {name.replace("_pem", ".pem"): content for name, content in files.items()}
        self.config = write_config(self, {"tls.ini": text, **named})
        return TLSSettings.load(self.config)

    def assert_refused(self, text: str, *words: str) -> None:
        """A ConfigError whose text has all *words*."""
        with self.assertRaises(ConfigError) as caught:
            self.load(text)
        self.assertEqual(caught.exception.file, "tls.ini")
        for word in words:
            self.assertIn(word, str(caught.exception))

    def assert_warned(self, text: str, *words: str) -> TLSSettings:
        """One warning, with all *words*."""
        settings = self.load(text)
        self.assertEqual(len(self.config.warnings), 1, self.config.warnings)
        for word in words:
            self.assertIn(word, self.config.warnings[0])
        return settings


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


class FileTests(SettingsTestCase):
    """Keys, certificates and trust anchors."""

    def test_default_names(self) -> None:
        """The pair that the document's command makes is found without a word in tls.ini."""
        settings = self.load("", tls_key_pem="KEY", tls_cert_pem="CERT")
        self.assertEqual(settings.inbound.keys, (PEMFile("tls_key.pem", b"KEY"),))
        self.assertEqual(settings.inbound.certs, (PEMFile("tls_cert.pem", b"CERT"),))

    def test_one_pair(self) -> None:
        """A pair of other names, relative to the directory or absolute."""
        elsewhere = os.path.abspath(self.mktemp())
        Path(elsewhere).write_text("CERT")
        settings = self.load(f"key=a.pem\ncert={elsewhere}\n", a_pem="KEY")
        self.assertEqual(settings.inbound.keys, (PEMFile("a.pem", b"KEY"),))
        self.assertEqual(settings.inbound.certs, (PEMFile(elsewhere, b"CERT"),))

    def test_several_pairs(self) -> None:
        """key[] and cert[] name an RSA and an ECDSA pair."""
        settings = self.load(
            "key[]=r.pem\ncert[]=R.pem\nkey[]=e.pem\ncert[]=E.pem\n", r_pem="1", e_pem="2"
        )
        self.assertEqual([file.name for file in settings.inbound.keys], ["r.pem", "e.pem"])
        self.assertEqual([file.content for file in settings.inbound.keys], [b"1", b"2"])
        self.assertEqual([file.name for file in settings.inbound.certs], ["R.pem", "E.pem"])

    def test_cannot_be_read(self) -> None:
        """A wrong file does not stop the server: what is wrong is kept, to be told."""
        settings = self.load("key=dir\ncert=empty.pem\n", **{"dir/x": "", "empty_pem": " \n"})
        self.assertEqual(settings.inbound.keys[0].content, None)
        self.assertIn("Is a directory", settings.inbound.keys[0].problem or "")
        self.assertEqual(settings.inbound.certs[0].problem, "the file is empty")

    def test_unreadable(self) -> None:
        """A file that is there but cannot be read is told as such, not as missing."""
        config = write_config(self)
        (config.path / "tls_key.pem").symlink_to("tls_key.pem")
        problem = TLSSettings.load(config).inbound.keys[0].problem
        self.assertIn("cannot be read", problem or "")

    def test_names_no_file(self) -> None:
        """An empty key= is a mistake, not the default."""
        self.assert_refused("key=\n", "key", "no file")
        self.assert_refused("[inbound]\ncert\n", "[inbound] cert")

    def test_key_is_not_shown(self) -> None:
        """A private key does not get into a log by way of a repr."""
        settings = self.load("", tls_key_pem="SECRET")
        self.assertNotIn("SECRET", repr(settings))

    def test_trust_anchors(self) -> None:
        """ca is for clients, ca of [outbound] for next hops; one never stands in for the other."""
        text = "ca=a.pem\n[outbound]\nca=b.pem\n"
        settings = self.load(text, a_pem="A", b_pem="B")
        self.assertEqual(settings.inbound.anchors, (PEMFile("a.pem", b"A"),))
        self.assertEqual(settings.outbound.anchors, (PEMFile("b.pem", b"B"),))
        self.assertEqual(self.load("ca=a.pem\n", a_pem="A").outbound.anchors, ())


class DirectoryTests(SettingsTestCase):
    """config/tls."""

    def names(self, config: ConfigDirectory) -> list[str]:
        return [file.name for file in TLSSettings.load(config).inbound.directory]

    def test_files(self) -> None:
        """Every file at any depth is read, but what begins with a dot."""
        config = write_config(
            self,
            {
                "tls/b.pem": "B",
                "tls/a": "A",
                "tls/sub/deep/c.crt": "C",
                "tls/.b.pem.swp": "",
                "tls/.git/x": "",
            },
        )
        found = TLSSettings.load(config).inbound.directory
        expected = {"tls/a": b"A", "tls/b.pem": b"B", "tls/sub/deep/c.crt": b"C"}
        self.assertEqual({file.name: file.content for file in found}, expected)

    def test_links(self) -> None:
        """Links as certbot and Kubernetes make them are followed; one in a circle ends."""
        config = write_config(self, {"live/a.pem": "A", "tls/..2026/b.pem": "B"})
        (config.path / "tls" / "..data").symlink_to("..2026")
        (config.path / "tls" / "b.pem").symlink_to("..data/b.pem")
        (config.path / "tls" / "site").symlink_to("../live")
        (config.path / "live" / "again").symlink_to("../tls")
        (config.path / "tls" / "gone.pem").symlink_to("nowhere")
        names = self.names(config)
        self.assertEqual(names, ["tls/b.pem", "tls/gone.pem", "tls/site/a.pem"])

    def test_no_directory(self) -> None:
        """Where tls is no directory, that is told and nothing else happens."""
        config = write_config(self, {"tls": "x"})
        (found,) = TLSSettings.load(config).inbound.directory
        self.assertIsNone(found.content)
        self.assertIn("Not a directory", found.problem or "")

    def test_default_pair(self) -> None:
        """With the directory, a missing default pair is no mistake unless tls.ini names it."""
        files = {"tls/a.pem": "A"}
        self.assertEqual(TLSSettings.load(write_config(self, files)).inbound.keys, ())
        for more in ({"tls.ini": "key=tls_key.pem\n"}, {"tls_cert.pem": "C"}):
            settings = TLSSettings.load(write_config(self, {**files, **more})).inbound
            self.assertEqual([file.name for file in settings.keys], ["tls_key.pem"])
            self.assertEqual([file.name for file in settings.certs], ["tls_cert.pem"])


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

    @settings(deadline=None)  # the tables for names that are not ASCII are loaded when needed
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


class WarningTests(SettingsTestCase):
    """What has no effect is told, never silently ignored."""

    def test_not_built(self) -> None:
        """Each option of the document that is not built yet says so."""
        for text in ("[smtp_forward]\nminVersion=TLSv1.3\n",):
            with self.subTest(text=text):
                self.assert_warned(text, "not built yet")

    def test_switched_off(self) -> None:
        """Nobody is bothered about what is not built where it is not asked for."""
        for text in (
            "mutual_tls=false\nsecureProtocol=SSLv23_method\n",
            "[redis]\ndisable_for_failed_hosts=false\n",
        ):
            self.load(text)
            self.assertEqual(self.config.warnings, ())

    def test_in_the_wrong_section(self) -> None:
        """What means nothing for outgoing mail is told, and never offered to every server."""
        for key in ("key=a.pem", "cert=a.pem", "honorCipherOrder=false", "requestCert=true"):
            with self.subTest(key=key):
                self.assert_warned(f"[outbound]\n{key}\n", "[outbound]", key.partition("=")[0])

    def test_keys_without_effect(self) -> None:
        """Options of Haraka's that nothing is done with, in each section they may stand in."""
        for section in ("", "[inbound]\n", "[outbound]\n", "[a.example]\n"):
            for key in (
                *("pfx", "passphrase", "crl", "secureOptions", "sessionIdContext"),
                *("ALPNProtocols", "session"),
            ):
                with self.subTest(section=section, key=key):
                    self.assert_warned(f"{section}{key}=x\n", f"{key}: has no effect")

    def test_wrong_direction(self) -> None:
        """What is about the other direction, or has a place of its own."""
        for text, word in (
            ("no_tls_hosts[]=192.0.2.1\n", "[outbound]"),
            ("[inbound]\nno_tls_hosts[]=192.0.2.1\n", "section [no_tls_hosts]"),
            ("[inbound]\nforce_tls_hosts[]=a.example\n", "require_tls_hosts"),
        ):
            with self.subTest(text=text):
                self.assert_warned(text, "has no effect", word)

    def test_contradictions(self) -> None:
        """Two that cannot both count: which one does is told."""
        for text, words in (
            ("rejectUnauthorized=true\nrequestCert=false\n", ("requestCert=false",)),
            (
                "rejectUnauthorized=true\n[inbound]\nrequireAuthorized[]=465\n",
                ("requireAuthorized", "no difference"),
            ),
            (
                "[outbound]\nforce_tls_hosts[]=a.example\nno_tls_hosts[]=A.example\n",
                ("[outbound] no_tls_hosts", "a.example", "wins"),
            ),
            ("[redis]\nhost=a.example\nip=192.0.2.1\n", ("ip", "host wins")),
            ("[redis]\ndb=1\ndatabase=2\ndbid=1\n", ("database", "db wins")),
        ):
            with self.subTest(text=text):
                self.assert_warned(text, *words)

    def test_no_contradiction(self) -> None:
        """A section of its own may demand more than all others do: that is what it is for."""
        for general in ("requestCert=false\n", "requireAuthorized[]=465\n"):
            for section in ("inbound", "mx.example.com"):
                self.load(f"{general}[{section}]\nrejectUnauthorized=true\n")
                self.assertEqual(self.config.warnings, ())

    def test_memory_switched_off(self) -> None:
        """How long to remember says nothing where nothing is remembered."""
        for key in ("disable_expiry", "disable_inbound_expiry"):
            self.assert_warned(f"[redis]\n{key}=60\n", f"[redis] {key}: has no effect")
            self.load(f"[redis]\ndisable_for_failed_hosts=false\n{key}=60\n")
            self.assertEqual(self.config.warnings, ())

    def test_clients_by_name(self) -> None:
        """[no_tls_hosts] is compared with addresses; a name in it never matches."""
        self.assert_warned("[no_tls_hosts]\nmx.example.com\n", "'mx.example.com'", "never")
        self.assert_warned("[no_tls_hosts]\n192.0.2.1=false\n", "192.0.2.1", "no effect")

    def test_misspelt_sections(self) -> None:
        """A word that looks like a section is one misspelt, not a certificate's name."""
        for name in ("inbuond", "Outbound", "reddis", "smtp_foward", "no_tls_host"):
            self.assert_warned(f"[{name}]\nminVersion=TLSv1.3\n", f"[{name}]: unknown section")

    def test_staples(self) -> None:
        """The former name does the same, and is told; where both are there, the new one counts."""
        for text, expected in (
            ("", False),
            ("requestOCSP=true\n", True),
            ("requestOCSP=true\n[inbound]\nrequestOCSP=false\n", False),
            ("[inbound]\nrequestOCSP=true\n", True),
        ):
            with self.subTest(text=text):
                self.assertIs(self.load(text).inbound.staples, expected)
                self.assertEqual(self.config.warnings, ())
        settings = self.assert_warned("enableOCSPStapling=true\n", "former name of requestOCSP")
        self.assertTrue(settings.inbound.staples)
        settings = self.assert_warned(
            "enableOCSPStapling=true\nrequestOCSP=false\n", "enableOCSPStapling", "wins"
        )
        self.assertFalse(settings.inbound.staples)
        self.assert_refused("requestOCSP=perhaps\n", "requestOCSP", "perhaps")
        self.assert_warned("[outbound]\nrequestOCSP=true\n", "[outbound]", "incoming")

    def test_unknown(self) -> None:
        """A misspelt option is told, with the one that was meant."""
        self.assert_warned("minversion=TLSv1.3\n", "minversion", "did you mean minVersion?")
        self.assert_warned("[inbond]\nkey=a.pem\n", "inbond", "unknown section")

    def test_forced_and_excluded(self) -> None:
        """Two lists are two lists: no warning where they do not meet."""
        self.load("[outbound]\nforce_tls_hosts[]=a.example\nno_tls_hosts[]=b.example\n")
        self.assertEqual(self.config.warnings, ())
