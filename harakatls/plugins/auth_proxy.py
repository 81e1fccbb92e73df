"""Asks the servers of a user's domain whether a password is right (Haraka's auth/auth_proxy)."""

from collections.abc import Collection, Mapping

from attrs import evolve, frozen
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.section import Section
from harakatls.connection import Connection
from harakatls.interfaces import BackEndFailed, IBackEnds, IPasswordHook, Site
from harakatls.mail.address import AddressError, to_a_label
from harakatls.mail.route import LMTP, BackEndOptions, Credentials, NextHop
from harakatls.plugins.back_end_settings import ready_back_ends
from harakatls.plugins.next_hops import parse_next_hop
from harakatls.verdict import ACCEPT, CONTINUE, Reject, TempFail, Verdict

FILE, SECTION = "auth_proxy.ini", "auth_proxy"
OPTIONS = BackEndOptions(SECTION, use_tls=True, connect_timeout=10.0, timeout=25.0)
"""STARTTLS where it is offered; what is slower than a plugin may be is of no use."""

_EXPECTED = "expected host, host:port or several behind commas"


@frozen
class AuthProxySettings:
    """
    @ivar domains: by domain, as A-labels, the servers in the order of asking.
    @ivar without_tls: clients' passwords may be sent on in the clear.
    """

    domains: Mapping[str, tuple[NextHop, ...]]
    without_tls: bool = False

    @classmethod
    def load(cls, config: ConfigDirectory) -> "AuthProxySettings":
        """@raise ConfigError: a value cannot be used."""
        ini = config.ini(FILE)
        section = ini.section("domains")
        domains: dict[str, tuple[NextHop, ...]] = {}
        for key in section.names():
            try:
                domain = to_a_label(key)
            except AddressError as problem:
                raise section.error(key, str(problem)) from None
            if domain in domains:
                raise section.error(key, "is there twice, in two spellings")
            domains[domain] = _hops(section, key)
        return cls(domains, ini.main.boolean("auth_without_tls", False))


def _hops(section: Section, key: str) -> tuple[NextHop, ...]:
    entries = section.text(key, "").rstrip("; \t").replace(",", " ").split()
    hops = []
    for entry in entries:
        try:
            hop = parse_next_hop(entry)
        except ValueError as problem:
            raise section.error(key, str(problem)) from None
        if hop.credentials is not None or hop.protocol == LMTP:
            raise section.error(key, f"only a client has a login here; {_EXPECTED}")
        hops.append(evolve(hop, source="route"))
    if not hops:
        raise section.error(key, f"names no server; {_EXPECTED}")
    return tuple(hops)


def load(site: Site) -> "AuthProxy":
    """From auth_proxy.ini."""
    settings = AuthProxySettings.load(site.config)
    return AuthProxy(settings, ready_back_ends(site, SECTION))


@implementer(IPasswordHook)
@frozen
class AuthProxy:
    """Users are ``user@domain``; those of other domains are for other plugins."""

    settings: AuthProxySettings
    back_ends: IBackEnds

    async def mechanisms(self, connection: Connection) -> Collection[str]:
        """Those that tell us the password."""
        return ("PLAIN", "LOGIN") if self.settings.domains else ()

    async def password(self, connection: Connection, user: str, password: str) -> Verdict:
        """The first server that can be asked decides."""
        local_part, _, name = user.rpartition("@")
        try:
            domain = to_a_label(name)
        except AddressError:
            return CONTINUE
        hops = self.settings.domains.get(domain)
        if hops is None or not local_part:
            return CONTINUE
        for hop in hops:
            try:
                # Many servers know their users without a domain.
                for known_as in (user, local_part):
                    login = Credentials(known_as, password, None, self.settings.without_tls)
                    if await self.back_ends.knows(evolve(hop, credentials=login), OPTIONS):
                        return ACCEPT
            except BackEndFailed:
                continue
            return Reject()
        return TempFail()
