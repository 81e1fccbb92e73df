"""Lists of hosts as operators write them: addresses, networks, names and C{*.example.com}."""

import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import idna
from attrs import field, frozen

from harakatls.config.errors import shown

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

# RFC 5321 section 4.1.2 and RFC 1035 section 2.3.4; the underscore is no part of a host name, but
# names with one are in use. The last label is never a number, so that a mistyped address is not
# taken for a name.
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_LONGEST_NAME = 253

# RFC 4291 section 2.5.5.2: ::ffff:0:0/96 holds the IPv4 addresses.
_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96


@lru_cache(2048)  # the next hop of each message is compared with all lists
def host_name(text: str) -> str:
    """
    The one spelling of a host name or domain by which two are compared.

    @return: lower case, A-labels (RFC 5890), no trailing dot.
    @raise ValueError: where this is no host name.
    """
    if len(text) <= _LONGEST_NAME + 1:
        name = text.lower()
        if not name.isascii():
            try:
                name = idna.encode(text, uts46=True).decode("ascii")
            except UnicodeError:
                name = ""
        name = name.removesuffix(".")
        if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name):
            return name
    raise ValueError(f"{shown(text)} is not a host name")


@lru_cache(2048)
def host_address(text: str) -> _Address:
    """
    The one value of an IP address by which two are compared.

    Understands the address literals of RFC 5321 section 4.1.3 as well; a zone (C{%eth0}) is
    dropped and an IPv4-mapped IPv6 address is the IPv4 address.

    @raise ValueError: where this is no address.
    """
    address = ip_address(_without_brackets(text).partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_address(text: str) -> bool:
    """Whether L{host_address} understands *text*."""
    try:
        host_address(text)
    except ValueError:
        return False
    return True


def _without_brackets(text: str) -> str:
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1]
        if text[:5].lower() == "ipv6:":
            return text[5:]
    return text


def _network(text: str) -> _Network:
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


_Prefixes = tuple[tuple[int, frozenset[int]], ...]
"""For each length of prefix in use: how far to shift an address, and the prefixes listed."""


def _prefixes(networks: Iterable[_Network]) -> _Prefixes:
    found: dict[int, set[int]] = {}
    for network in networks:
        shift = network.max_prefixlen - network.prefixlen
        found.setdefault(shift, set()).add(int(network.network_address) >> shift)
    return tuple((shift, frozenset(found[shift])) for shift in sorted(found))


def _looks_like_address(text: str) -> bool:
    # A name holds no colon, and its last label is never a number.
    return ":" in text or text.rpartition(".")[2].isdigit() or text[:1] == "["


_EXACT = 1000
"""Above the length of any prefix, and above the number of labels of any name."""


def narrowness(entry: str) -> int:
    """
    Of several entries that hold, the narrowest counts: a host before a network or a wildcard.

    @param entry: as in C{HostList.entries}.
    """
    if entry.startswith("*."):
        return entry.count(".")
    if "/" in entry:
        network = ip_network(entry)
        return network.prefixlen + (96 if network.version == 4 else 0)
    return _EXACT


@frozen
class HostList:
    """
    Hosts an operator has listed; C{value in hosts} answers for an IP literal and for a name.

    - An address matches however it is written; IPv4-mapped IPv6 is IPv4.
    - A network matches the addresses in it; bits to the right of the mask do not matter, and /0
      means every address of that family.
    - A name matches in any case, with or without the trailing dot, as U-label or A-label. It does
      not match its sub-domains.
    - C{*.example.com} matches every name below example.com, however deep (C{a.example.com},
      C{b.a.example.com}), not example.com itself.

    Names are never resolved. Whatever is neither an address nor a name is in no list. An empty
    list is false.

    @ivar entries: what was listed, each in the spelling used for comparing.
    """

    entries: tuple[str, ...] = ()
    _exact: frozenset[str] = field(default=frozenset(), repr=False, eq=False)
    _parents: frozenset[str] = field(default=frozenset(), repr=False, eq=False)
    _v4: _Prefixes = field(default=(), repr=False, eq=False)
    _v6: _Prefixes = field(default=(), repr=False, eq=False)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "HostList":
        """
        @param texts: one host each; blanks around it and a trailing C{;} do not count, and empty
            ones are skipped.
        @raise ValueError: the first that is no host, in words for the operator.
        """
        exact: set[str] = set()
        parents: set[str] = set()
        networks: list[_Network] = []
        entries: dict[str, None] = {}
        for text in texts:
            entry = text.rstrip("; \t").strip()
            if not entry:
                continue
            try:
                if entry.startswith("*."):
                    parent = host_name(entry[2:])
                    parents.add(parent)
                    entry = "*." + parent
                elif "/" in entry:
                    networks.append(_network(entry))
                    entry = str(networks[-1])
                else:
                    if _looks_like_address(entry):
                        entry = str(host_address(entry))
                        networks.append(ip_network(entry))
                    else:
                        entry = host_name(entry)
                    exact.add(entry)
            except ValueError:
                raise ValueError(
                    f"{shown(entry)} is not an address, a network (192.0.2.0/24), a name or a name "
                    "with a wildcard (*.example.com)"
                ) from None
            entries[entry] = None
        return cls(
            tuple(entries),
            frozenset(exact),
            frozenset(parents),
            _prefixes(network for network in networks if network.version == 4),
            _prefixes(network for network in networks if network.version == 6),
        )

    def __contains__(self, value: object) -> bool:
        if not self.entries or not isinstance(value, str):
            return False
        if value in self._exact:
            return True
        try:
            if _looks_like_address(value):
                return self._has_address(value)
            return self._has_name(host_name(value))
        except (ValueError, OSError):
            return False

    def __bool__(self) -> bool:
        return bool(self.entries)

    def _has_address(self, text: str) -> bool:
        # The same as host_address() reads, but the library's objects would cost seven times more.
        text = _without_brackets(text).partition("%")[0]
        if ":" in text:
            packed = socket.inet_pton(socket.AF_INET6, text)
            if packed.startswith(_MAPPED):
                packed = packed[len(_MAPPED) :]
        else:
            packed = socket.inet_pton(socket.AF_INET, text)
        number = int.from_bytes(packed)
        for shift, prefixes in self._v4 if len(packed) == 4 else self._v6:
            if number >> shift in prefixes:
                return True
        return False

    def _has_name(self, name: str) -> bool:
        if name in self._exact:
            return True
        if self._parents:
            parent = name.partition(".")[2]
            while parent:
                if parent in self._parents:
                    return True
                parent = parent.partition(".")[2]
        return False
