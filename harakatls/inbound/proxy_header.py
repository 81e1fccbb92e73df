"""
The header of the PROXY protocol, in both of its versions, from octets to addresses.

The specification is HAProxy's, "The PROXY protocol, versions 1 & 2" (doc/proxy-protocol.txt).
"""

import re
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from harakatls.connection import Endpoint

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""What a header of version 2 begins with (section 2.2)."""

LONGEST_LINE = 107
"""Octets of a header of version 1 with its CRLF, at most (section 2.1)."""

LONGEST_BLOCK = 16384
"""Octets behind the 16 fixed ones of version 2; its own limit of 65535 no proxy comes near."""

_PREFIX = b"PROXY "
_FIXED = struct.Struct("!12sBBH")  # signature, version and command, family and protocol, length
_TLV = struct.Struct("!BH")  # type, length
_CRC32C = 3  # PP2_TYPE_CRC32C
_LOCAL, _PROXY = 0x20, 0x21
_BLOCKS = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}  # TCP4, TCP6
# Unspecified addresses, UDP and unix sockets: legal, and of no use to us. Their addresses' octets.
_UNUSABLE = {0x00: 0, 0x12: 12, 0x22: 36, 0x31: 216, 0x32: 216}
_PORT = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z")


class BadHeader(ValueError):
    """It is no PROXY header; the text says what is wrong, for the log."""


@frozen
class ProxyHeader:
    """
    What a proxy tells of the connection that it passes on.

    @ivar peer: who has connected to the proxy; None where the proxy does not tell: those of the
        connection itself are true then (a health check, C{UNKNOWN}, C{LOCAL}).
    @ivar local: the address of the proxy that the peer has connected to; None as well.
    @ivar length: the octets of the header.
    """

    peer: Endpoint | None
    local: Endpoint | None
    length: int


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """
    @param data: all octets of the proxy so far. More than the header may be there.
    @return: None where it goes on.
    @raise BadHeader: it is none; what does not even begin as one is found out at once.
    """
    if not data:
        return None
    if _begins(data, SIGNATURE):
        return _read_binary(data)
    if _begins(data, _PREFIX):
        return _read_line(data)
    raise BadHeader("it does not begin as a PROXY header does")


def _begins(data: bytes, expected: bytes) -> bool:
    return data[: len(expected)] == expected[: len(data)]


# -- version 1 -------------------------------------------------------------------------------


def _read_line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise BadHeader(f"no line of {LONGEST_LINE} octets or less")
        return None
    line = data[: end + 1]
    if not line.endswith(b"\r\n") or not line.isascii():
        raise BadHeader("the line is not ASCII that ends in CRLF")
    _, family, *rest = line[:-2].decode("ascii").split(" ")
    if family == "UNKNOWN":  # what may follow is to be ignored
        return ProxyHeader(None, None, len(line))
    if family not in ("TCP4", "TCP6"):
        raise BadHeader("neither TCP4, TCP6 nor UNKNOWN")
    if len(rest) != 4:
        raise BadHeader("not two addresses and two ports with a space between them")
    source, destination, source_port, destination_port = rest
    return ProxyHeader(
        _told(family, source, source_port),
        _told(family, destination, destination_port),
        len(line),
    )


def _told(family: str, host: str, port: str) -> Endpoint:
    try:
        address = IPv4Address(host) if family == "TCP4" else IPv6Address(host)
    except ValueError:
        raise BadHeader(f"an address that is not of {family}") from None
    if "%" in host:
        raise BadHeader("an address with a zone")
    if not _PORT.match(port) or int(port) > 0xFFFF:
        raise BadHeader("a port that is not a number from 0 to 65535")
    return _endpoint(address, int(port))


def _endpoint(address: IPv4Address | IPv6Address, port: int) -> Endpoint:
    """As `Endpoint` has it, IPv4 within IPv6 is written as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return Endpoint(str(mapped or address), port)


# -- version 2 -------------------------------------------------------------------------------


def _read_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED.size:
        return None
    _, command, kind, length = _FIXED.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise BadHeader(f"version and command 0x{command:02x}; known are 0x20 and 0x21")
    block = _BLOCKS.get(kind)
    addresses = _UNUSABLE.get(kind) if block is None else block.size
    if command == _LOCAL:
        # Family, protocol and addresses are to be discarded; what they take cannot be known.
        block, addresses = None, addresses or 0
    if addresses is None:
        raise BadHeader(f"family and protocol 0x{kind:02x}, which nobody has given a meaning")
    if length > LONGEST_BLOCK:
        raise BadHeader(f"{length} octets; {LONGEST_BLOCK} at most are read")
    if command == _PROXY and length < addresses:
        raise BadHeader(f"{length} octets, in which the addresses have no room")
    whole = _FIXED.size + length
    if len(data) < whole:
        return None
    header = data[:whole]
    if command == _PROXY:
        _check(header, _FIXED.size + addresses)
    if block is None:
        return ProxyHeader(None, None, whole)
    source, destination, source_port, destination_port = block.unpack_from(header, _FIXED.size)
    read = IPv4Address if len(source) == 4 else IPv6Address
    return ProxyHeader(
        _endpoint(read(source), source_port),
        _endpoint(read(destination), destination_port),
        whole,
    )


def _check(header: bytes, start: int) -> None:
    """
    Of what is told besides the addresses only the checksum is for us (section 2.2.3).

    @param start: where the addresses end.
    @raise BadHeader: it does not fit, or the rest is not made of type, length and value.
    """
    for kind, value, length in _extras(header, start):
        if kind != _CRC32C:
            continue
        if length != 4:
            raise BadHeader("a checksum that does not have 4 octets")
        zeroed = header[:value] + bytes(4) + header[value + 4 :]
        if int.from_bytes(header[value : value + 4]) != crc32c(zeroed):
            raise BadHeader("the checksum is wrong")


def _extras(header: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """The type of each, where its value begins, and how many octets that has."""
    while at < len(header):
        if at + _TLV.size > len(header):
            raise BadHeader("an extra that is cut off")
        kind, length = _TLV.unpack_from(header, at)
        at += _TLV.size
        if at + length > len(header):
            raise BadHeader("an extra that is longer than the header")
        yield kind, at, length
        at += length


def _table() -> tuple[int, ...]:
    found = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        found.append(number)
    return tuple(found)


_CRC_TABLE = _table()


def crc32c(octets: bytes) -> int:
    """The checksum of RFC 9260 appendix A, which the standard library does not have."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
