"""
The ClientHello of a TLS client, read before OpenSSL sees it.

OpenSSL fixes versions, options and tickets before it tells the server name, so the context for a
name has to be chosen from the raw octets (RFC 8446 sections 4.1.2 and 5.1; RFC 5246 section
7.4.1.2 for older ones). Nothing here is trusted: what cannot be read is "not TLS", and the octets
go to OpenSSL all the same, which answers with the right alert.
"""

import struct
from collections.abc import Iterator
from enum import Enum, auto

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
        return HelloState.NEED_MORE if body is None else _parse(_Reader(body))
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


def _parse(hello: "_Reader") -> ClientHello:
    version = hello.number(2)
    hello.take(32)  # random
    hello.vector(1)  # session id
    if len(hello.vector(2)) < 2:  # cipher suites
        raise _Malformed
    hello.vector(1)  # compression methods
    name: str | None = None
    versions: tuple[int, ...] = (version,)
    groups: tuple[int, ...] = ()
    if hello.more():
        extensions = hello.vector(2)
        if hello.more():
            raise _Malformed
        for kind, content in _extensions(extensions):
            if kind == _SERVER_NAME:
                name = _server_name(_Reader(content))
            elif kind == _SUPPORTED_GROUPS:
                groups = _numbers(_Reader(content).vector(2))
            elif kind == _SUPPORTED_VERSIONS:
                versions = _numbers(_Reader(content).vector(1))
    return ClientHello(name, versions, groups)


def _extensions(octets: bytes) -> Iterator[tuple[int, bytes]]:
    position, end = 0, len(octets)
    while position < end:
        if position + 4 > end:
            raise _Malformed
        kind, length = _EXTENSION.unpack_from(octets, position)
        position += 4
        if position + length > end:
            raise _Malformed
        yield kind, octets[position : position + length]
        position += length


def _server_name(content: "_Reader") -> str | None:
    # RFC 6066 section 3: a list of names, of which there is but one, of the one type there is.
    entries = _Reader(content.vector(2))
    kind = entries.number(1)
    name = entries.vector(2)
    return readable_name(name) if kind == _HOST_NAME else None


def readable_name(name: bytes) -> str | None:
    """A server name as it was sent, in the spelling used for comparing; None for nonsense."""
    try:
        return host_name(name.decode("ascii"))
    except ValueError:
        return None


def _numbers(octets: bytes) -> tuple[int, ...]:
    if len(octets) % 2:
        raise _Malformed
    return struct.unpack(f"!{len(octets) // 2}H", octets)


class _Reader:
    """Takes the parts of a TLS structure one after the other (RFC 8446 section 3)."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._position = 0

    def more(self) -> bool:
        return self._position < len(self._octets)

    def take(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._octets):
            raise _Malformed
        taken = self._octets[self._position : end]
        self._position = end
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length))

    def vector(self, prefix: int) -> bytes:
        """@param prefix: octets of the length in front of it."""
        return self.take(self.number(prefix))
