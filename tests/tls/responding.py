"""An authority with a responder, by cryptography's builders alone, since trustme has none."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypedDict

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from harakatls.tls.files import PEMFile
from tests.tls.peers import CN, key_pem

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

URL = "http://ocsp.example/a"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
GOOD, REVOKED, UNKNOWN = (
    ocsp.OCSPCertStatus.GOOD,
    ocsp.OCSPCertStatus.REVOKED,
    ocsp.OCSPCertStatus.UNKNOWN,
)


@cache
def key_of(kind: str, whose: str = "ours") -> Key:
    """Keys are dear, so that tests share them."""
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def hash_for(key: Key) -> SHA256 | None:
    """Ed25519 has one of its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()


@frozen(eq=False)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)


class Pairs(TypedDict):
    """The C{keys} and C{certs} of L{InboundTLS}."""

    keys: tuple[PEMFile, ...]
    certs: tuple[PEMFile, ...]


def certify(
    name: str,
    key: Key,
    issuer: Holder | None = None,
    *,
    url: str | None = None,
    must: bool = False,
    usage: x509.ObjectIdentifier | None = None,
    not_before: datetime = NOW - 9 * DAY,
    not_after: datetime = NOW + 90 * DAY,
) -> Holder:
    """
    @param issuer: None for an authority's own.
    @param url: of the responder.
    @param must: must-staple (RFC 7633).
    """
    subject = x509.Name([x509.NameAttribute(CN, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(issuer is None, None), True)
    )
    if issuer is not None and usage is None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    if url is not None:
        place = x509.UniformResourceIdentifier(url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), False)
    if must:
        builder = builder.add_extension(
            x509.TLSFeature([x509.TLSFeatureType.status_request]), False
        )
    signer = key if issuer is None else issuer.key
    return Holder(builder.sign(signer, hash_for(signer)), key)


@cache
def root(kind: str = "EC", name: str = "Responding Trust") -> Holder:
    """An authority."""
    return certify(name, key_of(kind, name))


@cache
def leaf(name: str = "mx.example.com", kind: str = "EC", must: bool = False) -> Holder:
    """A certificate of ours that names a responder."""
    return certify(name, key_of(kind), root(), url=URL, must=must)


def respond(
    about: Holder,
    issuer: Holder | None = None,
    signer: Holder | None = None,
    *,
    status: ocsp.OCSPCertStatus = GOOD,
    begin: datetime = NOW - DAY,
    end: datetime | None = NOW + 6 * DAY,
    by_name: bool = False,
    hashed: HashAlgorithm | None = None,
) -> bytes:
    """
    A response.

    @param signer: whose certificate goes along; the issuer itself without it.
    @param by_name: the signer is named by its name, else by its key.
    @param hashed: the hash of the CertID.
    """
    issuer = issuer or root()
    by = signer or issuer
    revoked = begin if status is REVOKED else None
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            about.certificate,
            issuer.certificate,
            hashed or SHA1(),
            status,
            begin,
            end,
            revoked,
            None,
        )
        .responder_id(encoding, by.certificate)
    )
    if signer is not None:
        builder = builder.certificates([signer.certificate])
    return builder.sign(by.key, hash_for(by.key)).public_bytes(Encoding.DER)


def files_of(*holders: Holder) -> Pairs:
    """As if tls.ini named these, each with its issuer."""
    return {
        "keys": tuple(PEMFile(f"{n}.key", key_pem(h.key)) for n, h in enumerate(holders)),
        "certs": tuple(PEMFile(f"{n}.crt", h.pem + root().pem) for n, h in enumerate(holders)),
    }
