"""Tests for ``harakatls tls``: the report, and how it is printed."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from harakatls.service.command_tls import lines
from harakatls.service.tls_report import TLSReport, as_mapping, tls_report
from tests.config.files import write_config
from tests.tls.dh_groups import OF_DSA
from tests.tls.peers import authority, chain_octets, issued, key_octets, self_signed, with_chain

ME = "mx.example.com"
EC = with_chain(ME)
RSA = with_chain(ME, "mail.example.com", kind="RSA")
NAMED = issued("named.example", "*.named.example")
NOW = datetime.now(UTC)

GOOD: Mapping[str, str | bytes] = {
    "me": ME,
    "smtp.ini": "listen=192.0.2.1:25,192.0.2.1:465,192.0.2.1:587,192.0.2.1:2525\n",
    "plugins": "tls\n",
    "tls.ini": "key[]=e.key\ncert[]=e.crt\nkey[]=r.key\ncert[]=r.crt\nca=ca.pem\n"
    "[inbound]\nrequire_tls_ports[]=587\nno_starttls_ports[]=2525\nrequireAuthorized[]=465\n"
    "require_tls_hosts[]=198.51.100.0/24\nmaxVersion=TLSv1.2\nciphers=ECDHE+AESGCM\n"
    "[outbound]\nminVersion=TLSv1.3\nforce_tls_hosts[]=a.example\n",
    "e.key": key_octets(EC),
    "e.crt": chain_octets(EC),
    "r.key": key_octets(RSA),
    "r.crt": chain_octets(RSA),
    "ca.pem": authority().cert_pem.bytes(),
    "tls/sub/named.pem": key_octets(NAMED) + chain_octets(NAMED),
}


class ReportTestCase(SynchronousTestCase):
    def report(
        self, files: Mapping[str, str | bytes] | None = None, now: datetime = NOW
    ) -> TLSReport:
        return tls_report(write_config(self, {**GOOD, **(files or {})}), now)


class GoodTests(ReportTestCase):
    def test_certificates(self) -> None:
        """Each certificate with all that an operator asks about."""
        found = self.report().certificates
        self.assertEqual(
            [c["key"] for c in found], ["EC secp256r1", "RSA 2048 bits", "EC secp256r1"]
        )
        self.assertEqual([c["default"] for c in found], [True, True, False])
        self.assertEqual(found[0]["source"], "e.crt with e.key")
        self.assertEqual(found[1]["names"], [ME, "mail.example.com"])
        self.assertEqual(found[1]["shown_for"], [ME, "mail.example.com"])
        self.assertEqual(found[2]["shown_for"], ["named.example", "*.named.example"])
        self.assertEqual(len(found[0]["chain"]), 2)
        self.assertEqual(len(found[2]["chain"]), 1)
        self.assertIn("Harbour Trust", found[2]["issuer_of_last"])
        self.assertGreater(found[0]["days_left"], 0)

    def test_listeners(self) -> None:
        """What each port offers is what a client would find."""
        plain, implicit, submission, none = self.report().listeners
        self.assertEqual(plain["tls"], "STARTTLS is offered")
        self.assertEqual(plain["required_of"], ["198.51.100.0/24"])
        self.assertEqual(implicit["tls"], "from the first octet on")
        self.assertEqual(implicit["client_certificate"], "required")
        self.assertEqual(plain["client_certificate"], "asked for")
        self.assertEqual(
            (submission["tls"], submission["required_of"]), ("STARTTLS is required", "everybody")
        )
        self.assertIn("no_starttls_ports", none["tls"])
        self.assertEqual(plain["versions"], ["TLSv1.2"])
        self.assertEqual(len(plain["certificates"]), 2)

    def test_demands_by_name(self) -> None:
        """What is demanded of clients that ask for a name with a section, on each port."""
        ini = GOOD["tls.ini"]
        assert isinstance(ini, str)
        report = self.report({"tls.ini": f"{ini}[named.example]\nrequireAuthorized[]=587\n"})
        plain, implicit, submission, _ = report.listeners
        self.assertEqual(plain["client_certificate_by_name"], {"named.example": "asked for"})
        self.assertEqual(implicit["client_certificate_by_name"], {"named.example": "asked for"})
        self.assertEqual(submission["client_certificate_by_name"], {"named.example": "required"})
        (warning,) = (w for w in report.warnings if "named.example" in w)
        self.assertIn("[named.example] requireAuthorized: lacks 465", warning)
        printed = " ".join("\n".join(lines(report)).split())
        self.assertIn("clients' required; named.example: asked for", printed)
        self.assertIn("clients' asked for; named.example: required", printed)

    def test_ciphers(self) -> None:
        """Only ciphers that can be had: with one kind of key, none for the other."""
        both = self.report().listeners[0]["ciphers"]
        self.assertIn("ECDHE-ECDSA-AES256-GCM-SHA384", both)
        self.assertIn("ECDHE-RSA-AES256-GCM-SHA384", both)
        ini = "key=e.key\ncert=e.crt\n"
        ciphers = self.report({"tls.ini": ini}).listeners[1]["ciphers"]
        self.assertIn("TLS_AES_256_GCM_SHA384", ciphers)
        self.assertFalse([name for name in ciphers if "RSA" in name or "PSK" in name])

    def test_settings(self) -> None:
        """The settings that count, each role with its own."""
        report = self.report()
        self.assertEqual(report.incoming["minVersion"], "TLSv1.2")
        self.assertEqual(report.incoming["maxVersion"], "TLSv1.2")
        self.assertEqual(report.incoming["ca"], ["ca.pem"])
        self.assertEqual(report.outgoing["minVersion"], "TLSv1.3")
        self.assertEqual(report.outgoing["ca"], "the system's")
        self.assertEqual(report.outgoing["force_tls_hosts"], ["a.example"])
        self.assertEqual((report.mistakes, report.warnings), ((), ()))

    def test_printed(self) -> None:
        """Nothing of the report is left out for people, and programs can read it as well."""
        report = self.report()
        text = "\n".join(lines(report))
        for word in ("e.crt with e.key", "192.0.2.1:587", "a.example", "EC secp256r1", "TLSv1.3"):
            self.assertIn(word, text)
        self.assertTrue(text.endswith("No mistakes."))
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        self.assertEqual(json.loads(json.dumps(as_mapping(report)))["mistakes"], [])
        broken = "\n".join(lines(evolve(report, mistakes=("a: b",))))
        self.assertTrue(broken.endswith("    a: b\n\n1 mistake"))

    def test_own_sections(self) -> None:
        """What holds under a name, and for a plugin, is told beside what holds for all."""
        report = self.report(
            {
                "tls.ini": "key=e.key\ncert=e.crt\nciphers=ECDHE+AESGCM\n"
                "[*.named.example]\nminVersion=TLSv1.3\nrejectUnauthorized=true\n"
                "[queue/smtp_forward]\nsecureProtocol=TLSv1_2_method\nca=ca.pem\n"
                "[outbound]\nciphers=ECDHE+CHACHA20\n"
            }
        )
        self.assertEqual(report.mistakes, ())
        self.assertEqual(list(report.named), ["*.named.example"])
        rules = report.named["*.named.example"]
        self.assertEqual((rules["minVersion"], rules["rejectUnauthorized"]), ("TLSv1.3", True))
        self.assertEqual(rules["ciphers"], "ECDHE+AESGCM")
        self.assertFalse(report.incoming["rejectUnauthorized"])
        self.assertEqual(list(report.plugins), ["smtp_forward"])
        plugin = report.plugins["smtp_forward"]
        self.assertEqual((plugin["maxVersion"], plugin["ca"]), ("TLSv1.2", ["ca.pem"]))
        self.assertEqual(plugin["ciphers"], "ECDHE+AESGCM")
        text = "\n".join(lines(report))
        self.assertIn("ask for *.named.example", text)
        self.assertIn("the plugin smtp_forward", text)
        printed = json.loads(json.dumps(as_mapping(report)))
        self.assertEqual(printed["incoming_by_name"]["*.named.example"], rules)
        self.assertEqual(printed["plugins"]["smtp_forward"], plugin)

    def test_group(self) -> None:
        """Where the group for key exchange comes from."""
        self.assertIn("dhparams.pem will be made", self.report().incoming["dhparam"])
        report = self.report({"dhparams.pem": OF_DSA})
        self.assertEqual(report.incoming["dhparam"], "dhparams.pem, 2048 bits")
        report = self.report({"dhparams.pem": key_octets(EC)})
        self.assertEqual(report.incoming["dhparam"], "ffdhe2048, since dhparams.pem cannot be used")
        (mistake,) = report.mistakes
        self.assertIn("dhparam: dhparams.pem: there are no DH PARAMETERS in it, but ", mistake)

    def test_memory(self) -> None:
        """[redis], and where Redis is; never the password."""
        report = self.report()
        self.assertEqual(report.redis["disable_for_failed_hosts"], False)
        self.assertEqual(report.redis["Redis"], "none")
        report = self.report(
            {
                "tls.ini": "key=e.key\ncert=e.crt\n[redis]\ndisable_for_failed_hosts=true\n"
                "disable_expiry=60\ndisable_inbound_expiry=5\nhost=::1\ndb=3\n",
                "redis.ini": "[opts]\npassword=do not tell\n",
            }
        )
        self.assertEqual(
            report.redis,
            {
                "disable_for_failed_hosts": True,
                "disable_expiry": 60,
                "disable_inbound_expiry": 5,
                "Redis": "[::1]:6379/3",
            },
        )
        text = "\n".join(lines(report))
        self.assertIn("[::1]:6379/3", text)
        self.assertNotIn("do not tell", text + json.dumps(as_mapping(report)))

    def test_secrets(self) -> None:
        """A private key is nowhere in it."""
        printed = json.dumps(as_mapping(self.report()))
        self.assertNotIn("PRIVATE", printed)


class MistakeTests(ReportTestCase):
    """What is wrong is told with its file, whatever else is wrong."""

    def mistaken(self, files: Mapping[str, str | bytes], *told: str) -> TLSReport:
        report = self.report(files)
        self.assertEqual(len(report.mistakes), len(told), report.mistakes)
        for mistake, words in zip(report.mistakes, told, strict=True):
            for word in words.split(" ... "):
                self.assertIn(word, mistake)
        return report

    def test_files(self) -> None:
        """Of keys and certificates."""
        self.mistaken({"e.crt": b""}, "e.crt: the file is empty")
        self.mistaken({"e.crt": chain_octets(NAMED)}, "e.crt: no certificate ... e.key")
        self.mistaken({"tls/x.pem": b"-----BEGIN X"}, "tls/x.pem")
        self.mistaken({"ca.pem": b"nothing"}, "ca.pem")
        small = b"".join(self_signed(ME, key=rsa.generate_private_key(65537, 1024)))
        self.mistaken({"r.key": small, "r.crt": small}, "r.key ... key too small")
        key, old = self_signed(ME, not_after=NOW - timedelta(hours=1))
        report = self.mistaken({"e.key": key, "e.crt": old}, "e.crt ... expired at")
        self.assertIn("EXPIRED", "\n".join(lines(report)))

    def test_several_values(self) -> None:
        """All wrong values are told, not the first alone, and the rest is reported."""
        report = self.mistaken(
            {
                "tls.ini": "minVersion=9\nciphers=NONESUCH\n[inbound]\nrequestCert=perhaps\n"
                "key=e.key\ncert=e.crt\nminversion=TLSv1.3\n[outbound]\necdhCurve=round\n",
                "smtp.ini": "listen=nowhere\nsmtps_port=many\n",
            },
            "smtp.ini smtps_port: 'many'",
            "smtp.ini listen: 'nowhere'",
            "tls.ini minVersion: '9'",
            "tls.ini [inbound] requestCert: 'perhaps'",
            "tls.ini ciphers: 'NONESUCH'",
            "tls.ini [outbound] ecdhCurve ... 'round'",
            "tls.ini [inbound] minversion: unknown key; did you mean minVersion?",
        )
        self.assertTrue(report.certificates)

    def test_own_sections(self) -> None:
        """In sections of certificates and plugins, all of them, beside whatever else is wrong."""
        self.mistaken(
            {
                "tls.ini": "key=e.key\ncert=e.crt\n"
                "[nobody.example]\nrequestCert=false\n"
                "[_.named.example]\nciphers=NONESUCH\n"
                "[*.named.example]\nrequestCert=false\n"
                "[smtp_proxy]\necdhCurve=round\nca=r.key\n"
                "[queue/smtp_proxy]\nminVersion=TLSv1.3\n"
                "[inbuond]\nkey=x\n"
            },
            "tls.ini [*.named.example]: is about the same name as [_.named.example]",
            "tls.ini [queue/smtp_proxy]: is about the same plugin as [smtp_proxy]",
            "tls.ini [_.named.example] ciphers: 'NONESUCH'",
            "tls.ini [smtp_proxy] ecdhCurve: ... 'round'",
            "tls.ini [nobody.example]: no certificate has this name",
            "ca of [smtp_proxy]: r.key: there is no certificate in it",
            "tls.ini [inbuond]: unknown section",
        )

    def test_hopeless(self) -> None:
        """A file that cannot be read at all is one mistake, and no more is said."""
        report = self.mistaken({"tls.ini": b"\xff\n"}, "tls.ini: line 1 is not UTF-8")
        self.assertEqual(report.certificates, ())
        self.mistaken({"tls.ini": "[no_tls_hosts]\na/b\n"}, "tls.ini [no_tls_hosts]")

    def test_nothing_to_show(self) -> None:
        """Without a certificate the ports say why they offer nothing."""
        report = self.mistaken(
            {"tls.ini": "key=no.key\ncert=no.crt\n", "tls/sub/named.pem": b"\n"},
            "no.key: there is no such file",
            "no.crt: there is no such file",
            "named.pem: the file is empty",
        )
        self.assertEqual(
            [listener["opened"] for listener in report.listeners], [True, False, True, True]
        )
        self.assertIn("no certificate", report.listeners[0]["tls"])

    def test_plugin(self) -> None:
        """Required TLS without the plugin that offers it takes no mail."""
        report = self.mistaken({"plugins": "relay\n"}, "plugins: ... the plugin tls")
        self.assertIn("not in the file plugins", report.listeners[0]["tls"])


class AdviceTests(ReportTestCase):
    """What is no mistake, but should be looked at."""

    def test_expiry(self) -> None:
        """A certificate that expires soon is told in time."""
        key, soon = self_signed(ME, not_after=NOW + timedelta(days=13, hours=1))
        report = self.report({"e.key": key, "e.crt": soon})
        self.assertEqual(report.warnings, ("e.crt with e.key: the certificate expires in 13 days",))
        self.assertEqual(report.mistakes, ())

    def test_ports(self) -> None:
        """Ports that nobody listens on."""
        report = self.report({"smtp.ini": "listen=192.0.2.1:25,192.0.2.1:465\n"})
        self.assertEqual(
            [w for w in report.warnings if "no such port" in w],
            [
                "tls.ini no_starttls_ports: lists 2525, but smtp.ini opens no such port",
                "tls.ini require_tls_ports: lists 587, but smtp.ini opens no such port",
            ],
        )

    def test_other_name(self) -> None:
        """Those who check names would not take the certificate for ours."""
        (warning,) = self.report({"me": "elsewhere.example"}).warnings
        self.assertIn("not for elsewhere.example", warning)
        self.assertEqual(self.report({"me": "a.named.example"}).warnings, ())

    def test_without_effect(self) -> None:
        """What has no effect is told here as at the start."""
        (warning,) = self.report({"tls.ini": GOOD["tls.ini"] + "key[]=x\n"}).warnings  # type: ignore[operator]
        self.assertIn("tls.ini [outbound] key", warning)


class SampleTests(SynchronousTestCase):
    def test_readme(self) -> None:
        """What README shows is what the command prints."""
        text = (Path(__file__).parents[2] / "README.rst").read_text("utf-8")
        for word in (
            "harakatls tls",
            "No mistakes.",
            "STARTTLS is offered",
            "from the first octet",
        ):
            self.assertIn(word, text)
