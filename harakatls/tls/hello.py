"""
The ClientHello of a TLS client, read before OpenSSL sees it.

OpenSSL fixes versions, options and tickets before it tells the server name, so the context for a
name has to be chosen from the raw octets (RFC 8446 sections 4.1.2 and 5.1; RFC 5246 section
7.4.1.2 for older ones). Nothing here is trusted: what cannot be read is "not TLS", and the octets
go to OpenSSL all the same, which answers with the right alert.
"""

import struct
from enum import Enum, auto
from functools import lru_cache

from attrs import frozen

from harakatls.config.hosts import host_name

LONGEST_HELLO = 1 << 16
"""Octets of a ClientHello; those with a post-quantum key share have about 1,600."""

MOST_RECORDS = 64
"""Over how many TLS records one may be spread, so that tiny records cannot make reading costly."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_LONGEST_RECORD = (1 << 14) + 256
_SERVER_NAME, _SUPPORTED_GROUPS, _SUPPORTED_VERSIONS = 0, 10, 43
_HOST_NAME = 0
_NUMBER = struct.Struct("!H")
_EXTENSION = struct.Struct("!HH")  # its type, and the octets that follow


class HelloState(Enum):
    """What is known of octets that are not (yet) a ClientHello."""

    NEED_MORE = auto()
    NOT_TLS = auto()


@frozen
class ClientHello:
    """
    @ivar server_name: as L{host_name} writes it (lower case, A-labels, no trailing dot); None where
        none was sent, or none that could be the name of a host.
    @ivar versions: the TLS versions on offer, 0x0304 for TLS 1.3; the client's favourite first.
    @ivar groups: the key exchange groups on offer, by IANA's numbers.
    """

    server_name: str | None = None
    versions: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()


class _Malformed(Exception):
    pass


def read_client_hello(data: bytes) -> ClientHello | HelloState:
    """
    @param data: all octets of the peer so far. More than the hello may be there.
    @return: NOT_TLS also for a hello that is malformed or absurdly long.
    """
    try:
        body = _handshake_message(data)
        return HelloState.NEED_MORE if body is None else _parse(body)
    except _Malformed:
        return HelloState.NOT_TLS


def is_hello_enough(data: bytes) -> bool:
    """
    Whether waiting for more octets is over: a hello is whole, or there will never be one.

    Costs a tenth of reading it.
    """
    try:
        return _handshake_message(data) is not None
    except _Malformed:
        return True


def _handshake_message(data: bytes) -> bytes | None:
    """The body of the first handshake message, out of its records; None if it is not whole."""
    message = b""
    position = 0
    for _ in range(MOST_RECORDS):
        header = data[position : position + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise _Malformed
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:5])
        if not 0 < length <= _LONGEST_RECORD:
            raise _Malformed
        fragment = data[position + 5 : position + 5 + length]
        message += fragment
        if message[:1] not in (b"", b"\x01"):
            raise _Malformed
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4])
            if end > LONGEST_HELLO:
                raise _Malformed
            if len(message) >= end:
                return message[4:end]
        if len(fragment) < length:
            return None
        position += 5 + length
    raise _Malformed


def _parse(hello: bytes) -> ClientHello:
    try:
        (version,) = _NUMBER.unpack_from(hello, 0)
        at = _behind(hello, 34, 1)  # version and random have 34 octets; then the session id
        at = _behind(hello, at, 2)  # cipher suites
        at = _behind(hello, at, 1)  # compression methods
        if at == len(hello):
            return ClientHello(versions=(version,))
        if _behind(hello, at, 2) != len(hello):
            raise _Malformed
        return _with_extensions(hello, at + 2, version)
    except (IndexError, struct.error):
        raise _Malformed from None


def _behind(octets: bytes, at: int, prefix: int) -> int:
    """@return: where the vector ends whose length is in *prefix* octets at *at*."""
    length = octets[at] if prefix == 1 else octets[at] << 8 | octets[at + 1]
    return at + prefix + length


def _with_extensions(hello: bytes, at: int, version: int) -> ClientHello:
    name: str | None = None
    versions: tuple[int, ...] = (version,)
    groups: tuple[int, ...] = ()
    end = len(hello)
    while at < end:
        kind, length = _EXTENSION.unpack_from(hello, at)
        at += 4 + length
        if at > end:
            raise _Malformed
        if kind == _SERVER_NAME:
            name = _server_name(hello[at - length : at])
        elif kind == _SUPPORTED_GROUPS:
            groups = _numbers(hello[at - length : at], 2)
        elif kind == _SUPPORTED_VERSIONS:
            versions = _numbers(hello[at - length : at], 1)
    return ClientHello(name, versions, groups)


def _server_name(content: bytes) -> str | None:
    # RFC 6066 section 3: a list of names, of which there is but one, of the one type there is.
    if _behind(content, 3, 2) > len(content):
        raise _Malformed
    name = content[5 : _behind(content, 3, 2)]
    return readable_name(name) if content[2] == _HOST_NAME else None


def _numbers(content: bytes, prefix: int) -> tuple[int, ...]:
    """A vector of 16-bit numbers, its length in *prefix* octets."""
    if _behind(content, 0, prefix) != len(content):
        raise _Malformed
    return struct.unpack(f"!{(len(content) - prefix) // 2}H", content[prefix:])


@lru_cache(maxsize=256)  # asked for twice for each connection, and mostly the same
def readable_name(name: bytes) -> str | None:
    """A server name as it was sent, in the spelling used for comparing; None for nonsense."""
    try:
        return host_name(name.decode("ascii"))
    except ValueError:
        return None
