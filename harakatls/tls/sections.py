"""Which sections tls.ini may have, and what in them has no effect."""

from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_network

from harakatls.config.errors import MAIN, shown
from harakatls.config.ini import Ini
from harakatls.config.section import Section
from harakatls.tls import requiretls
from harakatls.tls.certificates import spelled_in_file
from harakatls.tls.mutual import EVERYWHERE, EXCLUDED, HOSTS

INBOUND, OUTBOUND, REDIS, NO_TLS_HOSTS = "inbound", "outbound", "redis", "no_tls_hosts"

PLUGINS = ("smtp_forward", "smtp_proxy", "smtp_bridge", "auth_proxy")
"""The plugins that speak to servers by themselves, each with a section of its own."""

# Where Haraka has these plugins, so that many write it with the name.
_FOLDERS = ("queue/", "auth/")
_WRITTEN = frozenset(f"{folder}{plugin}" for folder in ("", *_FOLDERS) for plugin in PLUGINS)
_ELSEWHERE = {"auth_bridge": "smtp_bridge", "auth/auth_bridge": "smtp_bridge"}
"""Plugins that go by the section of another."""

_NOT_YET = "it is not built yet"
_ABOUT_CLIENTS = "it is about incoming connections"
_ABOUT_SERVERS = "it is about outgoing connections"
_ABOUT_PORTS = "it is about ports, before a client has asked for any name"

_NOWHERE = {
    "pfx": "write the certificate as PEM, under key and cert",
    "passphrase": "keys must not be encrypted",
    "crl": _NOT_YET,
    "secureOptions": "use minVersion, ciphers and honorCipherOrder",
    "sessionIdContext": "sessions are bound to the certificate they were made under",
    "ALPNProtocols": "",
    "session": "",
}
_UNDER_OUTBOUND = "write it under [outbound], or in the section of a plugin"
_NOT_IN_MAIN = {
    requiretls.OPTION: _UNDER_OUTBOUND,
    requiretls.SECURE_MX: _UNDER_OUTBOUND,
    "no_tls_hosts": "write it under [outbound], or, for clients, as the section [no_tls_hosts]",
}
_NOT_IN_INBOUND = {
    "no_tls_hosts": "for clients, write the section [no_tls_hosts]",
    "force_tls_hosts": f"{_ABOUT_SERVERS}; require_tls_hosts is about these",
    EVERYWHERE: _ABOUT_SERVERS,
    requiretls.OPTION: f"{_ABOUT_SERVERS}; for clients, write it in connection.ini",
    requiretls.SECURE_MX: _ABOUT_SERVERS,
}
_NOT_FOR_SERVERS = {
    "dhparam": "the other server chooses",
    "honorCipherOrder": "the other server chooses",
    "no_starttls_ports": _ABOUT_CLIENTS,
    "requestCert": _ABOUT_CLIENTS,
    "requireAuthorized": _ABOUT_CLIENTS,
    "require_tls_ports": f"{_ABOUT_CLIENTS}; force_tls_hosts is about these",
    "require_tls_hosts": f"{_ABOUT_CLIENTS}; force_tls_hosts is about these",
    "requestOCSP": _ABOUT_CLIENTS,
    "enableOCSPStapling": _ABOUT_CLIENTS,
}
_NOT_FOR_A_NAME = {
    "key": "the certificate of that name counts; put another into the directory tls",
    "cert": "the certificate of that name counts; put another into the directory tls",
    "no_starttls_ports": _ABOUT_PORTS,
    "require_tls_ports": _ABOUT_PORTS,
    "require_tls_hosts": _ABOUT_PORTS,
    "no_tls_hosts": _ABOUT_PORTS,
    "force_tls_hosts": _ABOUT_SERVERS,
    EVERYWHERE: _ABOUT_SERVERS,
}
_KNOWN = (MAIN, INBOUND, OUTBOUND, REDIS, NO_TLS_HOSTS, HOSTS, EXCLUDED, requiretls.HOSTS)


def certificate_sections(ini: Ini) -> Mapping[str, Section]:
    """
    The sections that are named after a certificate: all that bear the name of a host and have no
    other meaning. A single word that looks like a misspelt section is none.

    @return: by that name, as L{spelled} has it, wildcards among them.
    @raise ConfigError: two are about the same name.
    """
    found: dict[str, Section] = {}
    for written in ini.sections():
        name = spelled_in_file(written)
        if name is None or written in _KNOWN or written in _WRITTEN:
            continue
        if "." not in name and "_" in name:  # no host has such a name
            continue
        if "." not in name and get_close_matches(name, (*_KNOWN, *PLUGINS), 1, 0.8):
            continue
        section = ini.section(written)
        if name in found:
            raise section.error(None, f"is about the same name as [{found[name].name}]")
        found[name] = section
    return found


def plugin_section(ini: Ini, plugin: str) -> Section:
    """
    With its folder before the name, as in C{queue/smtp_proxy}, or without.

    @raise ConfigError: both are there.
    """
    names = (plugin, *(folder + plugin for folder in _FOLDERS))
    written = [name for name in names if name in ini.sections()]
    if len(written) > 1:
        raise ini.section(written[1]).error(
            None, f"is about the same plugin as [{plugin}]; write one of the two"
        )
    return ini.section(written[0] if written else plugin)


def tell_what_is_unused(ini: Ini) -> None:
    """Warn of all that is known, and without effect where it stands."""
    ini.main.unsupported({**_NOWHERE, **_NOT_IN_MAIN})
    ini.section(INBOUND).unsupported({**_NOWHERE, **_NOT_IN_INBOUND})
    ini.section(OUTBOUND).unsupported({**_NOWHERE, **_NOT_FOR_SERVERS})
    for section in certificate_sections(ini).values():
        section.unsupported({**_NOWHERE, **_NOT_FOR_A_NAME})
    for name, instead in _ELSEWHERE.items():
        if name in ini.sections():
            section = ini.section(name)
            section.names()  # nothing more is said of any of them
            section.warn(None, f"has no effect; write [{instead}], which is for both")
    for plugin in PLUGINS:
        section = plugin_section(ini, plugin)
        section.unsupported({**_NOWHERE, **_NOT_FOR_SERVERS})
    _tell_of_hosts(ini.section(NO_TLS_HOSTS))


def _tell_of_hosts(section: Section) -> None:
    for name in section.names():
        if not section.is_bare(name):
            section.warn(name, "what stands behind the = has no effect: to list it is enough")
        try:
            ip_network(name, strict=False)
        except ValueError:
            section.warn(
                None,
                f"{shown(name)} is not an address or a network, so it never matches: nothing else "
                "is known of a client",
            )
