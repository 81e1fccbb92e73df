"""Who may send to any domain, and where mail for a domain goes (Haraka's relay)."""

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import HostList, host_address, host_name
from harakatls.config.section import Section
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IAskedLast, IRcptHook, IRelayHook, IRouteHook, Site
from harakatls.mail.address import AddressError, to_a_label
from harakatls.mail.envelope import Recipient
from harakatls.mail.route import LMTP, LMTP_PORT, SMTP, SMTP_PORT, NextHop
from harakatls.queued import QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict

log = Logger()

ANY = "any"  # the key of the route of all domains that have none of their own
_PORTS = {SMTP: SMTP_PORT, LMTP: LMTP_PORT}
_ANY_DOMAIN = "*"  # what it is kept under: mail for a domain "any" is mail for that domain
ACTIONS = ("accept", "continue", "deny")
NOT_ALLOWED = Reject(Reply.of(550, "5.7.1", "You are not allowed to relay"))
NOT_ACCEPTED = Reject(Reply.of(550, "5.7.1", "Mail for that recipient is not accepted here"))


@frozen
class Destination:
    """
    One line of relay_dest_domains.ini.

    @ivar action: what becomes of recipients in this domain; None where it was not said.
    @ivar next_hop: where its mail goes: (host, port, protocol); None leaves that to others.
    """

    action: str | None = None
    next_hop: tuple[str, int, str] | None = None


@frozen
class RelaySettings:
    """@ivar destinations: by domain, as A-labels, and for all others by C{*}."""

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
            destinations={
                _domain(domains, key): _destination(domains, key) for key in domains.names()
            },
        )


def _domain(section: Section, key: str) -> str:
    if key.lower() == ANY:
        return _ANY_DOMAIN
    try:
        return to_a_label(key.removesuffix("."))
    except AddressError:
        raise section.error(key, "is neither a domain nor 'any'") from None


def _destination(section: Section, key: str) -> Destination:
    text = section.text(key, "")
    expected = 'expected for example {"action":"accept","nexthop":"10.0.0.5:25"}'
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise section.error(key, f"{shown(text)} is not JSON; {expected}") from None
    if not isinstance(value, dict):
        raise section.error(key, f"{shown(text)} is not a JSON object; {expected}")
    action, next_hop = value.get("action"), value.get("nexthop")
    if action is not None and action not in ACTIONS:
        found = shown(str(action))
        raise section.error(key, f"action {found} is not one of {', '.join(ACTIONS)}")
    for unknown in value.keys() - {"action", "nexthop"}:
        section.warn(key, f"unknown key {shown(unknown)}")
    if not next_hop:
        return Destination(action)
    try:
        return Destination(action, parse_next_hop(next_hop))
    except ValueError as problem:
        raise section.error(key, f"nexthop {problem}") from None


def parse_next_hop(text: object) -> tuple[str, int, str]:
    """
    ``host``, ``host:port``, ``192.0.2.1:port``, ``[2001:db8::1]:port`` or ``2001:db8::1``; behind
    ``lmtp://`` it speaks LMTP, as it speaks SMTP without or behind ``smtp://``.

    @return: host, as IP address or A-labels, port, and protocol.
    @raise ValueError: *text* is none of these; in words for the operator.
    """
    wrong = ValueError(f"{shown(str(text))} is not a host or host:port")
    if not isinstance(text, str):
        raise wrong
    scheme, slashes, rest = text.strip().partition("://")
    protocol = scheme.lower() if slashes else SMTP
    if protocol not in _PORTS:
        raise ValueError(f"{shown(text)} is neither smtp:// nor lmtp://")
    host, port = (rest if slashes else scheme), ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise wrong
        port = port[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if port and not (
        port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    ):
        raise ValueError(f"{shown(text)} has no port from 1 to 65535")
    try:
        name = str(host_address(host))
    except ValueError:
        try:
            name = host_name(host)
        except ValueError:
            raise wrong from None
    return name, int(port) if port else _PORTS[protocol], protocol


def load(site: Site) -> "Relay":
    """From relay.ini, relay_acl_allow and relay_dest_domains.ini."""
    settings = RelaySettings.load(site.config)
    if settings.all:
        log.warn("relay.ini [relay] all=true: this is an open relay")
    if settings.dest_domains:
        return DestinationRelay(settings, RelayUnlessRefused(settings.destinations))
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
        destinations = self.settings.destinations
        destination = destinations.get(domain) or destinations.get(_ANY_DOMAIN)
        if not self.settings.force_routing or destination is None or destination.next_hop is None:
            return None
        host, port, protocol = destination.next_hop
        name = None if _is_address(host) else host
        hop = NextHop(host, domain, port, mx_name=name, source="route", protocol=protocol)
        return (hop,)


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
        destination = self.settings.destinations.get(domain)
        if destination is None or destination.action == "deny":
            return NOT_ALLOWED
        if destination.action is None:
            return NOT_ACCEPTED
        return ACCEPT if destination.action == "accept" else CONTINUE


@implementer(IRcptHook)
@frozen
class RelayUnlessRefused:
    """Haraka's ``continue``: the domain may be relayed to if no other plugin objects."""

    destinations: Mapping[str, Destination]

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Asked after all other plugins."""
        destination = self.destinations.get(recipient.address.domain)
        wanted = destination is not None and destination.action == "continue"
        return ACCEPT if wanted else CONTINUE


def _is_address(host: str) -> bool:
    try:
        host_address(host)
    except ValueError:
        return False
    return True
