"""Tests for harakatls.tls.bundles."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.bundles import named_pairs
from harakatls.tls.certificates import KeyPair
from harakatls.tls.files import PEMFile
from tests.tls.peers import (
    chain_octets,
    issued,
    key_octets,
    self_signed,
    with_chain,
)

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
PLAIN = issued("a.example", "b.example")
LEAF = with_chain("chain.example")
LEAF_PEM, MIDDLE_PEM = (pem.bytes() for pem in LEAF.cert_chain_pems)


class NamedPairsTests(SynchronousTestCase):
    def found(self, *problems: str, **files: bytes) -> dict[str, tuple[KeyPair, ...]]:
        """
        The pairs in files of these names (C{__} is a slash).

        @param problems: what each line of the problems has to hold.
        """
        listed = [
            PEMFile("tls/" + name.replace("__", "/"), content) for name, content in files.items()
        ]
        named, told = named_pairs(listed, NOW)
        self.assertEqual(len(told), len(problems), told)
        for words, line in zip(problems, told, strict=True):
            self.assertIn(words, line)
        return named

    def test_bundle(self) -> None:
        """Key, certificate and issuer in one file, in any order: the chain is whole (H.19)."""
        key = key_octets(LEAF)
        for content in (key + LEAF_PEM + MIDDLE_PEM, MIDDLE_PEM + LEAF_PEM + key):
            found = self.found(bundle=content)
            self.assertEqual(list(found), ["chain.example"])
            (pair,) = found["chain.example"]
            self.assertEqual(len(pair.chain), 2)
            self.assertEqual(pair.source, "tls/bundle")

    def test_split_files(self) -> None:
        """As certbot writes them: key, certificate and issuers in files of their own."""
        found = self.found(
            live__cert=LEAF_PEM,
            live__chain=MIDDLE_PEM,
            live__fullchain=LEAF_PEM + MIDDLE_PEM,
            live__privkey=key_octets(LEAF),
        )
        (pair,) = found["chain.example"]
        self.assertEqual(len(pair.chain), 2)
        self.assertEqual(pair.source, "tls/live/cert with tls/live/privkey")

    def test_all_names(self) -> None:
        """A certificate is shown under each of its names."""
        found = self.found(x=key_octets(PLAIN) + chain_octets(PLAIN))
        self.assertEqual(set(found), {"a.example", "b.example"})
        self.assertIs(found["a.example"][0], found["b.example"][0])

    def test_kinds_of_key(self) -> None:
        """RSA and ECDSA for one name are both there."""
        rsa = issued("a.example", kind="RSA")
        found = self.found(
            a=key_octets(PLAIN) + chain_octets(PLAIN), b=key_octets(rsa) + chain_octets(rsa)
        )
        self.assertEqual([pair.kind for pair in found["a.example"]], ["EC", "RSA"])
        self.assertEqual([pair.kind for pair in found["b.example"]], ["EC"])

    def test_renewed(self) -> None:
        """The old certificate that was left beside the new one is not shown, in either order."""
        bundles = [
            b"".join(
                self_signed("a.example", not_before=NOW - age * DAY, not_after=NOW + left * DAY)
            )
            for age, left in ((90, -1), (60, 30), (1, 90))
        ]
        newest = x509.load_pem_x509_certificates(bundles[2])[0]
        for order in (bundles, bundles[::-1]):
            found = self.found(**{f"file{n}": bundle for n, bundle in enumerate(order)})
            self.assertEqual([pair.chain[0] for pair in found["a.example"]], [newest])

    def test_not_yet_valid(self) -> None:
        """A certificate of tomorrow does not push out the one of today."""
        today = b"".join(self_signed("a.example"))
        tomorrow = b"".join(self_signed("a.example", not_before=NOW + DAY / 2))
        (pair,) = self.found(a=today, b=tomorrow)["a.example"]
        self.assertEqual(pair.source, "tls/a")

    def test_name_of_the_file(self) -> None:
        """A certificate without a name is shown under that of its file, with _ for *."""
        bundle = b"".join(self_signed("Example Inc."))
        self.assertEqual(list(self.found(**{"mx.example.com.pem": bundle})), ["mx.example.com"])
        self.assertEqual(list(self.found(**{"_.example.com.pem": bundle})), ["*.example.com"])
        self.assertEqual(self.found("names no host", **{"a b.pem": bundle}), {})

    def test_underscore_is_no_wildcard_in_a_certificate(self) -> None:
        """Only the name of a file is read so."""
        found = self.found(x=b"".join(self_signed("_.example.com")))
        self.assertEqual(list(found), ["_.example.com"])

    def test_problems(self) -> None:
        """Each file that leads to nothing is named, and the others are used (H.20, H.21)."""
        other = issued("other.example")
        found = self.found(
            "tls/garbage: there is no key and no certificate in it",
            "tls/lonely.crt: no key belongs to this certificate",
            "tls/lonely.key: no certificate belongs to this key",
            "tls/cut: EC PRIVATE KEY in line 1",
            good=key_octets(PLAIN) + chain_octets(PLAIN),
            issuer=MIDDLE_PEM,
            garbage=b"\0\1\2",
            **{
                "lonely.crt": chain_octets(other),
                "lonely.key": self_signed("x")[0],
                "cut": key_octets(other)[:60],
            },
        )
        self.assertEqual(set(found), {"a.example", "b.example"})

    def test_unreadable(self) -> None:
        """A file that cannot be read is named."""
        named, told = named_pairs([PEMFile("tls/x", None, "cannot be read: ...")], NOW)
        self.assertEqual((named, told), ({}, ("tls/x: cannot be read: ...",)))

    def test_nothing(self) -> None:
        """Without the directory there is nothing, and nothing to complain of (H.17)."""
        self.assertEqual(self.found(), {})
