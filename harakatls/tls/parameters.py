"""
How to agree on a protocol: the options that OpenSSL is given for a context, and where they stand.
"""

import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TypeVar

from attrs import field, frozen

from harakatls.config.errors import MAIN, ConfigError, shown
from harakatls.config.hosts import HostList
from harakatls.config.section import HIGHEST_PORT, Section
from harakatls.tls.dhparams import FFDHE2048, DHGroup

FILE = "tls.ini"

_T = TypeVar("_T")

_CIPHER_TEXT = re.compile(r"[A-Za-z0-9_+:,!@=. -]+")
_CURVE_TEXT = re.compile(r"[A-Za-z0-9_?*/:,.+-]+")
_SEPARATOR = re.compile(r"[:, ]+")


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

METHODS: Mapping[str, TLSVersion | None] = {
    "SSLv23_method": None,
    "TLS_method": None,
    "TLSv1_method": TLSVersion.TLS_1_0,
    "TLSv1_1_method": TLSVersion.TLS_1_1,
    "TLSv1_2_method": TLSVersion.TLS_1_2,
    "TLSv1_3_method": TLSVersion.TLS_1_3,
}
"""
OpenSSL's and Node's names for the versions to speak; None for all. Each has variants for one side:
C{TLSv1_2_server_method}, C{TLSv1_2_client_method}.
"""

_BROKEN_METHODS = ("sslv2", "sslv3")
_SIDES = ("server", "client")

DEFAULT_MIN_VERSION = TLSVersion.TLS_1_2
DEFAULT_CURVE = "prime256v1"
AUTOMATIC = "auto"


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
    @ivar dh_group: for key exchange without elliptic curves, which servers choose.
    @ivar sections: the section in which each option was found, by the option's name in tls.ini.
    """

    ciphers: str | None = None
    suites: str | None = None
    min_version: TLSVersion = DEFAULT_MIN_VERSION
    max_version: TLSVersion | None = None
    groups: str | None = DEFAULT_CURVE
    honor_cipher_order: bool = True
    dh_group: DHGroup = FFDHE2048
    sections: Mapping[str, str] = field(factory=dict, eq=False, repr=False)

    def error(self, option: str, problem: str) -> ConfigError:
        """The error about an option that OpenSSL refuses."""
        return ConfigError(FILE, self.sections.get(option, MAIN), option, problem)


class Role:
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

    def is_beside(self, key: str, other: str) -> bool:
        """Whether *key* stands where *other* does, or in a section that wins over that one."""
        sections = self._sections
        return sections.index(self.section(key)) >= sections.index(self.section(other))

    def elsewhere(self, key: str, other: str) -> str:
        """Where *key* stands, in words to append, unless that is where *other* is, or nowhere."""
        section = self.section(key)
        if key not in section or section is self.section(other):
            return ""
        return f" in [{section.name}]"

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


def read_parameters(role: Role) -> ContextParameters:
    """@raise ConfigError: a value cannot be used."""
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


def _versions(role: Role, suites_alone: bool) -> tuple[TLSVersion, TLSVersion | None]:
    """@return: the oldest version, and the newest, if there is a limit."""
    only = _version_of_method(role)
    minimum, maximum = _range(role) if only is None else (only, only)
    lower, upper = ("minVersion", "maxVersion") if only is None else ("secureProtocol",) * 2
    if minimum < TLSVersion.TLS_1_2:
        role.section(lower).warn(
            lower,
            "below TLSv1.2 needs OpenSSL's security level 0, so that weak keys and signatures "
            "are accepted in all versions",
        )
    if not suites_alone or minimum == TLSVersion.TLS_1_3:
        return minimum, maximum
    if maximum is not None and maximum < TLSVersion.TLS_1_3:
        raise role.section("ciphers").error(
            "ciphers", f"names TLS 1.3 suites alone, but {upper} is {_text(role, upper)}"
        )
    role.section("ciphers").warn(
        "ciphers", "names TLS 1.3 suites alone, so nothing older is accepted"
    )
    return TLSVersion.TLS_1_3, maximum


def _range(role: Role) -> tuple[TLSVersion, TLSVersion | None]:
    """What minVersion and maxVersion say."""
    given, maximum = role.version("minVersion"), role.version("maxVersion")
    minimum = DEFAULT_MIN_VERSION if given is None else given
    if maximum is not None and maximum < minimum:
        raise role.section("maxVersion").error(
            "maxVersion",
            f"is below minVersion, which is {version_name(minimum)}"
            + role.elsewhere("minVersion", "maxVersion"),
        )
    return minimum, maximum


def _version_of_method(role: Role) -> TLSVersion | None:
    """The one version that secureProtocol allows; None where it leaves that to the others."""
    method = role.get("secureProtocol", _method)
    version = None if method is None else METHODS[method]
    beaten = [key for key in ("minVersion", "maxVersion") if role.version(key) is not None]
    if version is not None and beaten:
        role.section("secureProtocol").warn(
            "secureProtocol",
            f"is {method}, which is {version_name(version)} alone; it wins over "
            f"{' and '.join(beaten)}",
        )
    return version


def _method(section: Section) -> str:
    text = section.text("secureProtocol", "").rstrip("; \t")
    name = text.lower()
    for side in _SIDES:
        name = name.replace(f"_{side}_method", "_method")
    if name.removesuffix("_method") in _BROKEN_METHODS:
        raise section.error(
            "secureProtocol", f"{shown(text)}: SSL 2 and 3 are broken, and OpenSSL has neither"
        )
    for method in METHODS:
        if method.lower() == name:
            return method
    raise section.error("secureProtocol", f"{shown(text)} is not one of {', '.join(METHODS)}")


def _text(role: Role, key: str) -> str:
    return role.section(key).text(key, "").rstrip("; \t")


def version_name(version: TLSVersion) -> str:
    """As tls.ini writes it."""
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
