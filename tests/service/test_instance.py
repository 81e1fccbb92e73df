"""Tests of ``harakatls init``."""

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from harakatls.plugins.host_list import LocalDomains
from harakatls.plugins.relay import RelaySettings
from harakatls.service import instance
from harakatls.service.instance import InstanceError, make_instance, self_signed_pair, setting


class MakeInstanceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    def test_settings(self) -> None:
        """What init writes is a server on loopback, for its own name, and no open relay."""
        self.assertEqual(make_instance(self.directory, "Mail.Example.COM"), "mail.example.com")
        config = ConfigDirectory(self.directory / "config")
        inbound = InboundSettings.load(config)
        self.assertEqual(config.me, "mail.example.com")
        self.assertEqual(
            inbound.listeners,
            (
                ListenerSettings("127.0.0.1", 2525),
                ListenerSettings("127.0.0.1", 2465, implicit_tls=True),
            ),
        )
        self.assertEqual(LocalDomains.load(config).names, {"mail.example.com", ""})
        relay = RelaySettings.load(config)
        self.assertFalse(relay.all or relay.dest_domains or "127.0.0.1" in relay.allowed)
        self.assertEqual(config.ini("tls.ini").main.text("ecdhCurve"), "auto")
        self.assertEqual(
            config.lines("plugins"), ("tls", "relay", "rcpt_to.in_host_list", "queue/maildir")
        )
        self.assertEqual(config.warnings, ())

    def test_comments(self) -> None:
        """The operator finds the comments of the samples in the new files."""
        make_instance(self.directory, "mail.example.com")
        for name in ("smtp.ini", "tls.ini", "me", "plugins", "outbound.ini"):
            self.assertTrue((self.directory / "config" / name).read_text().startswith("# "), name)

    def test_directories(self) -> None:
        """Mail and queue are the server's own; the key is readable for nobody else."""
        make_instance(self.directory, "mail.example.com")
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.directory.iterdir()}
        self.assertEqual(modes, {"config": 0o755, "queue": 0o700, "plugins": 0o755, "mail": 0o700})
        key = self.directory / "config" / "tls_key.pem"
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)

    def test_pair_fits(self) -> None:
        """OpenSSL takes the pair as it is."""
        make_instance(self.directory, "mail.example.com")
        config = self.directory / "config"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config / "tls_cert.pem", config / "tls_key.pem")

    def test_never_overwrites(self) -> None:
        """A second init, or one in a directory that is in use, changes nothing."""
        make_instance(self.directory, "mail.example.com")
        before = (self.directory / "config" / "tls_key.pem").read_bytes()
        problem = self.assertRaises(InstanceError, make_instance, self.directory)
        self.assertIn("config exists already; nothing was changed", str(problem))
        self.assertEqual((self.directory / "config" / "tls_key.pem").read_bytes(), before)
        other = Path(self.mktemp()).absolute()
        (other / "queue").mkdir(parents=True)
        (other / "queue" / "queue.db").touch()
        self.assertRaises(InstanceError, make_instance, other, "a.example")
        self.assertEqual([path.name for path in other.iterdir()], ["queue"])

    def test_existing_directory(self) -> None:
        """A directory with other things in it, or empty ones of ours, may become an instance."""
        (self.directory / "mail").mkdir(parents=True)
        (self.directory / "notes.txt").touch()
        make_instance(self.directory, "mail.example.com")
        self.assertTrue((self.directory / "config" / "smtp.ini").exists())

    def test_tried_again(self) -> None:
        """What failed half-way leaves nothing that keeps a second try from working."""

        def fail(name: str) -> tuple[bytes, bytes]:
            raise OSError(28, os.strerror(28))

        self.patch(instance, "self_signed_pair", fail)
        problem = self.assertRaises(InstanceError, make_instance, self.directory, "a.example")
        self.assertIn("No space left on device", str(problem))
        self.patch(instance, "self_signed_pair", self_signed_pair)
        make_instance(self.directory, "a.example")
        self.assertEqual(
            sorted(path.name for path in self.directory.iterdir()),
            ["config", "mail", "plugins", "queue"],
        )

    def test_bad_name(self) -> None:
        """A name that a server cannot have is refused before anything is made."""
        for name in ("bad name", "", "192.0.2.1", "a..b"):
            problem = self.assertRaises(InstanceError, make_instance, self.directory, name)
            self.assertIn("--host", str(problem))
        self.assertFalse(self.directory.exists())

    def test_not_writable(self) -> None:
        """A place that cannot be written is told in one line."""
        Path(self.directory).touch()
        problem = self.assertRaises(InstanceError, make_instance, self.directory, "a.example")
        self.assertIn("cannot write", str(problem))


class PairTests(SynchronousTestCase):
    def test_certificate(self) -> None:
        """As the documentation's openssl command makes it: RSA 2048, 2190 days, the name twice."""
        key_pem, certificate_pem = self_signed_pair("mail.example.com")
        key = serialization.load_pem_private_key(key_pem, None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self.assertEqual(key.key_size, 2048)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        self.assertEqual(certificate.public_key(), key.public_key())
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.assertEqual(name.value, "mail.example.com")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["mail.example.com"])
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        self.assertLess(abs(left - timedelta(days=2190)), timedelta(minutes=10))

    def test_long_name(self) -> None:
        """A name that is too long for a common name is in the alternative name all the same."""
        name = f"{'a' * 60}.{'b' * 60}.example"
        _, certificate_pem = self_signed_pair(name)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        self.assertEqual(names.value.get_values_for_type(x509.DNSName), [name])
        self.assertTrue(names.critical)


class SettingTests(SynchronousTestCase):
    def test_default_line(self) -> None:
        """The commented default is where the operator looks for the setting."""
        self.assertEqual(
            setting("# why\n;listen=x\n;a=b\n", "listen", "y"), "# why\nlisten=y\n;a=b\n"
        )

    def test_set_line(self) -> None:
        """A line that sets it already is replaced, not doubled."""
        self.assertEqual(setting("a=1\nlisten = x\n", "listen", "y"), "a=1\nlisten=y\n")

    def test_missing(self) -> None:
        """Where there is no line, it comes before any section."""
        self.assertEqual(
            setting("[other]\nlisten=x\n", "listen", "y"), "listen=y\n[other]\nlisten=x\n"
        )

    def test_prefix(self) -> None:
        """A key whose name only begins alike is left alone."""
        self.assertEqual(setting("listen_host=x\n", "listen", "y"), "listen=y\nlisten_host=x\n")
