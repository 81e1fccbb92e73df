"""How an OCSP responder is asked: by HTTP, within limits (RFC 6960 appendix A.1)."""

from base64 import b64encode
from typing import Any
from urllib.parse import quote

from attrs import define, field, frozen
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

MOST_OCTETS = 65536
"""Of a response; those that are meant well have 2,000 or less."""

TIME_LIMIT = 30.0
"""Seconds for a question and its answer, all in all."""

_CONNECT_LIMIT = 10.0
_MOST_ON_THE_WIRE = MOST_OCTETS + 16384  # with what is not the body
_LONGEST_GET = 255  # RFC 5019 section 5: longer ones are no use to caches
_OK = 200
_LONGEST_REASON = 150  # characters; the responder may have chosen them
_HEADERS = {b"User-Agent": [b"harakatls"], b"Accept": [b"application/ocsp-response"]}
_TYPE = {b"Content-Type": [b"application/ocsp-request"]}


class NoResponse(Exception):
    """The responder did not give anything that could be a response; the text says why."""


@frozen
class Responders:
    """
    Those who are asked.

    @ivar agent: how to reach them.
    """

    agent: IAgent
    clock: IReactorTime

    async def ask(self, url: str, request: bytes) -> bytes:
        """
        By GET where that is short enough, else or where GET is refused by POST.

        @param request: as `ocsp.request_for` makes it.
        @raise NoResponse: there was none.
        """
        asking = _left_when_cancelled(Deferred.fromCoroutine(self._ask(url, request)))
        asking.addTimeout(TIME_LIMIT, self.clock)
        try:
            return await asking
        except (CancelledError, NoResponse):
            raise
        except defer.TimeoutError:
            raise NoResponse(f"no answer from {url} in {TIME_LIMIT:g} seconds") from None
        except Exception as problem:
            raise NoResponse(f"{url} cannot be asked: {_reason(problem)}") from None

    async def _ask(self, url: str, request: bytes) -> bytes:
        get = f"{url.rstrip('/')}/{quote(b64encode(request), safe='')}"
        if len(get) <= _LONGEST_GET and "?" not in url and "#" not in url:
            try:
                return await self._exchange(b"GET", get)
            except _Refused:
                pass
        return await self._exchange(b"POST", url, _Octets(request))

    async def _exchange(self, method: bytes, url: str, body: "_Octets | None" = None) -> bytes:
        headers = Headers(_HEADERS if body is None else {**_HEADERS, **_TYPE})
        response: Any = await self.agent.request(method, url.encode("ascii"), headers, body)
        collected = _Body()
        too_long = response.length is not UNKNOWN_LENGTH and response.length > MOST_OCTETS
        if response.code != _OK or too_long:
            collected.limit = 0  # it has to be taken, or the connection would stay
        response.deliverBody(collected)
        if response.code != _OK:
            raise _Refused(f"{url} answers with HTTP status {response.code}")
        if too_long:
            raise NoResponse(_TOO_LONG)
        return await collected.done


def _left_when_cancelled(asking: Deferred[bytes]) -> Deferred[bytes]:
    """
    Fails with CancelledError when it is cancelled.

    What the agent makes of that depends on how far it has come: ResponseNeverReceived,
    ConnectingCancelledError and others, which look as if the responder had failed.
    """

    def cancel(left: Deferred[bytes]) -> None:
        left.errback(CancelledError())
        asking.cancel()

    def pass_on(outcome: bytes | Failure) -> None:
        if not waiting.called:
            waiting.callback(outcome)  # a failure as well

    waiting: Deferred[bytes] = Deferred(cancel)
    asking.addBoth(pass_on)
    return waiting


_TOO_LONG = f"the response has more than {MOST_OCTETS} octets"


class _Refused(NoResponse):
    """The responder speaks HTTP, but does not like the question."""


def _reason(problem: BaseException | None) -> str:
    causes = getattr(problem, "reasons", None)  # ResponseFailed has a list of them
    if isinstance(causes, list) and causes and isinstance(causes[0], Failure):
        problem = causes[0].value
    if problem is not None and any(isinstance(part, bytes) for part in problem.args):
        # Twisted adds what the responder said where that was no HTTP.
        problem = ValueError(*(part for part in problem.args if not isinstance(part, bytes)))
    return (str(problem) or type(problem).__name__)[:_LONGEST_REASON]


class _Body(Protocol):
    """Collects a body up to a limit; at the first octet too much the connection is broken off."""

    def __init__(self) -> None:
        self.limit = MOST_OCTETS
        self.done: Deferred[bytes] = Deferred(lambda _: self._leave())
        self._collected = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._collected += data
        if len(self._collected) > self.limit:
            self._end(NoResponse(_TOO_LONG))
            self._leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Whether all came where no length was told, the signature shows.
        if isinstance(reason.value, (ResponseDone, PotentialDataLoss)):
            self._end(bytes(self._collected))
        else:
            self._end(NoResponse(f"the response is not complete: {_reason(reason.value)}"))

    def _end(self, outcome: bytes | NoResponse) -> None:
        if not self.limit or self.done.called:
            return
        if isinstance(outcome, bytes):
            self.done.callback(outcome)
        else:
            self.done.errback(outcome)

    def _leave(self) -> None:
        # What is collected must not count as a response once the connection has ended by that.
        self.limit = 0
        self._collected.clear()
        if self.transport is not None:
            self.transport.loseConnection()


@implementer(IBodyProducer)
@define
class _Octets:
    """A body that is there at once."""

    octets: bytes
    length: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.length = len(self.octets)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self.octets)
        return succeed(None)

    def stopProducing(self) -> None:
        """There is nothing left to stop."""

    def pauseProducing(self) -> None:
        """Nor to pause."""

    def resumeProducing(self) -> None:
        """Nor to resume."""


# -- over TCP -----------------------------------------------------------------------------------


def over_http(reactor: Any) -> Responders:
    """
    Responders as they are reached in earnest: by plain HTTP, since what they say is signed, with
    a new connection each time, and never a redirect.
    """
    agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor))  # type: ignore[no-untyped-call]
    return Responders(agent, reactor)


@implementer(IAgentEndpointFactory)
@frozen
class _Endpoints:
    reactor: Any

    def endpointForURI(self, uri: URI) -> "_BoundedEndpoint":
        return _BoundedEndpoint(
            HostnameEndpoint(self.reactor, uri.host, uri.port, timeout=_CONNECT_LIMIT)
        )


@frozen
class _BoundedEndpoint:
    """Breaks a connection off that brings too much: HTTP's headers have no limit of their own."""

    endpoint: Any

    def connect(self, factory: Any) -> Deferred[Any]:
        bounded = WrappingFactory(factory)  # type: ignore[no-untyped-call]
        bounded.protocol = _Bounded
        bounded.noisy = factory.noisy = False
        connecting: Deferred[Any] = self.endpoint.connect(bounded)
        return connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class _Bounded(ProtocolWrapper):
    room = _MOST_ON_THE_WIRE

    def dataReceived(self, data: bytes) -> None:
        fits = data[: self.room]
        self.room -= len(fits)
        super().dataReceived(fits)  # type: ignore[no-untyped-call]
        if len(fits) < len(data):
            transport: Any = self.transport
            transport.abortConnection()
