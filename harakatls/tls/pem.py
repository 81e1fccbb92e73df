"""
PEM files (RFC 7468): private keys and certificates, in the order of the file.

Text between the blocks is a comment, and blocks of other kinds (EC PARAMETERS, DH PARAMETERS,
CERTIFICATE REQUEST) are passed over. No octets at all raise an error here: what cannot be read is
named, with its line.
"""

import binascii
import re
from codecs import BOM_UTF8
from collections.abc import Iterator

from attrs import field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_der_x509_certificate

from harakatls.tls.certificates import UNREADABLE

_BOUNDARY = re.compile(rb"\s*-----(BEGIN|END) ([ -,.-~][ -~]*?)-----\s*")
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_PRIVATE_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
_UNUSABLE = {
    "DSA PRIVATE KEY": "TLS has no use for DSA keys",
    "OPENSSH PRIVATE KEY": "this is a key for SSH",
    "TRUSTED CERTIFICATE": "write it as CERTIFICATE (openssl x509 -in FILE -out FILE)",
}


@frozen
class PEMContents:
    """
    What a file holds.

    @ivar problems: one line for each block that cannot be used.
    """

    private_keys: tuple[PrivateKeyTypes, ...] = field(default=(), repr=False)
    certificates: tuple[Certificate, ...] = ()
    problems: tuple[str, ...] = ()


@frozen
class PEMBlock:
    """
    What is between a BEGIN and its END.

    @ivar line: of its BEGIN, from 1.
    """

    label: str
    line: int
    body: tuple[bytes, ...] = field(repr=False)


class Unusable(Exception):
    """Says why a block cannot be used; never with anything of the block in it."""


def read_pem(content: bytes) -> PEMContents:
    """Never raises."""
    keys: list[PrivateKeyTypes] = []
    certificates: list[Certificate] = []
    problems: list[str] = []
    for block in blocks(content, problems):
        try:
            if block.label in _CERTIFICATES:
                certificates.append(_certificate(block))
            elif block.label in _PRIVATE_KEYS:
                keys.append(_private_key(block))
            elif block.label == _ENCRYPTED:
                raise Unusable("it is encrypted; store it without a passphrase")
            elif block.label in _UNUSABLE:
                raise Unusable(_UNUSABLE[block.label])
        except Unusable as problem:
            problems.append(f"{block.label} in line {block.line}: {problem}")
    return PEMContents(tuple(keys), tuple(certificates), tuple(problems))


def blocks(content: bytes, problems: list[str]) -> Iterator[PEMBlock]:
    """@param problems: gets a line for each block that is not whole."""
    label, began = "", 0
    body: list[bytes] = []
    for number, line in enumerate(content.removeprefix(BOM_UTF8).splitlines(), 1):
        boundary = _BOUNDARY.fullmatch(line) if b"-----" in line else None
        if boundary is None:
            if began:
                body.append(line.strip())
            continue
        if boundary[1] == b"END" and began and boundary[2].decode() == label:
            yield PEMBlock(label, began, tuple(body))
            began = 0
            continue
        if began:
            problems.append(f"{label} in line {began}: it has no END")
            began = 0
        if boundary[1] == b"BEGIN":
            label, began, body = boundary[2].decode(), number, []
    if began:
        problems.append(f"{label} in line {began}: it has no END, the file is cut off")


def _certificate(block: PEMBlock) -> Certificate:
    try:
        return load_der_x509_certificate(decoded(block))
    except UNREADABLE:
        raise Unusable("it cannot be read as a certificate") from None


def _private_key(block: PEMBlock) -> PrivateKeyTypes:
    if any(line.startswith(b"Proc-Type:") for line in block.body):  # RFC 1421 section 4.6.1.1
        raise Unusable("it is encrypted; store it without a passphrase")
    der = decoded(block)
    clean = b"-----BEGIN %b-----\n%b-----END %b-----\n"
    label = block.label.encode()
    try:
        return load_pem_private_key(clean % (label, binascii.b2a_base64(der), label), None)
    except TypeError:
        raise Unusable("it is encrypted; store it without a passphrase") from None
    except UnsupportedAlgorithm:
        raise Unusable("it is of a kind that is not known here") from None
    except ValueError:
        raise Unusable("it cannot be read as a private key") from None


def decoded(block: PEMBlock) -> bytes:
    """@raise Unusable: it is not base64."""
    try:
        return binascii.a2b_base64(b"".join(block.body), strict_mode=True)
    except binascii.Error:
        raise Unusable("it is not base64") from None
