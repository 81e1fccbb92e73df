"""From a domain to the hosts that take its mail, in the order of trying (RFC 5321 section 5.1)."""

import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv6Network
from itertools import groupby
from typing import Protocol

from attrs import evolve, frozen

from harakatls.config.hosts import host_address, is_address
from harakatls.hooks.asking import HookFailed
from harakatls.interfaces import IResolver, NoSuchDomain, ResolutionFailed
from harakatls.mail.route import SMTP_PORT, MailExchanger, NextHop
from harakatls.outbound.resolver import together
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import QueuedMessage
from harakatls.smtp.reply import Reply

MOST_HOSTS = 16  # of one domain; a malicious zone could name thousands
MOST_ADDRESSES = 8  # of one host

_UNIQUE_LOCAL = IPv6Network("fc00::/7")


class Router(Protocol):
    """What is needed of `hooks.chain.HookChain`."""

    def route(
        self, domain: str, queued: QueuedMessage
    ) -> Awaitable[tuple[NextHop, ...] | None]: ...


@frozen
class Route:
    """
    Where mail for a domain goes.

    @ivar groups: the hosts, still by name; those of one group are equally good. Each group is
        given to `Routing.addresses` when its turn comes, so that the slow DNS of a last resort
        holds up nothing.
    @ivar refusal: why there is no host to try (4yz or 5yz); None where there are some.
    """

    groups: tuple[tuple[NextHop, ...], ...] = ()
    refusal: Reply | None = None

    @property
    def destination(self) -> str | None:
        """The host it leads to first, however those that are equally good were shuffled."""
        if not self.groups:
            return None
        return min(_place(hop) for hop in self.groups[0])


@frozen
class Skipped:
    """A host that is not tried. @ivar reply: why not."""

    hop: NextHop
    reply: Reply


@frozen
class Addresses:
    """
    What a group of hosts came to.

    @ivar hops: hosts are IP addresses now, in the order of trying.
    @ivar ends: one of the hosts is this server, so that neither the others of the group nor later
        groups must be tried (RFC 5321 section 5.1: the mail would come back).
    """

    hops: tuple[NextHop, ...]
    skipped: tuple[Skipped, ...] = ()
    ends: bool = False


class Routing:
    """
    Asks the route hooks, then the DNS.

    A route hook has the last word on hosts and order; nothing is shuffled or left out.
    """

    def __init__(
        self,
        chain: Router,
        resolver: IResolver,
        settings: OutboundSettings,
        me: str,
        is_ours: Callable[[str], bool] | None = None,
        is_listener: Callable[[str, int], bool] | None = None,
        shuffle: Callable[[list[MailExchanger]], None] = random.shuffle,
    ) -> None:
        """
        @param is_ours: is this IP address one of this machine?
        @param is_listener: do we listen on this IP address and port? None where we do nowhere.
        """
        self._chain = chain
        self._resolver = resolver
        self._settings = settings
        self._me = me
        self._is_ours = is_ours or is_local_address
        self._is_listener = is_listener
        self._shuffle = shuffle

    # -- hosts --------------------------------------------------------------------------------

    async def route(self, queued: QueuedMessage) -> Route:
        """Never raises; what fails is a refusal."""
        # <postmaster> without a domain is ours (RFC 5321 section 4.5.1), also to route hooks: as
        # mail for no domain it would go wherever all other mail goes.
        domain = queued.domain or self._me
        try:
            given = await self._chain.route(domain, queued)
        except HookFailed as problem:
            return _refused(451, "4.3.0", f"The route is not known at present ({problem})")
        if given is None and queued.envelope.route:
            # It was accepted to go there; its MX may be this very server.
            text = f"No plugin knows the route {queued.envelope.route} that it is to take"
            return _refused(451, "4.4.4", text)
        if given is not None:
            if not given:
                return _refused(451, "4.4.4", "A plugin gave a route without any host")
            return Route(tuple((hop,) for hop in given))
        if domain.startswith("["):
            address = str(host_address(domain))
            return Route(((NextHop(address, domain, source="address literal"),),))
        return await self._from_dns(domain)

    async def _from_dns(self, domain: str) -> Route:
        try:
            exchangers = await self._resolver.mx(domain)
        except NoSuchDomain:
            return _refused(550, "5.1.2", f"The domain {domain} does not exist")
        except ResolutionFailed as problem:
            return _refused(451, "4.4.3", f"Where mail for {domain} goes is not known: {problem}")
        if not exchangers:
            return Route(((NextHop(domain, domain, mx_name=domain, source="implicit mx"),),))
        if [exchanger.host for exchanger in exchangers] == [""]:
            # RFC 7505 section 4.2
            return _refused(556, "5.1.10", f"The domain {domain} does not accept mail (null MX)")
        return Route(tuple(self._groups(domain, exchangers)))

    def _groups(
        self, domain: str, exchangers: Iterable[MailExchanger]
    ) -> Iterable[tuple[NextHop, ...]]:
        """Equal preferences in random order, so that the load is shared (RFC 5321)."""
        shuffled = list(exchangers)
        self._shuffle(shuffled)
        best = sorted(shuffled, key=lambda exchanger: exchanger.preference)[:MOST_HOSTS]
        for preference, equals in groupby(best, key=lambda exchanger: exchanger.preference):
            yield tuple(
                NextHop(e.host, domain, preference=preference, mx_name=e.host) for e in equals
            )

    # -- addresses ----------------------------------------------------------------------------

    async def addresses(self, group: tuple[NextHop, ...]) -> Addresses:
        """Look the hosts of *group* up; all at once. Never raises."""
        if len(group) == 1:
            found = [await self._one(group[0])]
        else:
            found = await together(*(self._one(hop) for hop in group))
        # RFC 5321 section 5.1: those of the same preference as this server must not be tried, too.
        ends = any(each.ends for each in found)
        hops = [] if ends else [hop for each in found for hop in each.hops]
        prefer = self._settings.inet_prefer
        if prefer != "default":
            hops.sort(key=lambda hop: (":" in hop.host) is (prefer == "v4"))
        return Addresses(
            tuple(hops),
            tuple(skipped for each in found for skipped in each.skipped),
            ends,
        )

    async def _one(self, hop: NextHop) -> Addresses:
        configured = hop.source == "route"
        if hop.is_socket:
            return Addresses((hop,))
        if is_address(hop.host):
            if hop.source == "mx":
                # RFC 2181 section 10.3: the target of an MX is the name of a host.
                return _skip(hop, 550, "5.4.4", f"MX {hop.host} is an address, not a host name")
            return self._allowed(hop, (hop.host,), configured)
        if not hop.host:
            return _skip(hop, 550, "5.4.4", "MX is no host name")
        if hop.host == self._me and not (configured or self._settings.local_mx_ok):
            return self._loop(hop)
        try:
            addresses = await self._resolver.addresses(hop.host)
        except NoSuchDomain:
            addresses = ()
        except ResolutionFailed as problem:
            return _skip(hop, 451, "4.4.3", f"The address of {hop.host} is not known: {problem}")
        if not addresses:
            return _skip(hop, *_no_address(hop))
        return self._allowed(hop, _some(addresses), configured)

    def _allowed(self, hop: NextHop, addresses: Iterable[str], configured: bool) -> Addresses:
        found = tuple(
            evolve(hop, host=a, mx_name=hop.mx_name or (None if a == hop.host else hop.host))
            for a in addresses
        )
        if configured:
            return self._not_to_ourselves(found)
        if self._settings.local_mx_ok:
            return Addresses(found)
        hops, skipped = [], []
        for each in found:
            if each.host in self._settings.public_ip or self._is_ours(each.host):
                return self._loop(each)
            if _is_private(each.host):
                reply = Reply.of(
                    451, "4.4.4", f"{_named(each)} is an address that is not for mail from others"
                )
                skipped.append(Skipped(each, reply))
            else:
                hops.append(each)
        return Addresses(tuple(hops), tuple(skipped))

    def _not_to_ourselves(self, found: tuple[NextHop, ...]) -> Addresses:
        """
        A configured route may lead to this machine (a filter, a mail store), but not to a port
        where we listen ourselves: each message would go round until it had too many Received
        fields.
        """
        hops, skipped = [], []
        for hop in found:
            if self._leads_back(hop):
                text = (
                    f"The route of mail for {hop.domain} leads back to this server: it listens on "
                    f"{_named(hop)} port {hop.port} itself"
                )
                skipped.append(Skipped(hop, Reply.of(451, "4.4.6", text)))
            else:
                hops.append(hop)
        return Addresses(tuple(hops), tuple(skipped))

    def _leads_back(self, hop: NextHop) -> bool:
        if self._is_listener is None or not self._is_listener(hop.host, hop.port):
            return False
        return hop.host in self._settings.public_ip or self._is_ours(hop.host)

    def _loop(self, hop: NextHop) -> Addresses:
        """
        The host is this server, and nothing says where the domain's mail goes from here.

        A passing failure, since it is mostly our own configuration that lacks a route: the mail
        waits until the operator has set it.
        """
        reply = Reply.of(
            451,
            "4.4.6",
            f"Mail for {hop.domain} would come back to this server: {_named(hop)} is this server",
        )
        return Addresses((), (Skipped(hop, reply),), ends=True)


def _refused(code: int, status: str, text: str) -> Route:
    return Route(refusal=Reply.of(code, status, text))


def _skip(hop: NextHop, code: int, status: str, text: str) -> Addresses:
    return Addresses((), (Skipped(hop, Reply.of(code, status, text)),))


def _some(addresses: Sequence[str]) -> Sequence[str]:
    """
    Not more than `MOST_ADDRESSES`, in their order; of both families where there are both, since
    this machine may have a way to one of them alone.
    """
    if len(addresses) <= MOST_ADDRESSES:
        return addresses
    v6 = [address for address in addresses if ":" in address]
    v4 = [address for address in addresses if ":" not in address]
    few = MOST_ADDRESSES // 2
    kept = {*v6[: max(few, MOST_ADDRESSES - len(v4))], *v4[: max(few, MOST_ADDRESSES - len(v6))]}
    return [address for address in addresses if address in kept]


def _no_address(hop: NextHop) -> tuple[int, str, str]:
    if hop.source == "route":
        # What the operator wrote is repaired by the operator; the mail waits.
        return 451, "4.4.4", f"The configured next hop {hop.host} has no address"
    if hop.source == "implicit mx":
        return 550, "5.1.2", f"The domain {hop.domain} has neither MX nor address"
    return 550, "5.4.4", f"MX {hop.host} has no address"


def _place(hop: NextHop) -> str:
    return hop.name if hop.is_socket or hop.port == SMTP_PORT else f"{hop.name}:{hop.port}"


def _named(hop: NextHop) -> str:
    return hop.mx_name if hop.host == hop.mx_name else f"{hop.mx_name or ''} [{hop.host}]".strip()


def _is_private(address: str) -> bool:
    """
    Loopback, link-local, unique local and the like: nothing that an MX of the world may name.

    The networks of RFC 1918 are allowed, since sites with DNS of their own use them.
    """
    ip = host_address(address)
    return (
        ip.is_loopback
        or ip.is_unspecified
        or ip.is_link_local
        or ip.is_multicast
        or (ip.version == 6 and ip in _UNIQUE_LOCAL)
    )


def is_local_address(address: str) -> bool:
    """
    Is *address* one of this machine?

    The kernel sends from an address of its own to that address itself; so connecting a UDP
    socket, which sends nothing, tells.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False
