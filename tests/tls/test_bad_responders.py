"""Responders of OCSP that mean harm: what they send, octet by octet, and what becomes of it."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import OCSPNonce, load_der_x509_certificate, ocsp
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.ocsp import ResponseRefused, read_response
from harakatls.tls.responder import MOST_OCTETS, TIME_LIMIT, over_http
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS
from harakatls.tls.staples import Staples
from harakatls.tls.stapling import Stapler
from tests.tls.oddities import odd_certificates, odd_key
from tests.tls.responding import (
    DAY,
    GOOD,
    NOW,
    OCSP_SIGNING,
    UNKNOWN,
    Holder,
    certify,
    files_of,
    key_of,
    leaf,
    respond,
    root,
)

URL = "http://192.0.2.80/a"
DELEGATE = certify("delegate", key_of("EC", "delegate"), root(), usage=OCSP_SIGNING)
RESPONSES = respond(leaf()), respond(leaf(), signer=DELEGATE), respond(leaf(), by_name=True)


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A response of HTTP as a responder that is well gives it."""
    top = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""])
    return top.encode() + body


def damaged(response: bytes) -> bytes:
    """With another signature: that is what its last octet belongs to."""
    return response[:-1] + bytes([response[-1] ^ 1])


class OverTheWireTests(SynchronousTestCase):
    """From octets of HTTP to what a client gets to see."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.reactor.rightNow = NOW.timestamp()
        self.ours = certify("mx.example", key_of("EC"), root(), url=URL)
        staples = Staples(self.reactor)
        settings = InboundTLS(**files_of(self.ours), staples=True)
        self.tls = ServerTLS(settings, "mx.example", staples.octets)
        ask, directory = over_http(self.reactor).ask, Path(self.mktemp())
        self.stapler = Stapler(self.tls, staples, ask, directory, self.reactor)
        self.addCleanup(self.stapler.stopService)

    def begin(self) -> tuple[Any, StringTransport]:
        """The responder has been asked: the connection to it."""
        self.stapler.startService()
        self.reactor.advance(0)
        return self.connection()

    def connection(self) -> tuple[Any, StringTransport]:
        *_, (_host, _port, factory, *_more) = self.reactor.tcpClients
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def shown(self) -> bytes:
        """What a client of our server gets."""
        (found,) = self.tls.certified()
        return self.tls.staple_shown(found.pair)

    def said(self, *pieces: bytes) -> str:
        """@return: what is logged once the responder has sent this, and closed."""
        asked = len(self.reactor.tcpClients)
        with capturedLogs() as events:
            connection = self.begin()
            self.play(connection, pieces)
            if len(self.reactor.tcpClients) > asked + 1:  # by POST, since it did not like GET
                self.play(self.connection(), pieces)
        self.stapler.stopService()
        self.assertEqual([e for e in events if "log_failure" in e], [])
        (told,) = [formatEvent(e) for e in events if e["log_level"] is LogLevel.error]
        self.assertTrue(told.isprintable() and len(told) < 300, told)
        self.assertNotIn("<", told)  # as in the repr of an object
        return told

    def play(self, connection: tuple[Any, StringTransport], pieces: Iterable[bytes]) -> None:
        protocol, transport = connection
        for piece in pieces:
            if not (transport.disconnecting or transport.disconnected):
                protocol.dataReceived(piece)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)

    def test_good(self) -> None:
        """One that is well is understood: the other tests do not fail for nothing."""
        der = respond(self.ours)
        protocol, transport = self.begin()
        protocol.dataReceived(http(der))
        self.assertEqual(self.shown(), der)
        self.assertTrue(transport.disconnecting)

    def test_lies(self) -> None:
        """Responses that are well-formed and not true."""
        other, elsewhere = leaf("other.example"), root(name="Elsewhere")
        nobody = certify("nobody", key_of("EC", "nobody"), elsewhere, usage=OCSP_SIGNING)
        past = certify(
            "past",
            key_of("EC", "past"),
            root(),
            usage=OCSP_SIGNING,
            not_before=NOW - 9 * DAY,
            not_after=NOW - DAY / 24,
        )
        for lie, told in (
            (respond(other), "about another certificate"),
            (respond(self.ours, elsewhere), "nobody has signed it who may"),
            (respond(self.ours, signer=nobody), "not of the issuer"),
            (respond(self.ours, signer=past), "not valid now"),
            (respond(self.ours, signer=other), "not for signing responses"),
            (respond(self.ours, end=NOW - DAY / 24), "out of date"),
            (respond(self.ours, begin=NOW + DAY), "of the future"),
            (respond(self.ours, begin=NOW - 2 * DAY, end=None), "out of date"),
            (respond(self.ours, status=UNKNOWN), "does not know the certificate"),
            (damaged(respond(self.ours)), "signature"),
            (
                ocsp.OCSPResponseBuilder.build_unsuccessful(
                    ocsp.OCSPResponseStatus.TRY_LATER
                ).public_bytes(Encoding.DER),
                "try_later",
            ),
            (b"", "cannot be read"),
        ):
            self.assertIn(told, self.said(http(lie)))
            self.assertEqual(self.shown(), b"")

    def test_other_kinds_of_answer(self) -> None:
        """Redirects, compressed bodies, and what is no HTTP: nothing is followed or unpacked."""
        der = respond(self.ours)
        bomb = gzip.compress(bytes(50_000_000))
        self.assertLess(len(bomb), MOST_OCTETS)
        moved = [
            f"Location: {place}" for place in ("file:///etc/passwd", URL, "http://192.0.2.81:81/")
        ]
        for pieces in (
            (http(bomb, "Content-Encoding: gzip"),),
            (http(gzip.compress(der), "Content-Encoding: gzip"),),
            *((http(der, place, status="302 Found"),) for place in moved),
            *((http(der, place, status="307 Temporary Redirect"),) for place in moved),
            (http(der, status="204 No Content"),),
            (http(der)[:-1],),
            (b"220 mx.example ESMTP\r\n",),
            (b"\x15\x03\x01\x00\x02\x02\x46",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + der,),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + der,),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + der,),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n",),
            (b"HTTP/1.1 200 OK\x1b[2J\r\n[ERROR] feigned\r\n\r\n" + der,),
            (b"HTTP/1.1 999 \xff\xfe\r\n\r\n",),
            (b"\r\n" * 1000,),
            (b"\xff" * 10_000 + b"\r\n",),
        ):
            self.said(*pieces)
            self.assertEqual(self.shown(), b"")
        self.assertEqual({port for _, port, *_ in self.reactor.tcpClients}, {80})

    def endless(self) -> Iterable[tuple[bytes, bytes]]:
        """What comes first, and then again and again."""
        yield b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000)
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", bytes(1000)
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000
        yield b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n" * 100
        yield b"HTTP/1.1 200 OK\r\nX-More: ", b"x" * 1000
        yield b"HTTP/1.1 200 OK\r\nX-More: x\r\n", b" folded\r\n" * 100
        yield b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50
        yield b"", b"x" * 1000
        yield b"HTTP/1.1 500 No\r\n\r\n", bytes(1000)

    def test_endless(self) -> None:
        """Whatever it is that never ends, it is left after little."""
        for first, more in self.endless():
            with capturedLogs() as events:
                protocol, transport = self.begin()
                sent = len(first)
                protocol.dataReceived(first)
                while not (transport.disconnecting or transport.disconnected):
                    protocol.dataReceived(more)
                    sent += len(more)
                    self.assertLess(sent, 200_000, first)
                protocol.connectionLost(Failure(ConnectionDone()))
            self.stapler.stopService()
            self.assertEqual([e for e in events if "log_failure" in e], [], first)
            self.assertEqual(self.shown(), b"")

    def test_slow(self) -> None:
        """One octet a second, of a good response too: after the time limit it is left."""
        for pieces in (http(respond(self.ours)), b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100)):
            with capturedLogs() as events:
                protocol, transport = self.begin()
                for octet in pieces:
                    protocol.dataReceived(bytes([octet]))
                    self.reactor.advance(1)
                    if transport.disconnecting or transport.disconnected:
                        break
                protocol.connectionLost(Failure(ConnectionDone()))
            spent = self.reactor.seconds() - NOW.timestamp()
            self.reactor.rightNow = NOW.timestamp()
            self.assertEqual(spent, TIME_LIMIT)
            self.stapler.stopService()
            self.assertIn("no answer from", " ".join(formatEvent(event) for event in events))
            self.assertEqual(self.shown(), b"")

    def test_stop(self) -> None:
        """A server that stops, or shows another certificate, leaves off at once and for good."""
        other = certify("mx.example", key_of("EC", "other"), root())
        for octets in (None, b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\nhalf"):
            for stop in (
                self.stapler.stopService,
                lambda: self.tls.replace(InboundTLS(**files_of(other), staples=True)),
            ):
                with capturedLogs() as events:
                    self.stapler.startService()
                    self.reactor.advance(0)
                    if octets is not None:
                        protocol, _ = self.connection()
                        protocol.dataReceived(octets)
                    stop()
                    self.reactor.advance(0)
                self.assertEqual([e for e in events if e["log_level"] >= LogLevel.warn], [])
                self.assertEqual(self.reactor.getDelayedCalls(), [])
                self.stapler.stopService()
                self.tls.replace(InboundTLS(**files_of(self.ours), staples=True))

    def test_nonce(self) -> None:
        """We ask without a nonce, so that one in the answer is of no account."""
        der = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                self.ours.certificate,
                root().certificate,
                SHA1(),
                GOOD,
                NOW - DAY,
                NOW + DAY,
                None,
                None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, root().certificate)
            .add_extension(OCSPNonce(b"somebody else's"), False)
            .sign(root().key, SHA256())
            .public_bytes(Encoding.DER)
        )
        protocol, _ = self.begin()
        protocol.dataReceived(http(der))
        self.assertEqual(self.shown(), der)

    @settings(max_examples=150)
    @given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from([b"", b"HTTP/1.1 200 "]))
    def test_anything(self, pieces: list[bytes], first: bytes) -> None:
        """Whatever octets come: nothing is shown, and nothing but a line in the log."""
        self.said(first, *pieces)
        self.assertEqual(self.shown(), b"")


class ReadingTests(SynchronousTestCase):
    """Responses that are damaged or odd."""

    @settings(max_examples=500)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A good response with octets changed, cut out or put in is refused, if not still good."""
        octets = bytearray(data.draw(st.sampled_from(RESPONSES)))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(octets)))
            octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        try:
            staple = read_response(bytes(octets), leaf().certificate, root().certificate, NOW)
        except ResponseRefused as refused:
            self.assertTrue(str(refused).isprintable())
        else:
            self.assertFalse(staple.revoked)

    def test_odd_signers(self) -> None:
        """A signer whose certificate can hardly be read is refused in words."""
        for what, der in odd_certificates().items():
            try:
                signer = Holder(load_der_x509_certificate(der), odd_key())
                response = respond(leaf(), signer=signer)
            except Exception:  # not even the test can make one
                continue
            with self.assertRaises(ResponseRefused, msg=what):
                read_response(response, leaf().certificate, root().certificate, NOW)
            with self.assertRaises(ResponseRefused, msg=what):
                read_response(response, leaf().certificate, signer.certificate, NOW)
