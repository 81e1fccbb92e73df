"""
The TLS document from its beginning: Certificate Files, Certificate Directory, Purchased
Certificate, Self Issued Certificate, and the settings key and cert.

Its other settings are in test_document_hosts, test_document_options, test_document_stapling and
test_document_sections. Each test has tls.ini as the document writes it, and a client that would
notice if it did nothing.
"""

import subprocess
from pathlib import Path

from cryptography import x509

from tests.config.files import write_config
from tests.support import need
from tests.tls.documented import (
    ECDSA,
    FILES,
    ME,
    RSA,
    SMTP,
    SMTPS,
    Documented,
    DocumentTestCase,
    trusting,
)
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    VERSIONS,
    authority,
    chain_octets,
    ciphers,
    key_octets,
    self_signed,
    serial_of_pem,
    signatures,
    with_chain,
)

EXAMPLE = with_chain("example.com")
LEAF, CHAIN = EXAMPLE.cert_chain_pems[0].bytes(), EXAMPLE.cert_chain_pems[1].bytes()
ROOT = authority().cert_pem.bytes()


class PluginTests(DocumentTestCase):
    """What the document is about."""

    def test_enabled(self) -> None:
        """The plugin enables TLS by STARTTLS: without it in config/plugins, none is offered."""
        server = self.server(files={"plugins": "relay\nrcpt_to.in_host_list\n"})
        self.assertFalse(server.visit().offered)
        self.assert_served(server.visit(SMTPS))  # smtps_port has TLS of its own
        for port, version in self.each_way():
            visit = self.assert_served(self.server().visit(port, version))
            self.assertEqual(visit.tls.get_protocol_version_name(), VERSIONS[version])


class CertificateFileTests(DocumentTestCase):
    """Certificate Files."""

    def test_defaults(self) -> None:
        """``key=tls_key.pem``, ``cert=tls_cert.pem``: without tls.ini, and where they are set."""
        for ini in (None, "", "key=tls_key.pem\ncert=tls_cert.pem\n"):
            server = self.server(ini)
            for port, version in self.each_way():
                self.assert_shown(server.visit(port, version), ECDSA)

    def test_overridden(self) -> None:
        """They can be overridden in config/tls.ini; then these files are not even needed."""
        server = self.server(
            "key=rsa.key\ncert=rsa.crt\n", {"tls_key.pem": None, "tls_cert.pem": None}
        )
        for port, version in self.each_way():
            self.assert_shown(server.visit(port, version), RSA)

    def test_not_installed(self) -> None:
        """SSL certificates must be installed correctly: without them, mail comes in the clear."""
        for missing in ("tls_key.pem", "tls_cert.pem"):
            server = Documented.make(self, files={missing: None})
            self.assertEqual(server.tls.problems, (f"{missing}: there is no such file",))
            visit = server.visit()
            self.assertFalse(visit.offered)
            self.assertEqual(visit.answer[:3], "503")
            self.assertFalse(server.tls.ready())  # so that no port with implicit TLS is opened


class CertificateDirectoryTests(DocumentTestCase):
    """Certificate Directory."""

    def directory(self) -> Documented:
        """As the command of the document makes it."""
        config = write_config(self, {**FILES, "tls/.keep": ""})
        for name, content in (
            ("example.com.key", key_octets(EXAMPLE)),
            ("example.com.crt", LEAF),
            ("ca.crt", CHAIN),
        ):
            (config.path.parent / name).write_bytes(content)
        command = "cat example.com.key example.com.crt ca.crt > config/tls/example.com.pem"
        subprocess.run(command, shell=True, check=True, cwd=config.path.parent, timeout=30)
        server = Documented.of(config.path)
        self.assertEqual(server.tls.problems, ())
        return server

    def test_bundle(self) -> None:
        """Key, certificate and chain in one file: who asks for its name is shown all of it."""
        server = self.directory()
        for port, version in self.each_way():
            self.assert_shown(server.visit(port, version, "example.com"), EXAMPLE)
            self.assert_shown(server.visit(port, version, "EXAMPLE.COM"), EXAMPLE)

    def test_chain_is_needed(self) -> None:
        """A client that knows the root alone is content with it."""
        server = self.directory()
        for port, version in self.each_way():
            visit = server.visit(port, version, "example.com", trusting(ROOT))
            self.assert_served(visit)

    def test_no_match(self) -> None:
        """If no match is found, the default certificate is presented; without a name, as well."""
        server = self.directory()
        for port, version in self.each_way():
            for name in (None, "example.net", "www.example.com", "com", ME):
                self.assert_shown(server.visit(port, version, name), ECDSA)

    def test_common_name(self) -> None:
        """A certificate with that Common Name is presented, also if that is its only name."""
        key, cert = self_signed("common.example.com")
        server = self.server(files={"tls/a.pem": key + cert})
        for port, version in self.each_way():
            visit = self.assert_served(server.visit(port, version, "common.example.com"))
            self.assertEqual(visit.serial, serial_of_pem(cert))

    def test_more_than_the_document_says(self) -> None:
        """Ours: any order in the file, alternative names, wildcards for one label, no CN at all."""
        key, cert = self_signed(None, "*.example.net", "other.example.com")
        server = self.server(files={"tls/deep/er/a": cert + key})
        for port, version in self.each_way():
            for name in ("a.example.net", "other.example.com"):
                visit = self.assert_served(server.visit(port, version, name))
                self.assertEqual(visit.serial, serial_of_pem(cert))
            for name in ("example.net", "a.b.example.net"):
                self.assert_shown(server.visit(port, version, name), ECDSA)

    def test_no_directory(self) -> None:
        """It need not exist, and may be empty."""
        for files in ({}, {"tls/.keep": ""}):
            server = self.server(files=files)
            self.assert_shown(server.visit(name="example.com"), ECDSA)


class PurchasedCertificateTests(DocumentTestCase):
    """Purchased Certificate."""

    def test_chain(self) -> None:
        """Certificate, intermediate certificates, root, appended in this order."""
        given = {"tls_key.pem": key_octets(EXAMPLE), "tls_cert.pem": LEAF + CHAIN + ROOT}
        server = self.server(files=given)
        alone = self.server(files={**given, "tls_cert.pem": LEAF})
        expected = [serial_of_pem(pem) for pem in (LEAF, CHAIN, ROOT)]
        for port, version in self.each_way():
            visit = self.assert_served(server.visit(port, version, configure=trusting(ROOT)))
            self.assertEqual([found.serial_number for found in visit.chain], expected)
            visit = alone.visit(port, version, configure=trusting(ROOT))
            self.assert_refused(visit, "certificate verify failed")


class SelfIssuedCertificateTests(DocumentTestCase):
    """Self Issued (unsigned) Certificate."""

    def test_command(self) -> None:
        """The files that the command makes, its questions answered, are all that is needed."""
        need("openssl")
        files = {**FILES, "tls.ini": "", "tls_key.pem": "", "tls_cert.pem": ""}
        config = write_config(self, files)
        command = (
            "openssl req -x509 -nodes -days 2190 -newkey rsa:2048 -keyout config/tls_key.pem "
            "-out config/tls_cert.pem"
        )
        # Country, state, locality, organization, unit; then the common name, and an address.
        answers = f"SE\n\n\nExample\n\n{config.me}\n\n"
        subprocess.run(
            command.split(),
            cwd=config.path.parent,
            input=answers.encode(),
            capture_output=True,
            check=True,
            timeout=60,
        )
        server = Documented.of(config.path)
        self.assertEqual(server.tls.problems, ())
        made = (config.path / "tls_cert.pem").read_bytes()
        for port, version in self.each_way():
            visit = self.assert_served(server.visit(port, version, ME, trusting(made)))
            self.assertEqual(visit.serial, serial_of_pem(made))
            (name,) = visit.chain[0].subject.get_attributes_for_oid(x509.OID_COMMON_NAME)
            self.assertEqual(name.value, ME)


class KeyTests(DocumentTestCase):
    """The settings key and cert."""

    def test_single(self) -> None:
        """A single key and a certificate chain, located in the config/ directory."""
        server = self.server(
            "key=example.com.key.pem\ncert=example.com.crt-chain.pem\n",
            {
                "example.com.key.pem": key_octets(EXAMPLE),
                "example.com.crt-chain.pem": chain_octets(EXAMPLE),
            },
        )
        for port, version in self.each_way():
            self.assert_shown(server.visit(port, version), EXAMPLE)

    def test_relative(self) -> None:
        """Non-absolute paths are relative to the config/ directory, wherever twistd runs."""
        server = self.server(
            "key=./pairs/a.key\ncert=pairs/a.crt\n",
            {"pairs/a.key": key_octets(EXAMPLE), "pairs/a.crt": chain_octets(EXAMPLE)},
        )
        self.assert_shown(server.visit(), EXAMPLE)

    def test_several(self) -> None:
        """
        Multiple pairs outside of the config/ directory: each client is shown the one that it can
        use, with the chain of that.
        """
        private = Path(self.mktemp()).absolute()
        private.mkdir()
        for name, leaf in (("rsa", RSA), ("ecdsa", ECDSA)):
            (private / f"example.com.{name}.key.pem").write_bytes(key_octets(leaf))
            (private / f"example.com.{name}.crt-chain.pem").write_bytes(chain_octets(leaf))
        ini = """\
key[]=/etc/ssl/private/example.com.rsa.key.pem
cert[]=/etc/ssl/private/example.com.rsa.crt-chain.pem
key[]=/etc/ssl/private/example.com.ecdsa.key.pem
cert[]=/etc/ssl/private/example.com.ecdsa.crt-chain.pem
""".replace("/etc/ssl/private", str(private))
        server = self.server(ini, {"tls_key.pem": None, "tls_cert.pem": None})
        for port in (SMTP, SMTPS):
            for leaf, version, configure in (
                (RSA, TLS_1_2, ciphers("ECDHE-RSA-AES128-GCM-SHA256")),
                (ECDSA, TLS_1_2, ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")),
                (RSA, TLS_1_3, signatures("RSA-PSS+SHA256")),
                (ECDSA, TLS_1_3, signatures("ECDSA+SHA256")),
            ):
                visit = server.visit(port, version, configure=configure)
                self.assert_shown(visit, leaf)

    def test_several_for_any_name(self) -> None:
        """Both pairs are shown under a name of theirs, too."""
        ini = "key[]=rsa.key\ncert[]=rsa.crt\nkey[]=tls_key.pem\ncert[]=tls_cert.pem\n"
        server = self.server(ini)
        for port in (SMTP, SMTPS):
            for leaf, algorithm in ((RSA, "RSA-PSS+SHA256"), (ECDSA, "ECDSA+SHA256")):
                visit = server.visit(port, TLS_1_3, ME, signatures(algorithm))
                self.assert_shown(visit, leaf)
