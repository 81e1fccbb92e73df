"""
What tls.ini says, with its inheritance resolved: here and nowhere else.

An option in [inbound], in [outbound] or in the section of a plugin wins over the same option in
the main section; one in a section named after a certificate wins over both [inbound] and main.
Only what the text says is judged here; whether a key fits its certificate, or OpenSSL knows a
cipher, shows when the contexts are made.
"""

from collections.abc import Mapping
from ipaddress import ip_network

from attrs import evolve, field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import HostList
from harakatls.config.ini import Ini
from harakatls.config.section import Section
from harakatls.redis.settings import RedisSettings, read_redis
from harakatls.tls.certificates import wildcard_for
from harakatls.tls.files import GroupFile, PEMFile, files_of_directory, group_file, named_files
from harakatls.tls.mutual import MutualTLS, read_mutual, tell_of_exclusions, tell_of_unused
from harakatls.tls.parameters import FILE, ContextParameters, Role, read_parameters
from harakatls.tls.requiretls import IN_OUR_HOUSE, RequireTLSPolicy, read_requiretls
from harakatls.tls.sections import (
    INBOUND,
    NO_TLS_HOSTS,
    OUTBOUND,
    PLUGINS,
    REDIS,
    certificate_sections,
    plugin_section,
    tell_what_is_unused,
)

_DEFAULT_KEY, _DEFAULT_CERT = "tls_key.pem", "tls_cert.pem"

_STAPLING, _FORMER_STAPLING = "requestOCSP", "enableOCSPStapling"
_PUBLIC_PORT = 25


@frozen(kw_only=True)
class InboundTLS:
    """
    TLS with those who connect to us.

    @ivar keys: the files of the default certificates' keys.
    @ivar certs: the files of the default certificates, each with its chain.
    @ivar directory: the files in config/tls, certificates for other names.
    @ivar group_file: where the Diffie-Hellman group of *parameters* comes from.
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
    @ivar section: the section that was read last, for messages.
    @ivar named: what differs for clients that ask for one of these names, as L{spelled} has them.
        There may be none of these under these again.
    """

    parameters: ContextParameters = field(factory=ContextParameters)
    keys: tuple[PEMFile, ...] = ()
    certs: tuple[PEMFile, ...] = ()
    directory: tuple[PEMFile, ...] = ()
    group_file: GroupFile = field(factory=GroupFile)
    anchors: tuple[PEMFile, ...] = ()
    request_certificate: bool = True
    reject_unauthorized: bool = False
    require_authorized: frozenset[int] = frozenset()
    no_starttls_ports: frozenset[int] = frozenset()
    no_tls_hosts: HostList = field(factory=HostList)
    require_tls_ports: frozenset[int] = frozenset()
    require_tls_hosts: HostList = field(factory=HostList)
    staples: bool = False
    section: str = field(default=INBOUND, eq=False)
    named: Mapping[str, "InboundTLS"] = field(factory=dict)

    def name_of_rules(self, server_name: str | None) -> str | None:
        """
        Which of *named* is about a server name: the name itself, else a wildcard for its first
        label.

        @param server_name: as L{host_name} writes it; a wildcard is about itself.
        @return: None where nothing differs for it.
        """
        if server_name is None or not self.named:
            return None
        if server_name in self.named:
            return server_name
        wildcard = wildcard_for(server_name)
        return wildcard if wildcard in self.named else None

    def for_name(self, server_name: str | None) -> "InboundTLS":
        """What holds for a client that asks for *server_name*; see L{name_of_rules}."""
        name = self.name_of_rules(server_name)
        return self if name is None else self.named[name]

    @property
    def group_files(self) -> tuple[GroupFile, ...]:
        """All that are named anywhere, each once."""
        files = (self.group_file, *(rules.group_file for rules in self.named.values()))
        return tuple({file.path: file for file in files}.values())


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
    @ivar requiretls: how strictly REQUIRETLS is kept to, and with whom.
    @ivar section: the section that was read last, for messages.
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
    requiretls: RequireTLSPolicy = field(factory=RequireTLSPolicy)
    section: str = field(default=OUTBOUND, eq=False)


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
    """
    All of tls.ini.

    @ivar plugins: for each plugin that hands mail on by itself (C{smtp_forward} and others),
        what it goes by: its own section over the main one.
    """

    inbound: InboundTLS = InboundTLS()
    outbound: OutboundTLS = OutboundTLS()
    nogo: NoGoSettings = NoGoSettings()
    plugins: Mapping[str, OutboundTLS] = field(
        factory=lambda: {
            plugin: OutboundTLS(section=plugin, requiretls=IN_OUR_HOUSE) for plugin in PLUGINS
        }
    )

    @classmethod
    def load(cls, config: ConfigDirectory) -> "TLSSettings":
        """
        Keys, certificates and trust anchors that cannot be read are no error, see L{PEMFile}.

        @raise ConfigError: where a value cannot be used.
        """
        ini = config.ini(FILE)
        tell_what_is_unused(ini)
        outbound = _outbound(config, ini, ini.section(OUTBOUND), RequireTLSPolicy())
        plugins = {
            plugin: _outbound(config, ini, plugin_section(ini, plugin), IN_OUR_HOUSE)
            for plugin in PLUGINS
        }
        tell_of_exclusions(ini, (role.mutual for role in (outbound, *plugins.values())))
        return cls(
            inbound=_inbound(config, ini),
            outbound=outbound,
            nogo=_nogo(config, ini),
            plugins=plugins,
        )


def _inbound(config: ConfigDirectory, ini: Ini) -> InboundTLS:
    own = ini.section(INBOUND)
    role = Role(ini.main, own)
    directory = _directory(config, ini)
    keys = named_files(role, config, "key", _DEFAULT_KEY)
    certs = named_files(role, config, "cert", _DEFAULT_CERT)
    named = "key" in role.origins or "cert" in role.origins
    if directory and not (named or config.exists(_DEFAULT_KEY) or config.exists(_DEFAULT_CERT)):
        keys = certs = ()  # nobody has asked for a default pair
    for_all = InboundTLS(
        keys=keys,
        certs=certs,
        directory=directory,
        no_starttls_ports=role.ports("no_starttls_ports"),
        no_tls_hosts=ini.section(NO_TLS_HOSTS).named_hosts(),
        require_tls_ports=_require_tls_ports(role),
        require_tls_hosts=_require_tls_hosts(role),
    )
    general = _offered(for_all, config, role, own)
    sections = certificate_sections(ini)
    rules = {
        name: _offered(for_all, config, Role(ini.main, own, section), section)
        for name, section in sections.items()
    }
    for name, section in sections.items():
        _tell_of_ways_around(section, rules[name], general)
    return evolve(general, named=rules)


def _offered(
    settings: InboundTLS, config: ConfigDirectory, role: Role, section: Section
) -> InboundTLS:
    """*settings* with all that may differ from name to name."""
    dhparam = group_file(role, config)
    _tell_of_demands(role)
    return evolve(
        settings,
        parameters=evolve(read_parameters(role), dh_group=dhparam.group),
        group_file=dhparam,
        anchors=named_files(role, config, "ca", None),
        request_certificate=role.boolean("requestCert", True),
        reject_unauthorized=role.boolean("rejectUnauthorized", False),
        require_authorized=role.ports("requireAuthorized"),
        staples=_staples(role),
        section=section.name,
    )


def _tell_of_demands(role: Role) -> None:
    """
    Where every client has to show a certificate, the other two have nothing to say; which is as it
    should be where they are in a more general section.
    """
    demand = "rejectUnauthorized"
    if not role.boolean(demand, False):
        return
    beaten = []
    if not role.boolean("requestCert", True) and role.is_beside("requestCert", demand):
        beaten.append("requestCert=false")
    if role.ports("requireAuthorized") and role.is_beside("requireAuthorized", demand):
        beaten.append("requireAuthorized")
    if beaten:
        role.section(demand).warn(
            demand,
            f"is true, so that {' and '.join(beaten)} makes no difference: a valid certificate is "
            "demanded on all ports",
        )


def _tell_of_ways_around(section: Section, rules: InboundTLS, general: InboundTLS) -> None:
    """The client chooses the name it asks for: rules that demand less than others are for all."""
    if rules.reject_unauthorized:
        return
    way = "a client asks for whatever name it likes, so none needs a certificate there"
    if general.reject_unauthorized:
        section.warn("rejectUnauthorized", f"is false, but true where no name is asked for: {way}")
        return
    open_ports = sorted(general.require_authorized - rules.require_authorized)
    if open_ports:
        shown_ports = ", ".join(map(str, open_ports))
        section.warn(
            "requireAuthorized",
            f"lacks {shown_ports}, listed for clients that ask for no name: {way}",
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


def _outbound(
    config: ConfigDirectory, ini: Ini, own: Section, requiretls: RequireTLSPolicy
) -> OutboundTLS:
    """
    @param own: the section of what connects to others.
    @param requiretls: where that says nothing of it.
    """
    role = Role(ini.main, own)
    only_own = Role(own)
    mutual = read_mutual(ini, role)
    keys = named_files(role, config, "key", _DEFAULT_KEY)
    certs = named_files(role, config, "cert", _DEFAULT_CERT)
    if not mutual:
        tell_of_unused(own)
        keys = certs = ()
    forced, excluded = role.hosts("force_tls_hosts"), only_own.hosts("no_tls_hosts")
    for entry in excluded.entries:
        if entry in forced.entries:
            own.warn("no_tls_hosts", f"lists {entry}, and so does force_tls_hosts, which wins")
    return OutboundTLS(
        parameters=read_parameters(role),
        mutual=mutual,
        keys=keys,
        certs=certs,
        directory=_directory(config, ini) if mutual else (),
        # The main section's are those to trust about clients.
        anchors=named_files(only_own, config, "ca", None),
        reject_unauthorized=role.boolean("rejectUnauthorized", False),
        force_tls_hosts=forced,
        no_tls_hosts=excluded,
        requiretls=read_requiretls(ini, own, requiretls),
        section=own.name,
    )


def _directory(config: ConfigDirectory, ini: Ini) -> tuple[PEMFile, ...]:
    """The files in config/tls, as far as they are about our own certificates."""
    for_clients = (ini.main, ini.section(INBOUND), *certificate_sections(ini).values())
    for_servers = (ini.section(OUTBOUND), *(plugin_section(ini, plugin) for plugin in PLUGINS))
    return files_of_directory(config, for_clients, (*for_clients, *for_servers))


def _nogo(config: ConfigDirectory, ini: Ini) -> NoGoSettings:
    section = ini.section(REDIS)
    enabled = section.boolean("disable_for_failed_hosts", False)
    if "disable_for_failed_hosts" not in section:  # who says false has not forgotten it
        for key in ("disable_expiry", "disable_inbound_expiry"):
            if key in section:
                section.warn(key, "has no effect without disable_for_failed_hosts=true")
    return NoGoSettings(
        enabled=enabled,
        expiry=section.seconds("disable_expiry", NoGoSettings().expiry),
        inbound_expiry=section.seconds("disable_inbound_expiry", NoGoSettings().inbound_expiry),
        redis=read_redis(config, ini.section("redis")),
    )
