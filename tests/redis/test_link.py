"""Tests for harakatls.redis.link: what Redis does to those who ask it, and to the log."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from harakatls.redis import link as redis_link
from harakatls.redis.link import ANSWER_LIMIT, REST, RedisAway, RedisLink
from harakatls.redis.settings import RedisSettings


def command(*words: str) -> bytes:
    """As it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words
    )


GET = command("GET", "a")
REFUSED = Failure(ConnectError())


class Wire(StringTransport):
    """A connection that can be cut."""

    protocol: Any

    def abortConnection(self) -> None:
        super().abortConnection()
        self.cut()

    def cut(self) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.connectionLost(Failure(ConnectionDone()))

    def sent(self) -> bytes:
        octets: bytes = self.value()
        self.clear()
        return octets


class RedisLinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_763_870_460)
        self.attempts: list[tuple[Any, Deferred[Any]]] = []
        self.link = self.link_to(RedisSettings())
        capture = capturedLogs()
        self.events = capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)

    def link_to(self, settings: RedisSettings) -> RedisLink:
        clock: Any = self.clock
        return RedisLink(settings, self.connect, clock)

    def connect(self, protocol: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = Deferred()
        self.attempts.append((protocol, connecting))
        return connecting

    def accept(self) -> Wire:
        """The last attempt to connect succeeds."""
        protocol, connecting = self.attempts[-1]
        wire = Wire()
        wire.protocol = protocol
        protocol.factory = None
        protocol.makeConnection(wire)
        connecting.callback(protocol)
        return wire

    def ask(self, *words: str) -> Deferred[object]:
        return Deferred.fromCoroutine(self.link.ask(*(words or ("GET", "a"))))

    def assert_away(self, asking: Deferred[object], word: str = "") -> None:
        self.assertIn(word, str(self.failureResultOf(asking, RedisAway).value))

    def assert_told(self, *words: str) -> None:
        """As many lines in the log, none of them a traceback."""
        lines = [formatEvent(event) for event in self.events]
        self.assertEqual(len(lines), len(words), lines)
        for line, word in zip(lines, words, strict=True):
            self.assertIn(word, line)
        self.assertEqual([e for e in self.events if e["log_level"] > LogLevel.warn], [])

    def connected(self) -> Wire:
        asking = self.ask()
        wire = self.accept()
        self.assertEqual(wire.sent(), GET)
        wire.protocol.dataReceived(b"$-1\r\n")
        self.assertIsNone(self.successResultOf(asking))
        return wire

    def test_lazy(self) -> None:
        """The server starts without Redis: no connection before there is a question."""
        self.assertEqual(self.attempts, [])
        self.connected()
        self.assertEqual(len(self.attempts), 1)
        self.assert_told()

    def test_answers(self) -> None:
        """Several questions at once share one connection, and each gets its own answer."""
        first, second = self.ask(), self.ask("GET", "b")
        wire = self.accept()
        self.assertEqual(len(self.attempts), 1)
        wire.protocol.dataReceived(b"$2\r\n15\r\n")
        wire.protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(self.successResultOf(first), b"15")
        self.assertEqual(self.successResultOf(second), "OK")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_password_and_database(self) -> None:
        """Before the first question; a server that refuses the password is away."""
        self.link = self.link_to(RedisSettings(database=3, password="hidden"))
        asking = self.ask()
        wire = self.accept()
        self.assertEqual(wire.sent(), command("AUTH", "hidden"))
        wire.protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(wire.sent(), command("SELECT", "3"))
        wire.protocol.dataReceived(b"+OK\r\n")
        self.assertEqual(wire.sent(), GET)
        wire.protocol.dataReceived(b"$-1\r\n")
        self.successResultOf(asking)
        self.link = self.link_to(RedisSettings(password="hidden"))
        asking = self.ask()
        wire = self.accept()
        wire.protocol.dataReceived(b"-WRONGPASS invalid username-password pair\r\n")
        self.assert_away(asking, "WRONGPASS")
        self.assertTrue(wire.disconnecting or wire.protocol is None)
        self.assert_told("WRONGPASS")
        self.assertNotIn("hidden", str(self.events))

    def test_a_password_that_is_repeated(self) -> None:
        """Redis without AUTH, and what is no Redis, say what they did not understand."""
        self.link = self.link_to(RedisSettings(password="hidden"))
        asking = self.ask()
        wire = self.accept()
        answer = b"-ERR unknown command 'AUTH', with args beginning with: 'hidden'\r\n"
        wire.protocol.dataReceived(answer)
        problem = self.failureResultOf(asking, RedisAway).value
        self.assertIn("unknown command 'AUTH'", str(problem))
        self.assertNotIn("hidden", f"{problem} {self.events}")

    def test_refused(self) -> None:
        """While Redis is down nobody waits, and it is told once, not for each message."""
        asking = self.ask()
        self.attempts[-1][1].errback(REFUSED)
        self.assert_away(asking)
        for _ in range(10):
            self.assert_away(self.ask())
        self.assertEqual(len(self.attempts), 1)
        self.clock.advance(REST)
        asking = self.ask()
        self.attempts[-1][1].errback(REFUSED)
        self.assert_away(asking)
        self.assert_told("is away")

    def test_back(self) -> None:
        """When Redis is there again it is used again, which is told once."""
        asking = self.ask()
        self.attempts[-1][1].errback(REFUSED)
        self.assert_away(asking)
        self.clock.advance(REST)
        wire = self.connected()
        asking = self.ask()
        wire.protocol.dataReceived(b"$-1\r\n")
        self.successResultOf(asking)
        self.assert_told("is away", "is back")

    def test_slow_to_connect(self) -> None:
        """Who asks waits a moment; the connection may take longer, and is used when it comes."""
        asking = self.ask()
        self.clock.advance(ANSWER_LIMIT)
        self.assert_away(asking, "no answer within 0.3 seconds")
        self.assert_away(self.ask())
        self.accept()
        asking = self.ask()
        self.attempts[-1][0].dataReceived(b"$-1\r\n")
        self.successResultOf(asking)
        self.assertEqual(len(self.attempts), 1)
        self.assert_told("is away", "is back")

    def test_never_connected(self) -> None:
        """An attempt that leads nowhere ends, and there is another one later."""
        self.assert_away(self.ask_in_vain())
        self.clock.pump([1.0] * 16)
        self.assert_away(self.ask_in_vain())
        self.assertEqual(len(self.attempts), 2)

    def ask_in_vain(self) -> Deferred[object]:
        asking = self.ask()
        self.clock.advance(ANSWER_LIMIT)
        return asking

    def test_silence(self) -> None:
        """A Redis that hangs costs one wait, and a late answer is never taken for another's."""
        wire = self.connected()
        self.assert_away(self.ask_in_vain(), "no answer")
        self.assertIsNone(wire.protocol)
        self.assert_away(self.ask())
        self.clock.advance(REST)
        self.connected()
        self.assert_told("is away", "is back")

    def test_idle_connection_closed(self) -> None:
        """Redis may close a connection that nobody uses: that is no news."""
        self.connected().cut()
        self.connected()
        self.assert_told()

    def test_cut_during_a_question(self) -> None:
        """Whoever waits is told at once."""
        wire = self.connected()
        asking = self.ask()
        wire.cut()
        self.assert_away(asking)
        self.assert_told("is away")

    def test_errors(self) -> None:
        """A replica can be read: its refusal to write is told once, not in turns with 'back'."""
        wire = self.connected()
        for _ in range(3):
            asking = self.ask("SET", "a", "b")
            wire.protocol.dataReceived(
                b"-READONLY You can't write against a read only replica.\r\n"
            )
            self.assert_away(asking, "READONLY")
            asking = self.ask()
            wire.protocol.dataReceived(b"$-1\r\n")
            self.successResultOf(asking)
        self.assert_told("READONLY")
        asking = self.ask("SET", "a", "b")
        wire.protocol.dataReceived(b"+OK\r\n")
        self.successResultOf(asking)
        self.assert_told("READONLY", "is back")

    def test_something_else(self) -> None:
        """A web server, garbage or a flood in place of Redis ends this connection, no more."""
        for octets in (
            b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n" + b"<p>" * 9000,
            b"\xff\xfe\xfd\r\n",
            b"$99999999999\r\n" + b"x" * 70_000,
            b"*99999999\r\n" + b":1\r\n" * 20_000,
            b"x" * 70_000,
            b"$x\r\n",
            b"*-7\r\n:\r\n",
        ):
            self.setUp()
            wire = self.connected()
            asking = self.ask()
            protocol = wire.protocol
            protocol.dataReceived(octets)
            self.clock.advance(ANSWER_LIMIT)
            self.assertTrue(asking.called, octets[:20])
            asking.addErrback(lambda failure: failure.trap(RedisAway))
            self.assertLessEqual(len(self.events), 1)
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_printable(self) -> None:
        """What a server says cannot forge lines of the log."""
        wire = self.connected()
        asking = self.ask()
        wire.protocol.dataReceived(b"-ERR a\nb\x1b[0m" + b"c" * 5000 + b"\r\n")
        self.assert_away(asking)
        line = formatEvent(self.events[0])
        self.assertTrue(line.isprintable())
        self.assertLess(len(line), 400)

    def test_cancelled(self) -> None:
        """A message that is given up while Redis thinks does no harm to the next one."""
        wire = self.connected()
        asking = self.ask()
        asking.addErrback(lambda failure: None)
        asking.cancel()
        following = self.ask()
        wire.protocol.dataReceived(b"$1\r\nx\r\n")
        wire.protocol.dataReceived(b"$1\r\ny\r\n")
        self.assertEqual(self.successResultOf(following), b"y")
        self.assert_told()

    def test_a_mistake_of_ours(self) -> None:
        """A library that is broken is as good as a Redis that is away."""

        def break_down() -> Any:
            raise ImportError("No module named 'six'")

        self.patch(redis_link, "_protocol_class", break_down)
        for _ in range(2):
            self.assert_away(self.ask(), "six")
        self.assert_told("six")

    def test_close(self) -> None:
        """At the stop nothing is left, and nothing is said."""
        wire = self.connected()
        self.link.close()
        self.assertIsNone(wire.protocol)
        self.link = self.link_to(RedisSettings())
        asking = self.ask()
        self.link.close()
        self.assert_away(asking)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assert_told()
