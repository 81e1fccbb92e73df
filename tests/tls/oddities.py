"""Certificates that no authority should issue, yet OpenSSL takes them from a peer, or nearly."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from tempfile import NamedTemporaryFile

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from tests.tls.peers import CN

NAME = "odd.example"
_SERIAL = 0x1234567890ABCDEF
_SUBJECT_ALT_NAME, _ISSUER_ALT_NAME = bytes.fromhex("551d11"), bytes.fromhex("551d12")
_ECDSA_SHA256, _ECDSA_SHA512 = (bytes.fromhex(f"06082a8648ce3d04030{n}") for n in "24")


@cache
def odd_key() -> ec.EllipticCurvePrivateKey:
    """The one key of all of them."""
    return ec.generate_private_key(ec.SECP256R1())


def signed(common_name: str = NAME, *extensions: x509.ExtensionType) -> bytes:
    """A certificate of its own, in DER."""
    name = x509.Name([x509.NameAttribute(CN, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(odd_key().public_key())
        .serial_number(_SERIAL)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    return builder.sign(odd_key(), SHA256()).public_bytes(Encoding.DER)


def _changed(der: bytes, old: bytes, new: bytes) -> bytes:
    """Of the same length, so that all lengths stay right; the signature does not."""
    assert old in der and len(old) == len(new)
    return der.replace(old, new)


def _with(oid: str, content: str) -> bytes:
    kind = x509.ObjectIdentifier(oid)
    return signed("odd", x509.UnrecognizedExtension(kind, bytes.fromhex(content)))


def _other_signature(der: bytes) -> bytes:
    before, _, after = der.rpartition(_ECDSA_SHA256)
    return before + _ECDSA_SHA512 + after


@cache
def odd_certificates() -> Mapping[str, bytes]:
    """By what is odd about them, in DER. The last two are none that OpenSSL loads."""
    names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    twice = signed("odd", names, x509.IssuerAlternativeName([x509.DNSName(NAME)]))
    serial = b"\x02\x08" + _SERIAL.to_bytes(8)
    return {
        "an extension twice": _changed(twice, _ISSUER_ALT_NAME, _SUBJECT_ALT_NAME),
        "version 4": _changed(signed(), b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),
        "negative serial": _changed(signed(), serial, b"\x02\x08\x92" + serial[3:]),
        "month 99": _changed(signed(), b"200101000000Z", b"209901000000Z"),
        "time with letters": _changed(signed(), b"200101000000Z", b"20010100000Zx"),
        "two signature algorithms": _other_signature(signed()),
        "two octets for each of a name": _changed(signed("client"), b"\x0c\x06c", b"\x1e\x06c"),
        "name not in ASCII": _with("2.5.29.17", "3005820361ff62"),
        "X.400 address": _with("2.5.29.17", "3002a300"),
        "other name": _with("2.5.29.17", "3004a0020500"),
        "address of five octets": _with("2.5.29.17", "300787050102030405"),
        "no ASN.1 for names": _with("2.5.29.17", "deadbeef"),
        "no usage": _with("2.5.29.15", "0500"),
        "no constraints": _with("2.5.29.19", "0500"),
        "no responder": _with("1.3.6.1.5.5.7.1.1", "0500"),
        "no extended usage": _with("2.5.29.37", "0500"),
        "no features": _with("1.3.6.1.5.5.7.1.24", "0500"),
        "name not in UTF-8": _changed(signed("client"), b"client", b"c\xff\xfeent"),
        "a number for a name": _changed(signed("client"), b"\x0c\x06c", b"\x02\x06c"),
    }


REFUSED = ("name not in UTF-8", "a number for a name")
"""Those that no peer can show."""


def in_pem(der: bytes) -> bytes:
    """As a file holds it."""
    lines = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


def odd_context(method: int, der: bytes) -> SSL.Context:
    """A context of a peer that shows it; cryptography need not be able to read it."""
    context = SSL.Context(method)
    with NamedTemporaryFile() as file:
        file.write(in_pem(der))
        file.flush()
        context.use_certificate_file(file.name)
    context.use_privatekey(odd_key())
    return context
