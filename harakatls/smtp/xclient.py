"""
The argument of XCLIENT: what a proxy tells of the client that it speaks for; read, and written.

Postfix's XCLIENT_README is its specification; the names of the attributes are from there.
"""

import re
from ipaddress import IPv4Address, IPv6Address

from harakatls.mail.route import IntroducedClient
from harakatls.mail.xtext import XtextError, decode, encode
from harakatls.smtp.events import XClientReceived
from harakatls.smtp.refusals import XCLIENT_NO_ADDRESS, XCLIENT_SYNTAX, refuse
from harakatls.smtp.reply import Reply

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")

_NOT_TOLD = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")
_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}\Z")  # an address literal, too
_PORT = re.compile(r"[0-9]{1,5}\Z")
_LOGIN = re.compile(r"[ -~]{1,255}\Z")
_LONGEST_LOGIN = 255
_UNAVAILABLE = "[UNAVAILABLE]"
_LINE = 510 - len("XCLIENT ")  # octets, without CRLF (RFC 5321 section 4.5.3.1.4)
# More than ours asks for: a server that finds fault with a name refuses all of it.
_HOST_NAME = re.compile(
    r"(?=.{1,255}\Z)(?![0-9.]+\Z)"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)


def parse_xclient(argument: str) -> XClientReceived:
    """
    @param argument: C{NAME=client.example ADDR=192.0.2.1}; the values are xtext.
    @raise RemoteProtocolError: it is malformed, or holds no address. A value ends up in header
        fields, replies and the log, so it is what it says it is, or refused.
    """
    told = _attributes(argument)
    host = _address(told.get("ADDR"))
    if host is None:
        refuse(XCLIENT_NO_ADDRESS)
    destination = told.get("DESTADDR")
    local_host = _address(destination)
    if destination is not None and local_host is None:
        refuse(_bad("DESTADDR"))
    protocol = told.get("PROTO")
    if protocol is not None and protocol.upper() not in ("SMTP", "ESMTP"):
        refuse(_bad("PROTO"))
    login = told.get("LOGIN")
    if login is not None and not 0 < len(login) <= _LONGEST_LOGIN:
        refuse(_bad("LOGIN"))
    return XClientReceived(
        host=host,
        port=_port("PORT", told),
        name=_matching(_NAME, "NAME", told),
        hello=_matching(_HELO, "HELO", told),
        extended=protocol is None or protocol.upper() == "ESMTP",
        login=login,
        local_host=local_host,
        local_port=_port("DESTPORT", told),
    )


def _attributes(argument: str) -> dict[str, str | None]:
    """By their names in upper case; None where the proxy does not know."""
    told: dict[str, str | None] = {}
    for word in argument.split():
        name, equals, text = word.partition("=")
        name = name.upper()
        if not equals or name not in ATTRIBUTES or name in told:
            refuse(XCLIENT_SYNTAX)
        try:
            told[name] = None if text.upper() in _NOT_TOLD else decode(text)
        except XtextError:
            refuse(_bad(name))
    if not told:
        refuse(XCLIENT_SYNTAX)
    return told


def _address(text: str | None) -> str | None:
    """As `Endpoint` has it; None where *text* is no address."""
    if text is None:
        return None
    if text[:5].upper() == "IPV6:":
        text = text[5:]
        if ":" not in text:
            return None
    try:
        if ":" not in text:
            return str(IPv4Address(text))
        address = IPv6Address(text)
    except ValueError:
        return None
    if "%" in text:
        return None
    return str(address.ipv4_mapped or address)


def _port(name: str, told: dict[str, str | None]) -> int | None:
    text = told.get(name)
    if text is None:
        return None
    if not _PORT.match(text) or int(text) > 0xFFFF:
        refuse(_bad(name))
    return int(text)


def _matching(pattern: re.Pattern[str], name: str, told: dict[str, str | None]) -> str | None:
    text = told.get(name)
    if text is not None and not pattern.match(text):
        refuse(_bad(name))
    return text


def _bad(name: str) -> Reply:
    return Reply.of(501, "5.5.4", f"Bad {name} value")


# -- what a client of ours is to a server behind us ----------------------------------------------


def introduction(client: IntroducedClient, offered: str) -> str | None:
    """
    The argument to introduce *client* with.

    A client that calls itself something that the server would refuse is one without a name: else
    it would be refused, and go on in our own name, which may be allowed more.

    @param offered: the attributes that the server wants to know, as it wrote them behind XCLIENT.
    @return: at most as long as a line may be; None where the address is not asked for, without
        which nothing else means much.
    """
    names = dict.fromkeys(name for name in offered.upper().split() if name in ATTRIBUTES)
    if "ADDR" not in names:
        return None
    known = {
        "ADDR": _told_address(client.host),
        "PORT": _told_port(client.port),
        "PROTO": "ESMTP" if client.extended else "SMTP",
        "DESTADDR": _told_address(client.local_host),
        "DESTPORT": _told_port(client.local_port),
        "NAME": _told_text(_HOST_NAME, client.name),
        "HELO": _told_text(_HELO, client.hello),
        "LOGIN": _told_text(_LOGIN, client.login),
    }
    if client.hello is None:
        del known["PROTO"]  # it has two values, and "unknown" is none of them
    told = {name: known[name] for name in names if name in known}
    for name in ("HELO", "NAME", "LOGIN"):
        if len(_written(told)) > _LINE and name in told:
            told[name] = _UNAVAILABLE
    return _written(told)


def hello_name(client: IntroducedClient | None) -> str | None:
    """What the client has said at EHLO, where that can be said once more; None where not."""
    hello = None if client is None else client.hello
    return hello if hello is not None and _HELO.match(hello) else None


def _written(told: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in told.items())


def _told_address(host: str | None) -> str:
    address = _address(host)
    if address is None:
        return _UNAVAILABLE
    return f"IPV6:{address}" if ":" in address else address


def _told_port(port: int | None) -> str:
    return str(port) if port else _UNAVAILABLE  # 0 is a port that nobody has told


def _told_text(pattern: re.Pattern[str], text: str | None) -> str:
    if text is None or not pattern.match(text):
        return _UNAVAILABLE
    value = encode(text)
    return _UNAVAILABLE if value.upper() in _NOT_TOLD else value
