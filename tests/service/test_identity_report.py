"""Tests for what ``harakatls tls`` tells of certificates for next hops."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from harakatls.service.command_tls import lines
from harakatls.service.tls_report import TLSReport, as_mapping, tls_report
from tests.config.files import write_config
from tests.tls.peers import chain_octets, issued, key_octets, key_pem, self_signed

ME = "mx.example.com"
SERVER, CLIENT, NAMED = issued(ME), issued("client.example"), issued("named.example")
NOW = datetime.now(UTC)
GOOD: Mapping[str, str | bytes] = {
    "me": ME,
    "smtp.ini": "listen=192.0.2.1:25\n",
    "plugins": "tls\n",
    "tls_key.pem": key_octets(SERVER),
    "tls_cert.pem": chain_octets(SERVER),
    "c.key": key_octets(CLIENT),
    "c.crt": chain_octets(CLIENT),
    "tls/named.pem": key_octets(NAMED) + chain_octets(NAMED),
}
OWN = "[outbound]\nkey=c.key\ncert=c.crt\n"


def for_usage(usage: x509.ObjectIdentifier) -> dict[str, bytes]:
    """The files of a certificate for one use alone, which ends in three days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "c.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(NOW - timedelta(days=1))
    builder = builder.not_valid_after(NOW + timedelta(days=3, hours=1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return {"c.key": key_pem(key), "c.crt": certificate}


class IdentityReportTests(SynchronousTestCase):
    def report(self, ini: str, files: Mapping[str, str | bytes] | None = None) -> TLSReport:
        return tls_report(write_config(self, {**GOOD, **(files or {}), "tls.ini": ini}), NOW)

    def test_nobody(self) -> None:
        """Without a rule there is nothing to tell, and the settings say so."""
        report = self.report("")
        self.assertEqual(report.identities, ())
        self.assertEqual(report.outgoing["mutual_tls"], False)
        self.assertEqual(report.outgoing["mutual_auth_hosts"], [])
        self.assertNotIn("Certificates for next hops", "\n".join(lines(report)))

    def test_who_gets_which(self) -> None:
        """One entry for each rule, with the certificate that is shown."""
        report = self.report(
            "[mutual_auth_hosts]\na.example=named.example\nb.example\n"
            "[mutual_auth_hosts_exclude]\nc.b.example\n" + OWN
        )
        self.assertEqual(report.mistakes, ())
        shown = [(i["for"], [c["source"] for c in i["certificates"]]) for i in report.identities]
        self.assertEqual(
            shown, [("a.example", ["tls/named.pem"]), ("b.example", ["c.crt with c.key"])]
        )
        self.assertEqual(
            report.outgoing["mutual_auth_hosts"], ["a.example=named.example", "b.example"]
        )
        self.assertEqual(report.outgoing["mutual_auth_hosts_exclude"], ["c.b.example"])
        text = "\n".join(lines(report))
        self.assertIn("Certificates for next hops that ask for one\n\n  a.example\n", text)
        self.assertIn("    certificate EC, tls/named.pem, for named.example\n", text)
        self.assertIn("    certificate EC, c.crt with c.key, for client.example\n", text)
        self.assertEqual(
            json.loads(json.dumps(as_mapping(report)))["identities"][1]["for"], "b.example"
        )

    def test_everybody(self) -> None:
        """mutual_tls: hosts with a certificate of their own name, then all others."""
        report = self.report("mutual_tls=true\n" + OWN)
        self.assertEqual(
            [i["for"] for i in report.identities], ["named.example", "every other next hop"]
        )
        self.assertTrue(report.outgoing["mutual_tls"])

    def test_mistakes(self) -> None:
        """A name without a certificate, a file that is not there, one that has expired."""
        report = self.report("[mutual_auth_hosts]\na.example=nobody.example\n")
        (mistake,) = report.mistakes
        self.assertIn("tls.ini [mutual_auth_hosts] a.example: there is no certificate", mistake)
        self.assertIn("a.example\n    certificate none, see the mistakes", "\n".join(lines(report)))
        report = self.report("[mutual_auth_hosts]\na.example\n[outbound]\nkey=x.key\ncert=c.crt\n")
        self.assertIn("x.key: there is no such file", report.mistakes)
        key, certificate = self_signed("c", "c.example", not_after=NOW - timedelta(seconds=1))
        expired = {"c.key": key, "c.crt": certificate}
        report = self.report("[mutual_auth_hosts]\na.example\n" + OWN, expired)
        self.assertIn("the certificate expired at", " ".join(report.mistakes))
        self.assertIn("not valid now: not shown", "\n".join(lines(report)))

    def test_advice(self) -> None:
        """One that ends soon; one that its issuer has made for servers alone."""
        ini = "[mutual_auth_hosts]\na.example\n" + OWN
        report = self.report(ini, for_usage(ExtendedKeyUsageOID.SERVER_AUTH))
        self.assertEqual(report.mistakes, ())
        told = [w for w in report.warnings if w.startswith("c.crt with c.key: ")]
        self.assertEqual(len(told), 2, report.warnings)
        self.assertIn("expires in 3 days", told[0])
        self.assertIn("for servers alone", told[1])
        report = self.report(ini, for_usage(ExtendedKeyUsageOID.CLIENT_AUTH))
        self.assertNotIn("for servers alone", " ".join(report.warnings))

    def test_secrets(self) -> None:
        """No key is told, in whatever form."""
        report = self.report("mutual_tls=true\n" + OWN)
        for text in ("\n".join(lines(report)), json.dumps(as_mapping(report)), repr(report)):
            self.assertNotIn("PRIVATE", text)
