"""Tests for harakatls.tls.pairing."""

from collections.abc import Sequence
from datetime import UTC, datetime

import trustme
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.certificates import KeyPair
from harakatls.tls.files import PEMFile
from harakatls.tls.pairing import default_pairs, trust_anchors
from tests.tls.peers import (
    authority,
    chain_octets,
    issued,
    key_octets,
    with_chain,
)

NOW = datetime.now(UTC)
RSA = issued("mx.example.com", kind="RSA")
ECDSA = issued("mx.example.com")
OTHER = issued("other.example.com")
LEAF = with_chain("a.example")
LEAF_PEM, MIDDLE_PEM = (pem.bytes() for pem in LEAF.cert_chain_pems)
ROOT_PEM = authority().cert_pem.bytes()

Found = tuple[tuple[KeyPair, ...], tuple[str, ...]]


def pairs(keys: Sequence[PEMFile], certs: Sequence[PEMFile]) -> Found:
    return default_pairs(keys, certs)


def key_file(leaf: trustme.LeafCert, name: str = "k.pem") -> PEMFile:
    return PEMFile(name, key_octets(leaf))


def cert_file(leaf: trustme.LeafCert, name: str = "c.pem") -> PEMFile:
    return PEMFile(name, chain_octets(leaf))


class DefaultPairTests(SynchronousTestCase):
    """key and cert, key[] and cert[]."""

    def assert_problem(self, found: Found, *words: str) -> None:
        """Nothing to show, and one line that says why."""
        self.assertEqual(found[0], ())
        self.assertEqual(len(found[1]), 1, found[1])
        for word in words:
            self.assertIn(word, found[1][0])

    def test_one_pair(self) -> None:
        """A key and its certificate are found to belong together."""
        found = pairs([key_file(ECDSA)], [cert_file(ECDSA)])
        self.assertEqual(found[1], ())
        (pair,) = found[0]
        self.assertEqual((pair.kind, pair.names), ("EC", ("mx.example.com",)))
        self.assertEqual(pair.source, "c.pem with k.pem")
        self.assertEqual(len(pair.chain), 1)

    def test_two_pairs(self) -> None:
        """RSA and ECDSA together, each with its own chain (Haraka's #1686 lost one of two)."""
        leaves = [with_chain("a.example", kind="RSA"), with_chain("a.example")]
        found = pairs([key_file(leaf) for leaf in leaves], [cert_file(leaf) for leaf in leaves])
        self.assertEqual(found[1], ())
        self.assertEqual([pair.kind for pair in found[0]], ["RSA", "EC"])
        issuers = [pair.chain[1].subject for pair in found[0]]
        self.assertEqual([pair.chain[0].issuer for pair in found[0]], issuers)
        self.assertEqual([len(pair.chain) for pair in found[0]], [2, 2])

    def test_other_order(self) -> None:
        """Certificates listed in another order than their keys do no harm."""
        found = pairs(
            [key_file(RSA), key_file(ECDSA)], [cert_file(ECDSA, "e.pem"), cert_file(RSA, "r.pem")]
        )
        self.assertEqual(found[1], ())
        self.assertEqual([pair.kind for pair in found[0]], ["RSA", "EC"])

    def test_one_file(self) -> None:
        """Key and certificate may be one file, in any order."""
        both = PEMFile("both.pem", chain_octets(ECDSA) + key_octets(ECDSA))
        found = pairs([both], [both])
        self.assertEqual(found[1], ())
        self.assertEqual(found[0][0].source, "both.pem")

    def test_mismatch(self) -> None:
        """A key of another certificate is told with both files, and does not stop the server."""
        self.assert_problem(
            pairs([key_file(OTHER)], [cert_file(ECDSA)]), "c.pem", "k.pem", "belongs"
        )
        self.assert_problem(pairs([key_file(RSA)], [cert_file(ECDSA)]), "c.pem", "k.pem")

    def test_interchanged(self) -> None:
        """key= naming the certificate and the other way round is told as that (#2108, #2384)."""
        self.assert_problem(
            pairs([cert_file(ECDSA, "a.pem")], [key_file(ECDSA, "b.pem")]),
            "a.pem and b.pem",
            "interchanged",
        )

    def test_missing(self) -> None:
        """A missing file is named; the other of the pair is not blamed."""
        missing = PEMFile("c.pem", None, "there is no such file")
        self.assert_problem(pairs([key_file(ECDSA)], [missing]), "c.pem: there is no such file")
        missing = PEMFile("k.pem", None, "there is no such file")
        self.assert_problem(pairs([missing], [cert_file(ECDSA)]), "k.pem: there is no such file")

    def test_no_pem(self) -> None:
        """A file without what is looked for is told."""
        self.assert_problem(
            pairs([PEMFile("k.pem", b"garbage")], [cert_file(ECDSA)]),
            "k.pem",
            "no private key",
        )
        self.assert_problem(
            pairs([key_file(ECDSA)], [PEMFile("c.pem", b"\0\1\2")]),
            "c.pem",
            "no certificate",
        )

    def test_broken_key(self) -> None:
        """A damaged key is told by file and line, without its content."""
        damaged = key_octets(ECDSA)[:60] + b"\n-----END PRIVATE KEY-----\n"
        self.assert_problem(pairs([PEMFile("k.pem", damaged)], [cert_file(ECDSA)]), "k.pem", "line")

    def test_one_of_two_is_broken(self) -> None:
        """The other pair is still shown (in Haraka the start dies)."""
        found = pairs(
            [key_file(RSA, "r.key"), PEMFile("e.key", None, "there is no such file")],
            [cert_file(RSA, "r.crt"), cert_file(ECDSA, "e.crt")],
        )
        self.assertEqual([pair.kind for pair in found[0]], ["RSA"])
        self.assertEqual(found[1], ("e.key: there is no such file",))

    def test_counts_differ(self) -> None:
        """Two keys and one certificate: what fits is used, and both facts are told."""
        found = pairs([key_file(RSA, "r.key"), key_file(ECDSA, "e.key")], [cert_file(RSA)])
        self.assertEqual([pair.kind for pair in found[0]], ["RSA"])
        self.assertEqual(len(found[1]), 2, found[1])
        self.assertIn("2 file(s)", found[1][0])
        self.assertIn("e.key", found[1][1])
        found = pairs([key_file(RSA)], [cert_file(RSA), cert_file(ECDSA, "e.crt")])
        self.assertEqual([pair.kind for pair in found[0]], ["RSA"])
        self.assertIn("e.crt", found[1][1])

    def test_two_of_one_kind(self) -> None:
        """The second of two ECDSA pairs cannot be shown, and that is told."""
        found = pairs(
            [key_file(ECDSA), key_file(OTHER, "o.key")],
            [cert_file(ECDSA), cert_file(OTHER, "o.crt")],
        )
        self.assertEqual([pair.source for pair in found[0]], ["c.pem with k.pem"])
        self.assertEqual(len(found[1]), 1)
        self.assertIn("o.crt", found[1][0])

    def test_key_is_not_shown(self) -> None:
        """A key does not get into a log by way of a repr."""
        found = pairs([key_file(ECDSA)], [cert_file(ECDSA)])
        self.assertNotIn("PrivateKey", repr(found))


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
