"""How strictly REQUIRETLS (RFC 8689) is kept to, next hop by next hop: what tls.ini says of it."""

from collections.abc import Iterable
from enum import IntEnum

from attrs import field, frozen

from harakatls.config.errors import shown
from harakatls.config.hosts import HostList, narrowness
from harakatls.config.ini import Ini
from harakatls.config.section import Section
from harakatls.mail.route import LMTP, NextHop

OPTION, SECURE_MX, HOSTS = "requiretls", "requiretls_secure_mx", "requiretls_hosts"

_CONFIGURED, _LITERAL = "route", "address literal"
# Where a host that the operator has named is no further away than this, no stranger is between.
_NEAR = HostList.parse(
    (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1", "fc00::/7", "fe80::/10"),
    )
)


class RequireTLS(IntEnum):
    """
    What a message with REQUIRETLS demands of a next hop; compare them, the higher is the stricter.

    DISABLE: no more than any other; it goes on without the option. OPPORTUNISTIC: the same, but the
    option is passed on where it is offered. STARTTLS: TLS in any case, and the option where it is
    offered. ENFORCE: all of RFC 8689 section 4.2.1, so TLS with a valid certificate for the right
    name, and the option.
    """

    DISABLE = 0
    OPPORTUNISTIC = 1
    STARTTLS = 2
    ENFORCE = 3


LEVELS = {
    "enforce": RequireTLS.ENFORCE,
    "opportunistic+starttls": RequireTLS.STARTTLS,
    "opportunistic": RequireTLS.OPPORTUNISTIC,
    "disable": RequireTLS.DISABLE,
}
"""As tls.ini, and Postfix, write them."""

NAMES = {level: name for name, level in LEVELS.items()}


@frozen
class LevelRule:
    """One entry of [requiretls_hosts]."""

    entry: str
    level: RequireTLS
    _hosts: HostList = field(factory=HostList, repr=False, eq=False)

    @classmethod
    def make(cls, hosts: HostList, level: RequireTLS) -> "LevelRule":
        """@param hosts: one host."""
        return cls(hosts.entries[0], level, hosts)

    def __contains__(self, value: object) -> bool:
        return value in self._hosts


@frozen
class RequireTLSPolicy:
    """
    @ivar usual: for hosts of which nothing else is said.
    @ivar internal: for those of them that are our own: mail stores, back ends of plugins, and
        configured ones with a private address.
    @ivar secure_mx: where it is enforced, a host has to be found by secure means as well.
    @ivar rules: for some hosts; the narrowest first.
    """

    usual: RequireTLS = RequireTLS.ENFORCE
    internal: RequireTLS = RequireTLS.OPPORTUNISTIC
    secure_mx: bool = False
    rules: tuple[LevelRule, ...] = ()

    def level(self, hop: NextHop) -> tuple[RequireTLS, str]:
        """
        What *hop* has to have, and why, in words for the operator.

        The address or name that is connected to counts before the name under which it was found,
        and that before the domain.
        """
        for value in hop.identities if self.rules else ():
            rule = next((rule for rule in self.rules if value in rule), None)
            if rule is not None:
                return rule.level, f"{HOSTS} lists {value} as {NAMES[rule.level]}"
        if is_internal(hop) and self.internal < self.usual:
            return self.internal, "it is one of our own hosts"
        return self.usual, f"{OPTION} is {NAMES[self.usual]}"


IN_OUR_HOUSE = RequireTLSPolicy(usual=RequireTLS.OPPORTUNISTIC)
"""With the back ends of plugins, unless tls.ini says otherwise."""


def is_internal(hop: NextHop) -> bool:
    """
    One of our own: a mail store, a plugin's back end, or what the operator has named at a private
    address. Not what the DNS says is at such an address.
    """
    if hop.protocol == LMTP or hop.back_end is not None:
        return True
    return hop.source == _CONFIGURED and hop.host in _NEAR


def is_found_securely(hop: NextHop) -> bool:
    """
    Nobody but the operator or the sender has said that mail for the domain goes to this host.

    RFC 8689 section 4.2.1 wants an MX that DNSSEC or MTA-STS vouches for; neither is looked at.
    """
    return hop.source in (_CONFIGURED, _LITERAL)


def read_requiretls(ini: Ini, own: Section, usual: RequireTLSPolicy) -> RequireTLSPolicy:
    """
    @param own: the section of what connects to others.
    @param usual: where that says nothing.
    @raise ConfigError: a level is none of the four, or an entry is no host.
    """
    given = own.choice(OPTION, LEVELS)
    level = usual.usual if given is None else LEVELS[given]
    # Who says something of the back ends of a plugin means these.
    internal = level if usual is IN_OUR_HOUSE else min(level, usual.internal)
    secure_mx = own.boolean(SECURE_MX, usual.secure_mx)
    rules = _rules(ini.section(HOSTS))
    return RequireTLSPolicy(level, internal, secure_mx, _narrowest_first(rules))


def _narrowest_first(rules: Iterable[LevelRule]) -> tuple[LevelRule, ...]:
    return tuple(sorted(rules, key=lambda rule: narrowness(rule.entry), reverse=True))


def _rules(section: Section) -> Iterable[LevelRule]:
    rules: dict[str, LevelRule] = {}
    for key in section.names():
        try:
            hosts = HostList.parse([key])
        except ValueError as problem:
            raise section.error(key, str(problem)) from None
        if section.is_bare(key):
            raise section.error(key, f"has no level: write {shown(key)[1:-1]}=enforce, for example")
        rule = LevelRule.make(hosts, LEVELS[section.choice(key, LEVELS, "enforce")])
        if rules.setdefault(rule.entry, rule) != rule:
            raise section.error(key, f"{rule.entry} is there twice, with different levels")
    return rules.values()
