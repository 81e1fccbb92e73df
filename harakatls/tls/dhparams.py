"""
The group for Diffie-Hellman key exchange (dhparam): read, judged, and written where there is none.

A file has PKCS #3 or X9.42 parameters, as C{openssl dhparam} writes them; of both, only the modulus
and the generator matter here.
"""

import binascii
import os
import tempfile
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from attrs import field, frozen

from harakatls.tls.pem import PEMBlock, Unusable, blocks, decoded

SMALLEST, LARGEST = 2048, 8192
"""
Bits. Less can be broken, if not today (RFC 9325 section 4.4); more costs so much that clients could
wear the server out, and OpenSSL's clients refuse it.
"""

_LABEL = "DH PARAMETERS"
_LABELS = (_LABEL, "X9.42 DH PARAMETERS")
_INTEGER, _SEQUENCE = 0x02, 0x30
_PEM_WIDTH = 64
_READABLE = 0o644  # nothing in it is secret


class GroupRefused(Exception):
    """A file holds no group that may be used: the text says why."""


@frozen
class DHGroup:
    """A modulus and a generator; see L{read_group}, which judges them."""

    modulus: int = field(repr=False)
    generator: int = 2

    @property
    def bits(self) -> int:
        return self.modulus.bit_length()

    def pem(self) -> bytes:
        """As PKCS #3 has it."""
        der = _der(_SEQUENCE, _integer(self.modulus) + _integer(self.generator))
        text = binascii.b2a_base64(der, newline=False).decode()
        lines = "\n".join(textwrap.wrap(text, _PEM_WIDTH))
        return f"-----BEGIN {_LABEL}-----\n{lines}\n-----END {_LABEL}-----\n".encode()


FFDHE2048 = DHGroup(
    int(
        "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FB"
        "CC939DCE249B3EF97D2FE363630C75D8F681B202AEC4617AD3DF1ED5D5FD65612433F51F5F066ED0"
        "856365553DED1AF3B557135E7F57C935984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE735"
        "30ACCA4F483A797ABC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4"
        "AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F619172FE9CE98583FF"
        "8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005C58EF1837D1683B2C6F34A26C1B2EFFA"
        "886B423861285C97FFFFFFFFFFFFFFFF",
        16,
    )
)
"""RFC 7919 appendix A.1: nobody can have chosen it so that he alone can break it."""


def read_group(content: bytes) -> DHGroup:
    """
    @param content: of a file in PEM. What else is in it does not matter.
    @raise GroupRefused: there is no group in it, or none that is safe.
    """
    problems: list[str] = []
    found = list(blocks(content, problems))
    block = next((block for block in found if block.label in _LABELS), None)
    if block is None:
        if problems:
            raise GroupRefused(problems[0])
        others = " and ".join(dict.fromkeys(block.label for block in found))
        raise GroupRefused(f"there are no {_LABEL} in it" + (f", but {others}" if others else ""))
    group = DHGroup(*_numbers(block))
    if not SMALLEST <= group.bits <= LARGEST:
        raise GroupRefused(
            f"the group has {group.bits} bits; expected {SMALLEST} to {LARGEST} of them"
        )
    if not 1 < group.generator < group.modulus - 1 or not _is_prime(group.modulus):
        raise GroupRefused("the numbers in it are no group: the file is damaged, or a trap")
    return group


def write_group(path: Path) -> bool:
    """
    Write L{FFDHE2048} where there is no file, or an empty one; at once or not at all.

    @param path: a link is followed, so that it stays.
    @return: whether it was written; not where somebody else has done so.
    @raise OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(FFDHE2048.pem())
            file.flush()
            os.fchmod(descriptor, _READABLE)
            os.fsync(descriptor)
        if _has_content(path):
            return False
        os.rename(unfinished, path)
        unfinished = ""
    finally:
        if unfinished:
            os.unlink(unfinished)
    _sync_directory(path.parent)
    return True


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@lru_cache(maxsize=16)
def _is_prime(number: int) -> bool:
    """Fermat's test: to the base 2 no accident passes it, and the operator is no enemy."""
    return pow(2, number - 1, number) == 1


# -- DER -----------------------------------------------------------------------------------------


def _numbers(block: PEMBlock) -> tuple[int, int]:
    """Modulus and generator come first in both (PKCS #3 section 9, RFC 3279 section 2.3.3)."""
    try:
        ((kind, sequence),) = _values(decoded(block))
        (first, modulus), (second, generator), *_ = _values(sequence)
        if (kind, first, second) != (_SEQUENCE, _INTEGER, _INTEGER):
            raise ValueError
    except (ValueError, Unusable):
        raise GroupRefused(f"the {block.label} in it cannot be read") from None
    return int.from_bytes(modulus, signed=True), int.from_bytes(generator, signed=True)


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The values that follow each other in *der*, with their types. @raise ValueError: no DER."""
    while der:
        head, octets = 2, der[1] if der[1:] else 0
        if octets & 0x80:
            head += octets & 0x7F
            octets = int.from_bytes(der[2:head])
        if len(der) < head + octets:
            raise ValueError("cut off")
        yield der[0], der[head : head + octets]
        der = der[head + octets :]


def _der(kind: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((kind, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((kind, 0x80 | len(length))) + length + content


def _integer(number: int) -> bytes:
    return _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, signed=True))
