"""
What Haraka's tests expect of TLS inbound, numbered as in tests.haraka.tls: settings,
certificates, contexts and names, requireAuthorized.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import trustme
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.inbound.log import secured_words
from harakatls.tls.certificates import certificate_names, told_names
from harakatls.tls.parameters import TLSVersion
from harakatls.tls.pem import read_pem
from harakatls.tls.policy import ClientCertificate, client_certificate
from harakatls.tls.settings import InboundTLS, TLSSettings
from tests.config.files import write_config
from tests.haraka.files import CIPHERS, EC_CERT, EC_KEY, F1, LOCAL, WILD, directory, files
from tests.tls.documented import (
    ECDSA,
    FILES,
    GOOD_CLIENT,
    SMTP,
    UNTRUSTED_CLIENT,
    Documented,
    DocumentTestCase,
)
from tests.tls.peers import (
    TLS_1_3,
    VERSIONS,
    chain_octets,
    fingerprint_of,
    issued,
    key_octets,
    self_signed,
    serial_of_pem,
)

OURS = "ca=ca.pem\n"


class SettingsTests(SynchronousTestCase):
    """Checks 1 to 7."""

    def load(self, ini: str | None) -> TLSSettings:
        given = {**FILES, **files()}
        if ini is not None:
            given["tls.ini"] = ini
        self.config = write_config(self, given)
        return TLSSettings.load(self.config)

    def test_without_file(self) -> None:
        """1: the defaults."""
        settings = self.load(None)
        inbound = settings.inbound
        self.assertTrue(inbound.request_certificate)
        self.assertFalse(inbound.reject_unauthorized)
        self.assertTrue(inbound.parameters.honor_cipher_order)
        self.assertFalse(inbound.staples)
        self.assertEqual(inbound.require_authorized, frozenset())
        self.assertEqual(inbound.no_starttls_ports, frozenset())
        self.assertFalse(inbound.no_tls_hosts)
        self.assertFalse(settings.nogo.enabled)

    def test_main_values(self) -> None:
        """2: as they are written; ports are numbers."""
        inbound = self.load(F1).inbound
        self.assertEqual(inbound.parameters.ciphers, CIPHERS)
        self.assertIs(inbound.parameters.min_version, TLSVersion.TLS_1_0)
        self.assertTrue(inbound.parameters.honor_cipher_order)
        self.assertTrue(inbound.request_certificate)
        self.assertFalse(inbound.reject_unauthorized)
        self.assertEqual([file.name for file in inbound.keys], ["tls_key.pem"])
        self.assertEqual([file.name for file in inbound.certs], ["tls_cert.pem"])
        self.assertEqual(inbound.require_authorized, frozenset({2465, 2587}))
        self.assertEqual(inbound.no_starttls_ports, frozenset({2525}))

    def test_no_tls_hosts(self) -> None:
        """3: both entries."""
        hosts = self.load(F1).inbound.no_tls_hosts
        self.assertEqual(list(hosts.entries), ["192.168.1.1", "172.16.0.0/16"])
        self.assertIn("172.16.2.1", hosts)
        self.assertNotIn("172.17.2.1", hosts)

    def test_outbound(self) -> None:
        """4: the section has its own values, and its lists are lists."""
        outbound = self.load(F1).outbound
        self.assertEqual(outbound.parameters.ciphers, "ECDHE-RSA-AES256-GCM-SHA384")
        self.assertIs(outbound.parameters.min_version, TLSVersion.TLS_1_0)
        self.assertFalse(outbound.reject_unauthorized)
        self.assertEqual(
            list(outbound.force_tls_hosts.entries), ["first.example.com", "second.example.net"]
        )
        self.assertEqual(list(outbound.no_tls_hosts.entries), ["127.0.0.2", "192.168.31.0/24"])

    def test_unset_lists(self) -> None:
        """5: lists that are not set are empty lists."""
        for ini in (None, "", "[outbound]\n"):
            outbound = self.load(ini).outbound
            self.assertEqual(list(outbound.force_tls_hosts.entries), [])
            self.assertEqual(list(outbound.no_tls_hosts.entries), [])

    def test_scalars(self) -> None:
        """44: a list that is written as one value is a list of one; Haraka drops some of these."""
        settings = self.load(
            "no_starttls_ports=2525\nrequireAuthorized=465\n[outbound]\n"
            "force_tls_hosts=first.example.com\nno_tls_hosts=127.0.0.2\n"
        )
        self.assertEqual(settings.inbound.no_starttls_ports, frozenset({2525}))
        self.assertEqual(settings.inbound.require_authorized, frozenset({465}))
        self.assertEqual(list(settings.outbound.force_tls_hosts.entries), ["first.example.com"])
        self.assertEqual(list(settings.outbound.no_tls_hosts.entries), ["127.0.0.2"])

    def test_independent(self) -> None:
        """6: nobody can change what another one has read."""
        first = self.load(F1)
        second = TLSSettings.load(self.config)
        self.assertEqual(first, second)
        for values in (first, first.inbound, first.outbound, first.inbound.parameters):
            with self.assertRaises(FrozenInstanceError):
                values.anything = 1  # type: ignore[union-attr]
        with self.assertRaises(AttributeError):
            first.inbound.require_authorized.add(25)  # type: ignore[attr-defined]
        self.assertEqual(first, second)

    def test_former_name_of_stapling(self) -> None:
        """7: enableOCSPStapling is requestOCSP."""
        for text, staples in (("true", True), ("false", False)):
            self.assertEqual(self.load(f"enableOCSPStapling={text}\n").inbound.staples, staples)


class ParsingTests(SynchronousTestCase):
    """Checks 10 to 15."""

    def names(self, subject: list[tuple[x509.ObjectIdentifier, str]], *others: str) -> object:
        """The names of a certificate for this subject and these alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(oid, text) for oid, text in subject])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(datetime(2017, 3, 5, 23, 28, 49))
            .not_valid_after(datetime(2023, 3, 3, 23, 28, 49))
        )
        if others:
            extension = x509.SubjectAlternativeName([x509.DNSName(other) for other in others])
            builder = builder.add_extension(extension, False)
        certificate = builder.sign(key, SHA256())
        (self.read,) = read_pem(certificate.public_bytes(Encoding.PEM)).certificates
        return list(certificate_names(self.read))

    def test_key_alone(self) -> None:
        """12: a key with junk behind it is a key, and no more than that."""
        contents = read_pem(EC_KEY + b"junk\n-----\n")
        self.assertEqual(len(contents.private_keys), 1)
        self.assertEqual(contents.certificates, ())

    def test_names_and_expiry(self) -> None:
        """13: ec.pem is for mail.haraka.io, haraka.local.pem for haraka.local."""
        for content, name in (
            (EC_KEY + EC_CERT, "mail.haraka.io"),
            (key_octets(LOCAL) + chain_octets(LOCAL), "haraka.local"),
        ):
            certificate = read_pem(content).certificates[0]
            self.assertEqual(certificate_names(certificate), (name,))
            self.assertGreater(certificate.not_valid_after_utc, datetime.now(UTC))

    def test_subjects(self) -> None:
        """14: the CN beside an e-mail address, all DNS names in order, the CN first and once."""
        common = (NameOID.COMMON_NAME, "haraka.local")
        self.assertEqual(
            self.names([common, (NameOID.EMAIL_ADDRESS, "matt@haraka.local")]), ["haraka.local"]
        )
        several = ["b.example", "a.example", "c.example"]
        self.assertEqual(self.names([], *several), several)
        self.assertEqual(
            self.names([common], "b.example", "haraka.local", "a.example"),
            ["haraka.local", "b.example", "a.example"],
        )
        self.assertEqual(
            self.read.not_valid_after_utc, datetime(2023, 3, 3, 23, 28, 49, tzinfo=UTC)
        )

    def test_unparsable_certificate(self) -> None:
        """15: of two blocks the one that can be read is there; ours tells of the other."""
        broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for content in (EC_CERT + broken, broken + EC_CERT):
            contents = read_pem(content)
            self.assertEqual(len(contents.certificates), 1)
            self.assertEqual(len(contents.problems), 1)


class DirectoryTests(DocumentTestCase):
    """Checks 16, 18, 20, 21, 23 and 25, with the files of Haraka's tests."""

    def made(self, extra: Mapping[str, str | bytes] | None = None) -> Documented:
        return Documented.make(self, "", {**directory(), **(extra or {})})

    def test_entries(self) -> None:
        """16: the default, and three names; 20: the wrong pair is told, and nothing else."""
        server = self.made()
        self.assertEqual(len(server.tls.problems), 1)
        self.assertIn("mismatched.pem", server.tls.problems[0])
        for version in VERSIONS:
            self.assert_shown(server.visit(version=version), ECDSA)
            self.assert_shown(server.visit(version=version, name="haraka.local"), LOCAL)
            self.assert_shown(server.visit(version=version, name="mx.example.com"), ECDSA)
            self.assert_shown(server.visit(version=version, name="any.example.com"), WILD)
            visit = self.assert_served(server.visit(version=version, name="mail.haraka.io"))
            self.assertEqual(visit.serial, serial_of_pem(EC_CERT))
            self.assert_shown(server.visit(version=version, name="mismatched.example"), ECDSA)

    def test_sources(self) -> None:
        """18: each has a key and a chain, and the files that they came from."""
        sources = set()
        for found in self.made().tls.certified():
            self.assertTrue(found.pair.private_key)
            self.assertTrue(found.pair.chain)
            sources.add(found.pair.source)
        self.assertEqual(
            sources,
            {
                "tls_cert.pem with tls_key.pem",
                "tls/haraka.local.pem",
                "tls/ec.pem",
                "tls/example.com/example.com.crt with tls/example.com/_.example.com.key",
            },
        )

    def test_loud(self) -> None:
        """21: whatever else lies there, the others are shown; each such file is told."""
        noise: dict[str, str | bytes] = {
            "tls/README": "keys go here",
            "tls/empty.pem": "",
            "tls/binary": bytes(range(256)) * 10,
            "tls/half.pem": EC_KEY[:100],
        }
        server = self.made(noise)
        for name in noise:
            self.assertTrue(any(name in problem for problem in server.tls.problems), name)
        self.assert_shown(server.visit(name="haraka.local"), LOCAL)
        self.assert_shown(server.visit(), ECDSA)

    def test_specific_beats_default(self) -> None:
        """23: a file for the name of the default certificate counts more than that."""
        own = issued("mx.example.com", kind="RSA")
        bundle = {"tls/own.pem": key_octets(own) + chain_octets(own)}
        server = self.made(bundle)
        self.assert_shown(server.visit(name="mx.example.com"), own)
        self.assert_shown(server.visit(), ECDSA)

    def test_nothing_at_all(self) -> None:
        """23: without any certificate there is no TLS, and no exception."""
        server = Documented.make(self, "", {"tls_key.pem": None, "tls_cert.pem": None})
        self.assertFalse(server.visit().offered)


class RequireAuthorizedTests(DocumentTestCase):
    """Checks 26 to 29."""

    def test_rules(self) -> None:
        """26: by the option for all, by the port, or not."""
        for everywhere, port, ports, required in (
            (True, 25, {25}, True),
            (False, 465, {465}, True),
            (False, 25, {465}, False),
        ):
            settings = InboundTLS(
                reject_unauthorized=everywhere, require_authorized=frozenset(ports)
            )
            demand = client_certificate(port, settings)
            self.assertEqual(demand is ClientCertificate.REQUIRED, required)

    def f1(self) -> Documented:
        """A server on F1; ca is ours, since nobody has a certificate of the world's."""
        ini = F1.replace("ciphers=", "ca=ca.pem\nciphers=", 1)
        server = Documented.make(self, ini, files())
        self.assertEqual(server.tls.problems, ())
        return server

    def test_no_certificate(self) -> None:
        """27: refused on 2465, where TLS comes first; 28: on 2587, after STARTTLS."""
        server = self.f1()
        for port in (2465, 2587):
            for version in VERSIONS:
                self.assert_refused(server.visit(port, version))
            # In TLS 1.3 the client has finished, and is told then.
            self.assert_refused(server.visit(port, TLS_1_3), "certificate required")
        self.assert_served(server.visit(SMTP))

    def test_certificates(self) -> None:
        """29: one that is not trusted is refused in both cases, a trusted one is verified."""
        server = self.f1()
        for port in (2465, 2587):
            for version in VERSIONS:
                untrusted = UNTRUSTED_CLIENT.configure_cert
                self.assert_refused(server.visit(port, version, configure=untrusted))
                visit = server.visit(port, version, configure=GOOD_CLIENT.configure_cert)
                self.assert_served(visit)
                assert visit.secured is not None
                self.assertTrue(visit.secured.verified)

    def test_other_lists(self) -> None:
        """F1 has more: no STARTTLS on 2525, and none for 172.16.0.0/16."""
        server = self.f1()
        self.assertFalse(server.visit(2525).offered)
        self.assertFalse(server.visit(peer="172.16.9.9").offered)
        self.assertTrue(server.visit(peer="172.17.9.9").succeeded)


class SecuredLineTests(DocumentTestCase):
    """Checks 31 and 32."""

    def lines(self, port: int, version: int, client: trustme.LeafCert | None) -> list[str]:
        """What is in the log about a client's TLS, without who it is."""
        server = self.server(OURS)
        with capturedLogs() as events:
            visit = server.visit(port, version, configure=client.configure_cert if client else None)
            self.assert_served(visit)
        assert visit.secured is not None
        self.cipher = f"cipher={visit.secured.cipher} version={visit.secured.protocol}"
        texts = [event["log_format"].format(**event) for event in events if "id" in event]
        return [text.partition(" secured: ")[2] for text in texts if " secured: " in text]

    def test_verified(self) -> None:
        """31: who it is, and that it is."""
        fingerprint = fingerprint_of(GOOD_CLIENT)
        for port, version in self.each_way():
            (line,) = self.lines(port, version, GOOD_CLIENT)
            self.assertEqual(
                line,
                f'{self.cipher} verified=true cn="client.example" fingerprint={fingerprint}',
            )

    def test_not_verified(self) -> None:
        """32: the error comes before the name."""
        for port, version in self.each_way():
            (line,) = self.lines(port, version, UNTRUSTED_CLIENT)
            self.assertRegex(
                line,
                f'^{self.cipher} verified=false error="[^"]+certificate[^"]*" cn="client.example"',
            )

    def test_no_certificate(self) -> None:
        """A client without one is no news: the line of the connection tells the rest."""
        for port, version in self.each_way():
            self.assertEqual(self.lines(port, version, None), [])

    def test_hostile_name(self) -> None:
        """A quotation mark in a name does not end it."""
        _, cert = self_signed('a" verified=true cn="b.example')
        summary = evolve(
            TLSSummary("TLSv1.3", "x", 128), peer_names=told_names(read_pem(cert).certificates[0])
        )
        self.assertEqual(secured_words(summary).count('"'), 2)
