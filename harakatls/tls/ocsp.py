"""
What an OCSP responder is asked, and whether its answer is right (RFC 6960). No I/O.

The cryptography library reads responses and verifies nothing in them: all of that is here.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from attrs import frozen
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    AuthorityInformationAccess,
    Certificate,
    ExtendedKeyUsage,
    Extension,
    ExtensionNotFound,
    SubjectKeyIdentifier,
    TLSFeature,
    TLSFeatureType,
    UniformResourceIdentifier,
)
from cryptography.x509.ocsp import (
    OCSPCertStatus,
    OCSPRequestBuilder,
    OCSPResponse,
    OCSPResponseStatus,
    OCSPSingleResponse,
    load_der_ocsp_response,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from harakatls.tls.certificates import UNREADABLE

CLOCK_SKEW = timedelta(minutes=5)
"""By how much the responder's clock may be before ours."""

LIFE_WITHOUT_END = timedelta(hours=1)
"""
How long a response without a nextUpdate may be shown. It says that there is newer information at
any time (RFC 6960 section 4.2.2.1), so it is good for its moment, and a little after.
"""

_WEAK_HASHES = (MD5, SHA1)


class ResponseRefused(Exception):
    """A response that must not be shown to anybody; the text says why."""


@frozen
class Staple:
    """
    A verified response, to be sent in handshakes as it is.

    @ivar next_update: from when on it must not be shown: the responder's word, or the end of the
        certificate that signed it, if that is earlier.
    @ivar revoked: it says that our certificate must not be trusted.
    """

    der: bytes
    this_update: datetime
    next_update: datetime
    revoked: bool = False


# -- what the certificate says ------------------------------------------------------------------


def responder_url(certificate: Certificate) -> str | None:
    """The first responder that can be asked by HTTP; None where the certificate names none."""
    try:
        access = certificate.extensions.get_extension_for_class(AuthorityInformationAccess).value
    except (ExtensionNotFound, *UNREADABLE):
        return None
    places = (
        description.access_location
        for description in access
        if description.access_method == AuthorityInformationAccessOID.OCSP
    )
    urls = (place.value for place in places if isinstance(place, UniformResourceIdentifier))
    return next(filter(_usable, urls), None)


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        valid = parts.port != 0
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return plain and valid and parts.scheme == "http" and bool(parts.hostname)


def must_staple(certificate: Certificate) -> bool:
    """Whether clients are told to refuse the certificate where no staple is shown (RFC 7633)."""
    try:
        features = certificate.extensions.get_extension_for_class(TLSFeature).value
    except (ExtensionNotFound, *UNREADABLE):
        return False
    return TLSFeatureType.status_request in features


# -- the request --------------------------------------------------------------------------------


def request_for(certificate: Certificate, issuer: Certificate) -> bytes:
    """
    By SHA-1, by which all authorities find their certificates, and without a nonce, so that they
    may answer from a cache (RFC 5019 section 2.1.1).

    @raise ValueError: there can be no request for these.
    """
    try:
        builder = OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())  # noqa: S303
        return builder.build().public_bytes(Encoding.DER)
    except (TypeError, UnsupportedAlgorithm) as problem:
        raise ValueError(str(problem)) from None


# -- the response -------------------------------------------------------------------------------


def read_response(
    der: bytes, certificate: Certificate, issuer: Certificate, now: datetime
) -> Staple:
    """
    @param issuer: of the certificate; it has signed the response, or allowed another to do so.
    @raise ResponseRefused: the response is not about this certificate, not signed by whom it must
        be, not of now, or no response at all.
    """
    try:
        return _verified(der, certificate, issuer, now)
    except UNREADABLE:
        raise ResponseRefused("it cannot be read") from None


def _verified(der: bytes, certificate: Certificate, issuer: Certificate, now: datetime) -> Staple:
    response = load_der_ocsp_response(der)
    if response.response_status is not OCSPResponseStatus.SUCCESSFUL:
        raise ResponseRefused(f"the responder says {response.response_status.name.lower()}")
    signer = _signer(response, issuer, now)
    _check_signature(response, signer)
    answer = _answer(response.responses, certificate, issuer)
    if answer.certificate_status is OCSPCertStatus.UNKNOWN:
        raise ResponseRefused("the responder does not know the certificate")
    this_update = answer.this_update_utc
    next_update = answer.next_update_utc or this_update + LIFE_WITHOUT_END
    if signer is not issuer:
        # Clients look at that as well: what it signed is worth nothing once it is out of date.
        next_update = min(next_update, signer.not_valid_after_utc)
    if this_update > now + CLOCK_SKEW:
        raise ResponseRefused(f"it is of the future ({_told(this_update)})")
    if next_update <= now:
        raise ResponseRefused(f"it is out of date since {_told(next_update)}")
    revoked = answer.certificate_status is OCSPCertStatus.REVOKED
    return Staple(der, this_update, next_update, revoked)


def _signer(response: OCSPResponse, issuer: Certificate, now: datetime) -> Certificate:
    """
    The issuer itself, or one whom it has given a certificate for this (RFC 6960 section 4.2.2.2).
    """
    if _names(response, issuer):
        return issuer
    reason = "nobody has signed it who may"
    for candidate in response.certificates:
        if not _names(response, candidate):
            continue
        if not _issued(candidate, issuer):
            reason = "its signer is not of the issuer of our certificate"
        elif not _may_sign(candidate):
            reason = "the certificate of its signer is not for signing responses"
        elif not candidate.not_valid_before_utc <= now <= candidate.not_valid_after_utc:
            reason = "the certificate of its signer is not valid now"
        else:
            return candidate
    raise ResponseRefused(reason)


def _names(response: OCSPResponse, candidate: Certificate) -> bool:
    """Whether the response says that *candidate* has signed it."""
    if response.responder_name is not None:
        return response.responder_name == candidate.subject
    key = SubjectKeyIdentifier.from_public_key(candidate.public_key())  # as ResponderID has it
    return response.responder_key_hash == key.digest


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _may_sign(certificate: Certificate) -> bool:
    try:
        found: Extension[ExtendedKeyUsage] = certificate.extensions.get_extension_for_class(
            ExtendedKeyUsage
        )
    except ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in found.value


def _check_signature(response: OCSPResponse, signer: Certificate) -> None:
    """@raise ResponseRefused: the signature is wrong, weak or of an unknown kind."""
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    if isinstance(algorithm, _WEAK_HASHES):
        raise ResponseRefused(f"its signature uses {algorithm.name}, which is broken")
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), _needed(algorithm))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(_needed(algorithm)))
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, signed)
        else:
            raise ResponseRefused("its signature is of an unknown kind")
    except InvalidSignature:
        raise ResponseRefused("its signature is wrong") from None


def _needed(algorithm: HashAlgorithm | None) -> HashAlgorithm:
    if algorithm is None:
        raise ResponseRefused("its signature is of another kind than the key of its signer")
    return algorithm


def _answer(
    answers: Iterable[OCSPSingleResponse], certificate: Certificate, issuer: Certificate
) -> OCSPSingleResponse:
    """The one about *certificate*: a response may be about several."""
    for answer in answers:
        try:
            builder = OCSPRequestBuilder()
            asked = builder.add_certificate(certificate, issuer, answer.hash_algorithm).build()
        except UNREADABLE:
            continue  # by a hash that nobody uses
        if (
            answer.serial_number == asked.serial_number
            and answer.issuer_name_hash == asked.issuer_name_hash
            and answer.issuer_key_hash == asked.issuer_key_hash
        ):
            return answer
    raise ResponseRefused("it is about another certificate")


def _told(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(" ", "seconds")
