"""Tests for harakatls.tls.certificates."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import trustme
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.certificates import (
    CertificateStore,
    certificate_names,
    certificate_store,
    told_names,
    trust_anchors,
)
from harakatls.tls.settings import PEMFile
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


def store(keys: list[PEMFile], certs: list[PEMFile]) -> CertificateStore:
    return certificate_store(keys, certs, NOW)


class DefaultPairTests(SynchronousTestCase):
    """key and cert, key[] and cert[]."""

    def assert_problem(self, found: CertificateStore, *words: str) -> None:
        """Nothing to show, and one line that says why."""
        self.assertEqual(found.default, ())
        self.assertEqual(len(found.problems), 1, found.problems)
        for word in words:
            self.assertIn(word, found.problems[0])

    def test_one_pair(self) -> None:
        """A key and its certificate are found to belong together."""
        found = store([key_file(ECDSA)], [cert_file(ECDSA)])
        self.assertEqual(found.problems, ())
        (pair,) = found.default
        self.assertEqual((pair.kind, pair.names), ("EC", ("mx.example.com",)))
        self.assertEqual(pair.source, "c.pem with k.pem")
        self.assertEqual(len(pair.chain), 1)

    def test_two_pairs(self) -> None:
        """RSA and ECDSA together, each with its own chain (Haraka's #1686 lost one of two)."""
        leaves = [with_chain("a.example", kind="RSA"), with_chain("a.example")]
        found = store([key_file(leaf) for leaf in leaves], [cert_file(leaf) for leaf in leaves])
        self.assertEqual(found.problems, ())
        self.assertEqual([pair.kind for pair in found.default], ["RSA", "EC"])
        issuers = [pair.chain[1].subject for pair in found.default]
        self.assertEqual([pair.chain[0].issuer for pair in found.default], issuers)
        self.assertEqual([len(pair.chain) for pair in found.default], [2, 2])

    def test_other_order(self) -> None:
        """Certificates listed in another order than their keys do no harm."""
        found = store(
            [key_file(RSA), key_file(ECDSA)], [cert_file(ECDSA, "e.pem"), cert_file(RSA, "r.pem")]
        )
        self.assertEqual(found.problems, ())
        self.assertEqual([pair.kind for pair in found.default], ["RSA", "EC"])

    def test_one_file(self) -> None:
        """Key and certificate may be one file, in any order."""
        both = PEMFile("both.pem", chain_octets(ECDSA) + key_octets(ECDSA))
        found = store([both], [both])
        self.assertEqual(found.problems, ())
        self.assertEqual(found.default[0].source, "both.pem")

    def test_mismatch(self) -> None:
        """A key of another certificate is told with both files, and does not stop the server."""
        self.assert_problem(
            store([key_file(OTHER)], [cert_file(ECDSA)]), "c.pem", "k.pem", "belongs"
        )
        self.assert_problem(store([key_file(RSA)], [cert_file(ECDSA)]), "c.pem", "k.pem")

    def test_interchanged(self) -> None:
        """key= naming the certificate and the other way round is told as that (#2108, #2384)."""
        self.assert_problem(
            store([cert_file(ECDSA, "a.pem")], [key_file(ECDSA, "b.pem")]),
            "a.pem and b.pem",
            "interchanged",
        )

    def test_missing(self) -> None:
        """A missing file is named; the other of the pair is not blamed."""
        missing = PEMFile("c.pem", None, "there is no such file")
        self.assert_problem(store([key_file(ECDSA)], [missing]), "c.pem: there is no such file")
        missing = PEMFile("k.pem", None, "there is no such file")
        self.assert_problem(store([missing], [cert_file(ECDSA)]), "k.pem: there is no such file")

    def test_no_pem(self) -> None:
        """A file without what is looked for is told."""
        self.assert_problem(
            store([PEMFile("k.pem", b"garbage")], [cert_file(ECDSA)]), "k.pem", "no private key"
        )
        self.assert_problem(
            store([key_file(ECDSA)], [PEMFile("c.pem", b"\0\1\2")]), "c.pem", "no certificate"
        )

    def test_broken_key(self) -> None:
        """A damaged key is told by file and line, without its content."""
        damaged = key_octets(ECDSA)[:60] + b"\n-----END PRIVATE KEY-----\n"
        self.assert_problem(store([PEMFile("k.pem", damaged)], [cert_file(ECDSA)]), "k.pem", "line")

    def test_one_of_two_is_broken(self) -> None:
        """The other pair is still shown (in Haraka the start dies)."""
        found = store(
            [key_file(RSA, "r.key"), PEMFile("e.key", None, "there is no such file")],
            [cert_file(RSA, "r.crt"), cert_file(ECDSA, "e.crt")],
        )
        self.assertEqual([pair.kind for pair in found.default], ["RSA"])
        self.assertEqual(found.problems, ("e.key: there is no such file",))

    def test_counts_differ(self) -> None:
        """Two keys and one certificate: what fits is used, and both facts are told."""
        found = store([key_file(RSA, "r.key"), key_file(ECDSA, "e.key")], [cert_file(RSA)])
        self.assertEqual([pair.kind for pair in found.default], ["RSA"])
        self.assertEqual(len(found.problems), 2, found.problems)
        self.assertIn("2 file(s)", found.problems[0])
        self.assertIn("e.key", found.problems[1])
        found = store([key_file(RSA)], [cert_file(RSA), cert_file(ECDSA, "e.crt")])
        self.assertEqual([pair.kind for pair in found.default], ["RSA"])
        self.assertIn("e.crt", found.problems[1])

    def test_two_of_one_kind(self) -> None:
        """The second of two ECDSA pairs cannot be shown, and that is told."""
        found = store(
            [key_file(ECDSA), key_file(OTHER, "o.key")],
            [cert_file(ECDSA), cert_file(OTHER, "o.crt")],
        )
        self.assertEqual([pair.source for pair in found.default], ["c.pem with k.pem"])
        self.assertEqual(len(found.problems), 1)
        self.assertIn("o.crt", found.problems[0])

    def test_validity(self) -> None:
        """An expired certificate is still shown, as Haraka does; but it is told."""
        key, expired = self_signed(
            "mx", not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=2)
        )
        found = store([PEMFile("k.pem", key)], [PEMFile("c.pem", expired)])
        self.assertEqual(len(found.default), 1)
        self.assertEqual(len(found.problems), 1)
        self.assertIn("expired", found.problems[0])
        key, early = self_signed("mx", not_before=NOW + timedelta(hours=9))
        found = store([PEMFile("k.pem", key)], [PEMFile("c.pem", early)])
        self.assertEqual(len(found.default), 1)
        self.assertIn("not valid before", found.problems[0])

    def test_key_is_not_shown(self) -> None:
        """A key does not get into a log by way of a repr."""
        found = store([key_file(ECDSA)], [cert_file(ECDSA)])
        self.assertNotIn("PrivateKey", repr(found))


class ChainTests(SynchronousTestCase):
    """What is sent to clients with the certificate."""

    def chain(self, *blocks: bytes) -> list[x509.Certificate]:
        """The chain of LEAF, out of a file with these blocks."""
        (pair,) = store([key_file(LEAF)], [PEMFile("c.pem", b"".join(blocks))]).default
        return list(pair.chain)

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
        key, certificate = self_signed("mx.example.com")
        (pair,) = store([PEMFile("k.pem", key)], [PEMFile("c.pem", certificate * 2)]).default
        self.assertEqual(len(pair.chain), 1)


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
        default, exact, wildcard = (
            store([key_file(leaf)], [cert_file(leaf)]).default for leaf in (RSA, ECDSA, OTHER)
        )
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
        (first,) = store([key_file(RSA)], [cert_file(RSA)]).default
        (second,) = store([key_file(OTHER)], [cert_file(OTHER)]).default
        found = CertificateStore((first, second), {"a.example": (second,), "b.example": (first,)})
        left = found.without({second})
        self.assertEqual(left, CertificateStore((first,), {"b.example": (first,)}))
        self.assertEqual(left.all(), {(first,)})


class TrustAnchorTests(SynchronousTestCase):
    """ca."""

    def test_bundle(self) -> None:
        """All certificates of all files count."""
        bundle = PEMFile("a.pem", ROOT_PEM + authority("B").cert_pem.bytes())
        anchors, problems = trust_anchors([bundle, PEMFile("b.pem", MIDDLE_PEM)])
        self.assertEqual((len(anchors), problems), (3, ()))

    def test_problems(self) -> None:
        """A file that is missing or holds no certificate is told."""
        anchors, problems = trust_anchors(
            [PEMFile("a.pem", None, "there is no such file"), PEMFile("b.pem", b"x")]
        )
        self.assertEqual(anchors, ())
        self.assertEqual(
            problems,
            ("a.pem: there is no such file", "b.pem: there is no certificate in it"),
        )
