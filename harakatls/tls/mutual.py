"""
For which next hops a certificate of ours is: mutual_tls, [mutual_auth_hosts] and its exclusions.

Only what the text of tls.ini says; whether there is such a certificate shows when it is loaded.
"""

from collections.abc import Iterable

from attrs import field, frozen

from harakatls.config.errors import shown
from harakatls.config.hosts import HostList, narrowness
from harakatls.config.ini import Ini
from harakatls.config.section import Section
from harakatls.tls.certificates import spelled_in_file
from harakatls.tls.parameters import Role

EVERYWHERE = "mutual_tls"
HOSTS = "mutual_auth_hosts"
EXCLUDED = "mutual_auth_hosts_exclude"


@frozen
class HostRule:
    """
    One entry of [mutual_auth_hosts].

    @ivar entry: the host, network or name, in the spelling used for comparing.
    @ivar certificate: the name of the certificate; None for the default one.
    """

    entry: str
    certificate: str | None = None
    _hosts: HostList = field(factory=HostList, repr=False, eq=False)

    @classmethod
    def make(cls, hosts: HostList, certificate: str | None) -> "HostRule":
        """@param hosts: one host."""
        return cls(hosts.entries[0], certificate, hosts)

    def __contains__(self, value: object) -> bool:
        return value in self._hosts


@frozen
class MutualTLS:
    """
    To whom a certificate of ours is shown; false where it is to nobody.

    @ivar everywhere: to each next hop that asks for one.
    @ivar rules: to these; the narrowest first.
    @ivar excluded: never to these, whatever else holds.
    """

    everywhere: bool = False
    rules: tuple[HostRule, ...] = ()
    excluded: HostList = field(factory=HostList)
    _listed: HostList = field(factory=HostList, repr=False, eq=False)

    @classmethod
    def make(cls, everywhere: bool, rules: tuple[HostRule, ...], excluded: HostList) -> "MutualTLS":
        """@param rules: in any order."""
        listed = HostList.parse(rule.entry for rule in rules)
        narrowest = sorted(rules, key=lambda rule: narrowness(rule.entry), reverse=True)
        return cls(everywhere, tuple(narrowest), excluded, listed)

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.rules)

    def rule(self, host: str) -> HostRule | None:
        """The rule for a host name, a domain or an IP address; None where there is none."""
        if host not in self._listed:
            return None
        return next((rule for rule in self.rules if host in rule), None)

    @property
    def wants_default(self) -> bool:
        """Whether some rule speaks of the default certificate."""
        return self.everywhere or any(rule.certificate is None for rule in self.rules)


def read_mutual(ini: Ini, role: Role) -> MutualTLS:
    """
    @param role: the sections in which mutual_tls may stand.
    @raise ConfigError: an entry is neither a host nor a name of a certificate.
    """
    excluded = ini.section(EXCLUDED).named_hosts()
    rules = _rules(ini.section(HOSTS))
    return MutualTLS.make(role.boolean(EVERYWHERE, False), rules, excluded)


def tell_of_exclusions(ini: Ini, policies: Iterable[MutualTLS]) -> None:
    """Warn of exclusions from nothing: under no policy is a certificate shown to anybody."""
    if ini.section(EXCLUDED).names() and not any(policies):
        ini.section(EXCLUDED).warn(
            None, f"has no effect: neither {EVERYWHERE} nor [{HOSTS}] names anybody"
        )


def tell_of_unused(own: Section) -> None:
    """Warn of a client certificate in a role's own section, where there is no rule."""
    for key in ("key", "cert"):
        if key in own:
            own.warn(
                key, f"has no effect: no certificate is shown without {EVERYWHERE} or [{HOSTS}]"
            )


def _rules(section: Section) -> tuple[HostRule, ...]:
    rules: dict[str, HostRule] = {}
    for key in section.names():
        try:
            hosts = HostList.parse([key])
        except ValueError as problem:
            raise section.error(key, str(problem)) from None
        rule = HostRule.make(hosts, _certificate(section, key))
        if rules.setdefault(rule.entry, rule).certificate != rule.certificate:
            raise section.error(key, f"{rule.entry} is there twice, with different certificates")
    return tuple(rules.values())


def _certificate(section: Section, key: str) -> str | None:
    """The name of a certificate in config/tls; None for the default one."""
    text = "" if section.is_bare(key) else section.text(key, "").rstrip("; ")
    if not text:
        return None
    name = spelled_in_file(text)
    if name is None:
        raise section.error(key, f"{shown(text)} is not the name of a certificate in config/tls")
    return name
