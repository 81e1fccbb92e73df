"""Tests for harakatls.tls.pem."""

import trustme
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.pem import PEMContents, read_pem
from tests.tls.peers import chain_octets, issued, key_octets, key_pem, with_chain

RSA = issued("mx.example.com", kind="RSA")
ECDSA = issued("mx.example.com")
CHAIN = with_chain("chain.example.com")


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey
PLAIN = NoEncryption()


def key_of(leaf: trustme.LeafCert) -> Key:
    """A certificate's private key."""
    key = load_pem_private_key(key_octets(leaf), None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key


def legacy(key: Key, encryption: KeySerializationEncryption = PLAIN) -> bytes:
    """The format before PKCS #8: "RSA PRIVATE KEY", "EC PRIVATE KEY"."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption)


class ContentsTests(SynchronousTestCase):
    """What can be read."""

    def test_kinds_of_key(self) -> None:
        """Keys as any tool writes them are read (Haraka's #2906 and #2933)."""
        rsa_key, elliptic = key_of(RSA), key_of(ECDSA)
        for octets in (
            key_pem(rsa_key),
            legacy(rsa_key),
            key_pem(elliptic),
            legacy(elliptic),
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            + legacy(elliptic),
            key_pem(ed25519.Ed25519PrivateKey.generate()),
        ):
            with self.subTest(octets=octets[:40]):
                contents = read_pem(octets)
                self.assertEqual(contents.problems, ())
                self.assertEqual(len(contents.private_keys), 1)
        self.assertEqual(key_pem(read_pem(legacy(elliptic)).private_keys[0]), key_pem(elliptic))

    def test_bundle_in_any_order(self) -> None:
        """Key first, key last, key in the middle: the same is found, in the order of the file."""
        leaf, issuer = (pem.bytes() for pem in CHAIN.cert_chain_pems)
        key = key_octets(CHAIN)
        certificates = read_pem(leaf + issuer).certificates
        self.assertEqual(len(certificates), 2)
        for order in (key + leaf + issuer, leaf + key + issuer, leaf + issuer + key):
            contents = read_pem(order)
            self.assertEqual(contents.certificates, certificates)
            self.assertEqual(
                key_pem(contents.private_keys[0]), key_pem(load_pem_private_key(key, None))
            )
        swapped = read_pem(issuer + leaf).certificates
        self.assertEqual(swapped, certificates[::-1])

    def test_line_ends_and_comments(self) -> None:
        """Files from other systems and files with text between the blocks are read."""
        octets = key_octets(ECDSA) + chain_octets(ECDSA)
        expected = read_pem(octets).certificates
        commented = b"Bag Attributes\n    friendlyName: ---\n" + octets.replace(
            b"-----BEGIN", b"# next\n-----BEGIN"
        )
        for variant in (
            octets.replace(b"\n", b"\r\n"),
            octets.replace(b"\n", b"\r"),
            octets.replace(b"\n", b" \n"),
            octets.rstrip(),
            b"\xef\xbb\xbf" + octets,
            commented,
        ):
            with self.subTest(variant=variant[:30]):
                contents = read_pem(variant)
                self.assertEqual(contents.certificates, expected)
                self.assertEqual(len(contents.private_keys), 1)
                self.assertEqual(contents.problems, ())

    def test_other_blocks(self) -> None:
        """Diffie-Hellman parameters or a request in the file are no problem."""
        octets = b"-----BEGIN DH PARAMETERS-----\nMAYCAQ8CAQI=\n-----END DH PARAMETERS-----\n"
        self.assertEqual(read_pem(octets), PEMContents())

    def test_nothing(self) -> None:
        """An empty file and one without PEM give nothing, and no error."""
        for octets in (b"", b"\n\n", b"key", bytes(range(256))):
            self.assertEqual(read_pem(octets), PEMContents())

    def test_key_is_not_shown(self) -> None:
        """A key does not get into a log by way of a repr."""
        self.assertNotIn("PrivateKey", repr(read_pem(key_octets(RSA))))


class ProblemTests(SynchronousTestCase):
    """What is said about blocks that cannot be used."""

    def assertProblem(self, octets: bytes, *words: str) -> None:
        contents = read_pem(octets)
        self.assertEqual(contents.private_keys, ())
        self.assertEqual(contents.certificates, ())
        self.assertEqual(len(contents.problems), 1, contents.problems)
        for word in words:
            self.assertIn(word, contents.problems[0])

    def test_encrypted(self) -> None:
        """An operator who has put a passphrase on the key is told that, for both formats."""
        key = key_of(ECDSA)
        encryption = BestAvailableEncryption(b"secret")
        self.assertProblem(legacy(key, encryption=encryption), "line 1", "encrypted")
        self.assertProblem(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), "encrypted"
        )

    def test_cut_off(self) -> None:
        """A file whose end is missing is named as such."""
        octets = key_octets(RSA)
        self.assertProblem(b"\n" + octets[:400], "PRIVATE KEY in line 2", "cut off")

    def test_end_missing_between(self) -> None:
        """A block that runs into the next one does not take that one with it."""
        octets = [*key_octets(RSA).splitlines(True)[:-1], chain_octets(ECDSA)]
        contents = read_pem(b"".join(octets))
        self.assertEqual(len(contents.certificates), 1)
        self.assertEqual(len(contents.problems), 1)
        self.assertIn("no END", contents.problems[0])

    def test_damaged(self) -> None:
        """A damaged key or certificate is told by kind and line, without its content."""
        for octets in (key_octets(ECDSA), chain_octets(ECDSA)):
            lines = octets.splitlines(True)
            lines[1] = lines[1][::-1].strip() + b"\n"
            self.assertProblem(b"".join(lines), "in line 1")
            lines[1] = b"*** not base64 ***\n"
            self.assertProblem(b"".join(lines), "not base64")
        self.assertProblem(
            b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "cannot be read"
        )

    def test_unusable_kinds(self) -> None:
        """Keys that are for something else are told from damaged ones."""
        old = dsa.generate_private_key(1024)
        self.assertProblem(legacy(old), "DSA")
        ssh = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        )
        self.assertProblem(ssh, "SSH")

    @given(st.binary(max_size=300))
    def test_garbage(self, octets: bytes) -> None:
        """No file at all stops the server."""
        self.assertIsInstance(read_pem(octets), PEMContents)

    @given(st.sampled_from([key_octets(ECDSA), chain_octets(ECDSA)]), st.data())
    def test_changed_octets(self, octets: bytes, data: st.DataObject) -> None:
        """Nor does any damage to a good file; and whatever is damaged is told or seen to differ."""
        changed = bytearray(octets)
        at = data.draw(st.integers(0, len(octets) - 1))
        changed[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=10))
        self.assertIsInstance(read_pem(bytes(changed)), PEMContents)
