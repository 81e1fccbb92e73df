"""The tools for tests keep their word: a test that uses them must be able to fail."""

from attrs import evolve
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.interfaces import IMessageBody, IResolver, NoSuchDomain, ResolutionFailed
from harakatls.testing import values
from harakatls.testing.network import MemoryNetwork
from harakatls.testing.peers import HANG_UP, ObligingPeer, ScriptedPeer
from harakatls.testing.values import FixedResolver


class Talker(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class ValueTests(SynchronousTestCase):
    """The builders."""

    def test_values_can_be_changed(self) -> None:
        """A plugin's test says only what matters to it."""
        self.assertTrue(values.connection(relaying=True).relaying)
        self.assertTrue(values.transaction(relaying=True).relaying)
        self.assertEqual(values.queued_message(attempts=3).attempts, 3)
        self.assertIsNone(values.envelope(None).reverse_path)
        self.assertEqual(values.queued_message().domain, "recipient.example")

    def test_a_body_is_a_body(self) -> None:
        """It reads as those of the spool do."""
        body = values.FixedBody(b"abcdef")
        verifyObject(IMessageBody, body)
        read = [self.successResultOf(Deferred.fromCoroutine(body.read(4))) for _ in range(3)]
        self.assertEqual(read, [b"abcd", b"ef", b""])


class FixedResolverTests(SynchronousTestCase):
    """A DNS of one's own."""

    def test_what_it_knows(self) -> None:
        """Records, failures, and names that do not exist."""
        resolver = FixedResolver(
            {"a.example": [(10, "mx.example")], "b.example": ResolutionFailed("away")},
            {"mx.example": ["192.0.2.1"]},
            {"192.0.2.1": ["mx.example"], "192.0.2.2": ResolutionFailed("away")},
        )
        verifyObject(IResolver, resolver)
        (found,) = self.successResultOf(Deferred.fromCoroutine(resolver.mx("a.example")))
        self.assertEqual((found.preference, found.host), (10, "mx.example"))
        self.failureResultOf(Deferred.fromCoroutine(resolver.mx("b.example")), ResolutionFailed)
        self.failureResultOf(Deferred.fromCoroutine(resolver.mx("c.example")), NoSuchDomain)
        self.failureResultOf(Deferred.fromCoroutine(resolver.addresses("c.example")), NoSuchDomain)
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(resolver.mx("mx.example"))), ()
        )
        names = self.successResultOf(Deferred.fromCoroutine(resolver.names("192.0.2.1")))
        self.assertEqual(names, ("mx.example",))
        for address, problem in (("192.0.2.2", ResolutionFailed), ("192.0.2.3", NoSuchDomain)):
            self.failureResultOf(Deferred.fromCoroutine(resolver.names(address)), problem)


class NetworkTestCase(SynchronousTestCase):
    """One client."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.client = Talker()

    def connect(self, host: str = "192.0.2.1") -> "Deferred[IProtocol]":
        factory = Factory.forProtocol(lambda: self.client)
        return self.network.connect(host, 25, factory, 5.0)

    def say(self, octets: bytes) -> None:
        transport = self.client.transport
        assert transport is not None
        transport.write(octets)
        self.network.flush()


class NetworkTests(NetworkTestCase):
    """Hosts in memory."""

    def test_hosts_that_are_not_there(self) -> None:
        """One refuses, the other says nothing until time is up."""
        self.failureResultOf(self.connect(), error.ConnectionRefusedError)
        self.network.swallow("192.0.2.9")
        connecting = self.connect("192.0.2.9")
        self.assertNoResult(connecting)
        self.clock.advance(5)
        self.failureResultOf(connecting, error.TimeoutError)

    def test_nothing_arrives_before_its_time(self) -> None:
        """As on a network; mistakes that need a delay to show do show."""
        self.network.serve("192.0.2.1", ObligingPeer())
        self.successResultOf(self.connect())
        self.assertEqual(self.client.heard, b"")
        self.network.flush()
        self.assertEqual(self.client.heard, b"220 peer.example ESMTP\r\n")


class ScriptedPeerTests(NetworkTestCase):
    """A server that follows a script."""

    def serve(self, peer: ScriptedPeer) -> ScriptedPeer:
        self.network.serve("192.0.2.1", peer)
        self.successResultOf(self.connect())
        self.network.flush()
        return peer

    def test_a_conversation(self) -> None:
        """Commands are answered in turn, in one piece or in many."""
        peer = self.serve(
            ScriptedPeer(
                ("", "220 hello"),
                ("EHLO", "250-a\n250 b"),
                ("DATA", "354 go"),
                (".", "250 kept"),
            )
        )
        self.say(b"ehlo x\r\nDA")
        self.say(b"TA\r\n..a\r\n.b\r\n.\r\n")
        self.assertEqual(
            self.client.heard, b"220 hello\r\n250-a\r\n250 b\r\n354 go\r\n250 kept\r\n"
        )
        self.assertEqual(peer.commands, ["ehlo x", "DATA"])
        self.assertEqual(peer.messages, [b".a\r\n.b\r\n"])
        self.assertEqual((peer.problems, peer.script), ([], []))

    def test_what_is_not_in_the_script(self) -> None:
        """It is noted, and the connection ends."""
        peer = self.serve(ScriptedPeer(("", "220 hello"), ("EHLO", "250 a")))
        self.say(b"HELO x\r\n")
        self.assertEqual(peer.problems, ["'HELO x' came in place of 'EHLO'"])
        self.assertIsNotNone(self.client.lost)

    def test_an_empty_message(self) -> None:
        """A lone dot right behind DATA is a message without a line."""
        peer = self.serve(ScriptedPeer(("", "220 x"), ("DATA", "354 go"), (".", "554 no")))
        self.say(b"DATA\r\n")
        self.say(b".\r\n")
        self.assertEqual(peer.messages, [b""])

    def test_acts(self) -> None:
        """A peer may hang up with an answer, or without one."""
        self.serve(ScriptedPeer(("", ("421 busy", HANG_UP))))
        self.assertEqual(self.client.heard, b"421 busy\r\n")
        assert self.client.lost is not None
        self.assertIs(self.client.lost.type, error.ConnectionDone)


class ObligingPeerTests(SynchronousTestCase):
    """A server that says yes."""

    def test_it_keeps_to_the_order(self) -> None:
        """What hangs on a refused command is refused as well."""
        peer = ObligingPeer(MAIL=["550 no"])
        self.assertEqual(peer.answer("MAIL FROM:<>"), "550 no")
        self.assertEqual(peer.answer("RCPT TO:<a@b.example>"), "503 5.5.1 MAIL first")
        self.assertEqual(peer.answer("DATA"), "503 5.5.1 RCPT first")
        self.assertEqual(peer.answer("MAIL FROM:<>"), "250 2.1.0 Sender ok")
        self.assertEqual(peer.answer("RCPT TO:<a@b.example>"), "250 2.1.5 Recipient ok")
        self.assertEqual(peer.answer("DATA"), "354 Go on")
        self.assertEqual(peer.answer("."), "250 2.0.0 Kept")
        self.assertEqual(peer.answer("DATA"), "503 5.5.1 RCPT first")

    def test_extensions(self) -> None:
        """STARTTLS is not offered inside of TLS."""
        peer = ObligingPeer("STARTTLS", "SIZE 10")
        self.assertEqual(peer.answer("EHLO x"), "250-peer.example\n250-STARTTLS\n250 SIZE 10")
        peer.started_tls()
        self.assertEqual(peer.answer("EHLO x"), "250-peer.example\n250 SIZE 10")


class EvolveTests(SynchronousTestCase):
    """Frozen values."""

    def test_messages_share_nothing(self) -> None:
        """One test cannot spoil another's values."""
        first = values.queued_message()
        self.assertEqual(evolve(first, attempts=9).attempts, 9)
        self.assertEqual(values.queued_message().attempts, 0)
