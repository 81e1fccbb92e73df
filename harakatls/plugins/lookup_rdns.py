"""Finds the peer's name in the DNS: that of its address, if it leads back to it (lookup_rdns)."""

from ipaddress import IPv4Address, IPv6Address

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooSlow
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.hosts import host_address
from harakatls.config.timeouts import plugin_timeout
from harakatls.connection import Connection
from harakatls.interfaces import (
    IPeerNameHook,
    IResolver,
    NoSuchDomain,
    ResolutionFailed,
    Site,
)

log = Logger()

NAME = "lookup_rdns"
FILE = "lookup_rdns.ini"
DEFAULT = 4.0  # seconds
LEAST, MOST = 0.1, 60.0

MOST_NAMES = 5  # of one address; whoever has more of them gains nothing
MOST_AT_ONCE = 100  # peers; each question needs a file descriptor, for longer than we wait
MOST_KEPT = 10_000
KEPT = 300.0  # seconds that an answer holds
FAILURE_KEPT = 30.0  # and that nobody is asked again who did not answer

_Address = IPv4Address | IPv6Address


def load(site: Site) -> "ReverseLookup":
    """From lookup_rdns.ini."""
    return ReverseLookup(site.resolver, site.clock, time_limit(site.config))


def time_limit(config: ConfigDirectory) -> float:
    """
    How long one peer's name may take in all, in seconds.

    @raise ConfigError: it is no such time, or the plugin would be cut off before.
    """
    main = config.ini(FILE).main
    seconds = main.seconds("timeout", DEFAULT, minimum=LEAST, maximum=MOST)
    limit = plugin_timeout(config, NAME)
    if limit and seconds >= limit:
        problem = f"{seconds:g} is not below the plugin's time limit, {limit:g}"
        raise main.error("timeout", problem)
    return seconds


@implementer(IPeerNameHook)
class ReverseLookup:
    """
    Asks for PTR, then for the addresses of the names that it gives (RFC 8601 section 3).

    Anybody can call his address mx.example.com in his own zone; only who has the zone example.com
    can make that name lead to the address. The rest is no name.
    """

    def __init__(self, resolver: IResolver, clock: IReactorTime, seconds: float) -> None:
        """@param seconds: for one peer in all."""
        self._resolver = resolver
        self._clock = clock
        self._seconds = seconds
        self._under_way = 0
        self._is_busy = False
        # Until when it holds, and the name. A name that is not there is no record to be kept by
        # the resolver, and yet what most peers come with who come often.
        self._kept: dict[_Address, tuple[float, str | None]] = {}

    async def peer_name(self, connection: Connection) -> str | None:
        """None also where it took too long, or too many peers are looked up just now."""
        address = host_address(connection.peer.host)
        if address.is_loopback or address.is_link_local or address.is_unspecified:
            return None  # no zone has them
        kept = self._kept.get(address)
        if kept is not None and self._clock.seconds() < kept[0]:
            return kept[1]
        if self._under_way >= MOST_AT_ONCE:
            self._too_many()
            return None
        self._under_way += 1
        try:
            name, seconds = await self._look_up(address)
        finally:
            self._under_way -= 1
            self._is_busy = self._is_busy and self._under_way > MOST_AT_ONCE // 2
        self._keep(address, self._clock.seconds() + seconds, name)
        return name

    async def _look_up(self, address: _Address) -> tuple[str | None, float]:
        """@return: the name, and for how many seconds that holds."""
        looking = Deferred.fromCoroutine(self._confirmed(address))
        try:
            return await looking.addTimeout(self._seconds, self._clock), KEPT
        except NoSuchDomain:
            return None, KEPT
        except (ResolutionFailed, TooSlow):
            return None, FAILURE_KEPT

    async def _confirmed(self, address: _Address) -> str | None:
        """
        The first name that leads back to *address*.

        @raise NoSuchDomain: it has no name at all.
        @raise ResolutionFailed: what there is cannot be confirmed at present.
        """
        names = await self._resolver.names(str(address))
        failure: ResolutionFailed | None = None
        # One after the other: all at once would be ten questions for each that comes.
        for name in [name for name in names if "." in name][:MOST_NAMES]:
            try:
                found = await self._resolver.addresses(name)
            except NoSuchDomain:
                continue
            except ResolutionFailed as problem:
                failure = problem
                continue
            if any(host_address(each) == address for each in found):
                return name
        if failure is not None:
            raise failure
        return None

    def _keep(self, address: _Address, until: float, name: str | None) -> None:
        self._kept.pop(address, None)
        if len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[address] = (until, name)

    def _too_many(self) -> None:
        """One line when it begins; the next when it has been over."""
        if not self._is_busy:
            self._is_busy = True
            log.warn(
                "the DNS is slow: {count} peers wait for their names, and others have none",
                count=MOST_AT_ONCE,
            )
