"""One connection inside of TLS: what the server says, and how it ends."""

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.protocol import GOODBYE, OutboundProtocol
from harakatls.smtp.client import ClientSession
from harakatls.smtp.events import Asked
from tests.inbound.transports import RecordingTLS

GREETING = b"220 peer.example\r\n"
EHLO = b"250-peer.example\r\n250 STARTTLS\r\n"


class Creator:
    """Makes the client's part of the connection."""

    def clientConnectionForTLS(self, _: object) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


class Wire:
    """As much of a transport as is needed."""

    def __init__(self, protocol: IProtocol) -> None:
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.ending = ""

    def write(self, octets: bytes) -> None:
        self.sent.append(octets)

    def loseConnection(self) -> None:
        self.ending = self.ending or "in order"

    def abortConnection(self) -> None:
        self.ending = "cut"

    def taken(self) -> bytes:
        sent, self.sent = b"".join(self.sent), []
        return sent


class SecuredTests(SynchronousTestCase):
    """A connection behind STARTTLS; the server is OpenSSL's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.session = ClientSession()
        self.protocol = OutboundProtocol(self.session, self.clock)
        self.wire = Wire(self.protocol)
        transport: Any = self.wire
        self.protocol.makeConnection(transport)
        self.protocol.dataReceived(GREETING)
        self.heard(Asked.GREETING)
        self.session.hello("mta.example")
        self.protocol.dataReceived(EHLO)
        self.heard(Asked.HELLO)
        self.session.start_tls()
        self.protocol.dataReceived(b"220 go\r\n")
        self.heard(Asked.STARTTLS)
        self.server = RecordingTLS().serverConnectionForTLS(None)
        self.server.set_accept_state()
        creator: Any = Creator()
        self.shaking = Deferred.fromCoroutine(self.protocol.start_tls(creator, 9.0))

    def answer(self, asked: Asked) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self.protocol.answer(asked, 10.0))

    def heard(self, asked: Asked) -> str:
        return str(self.successResultOf(self.answer(asked)))

    def shake(self) -> None:
        self.server.bio_write(self.wire.taken())
        self.assertRaises(SSL.WantReadError, self.server.do_handshake)
        self.protocol.dataReceived(self.server.bio_read(1 << 16))
        self.server.bio_write(self.wire.taken())
        self.server.do_handshake()
        self.successResultOf(self.shaking)
        self.session.tls_started()
        self.protocol.send(self.session.hello("mta.example"))
        self.server.bio_write(self.wire.taken())
        self.assertEqual(self.server.recv(100), b"EHLO mta.example\r\n")

    def says(self, octets: bytes, ends: bool = False) -> None:
        if octets:
            self.server.send(octets)
        if ends:
            self.server.shutdown()
        self.protocol.dataReceived(self.server.bio_read(1 << 16))

    def test_an_answer(self) -> None:
        """It is understood, also where it comes in pieces."""
        self.shake()
        answer = self.answer(Asked.HELLO)
        self.server.send(b"250 peer.example\r\n")
        for octet in self.server.bio_read(1 << 16):
            self.protocol.dataReceived(bytes((octet,)))
        self.assertEqual(str(self.successResultOf(answer)), "250 peer.example")

    def test_the_last_words(self) -> None:
        """What a server says right before it closes is heard; then it is over, in order."""
        self.shake()
        self.says(b"421 4.3.2 Bye\r\n", ends=True)
        self.assertEqual(self.heard(Asked.HELLO), "421 4.3.2 Bye")
        self.assertTrue(self.protocol.lost)
        self.assertEqual(self.wire.ending, "in order")
        self.assertFalse(self.protocol.given_up)

    def test_the_end(self) -> None:
        """A server that ends TLS has closed, though TCP is open still."""
        self.shake()
        answer = self.answer(Asked.HELLO)
        self.says(b"", ends=True)
        problem = self.failureResultOf(answer, ConnectionBroken).value
        self.assertIn("the server closed the connection", str(problem))

    def test_a_peer_that_does_not_take_the_end(self) -> None:
        """It is waited for a moment, then the connection is cut: nothing stays for ever."""
        self.shake()
        self.says(b"", ends=True)
        self.assertEqual(self.wire.ending, "in order")
        self.clock.advance(GOODBYE)
        self.assertEqual(self.wire.ending, "cut")

    def test_damage(self) -> None:
        """Octets that were changed on the way are no answer, and the server is told."""
        self.shake()
        answer = self.answer(Asked.HELLO)
        self.server.send(b"250 peer.example\r\n")
        octets = bytearray(self.server.bio_read(1 << 16))
        octets[-1] ^= 1
        self.protocol.dataReceived(bytes(octets))
        problem = self.failureResultOf(answer, ConnectionBroken).value
        self.assertIn("TLS broke: ", str(problem))
        self.server.bio_write(self.wire.taken())
        self.assertRaises(SSL.Error, self.server.recv, 100)

    def test_no_tls(self) -> None:
        """A server that agreed to TLS and does not speak it."""
        self.protocol.dataReceived(b"500 5.5.2 What is this?\r\n")
        problem = self.failureResultOf(self.shaking, ConnectionBroken).value
        self.assertTrue(problem.securing)
        self.assertIn("the peer does not speak TLS", str(problem))

    def test_it_is_gone(self) -> None:
        """Nothing is written any more, and TLS knows that it was not its fault."""
        self.shake()
        self.protocol.connectionLost()
        self.protocol.send(b"QUIT\r\n")
        self.assertEqual(self.wire.sent, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
