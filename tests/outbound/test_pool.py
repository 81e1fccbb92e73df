"""Connections that are kept for the next message."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from harakatls.config.hosts import HostList
from harakatls.outbound.delivery import Result
from harakatls.outbound.pool import LONGEST, MOST_MESSAGES, LineKey
from harakatls.outbound.protocol import CHUNK
from harakatls.queued import Delayed
from harakatls.service.logs import message_of
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer
from harakatls.testing.values import MESSAGE as CONTENT
from harakatls.testing.values import NEXT_HOP, queued_message
from harakatls.tls.policy import SecurityLevel, outbound_decision
from harakatls.tls.settings import NoGoSettings, OutboundTLS
from tests.outbound.pool_case import SECONDS, PoolTestCase
from tests.outbound.support import DOMAIN, FIRST, Bodies

EHLO = "EHLO mta.example"
MAIL = "MAIL FROM:<alice@sender.example>"
RCPT = "RCPT TO:<bob@recipient.example>"
MESSAGE = [MAIL, RCPT, "DATA"]


class KeptTests(PoolTestCase):
    """The next message goes out on the same connection."""

    def test_several_messages(self) -> None:
        """One greeting and one goodbye for all of them; nothing is said in between."""
        (peer,) = self.peers(1)
        delivery = self.keeping()
        self.deliver(delivery, 3)
        self.assertEqual(peer.commands, [EHLO, *MESSAGE * 3])
        self.assertEqual(len(peer.messages), 3)
        self.pass_time(SECONDS)
        self.assertEqual(peer.commands[-1], "QUIT")
        self.assertNothingIsLeft()

    def test_with_bdat(self) -> None:
        """On a kept connection the chunk waits for the answers to MAIL and RCPT."""
        (peer,) = self.peers(1, "PIPELINING", "CHUNKING", RCPT=["250 Ok", "250 Ok", "550 No"])
        delivery = self.keeping()
        self.deliver(delivery, 2)
        verbs = [command.split()[0] for command in peer.commands]
        self.assertEqual(verbs, ["EHLO", *["MAIL", "RCPT", "BDAT"] * 2])
        self.send(delivery)
        self.assertEqual(peer.commands[-2:], [MAIL, RCPT])
        self.deliver(delivery)
        self.assertEqual(peer.messages, [CONTENT] * 3)

    def test_bdat_to_some(self) -> None:
        """Each recipient has its answer there, and 421 is one about all."""
        names = ["ann", "bob", "cid"]
        for answers, expected in (
            (["250 Ok", "550 5.1.1 Unknown", "250 Ok"], ["delivered", "failed", "delivered"]),
            (["250 Ok", ("421 4.3.2 Bye", HANG_UP)], ["delayed", "delayed", "delayed"]),
        ):
            self.setUp()
            self.peers(1, "PIPELINING", "CHUNKING", RCPT=["250 Ok", *answers])
            delivery = self.keeping()
            self.deliver(delivery)
            (result,) = self.send(delivery, recipients=[f"{name}@{DOMAIN}" for name in names])
            words = {told[:3]: words.split()[0] for told, words in self.told(result).items()}
            self.assertEqual(words, dict(zip(names, expected, strict=True)))
            self.assertIs(result.trials[0].earlier, 1)
            self.assert_done(delivery)

    def test_inside_of_tls(self) -> None:
        """The handshake is made once, and what it came to is told of each message."""
        (peer,) = self.peers(1, "STARTTLS", "8BITMIME")
        results = self.send(self.keeping(), 2)
        self.assertEqual(len(self.tls.decisions), 1)
        self.assertEqual(len(peer.messages), 2)
        for result in results:
            (outcome,) = result.outcomes
            assert outcome.secured is not None
            self.assertEqual(outcome.secured.protocol, "TLSv1.3")

    def test_as_many_as_the_server_allows(self) -> None:
        """MAILMAX (RFC 9422): with the last one allowed comes the goodbye."""
        peers = self.peers(2, "LIMITS MAILMAX=2")
        delivery = self.keeping()
        self.deliver(delivery, 3)
        self.assertEqual([len(peer.messages) for peer in peers], [2, 1])
        self.assertEqual(peers[0].commands[-1], "QUIT")
        self.assertNotIn("QUIT", peers[1].commands)
        self.assert_done(delivery)

    def test_it_is_told(self) -> None:
        """The log and the history of the message tell which connection it was on."""
        self.peers(1, RCPT=["250 Ok", "450 4.2.1 Busy"])
        delivery = self.keeping()
        with capturedLogs() as events:
            first, second = self.send(delivery, 2)
        self.assertEqual((first.trials[0].earlier, second.trials[0].earlier), (0, 1))
        lines = [message_of(event) for event in events]
        self.assertEqual([" reused=Y " in line for line in lines], [False, True])

    def test_switched_off(self) -> None:
        """pool_timeout=0: each message has its own."""
        peers = self.peers(2)
        delivery = self.keeping(pool_timeout=0.0)
        self.deliver(delivery, 2)
        self.assertEqual([peer.commands[-1] for peer in peers], ["QUIT", "QUIT"])
        self.assertNothingIsLeft()

    def test_a_use_begins_the_rest_anew(self) -> None:
        """It is idle seconds that count."""
        (peer,) = self.peers(1)
        delivery = self.keeping()
        for _ in range(4):
            self.deliver(delivery)
            self.pass_time(SECONDS - 1)
        self.assertEqual(len(peer.messages), 4)
        self.pass_time(1)
        self.assertEqual(peer.commands[-1], "QUIT")
        self.assertNothingIsLeft()

    def test_messages_are_counted(self) -> None:
        """After a hundred it ends, and the next message has a new one."""
        peers = self.peers(2)
        delivery = self.keeping()
        self.deliver(delivery, MOST_MESSAGES + 1)
        self.assertEqual([len(peer.messages) for peer in peers], [MOST_MESSAGES, 1])
        self.assertEqual(peers[0].commands[-1], "QUIT")

    def test_age(self) -> None:
        """However busy, it ends after some minutes."""
        peers = self.peers(2)
        delivery = self.keeping()
        while self.clock.seconds() < 1_700_000_000 + LONGEST + 8:
            self.deliver(delivery)
            self.pass_time(SECONDS - 1)
        self.assertEqual(peers[0].commands[-1], "QUIT")
        self.assertLess(len(peers[1].messages), 3)

    def test_as_many_as_there_may_be(self) -> None:
        """Those that have rested longest are given up for others."""
        hosts = [f"192.0.2.{number}" for number in range(10, 14)]
        peers = [ObligingPeer() for _ in hosts]
        delivery = self.keeping(concurrency_max=2)
        for host, peer in zip(hosts, peers, strict=True):
            self.network.serve(host, peer)
            self.hosts["mx1.example"] = [host]
            self.deliver(delivery)
        ended = [peer.commands[-1] == "QUIT" for peer in peers]
        self.assertEqual(ended, [True, True, False, False])
        self.assert_done(delivery)

    def test_at_once(self) -> None:
        """A connection is for one message at a time."""
        peers = self.peers(2, end=[SILENCE])
        delivery = self.keeping()
        running = [self.begin(queued_message(), delivery) for _ in range(2)]
        self.assertEqual([len(peer.messages) for peer in peers], [1, 1])
        for peer in peers:
            peer.output += b"250 2.0.0 Kept\r\n"
        self.network.flush()
        for one in running:
            self.successResultOf(one)
        self.deliver(delivery, 3)
        self.assertEqual(len(self.network.attempts), 2)


class PolicyTests(PoolTestCase):
    """Only what would have made the same connection may use it."""

    def test_key(self) -> None:
        """Each fact but the reasons makes a connection of its own."""
        decision = outbound_decision(NEXT_HOP, OutboundTLS(), None)
        key = LineKey.of(NEXT_HOP, decision, "mta.example")
        self.assertEqual(
            LineKey.of(NEXT_HOP, evolve(decision, reasons=("another",)), "mta.example"), key
        )
        others = [
            LineKey.of(hop, decision, "mta.example")
            for hop in (
                evolve(NEXT_HOP, host="192.0.2.9"),
                evolve(NEXT_HOP, port=26),
                evolve(NEXT_HOP, protocol="lmtp"),
            )
        ]
        changes: dict[str, Any] = {
            "level": SecurityLevel.VERIFY,
            "authenticated": True,
            "server_name": "other.example",
            "reference": "other.example",
            "identity": ("AB",),
        }
        others += [
            LineKey.of(NEXT_HOP, evolve(decision, **{name: value}), "mta.example")
            for name, value in changes.items()
        ]
        others.append(LineKey.of(NEXT_HOP, decision, "another.example"))
        self.assertEqual(len({key, *others}), len(others) + 1)

    def test_a_forced_domain(self) -> None:
        """Mail that must be verified does not go where another one's did without."""
        peers = self.peers(2, "STARTTLS", "8BITMIME")
        forced = OutboundTLS(force_tls_hosts=HostList.parse(["strict.example"]))
        self.exchangers["strict.example"] = [(10, "mx1.example")]
        delivery = self.keeping(tls_settings=forced)
        self.deliver(delivery)
        self.send(delivery, recipients=["eve@strict.example"], domain="strict.example")
        self.assertEqual([len(peer.messages) for peer in peers], [1, 1])
        self.assertEqual([d.authenticated for d in self.tls.decisions], [False, True])

    def test_domains_with_one_host(self) -> None:
        """Of equal policy: they share a connection."""
        (peer,) = self.peers(1)
        self.exchangers["other.example"] = [(10, "mx1.example")]
        delivery = self.keeping()
        self.deliver(delivery)
        self.send(delivery, recipients=["eve@other.example"], domain="other.example")
        self.assertEqual(len(peer.messages), 2)

    def test_new_settings(self) -> None:
        """A reload ends those that rest, and those in use when they come back."""
        peers = self.peers(2, end=["250 Ok", SILENCE])
        delivery = self.keeping()
        connector: Any = delivery.connector
        self.deliver(delivery)
        running = self.begin(queued_message(), delivery)
        connector.take_on(OutboundTLS())
        self.network.flush()
        self.assertNotIn("QUIT", peers[0].commands)
        peers[0].output += b"250 Ok\r\n"
        self.network.flush()
        self.successResultOf(running)
        self.assertEqual(peers[0].commands[-1], "QUIT")
        self.deliver(delivery)
        connector.take_on(OutboundTLS())
        self.network.flush()
        self.assertEqual(peers[1].commands[-1], "QUIT")
        self.assertNothingIsLeft()

    def test_new_settings_while_it_opens(self) -> None:
        """What was begun under the old settings is not kept under the new ones."""
        (peer,) = self.peers(1, "STARTTLS", EHLO=["250-peer.example\n250 STARTTLS", SILENCE])
        delivery = self.keeping()
        running = self.begin(queued_message(), delivery)
        self.assertEqual((peer.secured, peer.messages), (True, []))
        connector: Any = delivery.connector
        connector.take_on(OutboundTLS())
        peer.output += b"250 peer.example\r\n"
        self.network.flush()
        self.successResultOf(running)
        self.network.flush()
        self.assertEqual((len(peer.messages), peer.commands[-1]), (1, "QUIT"))
        self.assertNothingIsLeft()

    def test_in_the_clear_since_tls_failed(self) -> None:
        """The next message has its own chance of TLS."""
        broken = ObligingPeer("STARTTLS", handshake=False)
        clear, next_one = ObligingPeer("STARTTLS"), ObligingPeer("STARTTLS")
        self.network.serve(FIRST, broken, clear, next_one)
        delivery = self.keeping()
        self.send(delivery, attempts=1)
        self.assertEqual((len(clear.messages), clear.commands[-1]), (1, "QUIT"))
        self.send(delivery)
        self.assertTrue(next_one.secured)

    def test_in_the_clear_by_memory(self) -> None:
        """Nor is one used that was made for a host that was held for one without TLS."""
        peers = [ObligingPeer("STARTTLS", handshake=False), *self.peers(0)]
        clear, secure = ObligingPeer("STARTTLS"), ObligingPeer("STARTTLS")
        self.network.serve(FIRST, *peers, clear, secure)
        delivery = self.keeping(nogo=NoGoSettings(enabled=True, expiry=3.0))
        self.send(delivery)
        self.deliver(delivery)
        self.assertEqual((len(clear.messages), clear.secured), (1, False))
        self.pass_time(4)
        self.deliver(delivery)
        self.assertEqual((len(secure.messages), secure.secured), (1, True))


class AfterRefusalsTests(PoolTestCase):
    """Transactions that did not end with a message."""

    def test_reset(self) -> None:
        """RSET where the server still thinks of the old one, and only there."""
        cases = (
            ("MAIL", "550 5.7.1 Never", False),
            ("RCPT", "550 5.1.1 Unknown", True),
            ("DATA", "554 5.7.1 Never", True),
            ("end", "554 5.7.1 Never", False),
        )
        for step, answer, needed in cases:
            for extension in ("PIPELINING", "8BITMIME"):
                self.setUp()
                (peer,) = self.peers(1, extension, **{step: [answer]})
                delivery = self.keeping()
                self.send(delivery)
                self.assertEqual(len(peer.messages), int(step == "end"))
                self.deliver(delivery)
                self.assertEqual("RSET" in peer.commands, needed, step)
                self.assertEqual(len(self.network.attempts), 1)
                self.assert_done(delivery)

    def test_a_refused_reset(self) -> None:
        """Such a connection is of no use; the message has a new one."""
        for answer in ("503 5.5.1 What?", ("421 4.3.2 Bye", HANG_UP), BREAK_OFF, "no reply"):
            self.setUp()
            first = ObligingPeer(RCPT=["550 5.1.1 Unknown"], RSET=answer)
            second = ObligingPeer()
            self.network.serve(FIRST, first, second)
            delivery = self.keeping()
            self.send(delivery)
            self.deliver(delivery)
            self.assertEqual(len(second.messages), 1)
            self.assert_done(delivery)

    def test_421(self) -> None:
        """With that a server leaves, and the connection is not kept."""
        for step in ("MAIL", "RCPT", "DATA", "end"):
            self.setUp()
            answers: dict[str, Any] = {step: "421 4.3.2 Bye"}
            first = ObligingPeer(**answers)
            self.network.serve(FIRST, first, second := ObligingPeer())
            delivery = self.keeping()
            (result,) = self.send(delivery)
            self.assertIsInstance(result.outcomes[0], Delayed)
            self.deliver(delivery)
            self.assertEqual(len(second.messages), 1)
            self.assert_done(delivery)


class DeadTests(PoolTestCase):
    """A kept connection that is dead costs no message an attempt."""

    def test_closed_while_it_rests(self) -> None:
        """Nothing is tried on it."""
        peers = self.peers(2)
        delivery = self.keeping()
        for ending in (HANG_UP, BREAK_OFF):
            self.deliver(delivery)
            peers[0].ending = ending
            self.network.flush()
        self.deliver(delivery)
        self.assertEqual([len(peer.messages) for peer in peers], [1, 2])

    def test_words_while_it_rests(self) -> None:
        """421 (or anything) from a server that is tired of waiting: it is not used again."""
        peers = self.peers(2)
        delivery = self.keeping()
        self.deliver(delivery)
        peers[0].output += b"421 4.4.2 Idle too long\r\n"
        self.network.flush()
        self.assertFalse(self.network.transports[0].connected)
        self.deliver(delivery)
        self.assertEqual(len(peers[1].messages), 1)

    def test_no_answer_to_the_next_message(self) -> None:
        """Broken, or 421, before anything was said of it: once more, and nothing is told."""
        for extension in ("PIPELINING", "8BITMIME", "PIPELINING CHUNKING"):
            for answer in (HANG_UP, BREAK_OFF, ("421 4.3.2 Bye", HANG_UP), "421 4.7.0 Enough"):
                self.setUp()
                extensions = extension.split()
                first = ObligingPeer(*extensions, MAIL=["250 Ok", answer])
                self.network.serve(FIRST, first, second := ObligingPeer())
                delivery = self.keeping()
                self.deliver(delivery)
                with capturedLogs() as events:
                    self.deliver(delivery)
                self.assertEqual(len(second.messages), 1, (extension, answer))
                (line,) = [message_of(event) for event in events]
                self.assertIn("delivered", line)
                self.assertIn("reused=N", line)
                self.assert_done(delivery)

    def test_gone_with_all_of_it(self) -> None:
        """It takes what it is sent, says nothing and dies: the message does not arrive twice."""
        for size in (len(CONTENT), CHUNK + 1):
            for ending in (HANG_UP, BREAK_OFF):
                self.setUp()
                self.bodies = Bodies(CONTENT.ljust(size - 2) + b"\r\n")
                first = ObligingPeer(
                    *("PIPELINING", "CHUNKING", "8BITMIME"),
                    MAIL=["250 Ok", SILENCE],
                    RCPT=["250 Ok", SILENCE],
                    BDAT=["250 Kept", SILENCE],
                )
                self.network.serve(FIRST, first, second := ObligingPeer())
                delivery = self.keeping()
                self.deliver(delivery)
                running = self.begin(queued_message(size=size), delivery)
                self.assertEqual(first.commands[-2:], [MAIL, RCPT])
                first.ending = ending
                self.network.flush()
                result = self.successResultOf(running)
                self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept")
                self.assertEqual((len(first.messages), len(second.messages)), (1, 1))
                self.assert_done(delivery)

    def test_no_answer_for_long(self) -> None:
        """The same where the time limit has found out."""
        peers = [ObligingPeer("8BITMIME", MAIL=["250 Ok", SILENCE]), ObligingPeer()]
        self.network.serve(FIRST, *peers)
        delivery = self.keeping(command_timeout=9.0)
        self.deliver(delivery)
        running = self.begin(queued_message(), delivery)
        result = self.after(9, running)
        self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept")
        self.assertEqual(len(result.trials), 1)

    def test_once(self) -> None:
        """A host that breaks off the new connection as well has failed."""
        for ending in (HANG_UP, ("421 4.3.2 Bye", HANG_UP)):
            self.setUp()
            first = ObligingPeer(MAIL=["250 Ok", ending])
            self.network.serve(FIRST, first, ObligingPeer(MAIL=ending), third := ObligingPeer())
            delivery = self.keeping()
            self.deliver(delivery)
            (result,) = self.send(delivery)
            self.assertIsInstance(result.outcomes[0], Delayed)
            self.assertEqual(len(result.trials), 1)
            self.assertEqual(third.commands, [])

    def test_after_an_answer(self) -> None:
        """What the server has begun to take is a trial like any other."""
        steps = {"MAIL": "450 4.7.1 Later", "RCPT": BREAK_OFF, "DATA": BREAK_OFF, "end": BREAK_OFF}
        for step, answer in steps.items():
            self.setUp()
            usual = {"DATA": "354 Go on", "end": "250 Kept"}.get(step, "250 Ok")
            answers: dict[str, Any] = {step: [usual, answer]}
            first = ObligingPeer("8BITMIME", **answers)
            self.network.serve(FIRST, first, second := ObligingPeer())
            delivery = self.keeping()
            self.deliver(delivery)
            (result,) = self.send(delivery)
            self.assertIsInstance(result.outcomes[0], Delayed, step)
            self.assertEqual(result.trials[0].earlier, 1)
            self.assertEqual(second.commands, [], step)
            told = "may arrive twice" in self.only(result)
            self.assertEqual(told, step == "end")

    def test_a_new_connection(self) -> None:
        """Without a message before, a break is no such thing."""
        self.network.serve(FIRST, ObligingPeer(MAIL=HANG_UP), second := ObligingPeer())
        (result,) = self.send(self.keeping())
        self.assertIsInstance(result.outcomes[0], Delayed)
        self.assertEqual(second.commands, [])


class EndTests(PoolTestCase):
    """The server stops."""

    def test_goodbye(self) -> None:
        """Hosts hear QUIT, and no timer is left."""
        (peer,) = self.peers(1)
        delivery = self.keeping()
        self.deliver(delivery)
        delivery.close()
        self.network.flush()
        self.assertEqual(peer.commands[-1], "QUIT")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.network.transports[0].connected)

    def test_in_the_middle(self) -> None:
        """What is being sent is cut off, and the connection not kept."""
        self.peers(1, end=["250 Ok", SILENCE])
        delivery = self.keeping()
        self.deliver(delivery)
        running: Deferred[Result] = self.begin(queued_message(), delivery)
        running.cancel()
        self.assertTrue(self.successResultOf(running).interrupted)
        self.assertTrue(self.network.transports[0].aborted)
        self.assert_done(delivery)
