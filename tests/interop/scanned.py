"""A server as `harakatls init` sets it up, with certificates as a public authority gives them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from tests.support import Instance, free_port, run_harakatls, temporary_directory

NAME = "mx.test"
RESPONDER = "http://127.0.0.1:9/"  # nobody is there, and nobody asks: requestOCSP is off as shipped

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_KEY_USES = (
    "content_commitment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
    "digital_signature",
    "key_encipherment",
    "key_cert_sign",
    "crl_sign",
)


def scanned_instance() -> Instance:
    """
    A new one, not started, whose settings are the shipped ones but for the ports and the names of
    the files with certificates: an RSA and an ECDSA one.
    """
    directory = temporary_directory() / "instance"
    done = run_harakatls("init", "--host", NAME, directory)
    assert done.returncode == 0, done.stderr
    config = directory / "config"
    port, smtps_port = free_port(), free_port()
    _replace(config / "smtp.ini", "127.0.0.1:2525", f"127.0.0.1:{port}")
    _replace(config / "smtp.ini", "127.0.0.1:2465", f"127.0.0.1:{smtps_port}")
    _replace(config / "smtp.ini", "smtps_port=2465", f"smtps_port={smtps_port}")
    lines = "".join(f"key[]={kind}_key.pem\ncert[]={kind}_cert.pem\n" for kind in ("rsa", "ecdsa"))
    _replace(config / "tls.ini", ";key=tls_key.pem\n;cert=tls_cert.pem\n", lines)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("The root", root_key, None, root_key)
    keys: dict[str, _Key] = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    }
    for kind, key in keys.items():
        leaf = _certificate(NAME, key, root, root_key)
        (config / f"{kind}_cert.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        (config / f"{kind}_key.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
    authority = directory / "authority.pem"
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    return Instance(directory, port, smtps_port, authority)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, f"{path.name} has no {old!r} any more"
    path.write_text(text.replace(old, new))


def _certificate(
    name: str, key: _Key, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """@param issuer: None for the root."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_root = issuer is None
    uses = {"key_cert_sign", "crl_sign"} if is_root else {"digital_signature"}
    if isinstance(key, rsa.RSAPrivateKey):
        uses.add("key_encipherment")
    public = issuer_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=5))
        .not_valid_after(now + timedelta(days=3650 if is_root else 85))
        .add_extension(x509.BasicConstraints(is_root, None), True)
        .add_extension(x509.KeyUsage(**{use: use in uses for use in _KEY_USES}), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if not is_root:
        place = x509.UniformResourceIdentifier(RESPONDER)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)
        builder = (
            builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
            .add_extension(x509.AuthorityInformationAccess([access]), False)
        )
    return builder.sign(issuer_key, SHA256())
