"""Certificates of clients that mean harm, against a running server."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from tests.tls.peers import CN, VERSIONS, client_context
from tests.wire.hostile_tls import Client, HostileTLSTestCase


def client_certificate(
    names: tuple[str, ...] = (), organization: str = "o"
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Of its own, with names that any client may choose."""
    key = ec.generate_private_key(ec.SECP256R1())
    of = x509.NameOID.ORGANIZATION_NAME
    subject = x509.Name(
        [x509.NameAttribute(CN, "c"), x509.NameAttribute(of, organization, _validate=False)]
    )
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(
        now + timedelta(days=1)
    )
    if names:
        entries = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(entries), False)
    return builder.sign(key, SHA256()), key


INJECTION = "a\r\nReceived: from bank.example (192.0.2.1)\r\n\tby feigned"


class ClientCertificateTests(HostileTLSTestCase):
    def context(
        self, version: int, names: tuple[str, ...] = (), organization: str = "o", chain: int = 0
    ) -> SSL.Context:
        context = client_context(version)
        certificate, key = client_certificate(names, organization)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        for _ in range(chain):
            context.add_extra_chain_cert(certificate)
        return context

    def deliver(self, client: Client, subject: str) -> str:
        """@return: the message as it was stored."""
        client.shake()
        body = b"Subject: " + subject.encode() + b"\r\n\r\nx\r\n."
        for line in (b"EHLO a.test", b"MAIL FROM:<a@a.test>", b"RCPT TO:<b@mx.test>", b"DATA"):
            self.assertRegex(client.say(line + b"\r\n"), rb"^[23]")
        self.assertTrue(client.say(body + b"\r\n").startswith(b"250"))
        return self.instance.wait_for_mail(subject)

    def test_names(self) -> None:
        """Names of 10 kB, or with a NUL or a line end in them, are in no log and no header."""
        cases: tuple[tuple[tuple[str, ...], str], ...] = (
            (("n" * 10_000,), "o"),
            (("a\0b.test",), "a\0b"),
            ((INJECTION,), INJECTION),
            (("\x1b[2Jfeigned",), "\x1b[2Jfeigned"),
            (tuple(f"{n}.test" for n in range(2000)), "o" * 10_000),
        )
        for number, (names, organization) in enumerate(cases):
            for version, told in VERSIONS.items():
                with self.client(context=self.context(version, names, organization)) as client:
                    stored = self.deliver(client, f"{number} {told}")
                self.assertNotIn("feigned", stored)
                self.assertEqual(stored.count("Received: "), 1)
                self.assertLess(max(map(len, stored.splitlines())), 200)
        self.assertNotIn("feigned", self.instance.log())

    def test_too_much(self) -> None:
        """A megabyte of certificates is refused without being kept, and others notice nothing."""
        much = tuple(str(n) + "n" * 10_000 for n in range(100))
        self.check_others()
        before = self.instance.memory_kb()
        for version in VERSIONS:
            for starttls in (True, False):
                for context in (
                    self.context(version, much),
                    self.context(version, ("n" * 10_000,), chain=100),
                ):
                    with self.client(starttls, context) as client:
                        with self.assertRaises((SSL.Error, EOFError, ConnectionError)):
                            client.shake()
                            if not client.say(b"EHLO a.test\r\n"):
                                raise EOFError
                        self.check_others()
        self.assertLess(self.instance.memory_kb() - before, 16_000)
        self.assertIn("excessive message size", self.instance.log())

    def test_long_chain(self) -> None:
        """A chain of a hundred that fits into what a client may send costs it no mail."""
        for version, told in VERSIONS.items():
            with self.client(context=self.context(version, chain=100)) as client:
                self.deliver(client, told)
