"""
What tls.ini says, with its inheritance resolved: here and nowhere else.

An option in [inbound] or [outbound] wins over the same option in the main section. Only what the
text says is judged here; whether a key fits its certificate, or OpenSSL knows a cipher, shows when
the contexts are made.
"""

from ipaddress import ip_network

from attrs import field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import MAIN, ConfigError, shown
from harakatls.config.hosts import HostList
from harakatls.config.ini import Ini
from harakatls.config.section import Section
from harakatls.tls.mutual import MutualTLS, read_mutual, tell_of_unused
from harakatls.tls.parameters import FILE, ContextParameters, Role, read_parameters
from harakatls.tls.redis_settings import RedisSettings, read_redis

_DEFAULT_KEY, _DEFAULT_CERT = "tls_key.pem", "tls_cert.pem"
_DIRECTORY = "tls"

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
_STAPLING, _FORMER_STAPLING = "requestOCSP", "enableOCSPStapling"
_SECTIONS_NOT_BUILT = {
    "smtp_forward": "that plugin is not built yet",
    "smtp_proxy": "that plugin is not built yet",
    "queue/smtp_forward": "that plugin is not built yet",
    "queue/smtp_proxy": "that plugin is not built yet",
}
_NOT_FOR_OUTBOUND = {
    "honorCipherOrder": "the other server chooses",
    "no_starttls_ports": "it is about incoming connections",
    "requestCert": "it is about incoming connections",
    "requireAuthorized": "it is about incoming connections",
    "require_tls_ports": "it is about incoming connections; force_tls_hosts is about these",
    "require_tls_hosts": "it is about incoming connections; force_tls_hosts is about these",
    _STAPLING: "it is about incoming connections",
    _FORMER_STAPLING: "it is about incoming connections",
}
_PUBLIC_PORT = 25


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
class InboundTLS:
    """
    TLS with those who connect to us.

    @ivar keys: the files of the default certificates' keys.
    @ivar certs: the files of the default certificates, each with its chain.
    @ivar directory: the files in config/tls, certificates for other names.
    @ivar anchors: whom to trust about clients' certificates, instead of the system's anchors;
        empty for these.
    @ivar request_certificate: ask clients for a certificate.
    @ivar reject_unauthorized: refuse clients without a valid one.
    @ivar require_authorized: local ports on which to refuse them in any case.
    @ivar no_starttls_ports: local ports that do not offer STARTTLS.
    @ivar no_tls_hosts: clients to whom STARTTLS is not offered.
    @ivar require_tls_ports: local ports on which nothing is taken before TLS.
    @ivar require_tls_hosts: clients from whom nothing is taken before TLS; this counts more than
        no_tls_hosts and no_starttls_ports.
    @ivar staples: show OCSP responses together with our certificates.
    """

    parameters: ContextParameters = field(factory=ContextParameters)
    keys: tuple[PEMFile, ...] = ()
    certs: tuple[PEMFile, ...] = ()
    directory: tuple[PEMFile, ...] = ()
    anchors: tuple[PEMFile, ...] = ()
    request_certificate: bool = True
    reject_unauthorized: bool = False
    require_authorized: frozenset[int] = frozenset()
    no_starttls_ports: frozenset[int] = frozenset()
    no_tls_hosts: HostList = field(factory=HostList)
    require_tls_ports: frozenset[int] = frozenset()
    require_tls_hosts: HostList = field(factory=HostList)
    staples: bool = False


@frozen(kw_only=True)
class OutboundTLS:
    """
    TLS with those to whom we connect.

    @ivar mutual: to whom a certificate of ours is shown; where that is false, to nobody, and none
        is read.
    @ivar keys: the files of the default client certificates' keys.
    @ivar certs: the files of the default client certificates, each with its chain.
    @ivar directory: the files in config/tls, client certificates for some hosts.
    @ivar anchors: whom to trust about next hops' certificates, instead of the system's anchors;
        empty for these.
    @ivar reject_unauthorized: where TLS is used, the certificate has to be valid.
    @ivar force_tls_hosts: hosts and domains that get nothing without TLS and a valid certificate.
    @ivar no_tls_hosts: hosts and domains with which TLS is not tried.
    """

    parameters: ContextParameters = field(factory=ContextParameters)
    mutual: MutualTLS = field(factory=MutualTLS)
    keys: tuple[PEMFile, ...] = ()
    certs: tuple[PEMFile, ...] = ()
    directory: tuple[PEMFile, ...] = ()
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
    @ivar redis: where to keep it; None for a file beside the queue alone.
    """

    enabled: bool = False
    expiry: float = 604800.0
    inbound_expiry: float = 3600.0
    redis: RedisSettings | None = None


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
        return cls(
            inbound=_inbound(config, ini), outbound=_outbound(config, ini), nogo=_nogo(config, ini)
        )


def _inbound(config: ConfigDirectory, ini: Ini) -> InboundTLS:
    role = Role(ini.main, ini.section("inbound"))
    directory = _directory(config)
    keys = _files(role, config, "key", _DEFAULT_KEY)
    certs = _files(role, config, "cert", _DEFAULT_CERT)
    named = "key" in role.origins or "cert" in role.origins
    if directory and not (named or config.exists(_DEFAULT_KEY) or config.exists(_DEFAULT_CERT)):
        keys = certs = ()  # nobody has asked for a default pair
    return InboundTLS(
        parameters=read_parameters(role),
        keys=keys,
        certs=certs,
        directory=directory,
        anchors=_files(role, config, "ca", None),
        request_certificate=role.boolean("requestCert", True),
        reject_unauthorized=role.boolean("rejectUnauthorized", False),
        require_authorized=role.ports("requireAuthorized"),
        no_starttls_ports=role.ports("no_starttls_ports"),
        no_tls_hosts=ini.section("no_tls_hosts").named_hosts(),
        require_tls_ports=_require_tls_ports(role),
        require_tls_hosts=_require_tls_hosts(role),
        staples=_staples(role),
    )


def _require_tls_ports(role: Role) -> frozenset[int]:
    ports = role.ports("require_tls_ports")
    section = role.section("require_tls_ports")
    both = sorted(ports & role.ports("no_starttls_ports"))
    if both:
        raise section.error(
            "require_tls_ports",
            f"lists {both[0]}, and so does no_starttls_ports: no mail could come",
        )
    if _PUBLIC_PORT in ports:
        section.warn(
            "require_tls_ports",
            "lists 25: RFC 3207 section 4 forbids it where mail comes from the Internet, since "
            "hosts that know no TLS cannot send any",
        )
    return ports


def _require_tls_hosts(role: Role) -> HostList:
    hosts = role.hosts("require_tls_hosts")
    for entry in hosts.entries:
        try:
            ip_network(entry)
        except ValueError:
            raise role.section("require_tls_hosts").error(
                "require_tls_hosts",
                f"{shown(entry)} is not an address or a network (192.0.2.0/24): nothing else is "
                "known of a client that has just connected",
            ) from None
    return hosts


def _staples(role: Role) -> bool:
    former = role.get(_FORMER_STAPLING, lambda section: section.boolean(_FORMER_STAPLING))
    given = role.get(_STAPLING, lambda section: section.boolean(_STAPLING))
    if former is not None:
        use = f"is the former name of {_STAPLING}"
        if given is not None:
            use += ", which is there as well and wins"
        role.section(_FORMER_STAPLING).warn(_FORMER_STAPLING, use)
    return bool(former) if given is None else given


def _directory(config: ConfigDirectory) -> tuple[PEMFile, ...]:
    try:
        names = config.tree(_DIRECTORY)
    except ConfigError as error:
        return (PEMFile(error.file, None, error.problem),)
    return tuple(PEMFile.read(config, name) for name in names)


def _outbound(config: ConfigDirectory, ini: Ini) -> OutboundTLS:
    own = ini.section("outbound")
    own.unsupported(_NOT_FOR_OUTBOUND)
    role = Role(ini.main, own)
    only_own = Role(own)
    mutual = read_mutual(ini, role)
    keys = _files(role, config, "key", _DEFAULT_KEY)
    certs = _files(role, config, "cert", _DEFAULT_CERT)
    if not mutual:
        tell_of_unused(own)
        keys = certs = ()
    return OutboundTLS(
        parameters=read_parameters(role),
        mutual=mutual,
        keys=keys,
        certs=certs,
        directory=_directory(config) if mutual else (),
        # The main section's are those to trust about clients.
        anchors=_files(only_own, config, "ca", None),
        reject_unauthorized=role.boolean("rejectUnauthorized", False),
        force_tls_hosts=role.hosts("force_tls_hosts"),
        no_tls_hosts=only_own.hosts("no_tls_hosts"),
    )


def _nogo(config: ConfigDirectory, ini: Ini) -> NoGoSettings:
    section = ini.section("redis")
    return NoGoSettings(
        enabled=section.boolean("disable_for_failed_hosts", False),
        expiry=section.seconds("disable_expiry", NoGoSettings().expiry),
        inbound_expiry=section.seconds("disable_inbound_expiry", NoGoSettings().inbound_expiry),
        redis=read_redis(config, ini),
    )


def _tell_what_is_not_built(ini: Ini) -> None:
    for name in (MAIN, "inbound", "outbound"):
        section = ini.section(name)
        section.unsupported(_NOT_BUILT)
        if section.text("secureProtocol", _ANY_VERSION).rstrip("; ") not in _ANY_VERSIONS:
            section.warn("secureProtocol", f"has no effect; {_NOT_YET}: use minVersion")
    for name, reason in _SECTIONS_NOT_BUILT.items():
        if name in ini.sections():
            section = ini.section(name)
            section.names()
            section.warn(None, f"this section has no effect; {reason}")


def _files(
    role: Role, config: ConfigDirectory, key: str, default: str | None
) -> tuple[PEMFile, ...]:
    names = role.get(key, lambda section: _file_names(section, key))
    if names is None:
        names = () if default is None else (default,)
    return tuple(PEMFile.read(config, name) for name in names)


def _file_names(section: Section, key: str) -> tuple[str, ...]:
    names = section.texts(key)
    if not names:
        raise section.error(key, "names no file")
    for name in names:
        if not name.isprintable():
            raise section.error(key, f"{shown(name)} is not the name of a file")
    return names
