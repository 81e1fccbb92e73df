"""Our certificates as values: keys, chains, and which is shown under which name."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice

from attrs import evolve, field, frozen
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import (
    Certificate,
    DNSName,
    DuplicateExtension,
    ExtensionNotFound,
    InvalidVersion,
    IPAddress,
    NameOID,
    SubjectAlternativeName,
    UnsupportedGeneralNameType,
)

from harakatls.config.hosts import host_name

_WILDCARD = "*."
_MOST_NAMES_TOLD = 20
_LONGEST_NAME_TOLD = 255

UNREADABLE = (
    KeyError,  # of cryptography before 50, for a kind of text that it does not know
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    InvalidVersion,
    DuplicateExtension,
    UnsupportedGeneralNameType,
)
"""
What cryptography raises about a certificate, or a part of one, that is not as it should be. OpenSSL
takes many of these from a peer; and most parts are read only when they are asked for.
"""


@frozen(eq=False)
class KeyPair:
    """
    A private key with its certificate.

    @ivar chain: the certificate, its issuer, the issuer's issuer and so on, as far as they are
        there.
    @ivar names: those the certificate is for, as L{certificate_names} gives them.
    @ivar source: the file or files, for messages.
    """

    private_key: PrivateKeyTypes = field(repr=False)
    chain: tuple[Certificate, ...]
    names: tuple[str, ...]
    source: str

    @property
    def not_after(self) -> datetime:
        return self.chain[0].not_valid_after_utc

    @property
    def kind(self) -> str:
        """ "RSA", "EC", "Ed25519" and so on: of each, a server can hold but one certificate."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return "RSA"
        if isinstance(self.private_key, ec.EllipticCurvePrivateKey):
            return "EC"
        return type(self.private_key).__name__.removesuffix("PrivateKey")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal."""
        return self.chain[0].fingerprint(SHA256()).hex()

    def validity_problem(self, now: datetime) -> str | None:
        """Why it should be replaced, though it is shown all the same; None where all is well."""
        leaf = self.chain[0]
        if now > leaf.not_valid_after_utc:
            return f"{self.source}: the certificate expired at {leaf.not_valid_after_utc}"
        if now < leaf.not_valid_before_utc:
            return f"{self.source}: the certificate is not valid before {leaf.not_valid_before_utc}"
        return None


def wildcard_for(name: str) -> str:
    """The wildcard that stands for the first label of *name* (RFC 6125 section 6.4.3)."""
    return _WILDCARD + name.partition(".")[2]


@frozen
class CertificateStore:
    """
    Which certificates are shown under which server name.

    @ivar default: one of each kind of key; empty where there is nothing to show.
    @ivar named: by name (C{*.example.com} among them), likewise.
    @ivar problems: what is wrong with the files, one line each.
    """

    default: tuple[KeyPair, ...] = ()
    named: Mapping[str, tuple[KeyPair, ...]] = field(factory=dict)
    problems: tuple[str, ...] = ()

    def for_name(self, server_name: str | None) -> tuple[KeyPair, ...]:
        """
        The exact name, else the wildcard for it, else the default: a name we do not know is no
        reason to refuse anybody.

        @param server_name: as L{host_name} writes it.
        """
        if server_name is None or not self.named:
            return self.default
        wildcard = self.named.get(wildcard_for(server_name))
        return self.named.get(server_name) or wildcard or self.default

    def under(self, name: str | None) -> tuple[KeyPair, ...]:
        """
        What settings mean by *name*, which stands for itself alone.

        @param name: None for the default.
        """
        return self.default if name is None else self.named.get(name, ())

    def all(self) -> frozenset[tuple[KeyPair, ...]]:
        """Each set of pairs that is shown under any name."""
        return frozenset(filter(None, (self.default, *self.named.values())))

    def without(self, unwanted: Collection[KeyPair]) -> "CertificateStore":
        """The store without these pairs, and without the names under which none is left."""
        kept = {
            name: tuple(pair for pair in pairs if pair not in unwanted)
            for name, pairs in self.named.items()
        }
        default = tuple(pair for pair in self.default if pair not in unwanted)
        return evolve(self, default=default, named={n: pairs for n, pairs in kept.items() if pairs})


def public_octets(of: PrivateKeyTypes | Certificate) -> bytes | None:
    """The public key, by which a key and its certificate are told to belong together."""
    try:
        return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        return None


def chain_of(leaf: Certificate, available: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """
    *leaf* and what it stands on, in order (RFC 5246 section 7.4.2: each certifies the one before).

    Cross-certificates of a member come after the straight path; what is no issuer of any stays
    away.
    """
    chain = [leaf]
    rest = [certificate for certificate in dict.fromkeys(available) if certificate != leaf]
    while True:
        issuer = next((c for c in rest if _issued(chain[-1], c)), None) or next(
            (c for c in rest if any(_issued(member, c) for member in chain)), None
        )
        if issuer is None:
            return tuple(chain)
        chain.append(issuer)
        rest.remove(issuer)


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    try:
        if certificate.issuer != issuer.subject:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


# -- names -------------------------------------------------------------------------------------


def certificate_names(certificate: Certificate) -> tuple[str, ...]:
    """
    The host names a certificate is for, as L{host_name} writes them: the common name (the document
    goes by that), then the DNS names, wildcards among them.
    """
    names = dict.fromkeys(
        spelled(name) for name in (*_common_names(certificate), *_dns_names(certificate))
    )
    return tuple(name for name in names if name is not None)


def told_names(certificate: Certificate) -> tuple[str, ...]:
    """
    The names of a peer, for logs and hooks: the DNS names, else the common name.

    The peer may have written anything: what cannot be shown is left out, and what is long is cut.
    """
    return _told(_dns_names(certificate) or _common_names(certificate))


def alternative_names(certificate: Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses of a peer, told as carefully as by L{told_names}."""
    return _told((*_dns_names(certificate), *map(str, _addresses(certificate))))


def _told(names: Iterable[str]) -> tuple[str, ...]:
    shown = (name[:_LONGEST_NAME_TOLD] for name in names if name.isprintable())
    escaped = (name.encode("ascii", "backslashreplace").decode("ascii") for name in shown)
    return tuple(islice(escaped, _MOST_NAMES_TOLD))


def spelled(name: str) -> str | None:
    """A name of a certificate in the spelling used for comparing; None for what is no host."""
    wildcard = _WILDCARD if name.startswith(_WILDCARD) else ""
    try:
        return wildcard + host_name(name.removeprefix(_WILDCARD))
    except ValueError:
        return None


def spelled_in_file(text: str) -> str | None:
    """
    The same of a name as files in config/tls have it: C{_.} stands for C{*.}, which not every file
    system can hold.
    """
    return spelled(f"*{text[1:]}" if text.startswith("_.") else text)


def _dns_names(certificate: Certificate) -> tuple[str, ...]:
    names = _alternative_names(certificate)
    return () if names is None else tuple(names.get_values_for_type(DNSName))


def _addresses(certificate: Certificate) -> tuple[object, ...]:
    names = _alternative_names(certificate)
    return () if names is None else tuple(names.get_values_for_type(IPAddress))


def _alternative_names(certificate: Certificate) -> SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, *UNREADABLE):
        return None


def _common_names(certificate: Certificate) -> tuple[str, ...]:
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except UNREADABLE:
        return ()
    return tuple(str(name.value) for name in found if isinstance(name.value, str))
