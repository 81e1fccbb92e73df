"""Mail addresses and paths (RFC 5321 section 4.1.2, RFC 6531)."""

import ipaddress
import re

import idna
from attrs import field, frozen

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
# The plain case of nearly all mail: an ASCII dot-string at an ASCII domain.
_PLAIN = re.compile(
    rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)\Z"
)
_ASCII_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*\Z")
_UTF8_ATEXT = r"[^\x00-\x20\x7f()<>@,;:\\\".\[\]]"
_UTF8_DOT_STRING = re.compile(rf"{_UTF8_ATEXT}+(?:\.{_UTF8_ATEXT}+)*\Z")
_QUOTED = re.compile(r'"((?:[^\x00-\x1f\x7f"\\]|\\[\x20-\x7e])*)"\Z')
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_SOURCE_ROUTE = re.compile(r"@[^\s:<>]+:")

LOCAL_PART_OCTETS = 64  # RFC 5321 section 4.5.3.1.1
DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2
PATH_OCTETS = 254  # 256 with the angle brackets, RFC 5321 section 4.5.3.1.3


class AddressError(ValueError):
    """The text is not an address; says why."""


@frozen
class Address:
    """
    A mailbox: the local part without quoting, the domain as lower-case A-labels.

    The domain of ``postmaster`` alone (RFC 5321 section 4.1.1.3) is empty; an
    address literal keeps its brackets.
    """

    local_part: str
    domain: str
    is_ascii: bool = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "is_ascii", self.local_part.isascii())

    def __str__(self) -> str:
        """As it stands between the angle brackets of a path."""
        local = self.local_part
        if not (_ASCII_DOT_STRING if self.is_ascii else _UTF8_DOT_STRING).match(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local


def to_a_label(domain: str) -> str:
    """
    The lower-case A-label form of a domain or address literal.

    @raise AddressError: it is neither.
    """
    if domain.startswith("["):
        return _literal(domain)
    if domain.isascii():
        name = domain.lower()
    else:
        try:
            name = idna.encode(domain, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            raise AddressError(f"{domain!r} is not a domain") from None
    if len(name) > DOMAIN_OCTETS or not all(_LABEL.match(label) for label in name.split(".")):
        raise AddressError(f"{domain!r} is not a domain")
    return name


def parse_address(text: str) -> Address:
    """
    ``local@domain``, without angle brackets.

    @raise AddressError: it is not one.
    """
    if len(text) > PATH_OCTETS or len(text.encode("utf-8", "replace")) > PATH_OCTETS:
        raise AddressError("the address is too long")
    plain = _PLAIN.match(text)
    if plain is not None:
        local, domain = plain.groups()
    else:
        local, at, domain = text.rpartition("@")
        if not at:
            raise AddressError(f"{text!r} has no domain")
        quoted = _QUOTED.match(local)
        if quoted is not None:
            local = re.sub(r"\\(.)", r"\1", quoted[1])
        elif not _UTF8_DOT_STRING.match(local):
            raise AddressError(f"{local!r} is not a local part")
    if len(local.encode("utf-8", "replace")) > LOCAL_PART_OCTETS:
        raise AddressError("the local part is too long")
    try:
        local.encode("utf-8")
    except UnicodeEncodeError:
        raise AddressError("the local part is not UTF-8") from None
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
        return Address(inner, "")
    return parse_address(inner)


def _path(text: str) -> str:
    if len(text) < 3 or text[0] != "<" or text[-1] != ">":
        raise AddressError(f"{text!r} is not an address in angle brackets")
    inner = text[1:-1]
    if inner[0] == "@":
        # RFC 5321 appendix C: a source route must be accepted and should be ignored.
        inner = _SOURCE_ROUTE.sub("", inner, count=1)
    return inner


def _literal(domain: str) -> str:
    inner = domain[1:-1] if domain.endswith("]") else ""
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise AddressError(f"{domain!r} is not an address literal") from None
