"""
Next hops as operators write them: ``host``, ``smtp://user:password@host:port``,
``lmtp:///run/store/lmtp``, or in JSON.
"""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from attrs import evolve

from harakatls.config.errors import shown
from harakatls.config.hosts import host_address, host_name, is_address
from harakatls.config.section import HIGHEST_PORT, Section
from harakatls.mail.address import PATH_OCTETS
from harakatls.mail.route import LMTP, LMTP_PORT, SMTP, SMTP_PORT, Credentials, NextHop
from harakatls.smtp.sasl import MECHANISM_NAMES

MOST_NEXT_HOPS = 16  # of one route
_PORTS = {SMTP: SMTP_PORT, LMTP: LMTP_PORT}
_HIDDEN = "..."  # in place of credentials, in what is told of a mistake
_PATH_OCTETS = 107  # of a Unix socket: sun_path has 108, one for its NUL
_OBJECT = (
    "exchange",
    "host",
    "path",
    "port",
    "priority",
    "bind",
    "bind_helo",
    "using_lmtp",
    "auth_user",
    "auth_pass",
    "auth_type",
    "auth_without_tls",
    "from_dns",
)
_ROUTE = "route"


def parse_next_hops(value: object, domain: str = "") -> tuple[NextHop, ...]:
    """
    What Haraka takes for MX: a text, an object, or a list of these, tried by their priority, the
    lowest first, and then in the order in which they stand.

    @param value: as it was read from JSON.
    @param domain: which they are for.
    @raise ValueError: in words for the operator, without any password.
    """
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= MOST_NEXT_HOPS:
        raise ValueError(f"{len(values)} is not a number of next hops from 1 to {MOST_NEXT_HOPS}")
    hops = [
        _from_object(each, domain) if isinstance(each, dict) else parse_next_hop(each, domain)
        for each in values
    ]
    return tuple(sorted(hops, key=lambda hop: hop.preference))


def parse_next_hop(text: object, domain: str = "") -> NextHop:
    """
    ``host``, ``host:port``, ``192.0.2.1:port``, ``[2001:db8::1]:port`` or ``2001:db8::1``; behind
    ``lmtp://`` it speaks LMTP, as it speaks SMTP without or behind ``smtp://``. Where AUTH is
    wanted, ``user:password@`` stands before the host; in both ``%`` and two digits stand for a
    character that has a meaning of its own, as in any URL. ``lmtp:///path`` is a Unix socket.

    @raise ValueError: *text* is none of these; in words for the operator, without any password.
    """
    if not isinstance(text, str):
        raise ValueError(f"{shown_place(str(text))} is not a host or host:port")
    scheme, slashes, rest = text.strip().partition("://")
    protocol = scheme.lower() if slashes else SMTP
    if slashes and rest.startswith("/"):
        if protocol != LMTP:
            raise ValueError(f"{shown_place(text)} is a Unix socket; these are for lmtp:// alone")
        return socket_hop(rest, domain)
    login, at, place = (rest if slashes else text.strip()).rpartition("@")
    if protocol not in _PORTS:
        raise ValueError(f"{shown_place(text)} is neither smtp:// nor lmtp://")
    host, port = _host_and_port(place, text)
    credentials = _login(login, text) if at else None
    return _hop(host, port or _PORTS[protocol], domain, protocol, credentials)


def _hop(
    host: str, port: int, domain: str, protocol: str, credentials: Credentials | None
) -> NextHop:
    name = None if is_address(host) else host
    return NextHop(
        host,
        domain,
        port,
        mx_name=name,
        source=_ROUTE,
        protocol=protocol,
        credentials=credentials,
    )


def socket_hop(path: str, domain: str = "") -> NextHop:
    """
    A mail store that speaks LMTP on a Unix socket.

    @raise ValueError: it is no absolute path, or none that a socket can have.
    """
    if not path.startswith("/") or not path.isprintable() or path.endswith("/"):
        raise ValueError(f"{shown_place(path)} is not the absolute path of a Unix socket")
    if len(os.fsencode(path)) > _PATH_OCTETS:
        told = shown_place(path)
        raise ValueError(f"{told} is longer than the {_PATH_OCTETS} octets of a Unix socket")
    return NextHop(path, domain, LMTP_PORT, source=_ROUTE, protocol=LMTP)


def _host_and_port(place: str, whole: str) -> tuple[str, int | None]:
    wrong = ValueError(f"{shown_place(whole)} is not a host or host:port")
    host, port = place, ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise wrong
        port = port[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if port and not (
        port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= HIGHEST_PORT
    ):
        raise ValueError(f"{shown_place(whole)} has no port from 1 to {HIGHEST_PORT}")
    try:
        return parse_host(host), int(port) if port else None
    except ValueError:
        raise wrong from None


def shown_place(text: str) -> str:
    """As `shown`, for what should be a place: before an @ may be a login that is out of place."""
    _, at, place = text.rpartition("@")
    scheme, slashes, _ = text.partition("://")
    known = f"{scheme}{slashes}" if slashes and scheme.isalpha() else ""
    return shown(f"{known}{_HIDDEN}@{place}" if at else text)


def parse_host(text: str) -> str:
    """
    @return: an IP address as Python writes it, or a name in A-labels.
    @raise ValueError: it is neither.
    """
    try:
        return str(host_address(text))
    except ValueError:
        return host_name(text)


def read_host(section: Section, usual: str) -> str:
    """
    The key C{host}, as `parse_host` has it; IPv6 may stand in brackets.

    @param usual: where nothing is said.
    @raise ConfigError: it is neither a host name nor an address.
    """
    host = section.text("host") or usual
    try:
        return parse_host(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise section.error(
            "host", f"{shown_place(host)} is neither a host name nor an address"
        ) from None


# -- logins ---------------------------------------------------------------------------------------


def _login(login: str, whole: str) -> Credentials:
    user, colon, password = login.partition(":")
    if not (user and colon and password):
        raise ValueError(f"{shown_place(whole)} has no user:password before the @")
    return make_credentials(unquote(user), unquote(password))


def make_credentials(
    user: str, password: str, mechanism: str | None = None, without_tls: bool = False
) -> Credentials:
    """
    @param mechanism: in any case, or None for the best that is offered.
    @raise ValueError: in words for the operator, without either.
    """
    for word in (user, password):
        if not 0 < len(word) <= PATH_OCTETS or "\0" in word or not _is_unicode(word):
            raise ValueError(
                f"user name and password must have 1 to {PATH_OCTETS} characters, no NUL among them"
            )
    wanted = mechanism.upper() if mechanism else None
    if wanted is not None and wanted not in MECHANISM_NAMES:
        raise ValueError(f"auth_type {shown(mechanism or '')} is none of {_known()}")
    return Credentials(user, password, wanted, without_tls)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _known() -> str:
    return ", ".join(MECHANISM_NAMES)


# -- objects --------------------------------------------------------------------------------------


def _from_object(value: Mapping[str, Any], domain: str) -> NextHop:
    for key in value:
        if key not in _OBJECT:
            raise ValueError(f"has an unknown key {shown(key)}")
    path = _texts(value, "path")
    if path is not None:
        return _socket_from_object(value, path, domain)
    host = _texts(value, "exchange") or _texts(value, "host")
    if host is None:
        raise ValueError("has no exchange, the host to hand the mail to")
    try:
        name = parse_host(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        told = shown_place(host)
        raise ValueError(f"exchange {told} is neither a host name nor an address") from None
    protocol = LMTP if _truth(value, "using_lmtp") else SMTP
    port = _number(value, "port", 1, HIGHEST_PORT, _PORTS[protocol])
    hop = _hop(name, port, domain, protocol, _credentials(value))
    bind, bind_helo = _texts(value, "bind"), _texts(value, "bind_helo")
    return NextHop(
        hop.host,
        domain,
        hop.port,
        _number(value, "priority", 0, 65535, 0),
        hop.mx_name,
        hop.source,
        hop.protocol,
        hop.credentials,
        None if bind is None else parse_bind(bind),
        None if bind_helo is None else parse_bind_helo(bind_helo),
    )


def _socket_from_object(value: Mapping[str, Any], path: str, domain: str) -> NextHop:
    for key in ("exchange", "host", "port", "bind"):
        if key in value:
            raise ValueError(f"has a path and {key}, where one of them is too much")
    if not _truth(value, "using_lmtp"):
        raise ValueError("has a path, a Unix socket: these are for LMTP; write using_lmtp, too")
    bind_helo = _texts(value, "bind_helo")
    return evolve(
        socket_hop(path, domain),
        preference=_number(value, "priority", 0, 65535, 0),
        credentials=_credentials(value),
        bind_helo=None if bind_helo is None else parse_bind_helo(bind_helo),
    )


def parse_bind(text: str) -> str:
    """@raise ValueError: it is no address."""
    try:
        return str(host_address(text))
    except ValueError:
        raise ValueError(f"bind {shown(text)} is not an IP address of this machine") from None


def parse_bind_helo(text: str) -> str:
    """@raise ValueError: it is no name for EHLO."""
    try:
        return host_name(text)
    except ValueError:
        raise ValueError(f"bind_helo {shown(text)} is not a host name") from None


def _credentials(value: Mapping[str, Any]) -> Credentials | None:
    user, password = _texts(value, "auth_user"), _texts(value, "auth_pass")
    mechanism, without_tls = _texts(value, "auth_type"), _truth(value, "auth_without_tls")
    if user is None and password is None:
        if mechanism is not None or without_tls:
            raise ValueError("has auth_type or auth_without_tls, but no auth_user and auth_pass")
        return None
    if user is None or password is None:
        raise ValueError("has one of auth_user and auth_pass without the other")
    return make_credentials(user, password, mechanism, without_tls)


def _texts(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise ValueError(f"{key} is not a text")  # it may be a password
    return found


def _truth(value: Mapping[str, Any], key: str) -> bool:
    found = value.get(key, False)
    if not isinstance(found, bool):
        raise ValueError(f"{key} is neither true nor false")
    return found


def _number(value: Mapping[str, Any], key: str, lowest: int, highest: int, usual: int) -> int:
    found = value.get(key, usual)
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= 5:
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not lowest <= found <= highest:
        raise ValueError(f"{key} is not a number from {lowest} to {highest}")
    return found
