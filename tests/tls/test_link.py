"""What is said goes out at once, in order, and whole, however slowly the peer takes it."""

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.layer import TLSBroken
from harakatls.tls.link import Link
from tests.inbound.transports import RecordingTLS


class WaitingRoom:
    """As much of a reactor as a connection needs that is never served by it."""

    def __init__(self) -> None:
        self.writers: set[object] = set()
        self.readers: set[object] = set()

    def addWriter(self, writer: object) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writers.discard(writer)

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)


class LinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        ours, self.peer = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.peer.close)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.peer.setblocking(False)
        self.reactor = WaitingRoom()
        self.ended: list[type | None] = []
        protocol: Any = self
        reactor: Any = self.reactor
        self.transport: Any = TCPConnection(ours, protocol, reactor)
        self.transport.connected = True
        self.transport.startReading()
        self.link = Link(self.transport)

    def connectionLost(self, reason: Failure) -> None:
        """As the protocol of the transport."""
        self.ended.append(reason.type)

    def taken(self) -> bytes:
        """What the peer gets, while the reactor serves our side."""
        found = b""
        while True:
            try:
                octets = self.peer.recv(1 << 20)
                if not octets:  # the end
                    return found
                found += octets
            except BlockingIOError:
                if not self.reactor.writers:
                    return found
                self.transport.doWrite()

    def shaken(self) -> SSL.Connection:
        """TLS was started: the client, whose last flight is still to be carried over."""
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        creator: Any = RecordingTLS()
        self.link.start_tls(creator)
        self.link.decrypt(client.bio_read(1 << 16))
        self.link.flush()
        client.bio_write(self.taken())
        client.do_handshake()
        return client

    def test_at_once(self) -> None:
        """A reply is with the peer before the reactor's next turn."""
        self.link.write(b"250 OK\r\n")
        self.assertEqual(self.peer.recv(100), b"250 OK\r\n")
        self.assertEqual(self.reactor.writers, set())

    def test_nothing(self) -> None:
        """Where there is nothing to be said nothing is sent."""
        self.link.write(b"")
        self.assertRaises(BlockingIOError, self.peer.recv, 1)

    def test_more_than_fits(self) -> None:
        """What the peer's socket does not take waits, and what comes later waits behind it."""
        octets = b"".join(b"%07d\r\n" % number for number in range(200_000))
        self.link.write(octets)
        self.assertEqual(self.reactor.writers, {self.transport})
        self.link.write(b"behind it\r\n")
        self.assertEqual(self.taken(), octets + b"behind it\r\n")
        self.link.write(b"at once again\r\n")
        self.assertEqual(self.peer.recv(100), b"at once again\r\n")

    def test_peer_that_takes_little(self) -> None:
        """A producer is told to pause when too much waits."""
        told = []

        class Producer:
            def pauseProducing(self) -> None:
                told.append("pause")

            def resumeProducing(self) -> None:
                told.append("resume")

        self.transport.registerProducer(Producer(), True)
        self.link.write(b"x" * 1_000_000)
        self.assertEqual(told, ["pause"])
        self.assertEqual(len(self.taken()), 1_000_000)
        self.assertEqual(told, ["pause", "resume"])

    def test_peer_is_gone(self) -> None:
        """A write to a broken connection raises nothing: the reactor finds out and tells."""
        self.peer.close()
        self.link.write(b"250 OK\r\n")
        self.assertEqual(self.reactor.writers, {self.transport})
        self.assertIs(self.transport.doWrite(), CONNECTION_LOST)

    def test_over_tls(self) -> None:
        """Inside of TLS as well."""
        client = self.shaken()
        self.assertEqual(self.link.decrypt(client.bio_read(1 << 16)), [])
        self.link.write(b"250 OK\r\n")
        client.bio_write(self.taken())
        self.assertEqual(client.recv(100), b"250 OK\r\n")

    def test_handshake_and_reply_go_together(self) -> None:
        """
        What TLS says at the end of the handshake is sent with the first reply: each write that
        wakes the peer costs more than the reply itself.
        """
        client = self.shaken()
        client.send(b"EHLO client.example\r\n")
        pieces = self.link.decrypt(client.bio_read(1 << 16))
        self.assertEqual(pieces, [b"EHLO client.example\r\n"])
        self.assertEqual(self.taken(), b"")
        self.link.write(b"250 OK\r\n")
        client.bio_write(self.taken())
        self.assertEqual(client.recv(100), b"250 OK\r\n")
        self.link.flush()
        self.assertEqual(self.taken(), b"")

    def test_close(self) -> None:
        """Where nothing waits the peer sees the end at once, behind the last words."""
        self.link.close(False, b"221 bye\r\n")
        self.assertEqual(self.peer.recv(100), b"221 bye\r\n")
        self.assertEqual(self.peer.recv(100), b"")
        self.assertEqual(self.ended, [ConnectionDone])
        self.assertEqual(self.reactor.readers, set())

    def test_close_while_octets_wait(self) -> None:
        """Nothing that was said before the end is lost."""
        octets = b"".join(b"%07d\r\n" % number for number in range(200_000))
        self.link.write(octets)
        self.link.close(False, b"221 bye\r\n")
        self.assertEqual(self.ended, [])
        self.assertEqual(self.taken(), octets + b"221 bye\r\n")

    def test_close_to_a_peer_that_is_gone(self) -> None:
        """The reactor finds out, as with every write."""
        self.peer.close()
        self.link.close(False, b"221 bye\r\n")
        self.assertEqual((self.ended, self.reactor.writers), ([], {self.transport}))

    def test_close_one_side(self) -> None:
        """A peer that is in the middle of sending is heard out."""
        self.link.close(True, b"421 no\r\n")
        self.assertEqual(self.taken(), b"421 no\r\n")
        self.assertEqual(self.peer.recv(100), b"")
        self.assertEqual(self.ended, [])
        self.assertEqual(self.peer.send(b"still talking"), 13)

    def test_close_over_tls(self) -> None:
        """The last reply and the end of TLS are one write."""
        client = self.shaken()
        self.link.decrypt(client.bio_read(1 << 16))
        self.link.close(False, b"221 bye\r\n")
        client.bio_write(self.peer.recv(1 << 16))
        self.assertEqual(client.recv(100), b"221 bye\r\n")
        self.assertRaises(SSL.ZeroReturnError, client.recv, 100)
        self.assertEqual(self.peer.recv(100), b"")

    def test_garbage_for_tls(self) -> None:
        """What is no TLS raises, in words for the operator."""
        creator: Any = RecordingTLS()
        self.link.start_tls(creator)
        problem = self.assertRaises(TLSBroken, self.link.decrypt, b"EHLO x\r\n" * 10)
        self.assertIn("the peer does not speak TLS", str(problem))

    def test_as_the_client(self) -> None:
        """We begin, and what is said first goes out with the end of the handshake."""
        server = RecordingTLS().serverConnectionForTLS(None)
        server.set_accept_state()
        creator: Any = Connecting(SSL.Context(SSL.TLS_CLIENT_METHOD))
        self.link.connect_tls(creator)
        server.bio_write(self.taken())
        self.assertRaises(SSL.WantReadError, server.do_handshake)
        self.assertEqual(self.link.decrypt(server.bio_read(1 << 16)), [])
        self.link.write(b"EHLO client.example\r\n")
        server.bio_write(self.peer.recv(1 << 16))
        server.do_handshake()
        self.assertEqual(server.recv(100), b"EHLO client.example\r\n")
        self.link.flush()
        self.assertRaises(BlockingIOError, self.peer.recv, 1)

    def test_nothing_to_offer(self) -> None:
        """A client that may use no version says so, and is not taken for one that waits."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        creator: Any = Connecting(context)
        problem = self.assertRaises(TLSBroken, self.link.connect_tls, creator)
        self.assertIn("no TLS version in common", str(problem))


class Connecting:
    """Makes the connections of clients."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def clientConnectionForTLS(self, _: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)
