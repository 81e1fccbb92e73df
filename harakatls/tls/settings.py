"""
What tls.ini says, with its inheritance resolved: here and nowhere else.

An option in [inbound] or [outbound] wins over the same option in the main section. Only what the
text says is judged here; whether a key fits its certificate, or OpenSSL knows a cipher, shows when
the contexts are made.
"""

import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TypeVar

from attrs import field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import MAIN, ConfigError, shown
from harakatls.config.hosts import HostList
from harakatls.config.ini import Ini
from harakatls.config.section import Section

FILE = "tls.ini"

_T = TypeVar("_T")


class TLSVersion(IntEnum):
    """Protocol versions by their number on the wire."""

    TLS_1_0 = 0x0301
    TLS_1_1 = 0x0302
    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304


VERSIONS = {
    "TLSv1": TLSVersion.TLS_1_0,
    "TLSv1.1": TLSVersion.TLS_1_1,
    "TLSv1.2": TLSVersion.TLS_1_2,
    "TLSv1.3": TLSVersion.TLS_1_3,
}
"""As Node, and so the document, writes them."""

DEFAULT_MIN_VERSION = TLSVersion.TLS_1_2
DEFAULT_CURVE = "prime256v1"
AUTOMATIC = "auto"
HIGHEST_PORT = 65535

_DEFAULT_KEY, _DEFAULT_CERT = "tls_key.pem", "tls_cert.pem"
_CIPHER_TEXT = re.compile(r"[A-Za-z0-9_+:,!@=. -]+")
_CURVE_TEXT = re.compile(r"[A-Za-z0-9_?*/:,.+-]+")
_SEPARATOR = re.compile(r"[:, ]+")

_ANY_VERSION = "SSLv23_method"
_ANY_VERSIONS = (_ANY_VERSION, "TLS_method")
_NOT_YET = "it is not built yet"
_NOT_BUILT = {
    "dhparam": f"{_NOT_YET}, and only very old clients need it",
    "pfx": "write the certificate as PEM, under key and cert",
    "passphrase": "keys must not be encrypted",
    "crl": _NOT_YET,
    "secureOptions": "use minVersion, ciphers and honorCipherOrder",
    "sessionIdContext": "sessions are bound to the certificate they were made under",
    "ALPNProtocols": "",
    "session": "",
}
_SWITCHES_NOT_BUILT = ("requestOCSP", "enableOCSPStapling", "mutual_tls")
_SECTIONS_NOT_BUILT = {
    "mutual_auth_hosts": "client certificates are not built yet",
    "mutual_auth_hosts_exclude": "client certificates are not built yet",
    "smtp_forward": "that plugin is not built yet",
    "smtp_proxy": "that plugin is not built yet",
    "queue/smtp_forward": "that plugin is not built yet",
    "queue/smtp_proxy": "that plugin is not built yet",
}
_NOT_FOR_OUTBOUND = {
    "key": "certificates for next hops are not built yet",
    "cert": "certificates for next hops are not built yet",
    "honorCipherOrder": "the other server chooses",
    "no_starttls_ports": "it is about incoming connections",
    "requestCert": "it is about incoming connections",
    "requireAuthorized": "it is about incoming connections",
}


@frozen
class PEMFile:
    """
    A file that tls.ini names.

    @ivar name: as tls.ini writes it.
    @ivar content: None where it could not be read.
    @ivar problem: why not.
    """

    name: str
    content: bytes | None = field(repr=False)  # may be a private key
    problem: str | None = None

    @classmethod
    def read(cls, config: ConfigDirectory, name: str) -> "PEMFile":
        """Never raises: a wrong file does not stop the server."""
        try:
            content = config.content(name)
        except ConfigError as error:
            return cls(name, None, error.problem)
        if content is None:
            return cls(name, None, "there is no such file")
        if not content.strip():
            return cls(name, None, "the file is empty")
        return cls(name, content)


@frozen(kw_only=True)
class ContextParameters:
    """
    How to agree on a protocol, for OpenSSL.

    @ivar ciphers: for TLS up to 1.2, in OpenSSL's notation; None for the library's list.
    @ivar suites: for TLS 1.3; None for the library's list.
    @ivar max_version: None for the newest there is.
    @ivar groups: key exchange groups, the favourite first, with colons between; None for the
        library's list.
    @ivar honor_cipher_order: the server's order of ciphers counts, not the client's.
    @ivar sections: the section in which each option was found, by the option's name in tls.ini.
    """

    ciphers: str | None = None
    suites: str | None = None
    min_version: TLSVersion = DEFAULT_MIN_VERSION
    max_version: TLSVersion | None = None
    groups: str | None = DEFAULT_CURVE
    honor_cipher_order: bool = True
    sections: Mapping[str, str] = field(factory=dict, eq=False, repr=False)

    def error(self, option: str, problem: str) -> ConfigError:
        """The error about an option that OpenSSL refuses."""
        return ConfigError(FILE, self.sections.get(option, MAIN), option, problem)


@frozen(kw_only=True)
class InboundTLS:
    """
    TLS with those who connect to us.

    @ivar keys: the files of the default certificates' keys.
    @ivar certs: the files of the default certificates, each with its chain.
    @ivar anchors: whom to trust about clients' certificates; empty trusts nobody.
    @ivar request_certificate: ask clients for a certificate.
    @ivar reject_unauthorized: refuse clients without a valid one.
    @ivar require_authorized: local ports on which to refuse them in any case.
    @ivar no_starttls_ports: local ports that do not offer STARTTLS.
    @ivar no_tls_hosts: clients to whom STARTTLS is not offered.
    """

    parameters: ContextParameters = ContextParameters()
    keys: tuple[PEMFile, ...] = ()
    certs: tuple[PEMFile, ...] = ()
    anchors: tuple[PEMFile, ...] = ()
    request_certificate: bool = True
    reject_unauthorized: bool = False
    require_authorized: frozenset[int] = frozenset()
    no_starttls_ports: frozenset[int] = frozenset()
    no_tls_hosts: HostList = field(factory=HostList)


@frozen(kw_only=True)
class OutboundTLS:
    """
    TLS with those to whom we connect.

    No certificate of ours is ever shown: the server's is for servers, and a client's needs a rule
    that says for whom it is.

    @ivar anchors: whom to trust about next hops' certificates, instead of the system's anchors;
        empty for these.
    @ivar reject_unauthorized: where TLS is used, the certificate has to be valid.
    @ivar force_tls_hosts: hosts and domains that get nothing without TLS and a valid certificate.
    @ivar no_tls_hosts: hosts and domains with which TLS is not tried.
    """

    parameters: ContextParameters = ContextParameters()
    anchors: tuple[PEMFile, ...] = ()
    reject_unauthorized: bool = False
    force_tls_hosts: HostList = field(factory=HostList)
    no_tls_hosts: HostList = field(factory=HostList)


@frozen(kw_only=True)
class NoGoSettings:
    """
    Whether, and for how many seconds, to do without TLS where it failed.

    @ivar expiry: for those to whom we connect.
    @ivar inbound_expiry: for those who connect to us.
    """

    enabled: bool = False
    expiry: float = 604800.0
    inbound_expiry: float = 3600.0


@frozen(kw_only=True)
class TLSSettings:
    """All of tls.ini."""

    inbound: InboundTLS = InboundTLS()
    outbound: OutboundTLS = OutboundTLS()
    nogo: NoGoSettings = NoGoSettings()

    @classmethod
    def load(cls, config: ConfigDirectory) -> "TLSSettings":
        """
        Keys, certificates and trust anchors that cannot be read are no error, see L{PEMFile}.

        @raise ConfigError: where a value cannot be used.
        """
        ini = config.ini(FILE)
        _tell_what_is_not_built(ini)
        return cls(inbound=_inbound(config, ini), outbound=_outbound(config, ini), nogo=_nogo(ini))


class _Role:
    """
    The sections in which a role finds its options.

    All of them are read, so that a mistake in one that does not count is found as well.
    """

    def __init__(self, *sections: Section) -> None:
        """@param sections: the most general first."""
        self._sections = sections
        self.origins: dict[str, str] = {}

    def section(self, key: str) -> Section:
        """Where *key* counts; where it is nowhere, the most general section."""
        return next((s for s in reversed(self._sections) if key in s), self._sections[0])

    def get(self, key: str, read: Callable[[Section], _T]) -> _T | None:
        """
        @param read: reads the key from a section that has it.
        @return: None where it is nowhere.
        """
        value: _T | None = None
        for section in self._sections:
            if key in section:
                value = read(section)
                self.origins[key] = section.name
        return value

    def boolean(self, key: str, default: bool) -> bool:
        found = self.get(key, lambda section: section.boolean(key))
        return default if found is None else found

    def ports(self, key: str) -> frozenset[int]:
        found = self.get(key, lambda section: section.integers(key, 1, HIGHEST_PORT))
        return frozenset(found or ())

    def hosts(self, key: str) -> HostList:
        return self.get(key, lambda section: section.hosts(key)) or HostList()

    def version(self, key: str) -> TLSVersion | None:
        name = self.get(key, lambda section: section.choice(key, VERSIONS))
        return None if name is None else VERSIONS[name]

    def files(self, config: ConfigDirectory, key: str, default: str | None) -> tuple[PEMFile, ...]:
        names = self.get(key, lambda section: _file_names(section, key))
        if names is None:
            names = () if default is None else (default,)
        return tuple(PEMFile.read(config, name) for name in names)


def _inbound(config: ConfigDirectory, ini: Ini) -> InboundTLS:
    role = _Role(ini.main, ini.section("inbound"))
    return InboundTLS(
        parameters=_parameters(role),
        keys=role.files(config, "key", _DEFAULT_KEY),
        certs=role.files(config, "cert", _DEFAULT_CERT),
        anchors=role.files(config, "ca", None),
        request_certificate=role.boolean("requestCert", True),
        reject_unauthorized=role.boolean("rejectUnauthorized", False),
        require_authorized=role.ports("requireAuthorized"),
        no_starttls_ports=role.ports("no_starttls_ports"),
        no_tls_hosts=ini.section("no_tls_hosts").named_hosts(),
    )


def _outbound(config: ConfigDirectory, ini: Ini) -> OutboundTLS:
    own = ini.section("outbound")
    own.unsupported(_NOT_FOR_OUTBOUND)
    role = _Role(ini.main, own)
    only_own = _Role(own)
    return OutboundTLS(
        parameters=_parameters(role),
        # The main section's are those to trust about clients.
        anchors=only_own.files(config, "ca", None),
        reject_unauthorized=role.boolean("rejectUnauthorized", False),
        force_tls_hosts=role.hosts("force_tls_hosts"),
        no_tls_hosts=only_own.hosts("no_tls_hosts"),
    )


def _nogo(ini: Ini) -> NoGoSettings:
    section = ini.section("redis")
    found = NoGoSettings(
        enabled=section.boolean("disable_for_failed_hosts", False),
        expiry=section.seconds("disable_expiry", NoGoSettings().expiry),
        inbound_expiry=section.seconds("disable_inbound_expiry", NoGoSettings().inbound_expiry),
    )
    if found.enabled:
        section.warn(
            "disable_for_failed_hosts",
            "counts for outgoing mail alone, and is forgotten at a restart: Redis and the inbound "
            "side are not built yet",
        )
    section.unsupported(dict.fromkeys(section.unread(), "Redis is not built yet"))
    return found


def _tell_what_is_not_built(ini: Ini) -> None:
    for name in (MAIN, "inbound", "outbound"):
        section = ini.section(name)
        section.unsupported(_NOT_BUILT)
        for key in _SWITCHES_NOT_BUILT:
            if section.boolean(key, False):
                section.warn(key, f"has no effect; {_NOT_YET}")
        if section.text("secureProtocol", _ANY_VERSION).rstrip("; ") not in _ANY_VERSIONS:
            section.warn("secureProtocol", f"has no effect; {_NOT_YET}: use minVersion")
    for name, reason in _SECTIONS_NOT_BUILT.items():
        if name in ini.sections():
            section = ini.section(name)
            section.names()
            section.warn(None, f"this section has no effect; {reason}")


# -- how to agree on a protocol ----------------------------------------------------------------


def _parameters(role: _Role) -> ContextParameters:
    ciphers, suites = role.get("ciphers", _ciphers) or (None, None)
    groups = role.get("ecdhCurve", _groups)
    minimum, maximum = _versions(role, suites_alone=suites is not None and ciphers is None)
    return ContextParameters(
        ciphers=ciphers,
        suites=suites,
        min_version=minimum,
        max_version=maximum,
        groups=DEFAULT_CURVE if groups is None else groups if groups != AUTOMATIC else None,
        honor_cipher_order=role.boolean("honorCipherOrder", True),
        sections=dict(role.origins),
    )


def _versions(role: _Role, suites_alone: bool) -> tuple[TLSVersion, TLSVersion | None]:
    given = role.version("minVersion")
    minimum = DEFAULT_MIN_VERSION if given is None else given
    maximum = role.version("maxVersion")
    if maximum is not None and maximum < minimum:
        raise role.section("maxVersion").error(
            "maxVersion", f"is below minVersion, which is {_name(minimum)}"
        )
    if minimum < TLSVersion.TLS_1_2:
        role.section("minVersion").warn(
            "minVersion",
            "below TLSv1.2 needs OpenSSL's security level 0, so that weak keys and signatures "
            "are accepted in all versions",
        )
    if suites_alone and minimum < TLSVersion.TLS_1_3:
        if maximum is not None and maximum < TLSVersion.TLS_1_3:
            raise role.section("ciphers").error(
                "ciphers", f"names TLS 1.3 suites alone, but maxVersion is {_name(maximum)}"
            )
        role.section("ciphers").warn(
            "ciphers", "names TLS 1.3 suites alone, so nothing older is accepted"
        )
        minimum = TLSVersion.TLS_1_3
    return minimum, maximum


def _name(version: TLSVersion) -> str:
    return next(name for name, found in VERSIONS.items() if found is version)


def _ciphers(section: Section) -> tuple[str | None, str | None]:
    """
    OpenSSL has one list for TLS up to 1.2 and another for TLS 1.3; the document has one option.

    @return: both lists; None for one of which nothing was named.
    """
    text = section.text("ciphers", "").rstrip("; ")
    if not _CIPHER_TEXT.fullmatch(text):
        raise section.error("ciphers", f"{shown(text)} is not a list of ciphers in OpenSSL's words")
    names = [name for name in _SEPARATOR.split(text) if name]
    suites = [name for name in names if name.startswith("TLS_")]
    ciphers = [name for name in names if not name.startswith("TLS_")]
    return ":".join(ciphers) or None, ":".join(suites) or None


def _groups(section: Section) -> str:
    text = section.text("ecdhCurve", "").rstrip("; ")
    if text.lower() == AUTOMATIC:
        return AUTOMATIC
    if not _CURVE_TEXT.fullmatch(text):
        raise section.error(
            "ecdhCurve",
            f"{shown(text)} is neither a curve, nor a list such as X25519:prime256v1, nor auto",
        )
    return text.replace(",", ":")


def _file_names(section: Section, key: str) -> tuple[str, ...]:
    names = section.texts(key)
    if not names:
        raise section.error(key, "names no file")
    for name in names:
        if not name.isprintable():
            raise section.error(key, f"{shown(name)} is not the name of a file")
    return names
