"""Looks mail routes and the names of peers up in the DNS, over twisted.names."""

from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet import defer
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.names import client, dns, hosts, resolve
from twisted.names.error import DNSNameError, DomainError, ResolverError
from zope.interface import implementer

from harakatls.config.hosts import host_address, host_name
from harakatls.interfaces import IResolver, NoSuchDomain, ResolutionFailed
from harakatls.mail.route import MailExchanger

RETRY_AFTER = (2, 4, 8)  # seconds, for each server in turn
TIME_LIMIT = 30.0  # seconds for one lookup, whatever happens
LONGEST_TTL = 3600.0
MOST_CACHED = 10_000
MOST_KEPT = 100  # records of one answer that is worth to be kept
MOST_ALIASES = 8  # CNAMEs one behind the other

_Section = Sequence[Any]  # of dns.RRHeader; the payload's type is known by the record's
_T = TypeVar("_T")
_Look = Callable[..., defer.Deferred[Any]]  # a look-up method of the client
_FAILURES = (DomainError, ResolverError, defer.TimeoutError, ConnectError, OSError, ValueError)


@frozen
class _Answer:
    """@ivar records: those of the type that was asked for. @ivar ttl: seconds."""

    records: tuple[Any, ...]
    ttl: float


@implementer(IResolver)
class DNSResolver:
    """
    Asks a client of twisted.names, and keeps its answers for as long as they live.

    A name that does not exist and a server that does not answer are told apart; a name that exists
    without the record is an empty answer.
    """

    def __init__(self, dns_client: Any, clock: IReactorTime) -> None:
        """@param dns_client: an `IResolver` of Twisted's, see `system_resolver`."""
        self._client = dns_client
        self._clock = clock
        self._cache: dict[tuple[str, int], tuple[float, tuple[Any, ...]]] = {}

    async def mx(self, domain: str) -> tuple[MailExchanger, ...]:
        """
        As `IResolver.mx`; a target that is no host name is left out.

        Where that leaves nothing, the domain has MX all the same, and its address does not count
        (RFC 5321 section 5.1).
        """
        records = await self._lookup(domain, dns.MX, self._client.lookupMailExchange)
        exchangers = ((r.preference, _host(r.name.name)) for r in records)
        found = tuple(MailExchanger(p, h) for p, h in exchangers if h is not None)
        if records and not found:
            raise ResolutionFailed(f"{domain}: no MX names a host")
        return found

    async def addresses(self, host: str) -> tuple[str, ...]:
        """
        As `IResolver.addresses`, IPv6 first.

        When one family fails and the other is there, that one is enough.
        """
        v6, v4 = await together(
            self._family(host, dns.AAAA, self._client.lookupIPV6Address),
            self._family(host, dns.A, self._client.lookupAddress),
        )
        found = tuple(a for family in (v6, v4) if not isinstance(family, Exception) for a in family)
        if found:
            return found
        # "No such name" says it for all types (RFC 8020), a failure leaves the question open.
        problems = [family for family in (v6, v4) if isinstance(family, Exception)]
        for kind in (NoSuchDomain, ResolutionFailed):
            for problem in problems:
                if isinstance(problem, kind):
                    raise problem
        return ()

    async def names(self, address: str) -> tuple[str, ...]:
        """As `IResolver.names`; each of them once."""
        # RFC 2317: where a network is not cut at an octet, each of its addresses is an alias.
        reverse = host_address(address).reverse_pointer
        records = await self._lookup(reverse, dns.PTR, self._client.lookupPointer)
        names = dict.fromkeys(_host_name(record.name.name) for record in records)
        return tuple(name for name in names if name is not None)

    async def _family(self, host: str, kind: int, look_up: _Look) -> tuple[str, ...] | Exception:
        try:
            records = await self._lookup(host, kind, look_up)
        except (NoSuchDomain, ResolutionFailed) as problem:
            return problem
        make = IPv6Address if kind == dns.AAAA else IPv4Address
        return tuple(str(make(record.address)) for record in records)

    async def _lookup(self, name: str, kind: int, look_up: _Look) -> tuple[Any, ...]:
        now = self._clock.seconds()
        cached = self._cache.get((name, kind))
        if cached is not None and now < cached[0]:
            return cached[1]
        answer = await self._ask(name, kind, look_up)
        if answer.ttl > 0 and len(answer.records) <= MOST_KEPT:
            if len(self._cache) >= MOST_CACHED:
                self._make_room(now)
            self._cache[name, kind] = (now + answer.ttl, answer.records)
        return answer.records

    def _make_room(self, now: float) -> None:
        """Forget what has expired; and if nothing has, the older half."""
        kept = [item for item in self._cache.items() if now < item[1][0]]
        self._cache = dict(kept[max(0, len(kept) - MOST_CACHED // 2) :])

    async def _ask(self, name: str, kind: int, look_up: _Look) -> _Answer:
        """
        Ask for *name*, then for what it is an alias of.

        A recursive server mostly gives the whole chain of CNAMEs at once; then it is one question.
        """
        asked, ttl = name.lower(), LONGEST_TTL
        for _ in range(MOST_ALIASES):
            answers, authority = await self._response(asked, look_up)
            names = _aliases(asked, answers)
            # What a server says of names that were not asked for is not believed.
            to_the_point = [r for r in answers if _text(r.name) in names]
            ttl = min([ttl, *(float(r.ttl) for r in to_the_point)])
            records = tuple(r.payload for r in to_the_point if r.type == kind)
            if records:
                return _Answer(records, ttl)
            if len(names) == 1:
                return _Answer((), min(ttl, _negative_ttl(authority)))
            asked = names[-1]
        raise ResolutionFailed(f"{name}: the aliases do not end")

    async def _response(self, name: str, look_up: _Look) -> tuple[_Section, _Section]:
        try:
            answers, authority, _ = await _apart(
                look_up(_octets(name), timeout=RETRY_AFTER), TIME_LIMIT, self._clock
            )
        except DNSNameError:
            raise NoSuchDomain(_told(name)) from None
        except defer.TimeoutError:
            raise ResolutionFailed(f"{_told(name)}: no answer from the DNS") from None
        except _FAILURES as problem:
            reason = type(problem).__name__.removeprefix("DNS").removesuffix("Error")
            raise ResolutionFailed(f"{_told(name)}: the DNS failed ({reason})") from None
        return answers, authority


class DNSClient(client.Resolver):
    """
    As Twisted's. An answer over TCP is not asked for again because it says it is truncated, and a
    question that cannot be sent is an answer.
    """

    def queryUDP(self, queries: Any, timeout: Any = None) -> Any:
        """As of the base class, which would wait for ever for the answer if this raised."""
        try:
            return super().queryUDP(queries, timeout)  # type: ignore[no-untyped-call]
        except Exception as problem:  # no file descriptor is left, or this is no name
            return defer.fail(ResolverError(str(problem)))

    def filterAnswers(self, message: Any) -> Any:
        """As of the base class; what is truncated over UDP is asked for over TCP."""
        if not message.trunc:
            return super().filterAnswers(message)  # type: ignore[no-untyped-call]
        return self.queryTCP(message.queries).addCallback(self._whole)  # type: ignore

    def _whole(self, message: Any) -> Any:
        if message.trunc:
            raise ResolverError("truncated")
        return super().filterAnswers(message)  # type: ignore[no-untyped-call]


def system_resolver(reactor: Any) -> DNSResolver:
    """Asks as /etc/hosts and /etc/resolv.conf say. Needs UDP, TCP and time of *reactor*."""
    dns.DNSDatagramProtocol.noisy = False  # else each question writes four lines to the log
    over_network: Any = DNSClient(  # type: ignore[no-untyped-call]
        resolv="/etc/resolv.conf", reactor=reactor
    )
    hosts_file: Any = hosts.Resolver()  # type: ignore[no-untyped-call]
    chain: Any = resolve.ResolverChain(  # type: ignore[no-untyped-call]
        [hosts_file, over_network]
    )
    return DNSResolver(chain, reactor)


async def together(*coroutines: Coroutine[defer.Deferred[Any], Any, _T]) -> list[_T]:
    """
    Run all at the same time.

    @return: their results, in order. The first that raises, and being cancelled, cancels the rest.
    """
    started = [defer.Deferred.fromCoroutine(coroutine) for coroutine in coroutines]
    try:
        return [await each for each in started]
    except BaseException:
        for each in started:
            each.addErrback(lambda _: None)
            each.cancel()
        raise


def _apart(asked: defer.Deferred[Any], seconds: float, clock: IReactorTime) -> defer.Deferred[Any]:
    """
    Wait for *asked* without being able to cancel it.

    twisted.names gives one question that is under way to all who ask it, so that a delivery that
    is cancelled would end the others' lookups as well.
    """
    waiting: defer.Deferred[Any] = defer.Deferred()

    def answered(response: Any) -> None:
        if not waiting.called:
            waiting.callback(response)

    asked.addBoth(answered)
    if not waiting.called:
        waiting.addTimeout(seconds, clock)
    return waiting


def _host(name: bytes) -> str | None:
    """As `MailExchanger.host`; None where it is no host name."""
    try:
        text = name.decode("ascii").lower().removesuffix(".")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and " " not in text else None


def _host_name(name: bytes) -> str | None:
    """As `harakatls.config.hosts.host_name`; None where it is no host name in ASCII."""
    try:
        return host_name(name.decode("ascii"))
    except ValueError:
        return None


def _text(name: Any) -> str:
    """Of a dns.Name, which may hold any octet; lower case, to be compared."""
    return bytes(name.name).lower().decode("latin-1")


def _octets(name: str) -> bytes:
    """As `_text` has it, back."""
    return name.encode("latin-1")


def _told(name: str) -> str:
    """An alias is what its zone says, and the reason is for the log and for the sender."""
    return name.encode("unicode_escape").decode()


def _aliases(name: str, answers: _Section) -> list[str]:
    """*name*, in lower case, and what it is an alias of, one after the other; each once."""
    targets = {_text(r.name): _text(r.payload.name) for r in answers if r.type == dns.CNAME}
    names = [name]
    while names[-1] in targets:
        names.append(targets.pop(names[-1]))
    return names


def _negative_ttl(authority: _Section) -> float:
    """How long an empty answer holds (RFC 2308 section 5); 0 where it does not say."""
    for record in authority:
        if record.type == dns.SOA:
            return float(min(record.ttl, record.payload.minimum))
    return 0.0
