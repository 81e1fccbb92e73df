"""Tests for harakatls.plugins.limit, in conversations."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.interfaces import IConnectHook, IRcptHook, IRelayHook, IUnrecognizedHook
from harakatls.plugins.counters import MemoryCounters
from harakatls.plugins.limit import TOO_MANY_CONNECTIONS, Limit, load
from harakatls.plugins.limit_settings import LimitSettings, Rate, Rates
from harakatls.verdict import ACCEPT, CONTINUE
from tests.hooks.plugins import Everything
from tests.inbound.support import EHLO, MAIL, Talk
from tests.plugins.support import connection_from, result_of, site_of

NONSENSE = b"NONSENSE\r\n"


def rcpt(name: str) -> bytes:
    return b"RCPT TO:<%b@a.example>\r\n" % name.encode()


class LimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = MemoryCounters(self.clock)

    def talk(self, relaying: bool = False, **limits: Any) -> Talk:
        settings = LimitSettings(**{"tarpit_delay": 0.0, **limits})
        limit = Limit(settings, self.counters, self.clock)
        return Talk(limit, Everything(rcpt=ACCEPT, relaying=relaying))

    def test_interfaces(self) -> None:
        """Each hook has the signature that its interface asks for."""
        limit = load(site_of(self, {}))
        for interface in (IConnectHook, IRcptHook, IUnrecognizedHook):
            verifyObject(interface, limit)
        self.assertFalse(IRelayHook.providedBy(limit))

    def test_connections_at_a_time(self) -> None:
        """One more than may be there is sent away, until another leaves."""
        for other in ("1", "2"):
            result_of(self, self.counters.enter("connections|192.0.2.10", other))
        third = self.talk(concurrency=2)
        self.assertEqual(third.heard(), "421 4.7.0 Too many concurrent connections\r\n")
        self.assertEqual(third.channel.closed, "linger")
        third.conversation.leave()
        result_of(self, self.counters.leave("connections|192.0.2.10", "1"))
        self.assertEqual(self.talk(concurrency=2).heard()[:3], "220")

    def test_connections_of_one_network(self) -> None:
        """Who has one address of IPv6 has all of its network."""
        limit = Limit(LimitSettings(0.0, concurrency=2), self.counters, self.clock)
        for number, said in (("1", CONTINUE), ("2", CONTINUE), ("3", TOO_MANY_CONNECTIONS)):
            connection = evolve(connection_from(f"2001:db8:1:2::{number}"), id=number, notes={})
            self.assertIs(result_of(self, limit.connect(connection)), said)
        elsewhere = evolve(connection_from("2001:db8:1:3::1"), id="4", notes={})
        self.assertIs(result_of(self, limit.connect(elsewhere)), CONTINUE)

    def test_who_leaves_is_counted_once(self) -> None:
        """Nobody is counted off twice, nor one who was never counted."""
        limit = Limit(LimitSettings(concurrency=1), self.counters, self.clock)
        stranger = connection_from()
        result_of(self, limit.disconnected(stranger))
        for _ in range(2):
            connection = connection_from()
            result_of(self, limit.connect(connection))
            for _ in range(2):
                result_of(self, limit.disconnected(connection))
        self.assertEqual(self.counters._present, {})

    def test_connections_within_a_time(self) -> None:
        """Those of one address; the next minute begins anew."""
        rates = Rates({"127": Rate(0)}, Rate(2))
        heard = [self.talk(rate_conn=rates).heard() for _ in range(3)]
        self.assertEqual([answer[:3] for answer in heard], ["220", "220", "421"])
        self.assertEqual(heard[2], "421 4.7.0 connection rate limit exceeded\r\n")
        self.clock.advance(60)
        self.assertEqual(self.talk(rate_conn=rates).heard()[:3], "220")
        limit = Limit(LimitSettings(rate_conn=rates), self.counters, self.clock)
        for _ in range(5):
            verdict = result_of(self, limit.connect(connection_from("127.0.0.1")))
            self.assertNotIn("421", str(verdict))

    def test_waiting_for_the_answer(self) -> None:
        """Who is over a limit waits; who goes meanwhile leaves no timer behind."""
        rates = Rates({}, Rate(1))
        self.talk(rate_conn=rates)
        slowed = self.talk(rate_conn=rates, tarpit_delay=3.0)
        gone = self.talk(rate_conn=rates, tarpit_delay=3.0)
        self.assertEqual(slowed.heard(), "")
        gone.conversation.leave()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(3)
        self.assertEqual(slowed.heard()[:3], "421")

    def test_recipients(self) -> None:
        """All of a connection count, refused or not, over all its transactions."""
        talk = self.talk(recipients=3)
        codes = talk.codes(
            EHLO, MAIL, rcpt("a"), rcpt("b"), b"RSET\r\n", MAIL, rcpt("a"), rcpt("c")
        )
        self.assertEqual(codes, ["250"] * 7 + ["450"])
        self.assertIn("4.5.3 Too many recipient attempts", talk.say(rcpt("d")))

    def test_recipients_of_those_who_may_relay(self) -> None:
        """They can have a number of their own, 0 being any."""
        for most, codes in ((2, ["250", "250", "450"]), (0, ["250", "250", "250"])):
            talk = self.talk(relaying=True, recipients=1, recipients_relaying=most)
            found = talk.codes(EHLO, MAIL, rcpt("a"), rcpt("b"), rcpt("c"))[2:]
            self.assertEqual(found, codes)

    def test_unrecognized_commands(self) -> None:
        """Too many of them, and the connection is over."""
        talk = self.talk(unrecognized_commands=2)
        self.assertEqual(talk.codes(NONSENSE * 2), ["500", "500"])
        self.assertEqual(talk.say(NONSENSE), "421 4.7.0 Too many unrecognized commands\r\n")
        self.assertEqual(talk.channel.closed, "linger")

    def test_errors(self) -> None:
        """Too many of any kind, and the next command that is in order is the last."""
        talk = self.talk(errors=2)
        self.assertEqual(
            talk.codes(EHLO, NONSENSE, b"DATA\r\n", MAIL), ["250", "500", "503", "250"]
        )
        self.assertEqual(talk.codes(b"EHLO\r\n")[0][0], "5")
        self.assertEqual(talk.say(rcpt("a")), "421 4.7.0 Too many errors\r\n")

    def test_recipient_rates(self) -> None:
        """By host, sender and recipient, and for the null reverse-path."""
        null, other = b"MAIL FROM:<>\r\n", b"MAIL FROM:<eve@other.example>\r\n"
        one: Any = Rates({}, Rate(1))
        for name, steps, codes, text in (
            ("rate_rcpt_host", (MAIL, rcpt("a"), rcpt("b")), "24", "recipient rate limit exceeded"),
            (
                "rate_rcpt_sender",
                (MAIL, rcpt("a"), b"RSET\r\n", other, rcpt("a"), b"RSET\r\n", MAIL, rcpt("c")),
                "224",
                "rcpt rate limit exceeded",
            ),
            ("rate_rcpt", (MAIL, rcpt("a"), rcpt("b"), rcpt("a")), "224", "rate limit exceeded"),
            (
                "rate_rcpt_null",
                (MAIL, rcpt("a"), rcpt("a"), b"RSET\r\n", null, rcpt("a"), rcpt("b"), rcpt("a")),
                "22224",
                "null recip rate limit",
            ),
        ):
            talk = self.talk(**{name: one})
            talk.say(EHLO)
            answers = [talk.say(step) for step in steps]
            told = [a for a, step in zip(answers, steps, strict=True) if step.startswith(b"RCPT")]
            self.assertEqual("".join(answer[0] for answer in told), codes, name)
            self.assertIn(f"450 4.7.1 {text}", told[-1])
            self.assertEqual(self.talk(**{name: one}).channel.closed, None)

    def test_null_reverse_path_has_no_sender(self) -> None:
        """Reports are not counted as if one sender sent them all."""
        talk = self.talk(rate_rcpt_sender=Rates({}, Rate(1)))
        codes = talk.codes(EHLO, b"MAIL FROM:<>\r\n", rcpt("a"), rcpt("b"))
        self.assertEqual(codes, ["250"] * 4)

    def test_who_goes_while_being_counted(self) -> None:
        """A peer that leaves while Redis is asked does not stay among those who are there."""

        class Slow(MemoryCounters):
            async def enter(self, key: str, member: str) -> int:
                there = await super().enter(key, member)
                await Deferred()
                return there

        self.counters = Slow(self.clock)
        talk = self.talk(concurrency=1)
        talk.conversation.leave()
        self.assertEqual(self.counters._present, {})
