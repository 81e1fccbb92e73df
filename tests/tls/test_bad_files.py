"""Keys, certificates and trust anchors in files that are none: told by file, and nothing stops."""

from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from harakatls.config.directory import ConfigDirectory
from harakatls.service.command_tls import lines
from harakatls.service.tls_report import tls_report
from tests.service.reload_case import FIRST, ME, ReloadTestCase
from tests.tls.peers import authority, chain_octets, issued, key_octets, self_signed

KEY, CERT = "tls_key.pem", "tls_cert.pem"
GOOD_KEY, GOOD_CERT = key_octets(FIRST), chain_octets(FIRST)
OTHER = issued(ME)
_LOADED = load_pem_private_key(GOOD_KEY, None)
_LEAF = load_pem_x509_certificate(GOOD_CERT)
PUBLIC = _LOADED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ENCRYPTED = _LOADED.private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
)
DER_KEY = _LOADED.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
PKCS12 = serialize_key_and_certificates(
    b"name",
    _LOADED,  # type: ignore[arg-type]
    _LEAF,
    None,
    BestAvailableEncryption(b"secret"),
)
SMALL_KEY, SMALL_CERT = self_signed(ME, ME, key=rsa.generate_private_key(65537, 1024))
GARBAGE = bytes(range(256)) * 10
BASE64 = b"-----BEGIN %b-----\n!!!!\n-----END %b-----\n"

MISSING, LOOP, DIRECTORY = object(), object(), object()


@frozen
class Case:
    """What becomes of some files, and what is told of it: all lines, each whole."""

    files: Mapping[str, object]
    told: tuple[str, ...]


def case(told: str | tuple[str, ...], /, **files: object) -> Case:
    """@param files: by their names, without ``.pem``."""
    named = {f"{name}.pem": content for name, content in files.items()}
    return Case(named, (told,) if isinstance(told, str) else told)


MISMATCH = f"{CERT}: no certificate in it belongs to the key in {KEY}"
CASES = {
    "no key": case(f"{KEY}: there is no such file", tls_key=MISSING),
    "no certificate": case(f"{CERT}: there is no such file", tls_cert=MISSING),
    "empty key": case(f"{KEY}: the file is empty", tls_key=b""),
    "blank certificate": case(f"{CERT}: the file is empty", tls_cert=b" \r\n\n"),
    "key that leads in a circle": case(
        f"{KEY}: cannot be read: Too many levels of symbolic links", tls_key=LOOP
    ),
    "a directory": case(f"{CERT}: cannot be read: Is a directory", tls_cert=DIRECTORY),
    "truncated key": case(
        f"{KEY}: EC PRIVATE KEY in line 1: it has no END, the file is cut off",
        tls_key=GOOD_KEY[:100],
    ),
    "truncated certificate": case(
        f"{CERT}: CERTIFICATE in line 1: it has no END, the file is cut off",
        tls_cert=GOOD_CERT[:300],
    ),
    "a line of the key is missing": case(
        f"{KEY}: EC PRIVATE KEY in line 1: it cannot be read as a private key",
        tls_key=b"\n".join(GOOD_KEY.split(b"\n")[:2] + GOOD_KEY.split(b"\n")[3:]),
    ),
    "interchanged": case(
        f"{KEY} and {CERT}: key and cert seem to be interchanged",
        tls_key=GOOD_CERT,
        tls_cert=GOOD_KEY,
    ),
    "key of another": case(MISMATCH, tls_key=key_octets(OTHER)),
    "certificate of another": case(MISMATCH, tls_cert=chain_octets(OTHER)),
    "the authority's certificate alone": case(MISMATCH, tls_cert=authority().cert_pem.bytes()),
    "key for both": case(f"{CERT}: there is no certificate in it", tls_cert=GOOD_KEY),
    "certificate for both": case(f"{KEY}: there is no private key in it", tls_key=GOOD_CERT),
    "garbage for a key": case(f"{KEY}: there is no private key in it", tls_key=GARBAGE),
    "garbage for a certificate": case(f"{CERT}: there is no certificate in it", tls_cert=GARBAGE),
    "no base64": case(
        f"{CERT}: CERTIFICATE in line 1: it is not base64",
        tls_cert=BASE64 % (b"CERTIFICATE", b"CERTIFICATE"),
    ),
    "encrypted key": case(
        f"{KEY}: ENCRYPTED PRIVATE KEY in line 1: it is encrypted; store it without a passphrase",
        tls_key=ENCRYPTED,
    ),
    "public key": case(f"{KEY}: there is no private key in it", tls_key=PUBLIC),
    "key in DER": case(f"{KEY}: there is no private key in it", tls_key=DER_KEY),
    "certificate in DER": case(
        f"{CERT}: there is no certificate in it", tls_cert=_LEAF.public_bytes(Encoding.DER)
    ),
    "PKCS 12": case(
        (f"{KEY}: there is no private key in it", f"{CERT}: there is no certificate in it"),
        tls_key=PKCS12,
        tls_cert=PKCS12,
    ),
    "UTF-16": case(
        f"{CERT}: there is no certificate in it", tls_cert=GOOD_CERT.decode().encode("utf-16")
    ),
    "key too small": case(
        f"{CERT} with {KEY}: OpenSSL refuses it: ee key too small",
        tls_key=SMALL_KEY,
        tls_cert=SMALL_CERT,
    ),
    "names with controls": case(
        (f"{KEY}: there is no private key in it", f"{CERT}: there is no such file"),
        tls_key=b"\x1b[2J\r\nfeigned",
        tls_cert=MISSING,
    ),
}


class FilesTests(ReloadTestCase):
    """The default pair."""

    def put(self, files: Mapping[str, object]) -> None:
        for name, content in files.items():
            path = self.path / name
            path.unlink(missing_ok=True)
            if content is LOOP:
                path.symlink_to(name)
            elif content is DIRECTORY:
                path.mkdir()
            elif isinstance(content, bytes):
                path.write_bytes(content)

    def test_at_the_start(self) -> None:
        """The server starts and offers no TLS; each file is told in one line, and nothing else."""
        for what, found in CASES.items():
            self.begin()
            self.put(found.files)
            self.load()
            self.assertEqual(self.server.problems, found.told, what)
            self.assertFalse(self.server.ready(), what)

    def test_reload(self) -> None:
        """A running server keeps what it has, and says so with the same words."""
        for what, found in CASES.items():
            self.begin()
            self.put(found.files)
            (line,) = self.rounds()
            reasons = "; ".join(found.told)
            self.assertEqual(
                line,
                "error: TLS: what has changed is not used, all goes on as before: " + reasons,
                what,
            )
            self.unchanged()

    def test_report(self) -> None:
        """`harakatls tls` tells the same, and that the port for implicit TLS is not opened."""
        for what, found in CASES.items():
            self.begin(
                {
                    "smtp.ini": b"listen=192.0.2.1:25,192.0.2.1:465\nsmtps_port=465\n",
                    "plugins": b"tls\n",
                }
            )
            self.put(found.files)
            report = tls_report(ConfigDirectory(self.path), datetime.now(UTC))
            self.assertEqual(report.mistakes, found.told, what)
            self.assertEqual([port["opened"] for port in report.listeners], [True, False], what)
            self.assertTrue(all(line.isprintable() for line in lines(report)))

    def test_beside_a_good_one(self) -> None:
        """Where there is another pair, that one is shown."""
        for what, found in CASES.items():
            self.begin({"tls/good.pem": key_octets(OTHER) + chain_octets(OTHER)})
            self.put(found.files)
            self.load()
            self.assertEqual(self.server.problems, found.told, what)
            self.assertTrue(self.server.ready(), what)
            self.shown()


class AnchorTests(ReloadTestCase):
    """ca, of clients and of next hops: where it is wrong nobody is trusted, and it is told."""

    def test_wrong_anchors(self) -> None:
        """Neither role falls back to the system's authorities, and mail goes on."""
        for content, told in (
            (None, "ca.pem: there is no such file"),
            (b"", "ca.pem: the file is empty"),
            (GARBAGE, "ca.pem: there is no certificate in it"),
            (GOOD_KEY, "ca.pem: there is no certificate in it"),
            (
                GOOD_CERT[:300],
                "ca.pem: CERTIFICATE in line 1: it has no END, the file is cut off",
            ),
        ):
            files = {} if content is None else {"ca.pem": content}
            self.begin(files, "ca=ca.pem\n[outbound]\nca=ca.pem\n")
            self.assertEqual(self.server.problems, (f"ca: {told}",))
            self.assertEqual(self.client.problems, (f"ca of [outbound]: {told}",))
            self.assertEqual(len(self.server.snapshot.trust.anchors or ()), 0)
            self.assertIsNotNone(self.server.snapshot.trust.anchors)
            self.shown()

    def test_reload(self) -> None:
        """A running server keeps the old ones."""
        self.begin({"ca.pem": authority().cert_pem.bytes()}, "ca=ca.pem\n")
        self.write({"ca.pem": GOOD_CERT[:300]})
        (line,) = self.rounds()
        self.assertIn("not used, all goes on as before: ca: ca.pem: CERTIFICATE in line 1", line)
        self.assertEqual(len(self.server.snapshot.trust.anchors or ()), 1)
