"""Peers that are slow, that never come to the point, and that do not wait for their turn."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.settings import InboundSettings
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, Reject
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    MAIL,
    MESSAGE,
    QUIT,
    RCPT,
    SETTINGS,
    RefusingTLS,
    Talk,
    queued,
)

HELO = b"HELO client.example\r\n"
NOOP = b"NOOP\r\n"
TIMEOUT = "421 4.4.2 timeout\r\n"
TOO_SLOW = "421 4.4.2 Your message comes in too slowly, try later\r\n"
NO_MESSAGE = "421 4.4.2 No message for too long, try later\r\n"
TOO_MANY = "421 4.7.0 Too many commands without a message\r\n"
TOO_SOON = "554 5.5.1 You talk too soon\r\n"


def limited(**limits: Any) -> InboundSettings:
    return evolve(SETTINGS, peers=PeerLimits(**limits))


def seconds_until_closed(talk: Talk, say: bytes, every: int, most: int = 100_000) -> int:
    """The peer says the same again and again. @return: for how long it may."""
    for second in range(every, most, every):
        talk.clock.pump([1.0] * every)  # the timers run in their time
        if talk.channel.closed is not None:
            return second
        talk.conversation.received(say)
    return most


class SlowCommandTests(SynchronousTestCase):
    def test_octet_by_octet(self) -> None:
        """One octet in each minute is no command: the connection ends as if nothing came."""
        talk = Talk()
        talk.heard()
        self.assertEqual(seconds_until_closed(talk, b"N", 59), 59 * 6)
        self.assertEqual(talk.heard(), TIMEOUT)

    def test_octet_by_octet_behind_a_command(self) -> None:
        """Nor does it help to have said one before."""
        talk = Talk()
        talk.clock.advance(200)
        talk.say(EHLO)
        self.assertEqual(seconds_until_closed(talk, b"x", 10), 300)
        self.assertEqual(talk.heard(), TIMEOUT)

    def test_in_the_end(self) -> None:
        """Who says NOOP now and then, and gives us no message, is sent away after half an hour."""
        talk = Talk()
        talk.heard()
        self.assertEqual(seconds_until_closed(talk, NOOP, 60), 1800)
        self.assertTrue(talk.heard().endswith(NO_MESSAGE))

    def test_envelopes(self) -> None:
        """Nor does an envelope without a message help."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.say(EHLO, MAIL)
        seconds = seconds_until_closed(talk, RCPT, 200)
        self.assertEqual(seconds, 1800)
        self.assertTrue(talk.heard().endswith(NO_MESSAGE))

    def test_messages_keep_it(self) -> None:
        """With a message each half hour a connection may stay."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.say(EHLO)
        for _ in range(4):
            for _ in range(7):
                talk.clock.pump([1.0] * 250)
                self.assertEqual(talk.codes(NOOP), ["250"])
            self.assertEqual(
                talk.codes(MAIL, RCPT, DATA, MESSAGE, END), ["250", "250", "354", "250"]
            )
        # When the last one ended is known to a minute.
        self.assertIn(seconds_until_closed(talk, NOOP, 60), (1800, 1860))

    def test_switched_off(self) -> None:
        """With 0 a peer that sends no message may stay."""
        talk = Talk(settings=limited(seconds_without_message=0, commands_without_message=0))
        self.assertEqual(seconds_until_closed(talk, NOOP, 200, 20_000), 20_000)


class SlowMessageTests(SynchronousTestCase):
    """1,024 octets a minute, which may be late by 300 seconds' worth: 5,120 octets."""

    def talk(self, **limits: Any) -> Talk:
        talk = Talk(Everything(rcpt=ACCEPT), settings=limited(**limits))
        talk.until_data()
        return talk

    def test_drop_by_drop(self) -> None:
        """A line in each minute is too slow, though it is never silent."""
        talk = self.talk()
        line = b"x" * 510 + b"\r\n"
        # 512 octets a minute short, from the first look on: after ten minutes more that is 5,120.
        self.assertEqual(seconds_until_closed(talk, line, 60, 3600), 60 + 600)
        self.assertEqual((talk.heard(), talk.channel.closed), (TOO_SLOW, "linger"))
        self.assertEqual(queued(talk.spool), [])

    def test_octet_by_octet(self) -> None:
        """An octet each second holds a connection hardly longer than silence does."""
        talk = self.talk()
        self.assertEqual(seconds_until_closed(talk, b"x", 1, 3600), 420)
        self.assertEqual(talk.heard(), TOO_SLOW)

    def test_fast_enough(self) -> None:
        """A slow line that keeps to the rate takes as long as it takes."""
        talk = self.talk()
        self.assertEqual(seconds_until_closed(talk, b"x" * 18, 1, 7200), 7200)
        self.assertEqual(talk.codes(b"\r\n", END), ["250"])

    def test_stalled(self) -> None:
        """A line that stands still for minutes may go on: what counts is the whole."""
        talk = self.talk()
        for _ in range(10):
            talk.clock.pump([1.0] * 240)
            talk.say(b"x" * 5000 + b"\r\n")
        self.assertEqual(talk.codes(END), ["250"])

    def test_what_went_before(self) -> None:
        """What one message was late with the next one does not owe."""
        talk = self.talk()
        for _ in range(3):
            talk.clock.pump([1.0] * 290)
            self.assertEqual(talk.codes(END), ["250"])
            self.assertEqual(talk.codes(MAIL, RCPT, DATA), ["250", "250", "354"])

    def test_our_own_slowness(self) -> None:
        """While a hook takes its time the peer owes nothing."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(rcpt=ACCEPT, message=looked_up), timeouts=[0])
        talk.until_data()
        talk.say(MESSAGE, END)
        talk.clock.pump([1.0] * 3000)
        looked_up.callback(ACCEPT)
        self.assertEqual(talk.heard()[:3], "250")

    def test_switched_off(self) -> None:
        """0 asks for nothing but some octets now and then."""
        talk = self.talk(octets_per_minute=0)
        self.assertEqual(seconds_until_closed(talk, b"x", 290, 40_000), 40_000)


class SlowChunkTests(SynchronousTestCase):
    def test_octet_by_octet(self) -> None:
        """A chunk is a message, too: what is owed for it is owed."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.say(EHLO, MAIL, RCPT, b"BDAT 1000000\r\n")
        self.assertEqual(seconds_until_closed(talk, b"x", 1, 3600), 420)
        self.assertTrue(talk.heard().endswith(TOO_SLOW))

    def test_between_chunks(self) -> None:
        """So is the time between two chunks."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.say(EHLO, MAIL, RCPT)
        self.assertLessEqual(seconds_until_closed(talk, b"BDAT 1\r\nx", 30, 3600), 480)
        self.assertTrue(talk.heard().endswith(TOO_SLOW))


class ManyCommandsTests(SynchronousTestCase):
    def test_floods(self) -> None:
        """Whatever is asked for again and again comes to an end, with 421."""
        for command in (NOOP, b"RSET\r\n", b"VRFY bob\r\n", b"EXPN bob\r\n", b"HELP\r\n", EHLO):
            talk = Talk(settings=limited(commands_without_message=50))
            talk.say(EHLO)
            for _ in range(49):
                talk.heard()
                talk.say(command)
                self.assertIsNone(talk.channel.closed)
            answer = talk.say(command)
            self.assertTrue(answer.endswith(TOO_MANY), answer)
            self.assertEqual(talk.channel.closed, "linger")

    def test_refused_senders(self) -> None:
        """One who tries one sender after the other is among them."""
        talk = Talk(Everything(mail=Reject()), settings=limited(commands_without_message=50))
        talk.say(EHLO)
        codes = talk.codes(MAIL * 60)
        self.assertEqual(codes, ["550"] * 50 + ["421"])

    def test_refused_data(self) -> None:
        """Who is told at DATA, or at the first chunk, that a message is not wanted, has to go."""
        for refused, codes in [
            (DATA, ["550", "421"]),
            (b"BDAT 0\r\nRSET\r\n" + MAIL + RCPT, ["550", "250", "250", "250", "421"]),
            (b"BDAT 1 LAST\r\nx" + MAIL + RCPT, ["550", "250", "250", "421"]),
        ]:
            plugin = Everything(rcpt=ACCEPT, data=Reject(Reply.of(550, "5.7.1", "no")))
            talk = Talk(plugin, settings=limited(commands_without_message=50))
            talk.say(EHLO, MAIL, RCPT)
            said = [code for _ in range(60) for code in talk.codes(refused)]
            self.assertEqual(said[-1], "421")
            self.assertLessEqual(set(said), set(codes))
            self.assertLessEqual(said.count("550"), 50)

    def test_refused_by_the_session(self) -> None:
        """What is no error, but in vain, is not heard for ever, either."""
        tls = RefusingTLS()
        tls.is_required = True
        refused = b"MAIL FROM:<> SIZE=99999999999\r\n"
        no = {"rcpt": Reject()}
        cases: list[tuple[str, dict[str, Any], str, bytes, bytes]] = [
            ("too large", {}, "552", b"", refused),
            ("REQUIRETLS", {}, "523", b"", b"MAIL FROM:<> REQUIRETLS\r\n"),
            ("not ASCII", {}, "550", b"", "MAIL FROM:<\xe4@a.example>\r\n".encode()),
            ("before TLS", {"tls": tls}, "530", b"", MAIL),
            ("sender", {"plugin": {"mail": Reject()}}, "503", MAIL, RCPT),
            ("recipients", {"plugin": no}, "554", MAIL + RCPT, DATA),
            ("many", {"plugin": {"rcpt": ACCEPT}}, "452", MAIL + RCPT * 100, RCPT),
            ("chunks", {"plugin": no}, "503", MAIL + RCPT + b"BDAT 0\r\n", b"BDAT 0\r\n"),
        ]
        settings = evolve(limited(commands_without_message=5), max_recipients=100)
        for what, how, code, first, said in cases:
            plugin = Everything(**how.pop("plugin", {}))
            talk = Talk(plugin, settings=settings, **how)
            talk.say(EHLO)
            for line in first.splitlines(keepends=True):
                talk.say(line)
            codes = [heard for _ in range(150) for heard in talk.codes(said)]
            self.assertEqual((set(codes[:-1]), codes[-1]), ({code}, "421"), what)
            self.assertLessEqual(len(codes), 102, what)

    def test_recipients(self) -> None:
        """Looking for addresses that exist: as many may be refused as a message may have."""
        settings = evolve(limited(commands_without_message=5), max_recipients=100)
        talk = Talk(Everything(rcpt=Reject()), settings=settings)
        talk.say(EHLO, MAIL)
        codes = []
        for _ in range(3):
            codes += talk.codes(RCPT * 50)
        self.assertEqual(codes, ["550"] * 101 + ["421"])

    def test_a_message_pays(self) -> None:
        """After each message the count begins anew, whatever became of it."""
        for verdict, code in [(ACCEPT, "250"), (Reject(), "550")]:
            plugin = Everything(rcpt=ACCEPT, message=verdict)
            talk = Talk(plugin, settings=limited(commands_without_message=5))
            talk.say(EHLO)
            for _ in range(10):
                codes = talk.codes(b"RSET\r\n", NOOP, MAIL, RCPT, DATA, MESSAGE, END)
                self.assertEqual(codes, ["250"] * 4 + ["354", code])


class NoPipelining(Everything):
    async def capabilities(self, connection: Any, offered: Any) -> Capabilities:
        return Capabilities.of("SIZE 1000", "CHUNKING")


class EarlyTalkerTests(SynchronousTestCase):
    def early(self, talk: Talk) -> bool:
        connection = talk.conversation._dialogue.connection
        return connection.early_talker

    def test_before_the_greeting(self) -> None:
        """While a hook keeps the greeting back, a peer has nothing to say."""
        looked_up: Deferred[Any] = Deferred()
        plugin = Everything(connect=looked_up)
        talk = Talk(plugin)
        talk.say(EHLO)
        looked_up.callback(ACCEPT)
        self.assertEqual(talk.heard()[:4], "220 ")
        self.assertTrue(self.early(talk))
        talk.say(MAIL)
        connection = next(about[0] for stage, about in plugin.asked if stage == "mail")
        self.assertTrue(connection.early_talker)

    def test_relaying_is_kept(self) -> None:
        """What is found out meanwhile does not get lost."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(connect=looked_up, relaying=True))
        talk.say(EHLO)
        looked_up.callback(ACCEPT)
        connection = talk.conversation._dialogue.connection
        self.assertEqual((connection.relaying, connection.early_talker), (True, True))

    def test_before_an_answer(self) -> None:
        """Without PIPELINING each answer is to be waited for; with it not."""
        for plugin, said, early in [
            (Everything(), [EHLO + MAIL], True),
            (Everything(), [EHLO, MAIL + RCPT], False),
            (Everything(), [HELO, MAIL + RCPT], True),
            (Everything(), [HELO, MAIL, RCPT, QUIT], False),
            (NoPipelining(), [EHLO, MAIL + RCPT], True),
            (Everything(rcpt=ACCEPT), [HELO, MAIL, RCPT, DATA, MESSAGE + END, QUIT], False),
            (Everything(rcpt=ACCEPT), [HELO, MAIL, RCPT, DATA + MESSAGE + END], True),
            (Everything(rcpt=ACCEPT), [HELO, MAIL, RCPT, DATA, MESSAGE + END + QUIT], True),
        ]:
            talk = Talk(plugin)
            for octets in said:
                talk.say(octets)
            self.assertEqual(self.early(talk), early, said)

    def test_chunks(self) -> None:
        """The octets of a chunk come at once, PIPELINING or not; what comes behind is early."""
        chunk = b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE
        for behind, early in [(b"", False), (NOOP, True)]:
            talk = Talk(NoPipelining(rcpt=ACCEPT))
            for octets in (EHLO, MAIL, RCPT, chunk + behind):
                talk.say(octets)
            self.assertEqual(len(queued(talk.spool)), 1)
            self.assertEqual(self.early(talk), early)

    def test_while_a_hook_is_waited_for(self) -> None:
        """The same when the next command comes later, but before the answer."""
        for hello, early in [(HELO, True), (EHLO, False)]:
            looked_up: Deferred[Any] = Deferred()
            talk = Talk(Everything(mail=looked_up))
            talk.say(hello)
            talk.say(MAIL)
            talk.say(RCPT)
            self.assertEqual(self.early(talk), early)
            looked_up.callback(ACCEPT)

    def test_through_tls(self) -> None:
        """It stays known inside of TLS, and there a command has to wait for EHLO again."""
        talk = Talk(Everything(), tls=RefusingTLS(), implicit_tls=True)
        talk.secured()
        self.assertFalse(self.early(talk))
        talk.say(EHLO + NOOP)
        self.assertTrue(self.early(talk))

    def test_refused(self) -> None:
        """Where the operator wants it, they hear 554 and are closed."""
        settings = limited(refuse_early_talkers=True)
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(connect=looked_up), settings=settings)
        talk.say(EHLO)
        looked_up.callback(ACCEPT)
        self.assertEqual((talk.heard(), talk.channel.closed), (TOO_SOON, "linger"))
        talk = Talk(settings=settings)
        self.assertTrue(talk.say(HELO + MAIL).endswith(TOO_SOON))
        self.assertEqual(talk.channel.closed, "linger")
        talk = Talk(settings=settings)
        self.assertEqual(talk.codes(EHLO), ["250"])
        self.assertEqual(talk.codes(MAIL, RCPT), ["250", "550"])
