"""Servers that say too much, too slowly, or what they do not mean."""

from typing import Any

from harakatls.config.hosts import HostList
from harakatls.outbound.protocol import UNREAD
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import MESSAGE, queued_message
from harakatls.tls.settings import OutboundTLS
from tests.outbound.bad_peers import POURED, Dripping, Pouring
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase

KEPT = "delivered 250 2.0.0 Kept"
PIPELINING = ("PIPELINING", "8BITMIME")
STEPS = ("connect", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "body", "end")
FLOODS = {
    "a line without an end": b"2",
    "lines that are no replies": b"What is this?\r\n",
    "binary": bytes(range(256)),
    "NUL": b"\0",
    "bare LF": b"250 Ok\n",
    "bare CR": b"250 Ok\r",
    "empty lines": b"\r\n",
    "a reply without an end": b"250-and\r\n",
    "a reply of two codes": b"250-and\r\n550-and\r\n",
    "one yes after the other": b"250 2.0.0 Ok\r\n",
    "one no after the other": b"550 5.0.0 No\r\n",
    "one 354 after the other": b"354 Go on\r\n",
    "one 421 after the other": b"421 4.3.2 Leaving\r\n",
    "long lines": b"250 " + b"x" * 5000 + b"\r\n",
    "octets of no charset": b"250-\xff\xfe\x80\r\n",
}
FORCED = OutboundTLS(force_tls_hosts=HostList.parse([DOMAIN]))


class FloodTests(DeliveryTestCase):
    """Servers that pour out octets for as long as somebody reads them."""

    def poured(self, step: str, words: bytes, extensions: tuple[str, ...]) -> Pouring:
        """@return: the first host; the second one takes everything."""
        self.setUp()
        peer = Pouring(step, words, *extensions)
        self.serve(peer, ObligingPeer())
        return peer

    def test_it_is_left(self) -> None:
        """Before long, without any waiting; the mail goes to the next host or is tried again."""
        for step in STEPS:
            for name, words in FLOODS.items():
                extensions = ("STARTTLS", *PIPELINING)
                row = f"{name} at {step}"
                peer = self.poured(step, words, extensions)
                result = self.attempt()
                self.assertLess(peer.poured, UNREAD + 4 * POURED, row)
                (outcome,) = result.outcomes
                if outcome.next_hop is not None and outcome.next_hop.host == FIRST:
                    self.assert_believable(step, words, outcome, row)
                else:
                    self.assertEqual(self.only(result), KEPT, row)
                for trial in result.trials:
                    self.assertLess(len(trial.result), 1200, row)
                    self.assertTrue(trial.result.isprintable(), row)
                self.assertNothingIsLeft()

    def assert_believable(self, step: str, words: bytes, outcome: Any, row: str) -> None:
        """What counts of a flood is what was a reply to what had been asked."""
        said = str(outcome.reply)
        if isinstance(outcome, Delivered):
            self.assertEqual((step, words[:4]), ("end", b"250 "), row)
        elif isinstance(outcome, Delayed):
            self.assertIn("may arrive twice", said, row)
            self.assertTrue(step in ("body", "end") or (step, words[:3]) == ("DATA", b"354"), row)
        else:
            self.assertIn(words[:3], (b"550",), row)
            self.assertIn("550", said, row)

    def test_a_goodbye_without_an_end(self) -> None:
        """The mail is delivered by then, and the server is not listened to."""
        for name, words in FLOODS.items():
            peer = self.poured("QUIT", words, PIPELINING)
            self.assertEqual(self.only(self.attempt()), KEPT, name)
            self.assertLess(peer.poured, 4 * POURED, name)
            self.assertNothingIsLeft()

    def test_a_forced_host(self) -> None:
        """Whatever it pours: nothing but the way to TLS is said outside of it."""
        for step in ("connect", "EHLO", "STARTTLS"):
            for name, words in FLOODS.items():
                peer = self.poured(step, words, ("STARTTLS", *PIPELINING))
                self.attempt(delivery=self.delivery(FORCED))
                verbs = {line.split(" ")[0] for line in peer.commands}
                self.assertLessEqual(verbs, {"EHLO", "HELO", "STARTTLS", "QUIT"}, name)
                self.assertFalse(peer.messages)
                self.assertNothingIsLeft()


class DripTests(DeliveryTestCase):
    """An octet a second, for ever."""

    def test_each_answer_has_its_time(self) -> None:
        """What is not answered in time is not answered, however much of it has come."""
        usual = OutboundSettings()
        limits = {
            "connect": usual.greeting_timeout,
            "EHLO": usual.command_timeout,
            "STARTTLS": usual.command_timeout,
            "MAIL": usual.command_timeout,
            "RCPT": usual.command_timeout,
            "DATA": usual.command_timeout,
            "end": usual.end_of_data_timeout,
        }
        for step, seconds in limits.items():
            for words in (b"250-still here\r\n", b"2"):
                self.setUp()
                peer = Dripping(step, words, "STARTTLS", "8BITMIME")
                self.serve(peer)
                running = self.begin()
                while not running.called and peer.drips <= seconds + 1:
                    self.pass_time(1.0)
                    peer.drip()
                    self.network.flush()
                result = self.successResultOf(running)
                self.assertIsInstance(result.outcomes[0], Delayed)
                self.assertLessEqual(peer.drips, seconds + 1, step)
                self.assertIn(f"no answer within {seconds:g} seconds", result.trials[0].result)
                self.assertNothingIsLeft()


class LieTests(DeliveryTestCase):
    """Servers that offer what they do not do."""

    def test_a_yes_that_came_too_early(self) -> None:
        """A server that says yes to everything in advance has not taken the message."""
        early = "250-peer.example\n250 8BITMIME\n" + "\n".join(["250 2.0.0 Ok"] * 9)
        for step, answer in (
            ("connect", "220 peer.example\n" + "\n".join(["250 2.0.0 Ok"] * 9)),
            ("EHLO", early),
            ("MAIL", "250 Ok\n250 Ok\n354 Go on\n250 Kept"),
            ("RCPT", "250 Ok\n354 Go on\n250 Kept"),
            ("DATA", "354 Go on\n250 Kept"),
        ):
            for extensions in ((), PIPELINING):
                if step == "EHLO" and extensions:
                    continue
                self.setUp()
                first, second = ObligingPeer(*extensions or ("8BITMIME",)), ObligingPeer()
                first._answers[step] = answer
                self.serve(first, second)
                (outcome,) = self.attempt().outcomes
                if isinstance(outcome, Delivered):
                    assert outcome.next_hop is not None
                    taker = first if outcome.next_hop.host == FIRST else second
                    self.assertEqual(taker.messages, [MESSAGE], (step, extensions))

    def test_pipelining_that_answers_too_few(self) -> None:
        """A server that forgets what came behind the first command is left in time."""
        self.serve(Forgetful("PIPELINING"), ObligingPeer())
        running = self.begin()
        self.assertEqual(self.only(self.after(301, running)), KEPT)

    def test_pipelining_is_not_insisted_on(self) -> None:
        """Where there is no other host, such a server has the message at the third attempt."""
        self.exchangers[DOMAIN] = [(10, "mx1.example")]
        peers = [Forgetful("PIPELINING", "8BITMIME") for _ in range(3)]
        self.network.serve(FIRST, *peers)
        for attempts in range(2):
            running = self.begin(queued_message(attempts=attempts))
            self.assertIsInstance(self.after(301, running).outcomes[0], Delayed)
        self.assertEqual(self.only(self.attempt(queued_message(attempts=2))), KEPT)

    def test_pipelining_in_another_order(self) -> None:
        """354 before the recipients are answered is no answer to them: nothing is sent."""
        first = ObligingPeer(*PIPELINING, MAIL="250 Ok\n354 Go on", RCPT="250 Ok", DATA="250 Ok")
        self.serve(first, ObligingPeer())
        self.assertEqual(self.only(self.attempt()), KEPT)
        self.assertEqual(first.messages, [])

    def test_another_ehlo_inside_of_tls(self) -> None:
        """What was offered outside does not count inside (RFC 3207 section 4.2)."""
        before = "250-peer.example\n250-STARTTLS\n250-PIPELINING\n250-SIZE 10\n250 CHUNKING"
        within = "250-peer.example\n250-8BITMIME\n250 STARTTLS"
        peer = ObligingPeer(EHLO=[before, within])
        self.serve(peer)
        self.assertEqual(self.only(self.attempt()), KEPT)
        self.assertEqual(
            [s.line for s in peer.said if s.secured],
            [
                "EHLO mta.example",
                "MAIL FROM:<alice@sender.example>",
                f"RCPT TO:<bob@{DOMAIN}>",
                "DATA",
                "QUIT",
            ],
        )

    def test_a_size_that_is_none(self) -> None:
        """It is no limit that a message could be held against."""
        for size in ("SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE 1 2", "SIZE " + "9" * 4000):
            self.setUp()
            peer = ObligingPeer(size, "8BITMIME")
            self.serve(peer)
            self.assertEqual(self.only(self.attempt()), KEPT, size)

    def test_an_offer_without_an_end(self) -> None:
        """A thousand extensions, or one of a thousand letters, change nothing."""
        for offers in ([f"X-{n}" for n in range(90)], ["X" * 500], ["=", "-", " ", "8bitmime"]):
            self.setUp()
            self.serve(ObligingPeer(*offers))
            self.assertEqual(self.only(self.attempt()), KEPT, offers[:3])

    def test_8bitmime_that_is_not_meant(self) -> None:
        """A refused 8-bit message is the server's answer, and comes back to the sender."""
        self.bodies.content = MESSAGE + "Grüße\r\n".encode()
        self.serve(ObligingPeer("8BITMIME", end="554 5.6.3 8-bit characters"))
        queued = queued_message(size=len(self.bodies.content))
        self.assertEqual(self.only(self.attempt(queued)), "failed 554 5.6.3 8-bit characters")


class Forgetful(ObligingPeer):
    """Throws away what came together with a command, as some firewalls do."""

    def received(self, data: bytes) -> None:
        """As `ScriptedPeer.received`."""
        first, end, _ = data.partition(b"\r\n")
        super().received(data if self._receiving else first + end)


class ChunkingTests(DeliveryTestCase):
    """Servers, or what stands in front of them, that offer CHUNKING and do not know BDAT."""

    def test_refused(self) -> None:
        """It is no answer about the message: the next attempt does without, and gets through."""
        for code in (500, 501, 502, 503, 504):
            for extensions in (("CHUNKING",), ("CHUNKING", *PIPELINING)):
                self.setUp()
                peers = [ObligingPeer(*extensions, BDAT=f"{code} 5.5.1 What?") for _ in range(2)]
                self.serve(peers[0])
                (outcome,) = self.attempt().outcomes
                self.assertIsInstance(outcome, Delayed, (code, outcome))
                self.assertIn(f"{code} 5.5.1 What?", str(outcome.reply))
                self.serve(peers[1])
                self.assertEqual(self.only(self.attempt(queued_message(attempts=1))), KEPT)
                self.assertEqual(peers[1].messages, [MESSAGE])

    def test_refused_for_its_own_sake(self) -> None:
        """Any other refusal is one of the message."""
        self.serve(ObligingPeer("CHUNKING", BDAT="552 5.2.2 Mailbox full"))
        self.assertEqual(self.only(self.attempt()), "failed 552 5.2.2 Mailbox full")
