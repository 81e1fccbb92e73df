"""Who may send to any domain, and where mail for a domain goes (Haraka's relay)."""

import json
from collections.abc import Mapping
from typing import Any

from attrs import evolve, field, frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import HostList
from harakatls.config.section import Section
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IAskedLast, IRcptHook, IRelayHook, IRouteHook, Site
from harakatls.mail.address import AddressError, to_a_label
from harakatls.mail.envelope import Recipient
from harakatls.mail.route import NextHop
from harakatls.plugins.next_hops import parse_next_hops
from harakatls.queued import QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict

log = Logger()

ANY = "any"  # the key of the route of all domains that have none of their own
_ANY_DOMAIN = "*"  # what it is kept under: mail for a domain "any" is mail for that domain
_OF_LOGINS = ("@", "auth", "user", "pass")  # where one of these is, a password may be
ACTIONS = ("accept", "continue", "deny")
NOT_ALLOWED = Reject(Reply.of(550, "5.7.1", "You are not allowed to relay"))
NOT_ACCEPTED = Reject(Reply.of(550, "5.7.1", "Mail for that recipient is not accepted here"))


@frozen
class Destination:
    """
    One line of relay_dest_domains.ini.

    @ivar action: what becomes of recipients in this domain; None where it was not said.
    @ivar next_hops: where its mail goes; empty leaves that to others.
    """

    action: str | None = None
    next_hops: tuple[NextHop, ...] = ()


@frozen
class RelaySettings:
    """
    @ivar destinations: by domain, as A-labels; those of C{*.example.com} by C{.example.com}, and
        that for all others by C{*}.
    """

    allowed: HostList = field(factory=HostList)
    all: bool = False
    dest_domains: bool = False
    force_routing: bool = True
    destinations: Mapping[str, Destination] = field(factory=dict)

    @classmethod
    def load(cls, config: ConfigDirectory) -> "RelaySettings":
        """From relay.ini, relay_acl_allow and relay_dest_domains.ini."""
        relay = config.ini("relay.ini").section("relay")
        acl = relay.boolean("acl", True)
        domains = config.ini("relay_dest_domains.ini").section("domains")
        return cls(
            allowed=config.hosts("relay_acl_allow") if acl else HostList(),
            all=relay.boolean("all", False),
            dest_domains=relay.boolean("dest_domains", False),
            force_routing=relay.boolean("force_routing", True),
            destinations=_destinations(domains),
        )

    def destination(self, domain: str) -> Destination | None:
        """That of *domain* itself, else of the nearest domain above it with a wildcard."""
        found = self.destinations.get(domain)
        while found is None:
            _, dot, domain = domain.partition(".")
            if not dot:
                return None
            found = self.destinations.get(f".{domain}")
        return found

    @property
    def for_all_others(self) -> Destination | None:
        """Only where mail goes: nobody may send to any domain because of it."""
        return self.destinations.get(_ANY_DOMAIN)


def _destinations(section: Section) -> dict[str, Destination]:
    found: dict[str, Destination] = {}
    for key in section.names():
        domain = _domain(section, key)
        if domain in found:
            raise section.error(key, "is there twice, in two spellings")
        found[domain] = _destination(section, key)
    return found


def _domain(section: Section, key: str) -> str:
    if key.lower() == ANY:
        return _ANY_DOMAIN
    wildcard, name = key.startswith("*."), key.removeprefix("*.")
    try:
        return ("." if wildcard else "") + to_a_label(name.removesuffix("."))
    except AddressError:
        raise section.error(key, "is neither a domain, *.domain, nor 'any'") from None


def _destination(section: Section, key: str) -> Destination:
    text = section.text(key, "")
    expected = 'expected for example {"action":"accept","nexthop":"10.0.0.5:25"}'
    told = "what stands here" if any(word in text for word in _OF_LOGINS) else shown(text)
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise section.error(key, f"{told} is not JSON; {expected}") from None
    if not isinstance(value, dict):
        raise section.error(key, f"{told} is not a JSON object; {expected}")
    action, next_hop = value.get("action"), value.get("nexthop")
    if action is not None and action not in ACTIONS:
        found = shown(str(action))
        raise section.error(key, f"action {found} is not one of {', '.join(ACTIONS)}")
    for unknown in value.keys() - {"action", "nexthop"}:
        section.warn(key, f"unknown key {shown(unknown)}")
    if not next_hop:
        return Destination(action)
    try:
        return Destination(action, parse_next_hops(next_hop))
    except ValueError as problem:
        raise section.error(key, f"nexthop {problem}") from None


def load(site: Site) -> "Relay":
    """From relay.ini, relay_acl_allow and relay_dest_domains.ini."""
    settings = RelaySettings.load(site.config)
    if settings.all:
        log.warn("relay.ini [relay] all=true: this is an open relay")
    if settings.dest_domains:
        return DestinationRelay(settings, RelayUnlessRefused(settings))
    return Relay(settings)


@implementer(IRelayHook, IRouteHook)
@frozen
class Relay:
    """Lets hosts of relay_acl_allow relay, and routes by relay_dest_domains.ini."""

    settings: RelaySettings

    async def relaying(self, connection: Connection) -> bool:
        """An address is enough; a name could be anybody's."""
        return self.settings.all or connection.peer.host in self.settings.allowed

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        """A domain that is listed without a nexthop goes by DNS, whatever ``any`` says."""
        if not self.settings.force_routing or queued.envelope.route:
            return None  # the plugin that has taken it knows where it goes
        destination = self.settings.destination(domain) or self.settings.for_all_others
        if destination is None or not destination.next_hops:
            return None
        return tuple(evolve(hop, domain=domain) for hop in destination.next_hops)


@implementer(IRcptHook, IAskedLast)
@frozen
class DestinationRelay(Relay):
    """
    With dest_domains: relay_dest_domains.ini also says for whom anybody may send mail here.

    Recipients in domains that are not listed are refused.

    @ivar asked_last: accepts what ``"action":"continue"`` left to the other plugins.
    """

    asked_last: "RelayUnlessRefused"

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Whoever may relay is not asked for more; nor is who wants our postmaster."""
        domain = recipient.address.domain
        if transaction.relaying or not domain:
            return CONTINUE
        destination = self.settings.destination(domain)
        if destination is None or destination.action == "deny":
            return NOT_ALLOWED
        if destination.action is None:
            return NOT_ACCEPTED
        return ACCEPT if destination.action == "accept" else CONTINUE


@implementer(IRcptHook)
@frozen
class RelayUnlessRefused:
    """Haraka's ``continue``: the domain may be relayed to if no other plugin objects."""

    settings: RelaySettings

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Asked after all other plugins."""
        destination = self.settings.destination(recipient.address.domain)
        wanted = destination is not None and destination.action == "continue"
        return ACCEPT if wanted else CONTINUE
