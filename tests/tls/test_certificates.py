"""Tests for harakatls.tls.certificates."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import trustme
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.certificates import (
    CertificateStore,
    KeyPair,
    certificate_names,
    chain_of,
    told_names,
)
from harakatls.tls.files import PEMFile
from harakatls.tls.pairing import default_pairs
from tests.tls.peers import (
    authority,
    chain_octets,
    issued,
    key_octets,
    self_signed,
    with_chain,
)

NOW = datetime.now(UTC)
RSA = issued("mx.example.com", kind="RSA")
ECDSA = issued("mx.example.com")
OTHER = issued("other.example.com")
LEAF = with_chain("a.example")
LEAF_PEM, MIDDLE_PEM = (pem.bytes() for pem in LEAF.cert_chain_pems)
ROOT_PEM = authority().cert_pem.bytes()


def key_file(leaf: trustme.LeafCert, name: str = "k.pem") -> PEMFile:
    return PEMFile(name, key_octets(leaf))


def cert_file(leaf: trustme.LeafCert, name: str = "c.pem") -> PEMFile:
    return PEMFile(name, chain_octets(leaf))


def pair_of(leaf: trustme.LeafCert) -> KeyPair:
    (pair,), _ = default_pairs([key_file(leaf)], [cert_file(leaf)])
    return pair


class ChainTests(SynchronousTestCase):
    """What is sent to clients with the certificate."""

    def chain(self, *blocks: bytes) -> list[x509.Certificate]:
        """The chain of LEAF, out of a file with these blocks."""
        certificates = x509.load_pem_x509_certificates(b"".join(blocks))
        leaf = x509.load_pem_x509_certificate(LEAF_PEM)
        return list(chain_of(leaf, certificates))

    def test_order(self) -> None:
        """However the file is sorted, the certificate comes first, then its issuers in order."""
        expected = list(map(x509.load_pem_x509_certificate, (LEAF_PEM, MIDDLE_PEM, ROOT_PEM)))
        for order in permutations((LEAF_PEM, MIDDLE_PEM, ROOT_PEM)):
            self.assertEqual(self.chain(*order), expected)

    def test_as_far_as_it_goes(self) -> None:
        """What is not there is not sent, and what does not belong to it neither."""
        self.assertEqual(len(self.chain(LEAF_PEM)), 1)
        self.assertEqual(len(self.chain(LEAF_PEM, ROOT_PEM)), 1)
        self.assertEqual(len(self.chain(LEAF_PEM, MIDDLE_PEM, chain_octets(OTHER))), 2)

    def test_twice_the_same(self) -> None:
        """A certificate that is in the file twice is sent once."""
        self.assertEqual(len(self.chain(LEAF_PEM, MIDDLE_PEM, MIDDLE_PEM, LEAF_PEM)), 2)

    def test_namesake(self) -> None:
        """An authority of the same name with another key is no issuer."""
        namesake = trustme.CA(organization_name="Harbour Trust").cert_pem.bytes()
        self.assertEqual(len(self.chain(LEAF_PEM, MIDDLE_PEM, namesake)), 2)

    def test_self_signed(self) -> None:
        """A self-signed certificate is its own issuer, and that ends the search."""
        _, octets = self_signed("mx.example.com")
        certificate = x509.load_pem_x509_certificate(octets)
        self.assertEqual(chain_of(certificate, [certificate] * 2), (certificate,))


class NameTests(SynchronousTestCase):
    """Whom a certificate is for."""

    def names(self, common_name: str | None, *names: str) -> tuple[str, ...]:
        _, pem = self_signed(common_name, *names)
        return certificate_names(x509.load_pem_x509_certificate(pem))

    def told(self, common_name: str | None, *names: str) -> tuple[str, ...]:
        _, pem = self_signed(common_name, *names)
        return told_names(x509.load_pem_x509_certificate(pem))

    def test_names(self) -> None:
        """Common name first, then DNS names, each once, all in one spelling (H.14)."""
        self.assertEqual(
            self.names("MX.example.com", "a.example.com", "mx.example.com", "*.Example.com"),
            ("mx.example.com", "a.example.com", "*.example.com"),
        )

    def test_without_common_name(self) -> None:
        """Certificates of today, without a common name, work (Haraka skips them)."""
        self.assertEqual(self.names(None, "mx.example.com"), ("mx.example.com",))

    def test_not_a_host(self) -> None:
        """The name of a company or an address is none that SNI could have."""
        self.assertEqual(self.names("Example Inc."), ())
        self.assertEqual(self.names("192.0.2.1"), ())
        self.assertEqual(self.names("*.*.example.com", "*"), ())

    def test_told(self) -> None:
        """What a peer calls itself is told, as far as it can be shown."""
        self.assertEqual(self.told("Some Client"), ("Some Client",))
        self.assertEqual(self.told("x", "a.example", "b.example"), ("a.example", "b.example"))
        self.assertEqual(self.told("evil\r\n250 OK"), ())
        self.assertEqual(self.told("nul\0"), ())
        self.assertEqual(self.told("f\u00fcr"), ("f\\xfcr",))
        many = self.told(None, *(f"{n}.example" for n in range(100)))
        self.assertEqual(len(many), 20)
        self.assertEqual(len(self.told(None, "a" * 10_000)[0]), 255)

    def test_none(self) -> None:
        """A certificate without any name is no error."""
        self.assertEqual(self.told(None), ())
        self.assertEqual(self.names(None), ())


class LookUpTests(SynchronousTestCase):
    """Which certificate is shown under which name."""

    def test_look_up(self) -> None:
        """The exact name, else a wildcard for one label, else the default."""
        default, exact, wildcard = ((pair_of(leaf),) for leaf in (RSA, ECDSA, OTHER))
        found = CertificateStore(default, {"a.example.com": exact, "*.example.com": wildcard})
        for name, pairs in {
            "a.example.com": exact,
            "b.example.com": wildcard,
            "example.com": default,
            "c.b.example.com": default,
            "elsewhere.example": default,
            "com": default,
            None: default,
        }.items():
            with self.subTest(name=name):
                self.assertIs(found.for_name(name), pairs)

    def test_without(self) -> None:
        """What OpenSSL refuses leaves no name behind that would lead to it."""
        first, second = pair_of(RSA), pair_of(OTHER)
        found = CertificateStore((first, second), {"a.example": (second,), "b.example": (first,)})
        left = found.without({second})
        self.assertEqual(left, CertificateStore((first,), {"b.example": (first,)}))
        self.assertEqual(left.all(), {(first,)})


class ValidityTests(SynchronousTestCase):
    """When a certificate should be replaced."""

    def problem(
        self, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> str | None:
        key, certificate = self_signed("mx", not_before=not_before, not_after=not_after)
        (pair,), _ = default_pairs([PEMFile("k.pem", key)], [PEMFile("c.pem", certificate)])
        return pair.validity_problem(NOW)

    def test_validity(self) -> None:
        """An expired certificate is told, and one of tomorrow; with the file."""
        self.assertIsNone(self.problem())
        found = self.problem(not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=2))
        self.assertIn("c.pem with k.pem: the certificate expired", found or "")
        found = self.problem(not_before=NOW + timedelta(hours=9))
        self.assertIn("not valid before", found or "")
