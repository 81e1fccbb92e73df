"""Stopping: who has nothing under way is told, what is under way may end, and then it is over."""

from typing import Any

from twisted.internet.defer import Deferred

from harakatls.inbound.factory import ABORT_TIMEOUT, patience
from tests.inbound.protocol_case import ProtocolTestCase
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, PATIENT, QUIT, RCPT, queued
from tests.inbound.test_authentication import NO, WRONG, LoginCase, challenge
from tests.inbound.transports import ABORTED, CLOSED, lost
from tests.inbound.users import Table

STOPPED = "421 4.3.2 Server is shutting down, closing connection\r\n"


class DrainTests(ProtocolTestCase):
    def test_nobody_there(self) -> None:
        """A server without connections ends at once."""
        self.successResultOf(Deferred.fromCoroutine(self.factory().drain(10)))

    def test_idle_peers(self) -> None:
        """Peers without a transaction are told, and gone when they hang up."""
        factory = self.factory()
        peers = [self.connect(factory) for _ in range(3)]
        drained = Deferred.fromCoroutine(factory.drain(10))
        for protocol, transport in peers:
            self.assertNoResult(drained)
            self.assertEqual(transport.text().splitlines()[-1][:9], "421 4.3.2")
            protocol.connectionLost(lost(CLOSED))
        self.successResultOf(drained)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peer_in_the_handshake(self) -> None:
        """It is cut off at once, and not remembered as one with which TLS does not work."""
        factory = self.factory(implicit_tls=True)
        protocol, transport = self.connect(factory)
        drained = Deferred.fromCoroutine(factory.drain(10))
        self.assertEqual((transport.text(), transport.closed), ("", "abort"))
        protocol.connectionLost(lost(ABORTED))
        self.successResultOf(drained)
        self.assertEqual(self.tls.failures, [])

    def test_transaction_may_be_finished(self) -> None:
        """A message that is under way comes in."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(EHLO + MAIL + RCPT + DATA)
        drained = Deferred.fromCoroutine(factory.drain(30))
        self.clock.advance(24)
        protocol.dataReceived(MESSAGE + END)
        self.assertEqual([line[:3] for line in transport.text().splitlines()[-2:]], ["250", "421"])
        protocol.connectionLost(lost(CLOSED))
        self.successResultOf(drained)
        self.assertEqual(len(queued(self.spool)), 1)

    def test_time_is_over(self) -> None:
        """What lasts too long is broken off."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(EHLO + MAIL + RCPT + DATA + MESSAGE)
        drained = Deferred.fromCoroutine(factory.drain(10))
        self.clock.advance(11)
        self.assertEqual(transport.closed, "abort")
        self.assertNoResult(drained)
        protocol.connectionLost(lost(ABORTED))
        self.successResultOf(drained)
        self.assertEqual(queued(self.spool), [])

    def test_what_cannot_be_cancelled(self) -> None:
        """A commit that hangs does not keep the server from ending for ever."""
        self.plugin.answers["queue"] = Deferred()
        factory = self.factory()
        protocol, _ = self.connect(factory)
        protocol.dataReceived(EHLO + MAIL + RCPT + DATA + MESSAGE + END)
        drained = Deferred.fromCoroutine(factory.drain(30))
        self.clock.advance(30 - ABORT_TIMEOUT)
        protocol.connectionLost(lost(ABORTED))
        self.assertNoResult(drained)
        self.clock.advance(ABORT_TIMEOUT)
        self.successResultOf(drained)

    def test_who_comes_late(self) -> None:
        """A connection that was accepted in the last moment is told too."""
        factory = self.factory()
        self.successResultOf(Deferred.fromCoroutine(factory.drain(10)))
        _, transport = self.connect(factory)
        self.clock.advance(0)
        self.assertEqual(transport.text().splitlines()[-1][:9], "421 4.3.2")

    def test_patience(self) -> None:
        """All is over in the time that the operator gave, whatever that is."""
        for seconds in (0, 1, 4, 10, 30, 3600):
            patient = patience(seconds)
            self.assertLessEqual(0, patient)
            self.assertLessEqual(patient, seconds)
        self.assertEqual((patience(30), patience(4), patience(0)), (25, 2, 0))

    def test_hook_that_hangs(self) -> None:
        """It is cancelled when time is over, and one that will not be cancelled is left behind."""
        for swallows in (False, True):
            hanging: Deferred[Any] = Deferred((lambda _: None) if swallows else None)
            if swallows:
                hanging.cancel = lambda: None  # type: ignore[method-assign]
            self.plugin.answers["rcpt"] = hanging
            factory = self.factory()
            protocol, transport = self.connect(factory)
            protocol.dataReceived(EHLO + MAIL + RCPT)
            drained = Deferred.fromCoroutine(factory.drain(20))
            self.clock.advance(14)
            self.assertEqual(transport.closed, "")
            self.clock.advance(1)
            self.assertEqual(transport.closed, "abort")
            protocol.connectionLost(lost(ABORTED))
            if swallows:
                self.assertNoResult(drained)
                self.clock.advance(ABORT_TIMEOUT)
            self.successResultOf(drained)

    def test_peer_that_does_not_read(self) -> None:
        """It is told, and cut off when it does not take that."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        transport.producer.pauseProducing()
        drained = Deferred.fromCoroutine(factory.drain(30))
        self.assertEqual(transport.closed, "half")
        self.clock.advance(10)
        self.assertEqual(transport.closed, "abort")
        protocol.connectionLost(lost(ABORTED))
        self.successResultOf(drained)

    def test_peer_that_does_not_take_the_answers(self) -> None:
        """So is one in the middle of a flood of answers, when time is over."""
        self.settings = PATIENT
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(b"NOOP\r\n" * 1000)
        transport.producer.pauseProducing()
        drained = Deferred.fromCoroutine(factory.drain(30))
        self.clock.advance(24)
        self.assertEqual(transport.closed, "")
        self.clock.advance(1)
        self.assertEqual(transport.closed, "abort")
        protocol.connectionLost(lost(ABORTED))
        self.successResultOf(drained)

    def test_waiting_for_a_client_hello(self) -> None:
        """Nor does one that has asked for TLS, and says nothing more, keep the server."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(EHLO)
        protocol.dataReceived(b"STARTTLS\r\n")
        drained = Deferred.fromCoroutine(factory.drain(30))
        self.assertEqual(transport.closed, "abort")
        protocol.connectionLost(lost(ABORTED))
        self.successResultOf(drained)

    def test_envelope_without_end(self) -> None:
        """A transaction that goes on and on is answered for a while, and then broken off."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(EHLO + MAIL)
        drained = Deferred.fromCoroutine(factory.drain(30))
        for _ in range(24):
            transport.taken()
            protocol.dataReceived(RCPT)
            self.assertEqual(transport.text()[:3], "250")
            self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(transport.closed, "abort")
        protocol.connectionLost(lost(ABORTED))
        self.successResultOf(drained)

    def test_transaction_given_up(self) -> None:
        """Who takes its transaction back has nothing under way any more."""
        factory = self.factory()
        for given_up in (b"RSET\r\n", EHLO):
            protocol, transport = self.connect(factory)
            protocol.dataReceived(EHLO + MAIL + RCPT)
            factory._stopping = False
            drained = Deferred.fromCoroutine(factory.drain(30))
            transport.taken()
            protocol.dataReceived(given_up)
            self.assertTrue(transport.text().endswith(STOPPED))
            protocol.connectionLost(lost(CLOSED))
            self.successResultOf(drained)

    def test_chunks(self) -> None:
        """A message in chunks may be finished as well."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(EHLO + MAIL + RCPT + b"BDAT %d\r\n" % len(MESSAGE) + MESSAGE)
        drained = Deferred.fromCoroutine(factory.drain(30))
        transport.taken()
        protocol.dataReceived(b"BDAT 6 LAST\r\nmore\r\n")
        self.assertEqual([line[:3] for line in transport.text().splitlines()], ["250", "421"])
        protocol.connectionLost(lost(CLOSED))
        self.successResultOf(drained)
        self.assertEqual(len(queued(self.spool)), 1)

    def test_new_transactions(self) -> None:
        """Behind the message that was under way no other one begins, pipelined or not."""
        factory = self.factory()
        protocol, transport = self.connect(factory)
        protocol.dataReceived(EHLO + MAIL + RCPT + DATA)
        drained = Deferred.fromCoroutine(factory.drain(30))
        transport.taken()
        protocol.dataReceived(MESSAGE + END + MAIL + RCPT + DATA + QUIT)
        self.assertEqual([line[:3] for line in transport.text().splitlines()], ["250", "421"])
        protocol.connectionLost(lost(CLOSED))
        self.successResultOf(drained)
        self.assertEqual(len(queued(self.spool)), 1)


class LoginTests(LoginCase):
    """In the middle of AUTH."""

    def test_challenge(self) -> None:
        """A peer that owes us an answer has nothing under way."""
        talk = self.talk(Table("LOGIN"))
        challenge(talk.say(b"AUTH LOGIN\r\n"))
        talk.conversation.stop()
        self.assertEqual((talk.heard(), talk.channel.closed), (STOPPED, "linger"))

    def test_slow_answer(self) -> None:
        """One that waits for ours gets it first."""
        talk = self.talk(Table("PLAIN"))
        talk.say(b"AUTH PLAIN " + WRONG + b"\r\n")
        talk.conversation.stop()
        self.assertEqual((talk.heard(), talk.channel.closed), ("", None))
        talk.clock.advance(1)
        self.assertEqual(talk.heard(), NO + STOPPED)
        self.assertEqual(talk.channel.closed, "linger")
