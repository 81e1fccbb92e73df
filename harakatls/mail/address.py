"""Mail addresses and paths (RFC 5321 section 4.1.2, RFC 6531 section 3.3)."""

import ipaddress
import re
from functools import lru_cache

import idna
from attrs import frozen

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_ASCII_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*\Z")
# The plain case of nearly all mail: an ASCII dot-string at an ASCII domain.
_PLAIN = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@([A-Za-z0-9._-]+)\Z")
# RFC 6531 allows every UTF-8 octet; RFC 5198 section 2 keeps the control characters and the line
# separators of Unicode out, which would only be used to forge a log or a header.
_NEVER = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_UTF8_ATEXT = rf"[^{_NEVER} ()<>@,;:\\\".\[\]]"
_UTF8_DOT_STRING = re.compile(rf"{_UTF8_ATEXT}+(?:\.{_UTF8_ATEXT}+)*\Z")
_QUOTED = re.compile(rf'"((?:[^{_NEVER}"\\]|\\[\x20-\x7e])*)"\Z')
_QUOTED_PAIR = re.compile(r"\\(.)")
# The underscore is no letter of a host name, but is met in the domains of addresses.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_SOURCE_ROUTE = re.compile(r"@[^\s:<>]+:")

DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2
# 256 with the angle brackets, RFC 5321 section 4.5.3.1.3. Within it a local part may be longer than
# the 64 octets of section 4.5.3.1.1: those that hold a whole address (SRS, VERP) often are.
PATH_OCTETS = 254
_SHOWN = 60  # characters of a wrong text that are told


class AddressError(ValueError):
    """The text is not an address; says why, in ASCII."""


@frozen
class Address:
    """
    A mailbox: the local part without quoting, the domain as lower-case A-labels.

    The domain of ``postmaster`` alone (RFC 5321 section 4.1.1.3) is empty; an
    address literal keeps its brackets.
    """

    local_part: str
    domain: str

    @property
    def is_ascii(self) -> bool:
        """It can be sent where SMTPUTF8 is not offered."""
        return self.local_part.isascii()

    def __str__(self) -> str:
        """As it stands between the angle brackets of a path."""
        local = self.local_part
        if not (_ASCII_DOT_STRING if local.isascii() else _UTF8_DOT_STRING).match(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local


@lru_cache(maxsize=1024)
def to_a_label(domain: str) -> str:
    """
    The lower-case A-label form of a domain or address literal.

    @raise AddressError: it is neither.
    """
    if domain.startswith("["):
        return _literal(domain)
    name = domain
    if not domain.isascii():
        try:
            name = idna.encode(domain, uts46=True).decode("ascii")
        except (ValueError, IndexError):  # UnicodeError and IDNAError are ValueErrors
            raise AddressError(f"{_shown(domain)} is not a domain") from None
    name = name.lower()
    if len(name) > DOMAIN_OCTETS or not _DOMAIN.match(name):
        raise AddressError(f"{_shown(domain)} is not a domain")
    return name


def parse_address(text: str) -> Address:
    """
    ``local@domain``, without angle brackets.

    @raise AddressError: it is not one.
    """
    if len(text) > PATH_OCTETS or (not text.isascii() and _octets(text) > PATH_OCTETS):
        raise AddressError("the address is too long")
    plain = _PLAIN.match(text)
    if plain is not None:
        return Address(plain[1], to_a_label(plain[2]))
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(f"{_shown(text)} has no domain")
    quoted = _QUOTED.match(local)
    if quoted is not None:
        local = _QUOTED_PAIR.sub(r"\1", quoted[1])
    elif not _UTF8_DOT_STRING.match(local):
        raise AddressError(f"{_shown(local)} is not a local part")
    return Address(local, to_a_label(domain))


def parse_reverse_path(text: str) -> Address | None:
    """
    The path of MAIL FROM, with its angle brackets; None is the null reverse-path.

    @raise AddressError: it is not a reverse-path.
    """
    return None if text == "<>" else parse_address(_path(text))


def parse_forward_path(text: str) -> Address:
    """
    The path of RCPT TO, with its angle brackets.

    @raise AddressError: it is not a forward-path.
    """
    inner = _path(text)
    if inner.lower() == "postmaster":
        return Address("postmaster", "")
    return parse_address(inner)


def _path(text: str) -> str:
    if len(text) < 3 or text[0] != "<" or text[-1] != ">":
        raise AddressError(f"{_shown(text)} is not an address in angle brackets")
    inner = text[1:-1]
    if inner[0] == "@":
        # RFC 5321 appendix C: a source route must be accepted and should be ignored.
        inner = _SOURCE_ROUTE.sub("", inner, count=1)
    return inner


def _literal(domain: str) -> str:
    inner = domain[1:-1] if domain.endswith("]") else ""
    try:
        if inner[:5].lower() != "ipv6:":
            return f"[{ipaddress.IPv4Address(inner)}]"
        address = ipaddress.IPv6Address(inner[5:])
    except ValueError:
        raise AddressError(f"{_shown(domain)} is not an address literal") from None
    if address.scope_id is not None:
        # A zone has a meaning on one host alone, and may hold any character.
        raise AddressError(f"{_shown(domain)} is not an address literal")
    return f"[IPv6:{address}]"


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
