"""Tests for harakatls.tls.responder."""

from base64 import b64decode
from typing import Any
from urllib.parse import unquote

from attrs import define, field
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent
from zope.interface import implementer

from harakatls.tls.responder import MOST_OCTETS, TIME_LIMIT, NoResponse, Responders, over_http
from tests.tls.responding import URL

REQUEST = b"0\x01?\xff" * 10


@define
class Connection:
    """As much of a transport as a body may use."""

    lost: bool = False
    body: Any = None

    def loseConnection(self) -> None:
        """The client has had enough; as in earnest, the body has ended before this returns."""
        if not self.lost:
            self.lost = True
            self.body.connectionLost(Failure(PotentialDataLoss()))


@define
class Answer:
    """A response of HTTP."""

    code: int = 200
    length: Any = UNKNOWN_LENGTH
    connection: Connection = field(factory=Connection)
    body: Any = None

    def deliverBody(self, protocol: Any) -> None:
        """Octets follow as the test says."""
        self.body = self.connection.body = protocol
        protocol.makeConnection(self.connection)

    def bring(self, octets: bytes, reason: BaseException | None = None) -> None:
        """The whole body."""
        self.body.dataReceived(octets)
        self.body.connectionLost(Failure(reason or ResponseDone()))


@implementer(IAgent)
class Agent:
    """Notes requests; the test answers them."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, Headers | None, bytes | None]] = []
        self.waiting: list[Deferred[Any]] = []
        self.cancelled = 0

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: Any = None
    ) -> Deferred[Any]:
        """As twisted.web's."""
        body = None if bodyProducer is None else bodyProducer.octets
        self.requests.append((method, uri, headers, body))

        def cancel(_: Deferred[Any]) -> None:
            self.cancelled += 1

        self.waiting.append(Deferred(cancel))
        return self.waiting[-1]

    def answer(self, code: int = 200, length: Any = UNKNOWN_LENGTH) -> Answer:
        """To the last request."""
        answer = Answer(code, length)
        self.waiting[-1].callback(answer)
        return answer


class ResponderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.agent, self.clock = Agent(), Clock()

    def ask(self, url: str = URL, request: bytes = REQUEST) -> Deferred[bytes]:
        return Deferred.fromCoroutine(Responders(self.agent, self.clock).ask(url, request))

    def assert_failed(self, asking: Deferred[bytes], words: str) -> None:
        self.assertIn(words, str(self.failureResultOf(asking, NoResponse).value))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_get(self) -> None:
        """A short question is asked so that caches on the way can answer it."""
        asking = self.ask()
        ((method, uri, _, body),) = self.agent.requests
        self.assertEqual((method, body), (b"GET", None))
        encoded = uri.decode().removeprefix(URL + "/")
        self.assertNotIn("/", encoded)
        self.assertEqual(b64decode(unquote(encoded)), REQUEST)
        self.agent.answer().bring(b"response")
        self.assertEqual(self.successResultOf(asking), b"response")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_post(self) -> None:
        """A long one is posted, and so is any to a URL that cannot be made longer."""
        for url, request in ((URL, REQUEST * 6), ("http://ocsp.example/?ca=1", REQUEST)):
            asking = self.ask(url, request)
            method, uri, headers, body = self.agent.requests[-1]
            self.assertEqual((method, uri, body), (b"POST", url.encode(), request))
            assert headers is not None
            self.assertEqual(headers.getRawHeaders("Content-Type"), ["application/ocsp-request"])
            self.agent.answer().bring(b"response", PotentialDataLoss())
            self.assertEqual(self.successResultOf(asking), b"response")

    def test_get_refused(self) -> None:
        """A responder that knows POST alone is asked so."""
        asking = self.ask()
        self.agent.answer(405).bring(b"no")
        self.assertEqual([request[0] for request in self.agent.requests], [b"GET", b"POST"])
        self.agent.answer().bring(b"response")
        self.assertEqual(self.successResultOf(asking), b"response")

    def test_refused(self) -> None:
        """An error page is no response, nor is a redirect followed."""
        for code in (301, 404, 500):
            asking = self.ask()
            self.agent.answer(code)
            refused = self.agent.answer(code)
            refused.body.dataReceived(b"<html>")
            self.assertTrue(refused.connection.lost)
            self.assert_failed(asking, f"status {code}")

    def test_too_long(self) -> None:
        """A responder that sends without end is left, whatever length it tells."""
        asking = self.ask()
        answer = self.agent.answer()
        answer.body.dataReceived(bytes(MOST_OCTETS))
        self.assertNoResult(asking)
        answer.body.dataReceived(b"x")
        self.assertTrue(answer.connection.lost)
        self.assert_failed(asking, "more than 65536 octets")
        answer.body.connectionLost(Failure(error.ConnectionDone()))
        asking = self.ask()
        answer = self.agent.answer(length=10_000_000)
        self.assert_failed(asking, "more than 65536 octets")
        answer.body.dataReceived(b"x")
        self.assertTrue(answer.connection.lost)

    def test_slow(self) -> None:
        """A responder that takes its time is left, before its answer or midway."""
        for begun in (False, True):
            asking = self.ask()
            answer = self.agent.answer() if begun else None
            self.clock.advance(TIME_LIMIT)
            self.assert_failed(asking, "no answer")
            self.assertTrue(answer.connection.lost if answer else self.agent.cancelled)

    def test_unreachable(self) -> None:
        """Why a responder cannot be asked is told in one line."""
        refused = error.ConnectionRefusedError("refused")
        for problem in (refused, ResponseFailed([Failure(refused)]), ValueError("refused")):
            asking = self.ask()
            self.agent.waiting[-1].errback(problem)
            self.assert_failed(asking, "refused")

    def test_broken_off(self) -> None:
        """Half a response is none."""
        asking = self.ask()
        self.agent.answer().bring(b"resp", ResponseFailed([Failure(error.ConnectionLost())]))
        self.assert_failed(asking, "not complete")

    def test_cancelled(self) -> None:
        """A server that stops does not wait for responders."""
        asking = self.ask()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(self.agent.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OverHTTPTests(SynchronousTestCase):
    """What becomes of octets from a responder, without a socket."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        ask = over_http(self.reactor).ask
        self.asking = Deferred.fromCoroutine(ask("http://192.0.2.80:8080/a", REQUEST))
        ((_, self.port, factory, *_),) = self.reactor.tcpClients
        protocol: Any = factory.buildProtocol(None)
        self.protocol = protocol
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def test_exchange(self) -> None:
        """The responder is asked at its place, and its answer taken."""
        self.assertEqual(self.port, 8080)
        sent = self.transport.value()
        self.assertRegex(sent, rb"^GET /a/[^ /]+ HTTP/1.1\r\n")
        self.assertIn(b"\r\nHost: 192.0.2.80:8080\r\n", sent)
        self.protocol.dataReceived(b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nresponse")
        self.assertEqual(self.successResultOf(self.asking), b"response")

    def test_endless_body(self) -> None:
        """Ten megabytes are not taken into memory; the connection ends long before."""
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(3):
            self.protocol.dataReceived(bytes(65536))
        self.assertTrue(self.transport.disconnecting)
        failure = self.failureResultOf(self.asking, NoResponse)
        self.assertIn("more than 65536 octets", str(failure.value))

    def test_endless_header(self) -> None:
        """Nor a header without end, for which HTTP has no limit."""
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n")
        for number in range(100):
            self.protocol.dataReceived(b"X-%d: %s\r\n" % (number, b"x" * 1000))
        self.assertTrue(self.transport.disconnected)
        self.protocol.connectionLost(Failure(error.ConnectionAborted()))
        self.failureResultOf(self.asking, NoResponse)

    def test_no_http(self) -> None:
        """Who speaks something else is told of as such."""
        self.protocol.dataReceived(b"220 mx.example.com ESMTP\r\n")
        self.failureResultOf(self.asking, NoResponse)
