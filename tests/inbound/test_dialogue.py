"""Each command and its answer, with hooks that agree, object, or change what is offered."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Hello
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, Accept, Disconnect, Reject, TempFail
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    ID,
    MAIL,
    MESSAGE,
    PATIENT,
    QUIT,
    RCPT,
    SETTINGS,
    SUMMARY,
    RefusingTLS,
    Talk,
    queued,
)

OWN = Reply.of(553, "5.7.1", "my words")


class OfferingTLS(Everything):
    """Offers STARTTLS as the plugin tls does."""

    async def capabilities(self, connection: Any, offered: Capabilities) -> Capabilities:
        await super().capabilities(connection, offered)
        return offered.adding("STARTTLS") if connection.secured is None else offered


class GreetingTests(SynchronousTestCase):
    def test_welcome(self) -> None:
        """A peer is greeted when the connect hooks have nothing against it."""
        talk = Talk(Everything())
        self.assertRegex(talk.heard(), r"^220 mx\.example ESMTP \S+ ready \(4C1F2E\)\r\n$")
        self.assertIsNone(talk.channel.closed)

    def test_refused(self) -> None:
        """A refused peer hears why to everything, until it says QUIT (RFC 5321 section 3.1)."""
        for verdict, greeting, other in [
            (Reject(), "554 Your mail is not welcome here\r\n", "503"),
            (TempFail(), "421 Come back later\r\n", "421"),
            (Reject(OWN), "553 5.7.1 my words\r\n", "503"),
        ]:
            talk = Talk(Everything(connect=verdict))
            self.assertEqual(talk.heard(), greeting)
            for command in (EHLO, MAIL, b"NOOP\r\n", b"NONSENSE\r\n"):
                answer = talk.say(command)
                self.assertEqual(answer[:3], other)
                self.assertIn(greeting[-8:], answer)
            self.assertIsNone(talk.channel.closed)
            self.assertEqual(talk.say(QUIT)[:3], "221")
            self.assertEqual(talk.channel.closed, "close")

    def test_sent_away(self) -> None:
        """Disconnect says its reply and hangs up."""
        talk = Talk(Everything(connect=Disconnect(OWN)))
        self.assertEqual(talk.heard(), "553 5.7.1 my words\r\n")
        self.assertEqual(talk.channel.closed, "linger")

    def test_slow_greeting(self) -> None:
        """Nothing is said before the connect hooks have answered; early words are kept."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(connect=looked_up))
        self.assertEqual(talk.say(EHLO), "")
        looked_up.callback(ACCEPT)
        self.assertEqual([line[:4] for line in talk.heard().splitlines()][:2], ["220 ", "250-"])

    def test_relaying_is_asked_once(self) -> None:
        """Who may relay is known from the connection on, in every hook."""
        plugin = Everything(relaying=True)
        talk = Talk(plugin)
        talk.say(EHLO, MAIL, RCPT, b"RSET\r\n", MAIL)
        asked = plugin.stages
        self.assertEqual(asked.count("relaying"), 1)
        self.assertTrue(
            all(
                a[0].relaying
                for s, a in plugin.asked
                if s not in ("peer_name", "connect", "relaying")
            )
        )


class HelloTests(SynchronousTestCase):
    def test_offer(self) -> None:
        """What EHLO offers, in Haraka's order, and what plugins add behind it."""
        talk = Talk(OfferingTLS())
        self.assertEqual(
            talk.say(EHLO).splitlines(),
            [
                "250-mx.example Hello [192.0.2.10], harakatls is at your service.",
                "250-PIPELINING",
                "250-8BITMIME",
                "250-SMTPUTF8",
                "250-SIZE 26214400",
                "250-ENHANCEDSTATUSCODES",
                "250-DSN",
                "250-CHUNKING",
                "250-BINARYMIME",
                "250-LIMITS RCPTMAX=1000",
                "250 STARTTLS",
            ],
        )

    def test_without_chunking(self) -> None:
        """chunking=false is not offered, nor what needs it."""
        offered = Talk(settings=evolve(SETTINGS, chunking=False)).say(EHLO)
        self.assertNotIn("CHUNKING", offered)
        self.assertNotIn("BINARYMIME", offered)

    def test_without_smtputf8(self) -> None:
        """smtputf8=false is not offered."""
        talk = Talk(settings=evolve(SETTINGS, smtputf8=False, max_bytes=1000))
        offered = talk.say(EHLO)
        self.assertNotIn("SMTPUTF8", offered)
        self.assertIn("SIZE 1000", offered)

    def test_helo(self) -> None:
        """HELO is answered in one line."""
        self.assertEqual(
            Talk().say(b"HELO client.example\r\n"),
            "250 mx.example Hello [192.0.2.10], harakatls is at your service.\r\n",
        )

    def test_hooks_know_the_name(self) -> None:
        """The hello hook is told the name; those behind it find it in the connection."""
        plugin = Everything()
        Talk(plugin).say(EHLO, MAIL)
        asked = dict(plugin.asked)
        hello = Hello("client.example", True)
        self.assertEqual((asked["hello"][0].hello, asked["hello"][1]), (None, hello))
        self.assertEqual(asked["capabilities"][0].hello, hello)
        self.assertEqual(asked["mail"][0].hello, hello)

    def test_denied(self) -> None:
        """A denied hello is none: MAIL is out of order, and another hello may be tried."""
        for verdict, text in [(Reject(), "550 EHLO denied"), (TempFail(), "450 EHLO denied")]:
            plugin = Everything(hello=verdict)
            talk = Talk(plugin)
            self.assertEqual(talk.say(EHLO), text + "\r\n")
            self.assertEqual(talk.say(MAIL)[:9], "503 5.5.1")
            del plugin.answers["hello"]
            self.assertEqual(talk.codes(EHLO, MAIL), ["250", "250"])

    def test_denied_and_sent_away(self) -> None:
        """Disconnect closes."""
        talk = Talk(Everything(hello=Disconnect()))
        self.assertEqual(talk.say(b"HELO x\r\n"), "421 HELO denied\r\n")
        self.assertEqual(talk.channel.closed, "linger")

    def test_ends_a_transaction(self) -> None:
        """RFC 5321 section 4.1.4: a second EHLO does what RSET does."""
        talk = Talk(Everything(rcpt=ACCEPT))
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT, EHLO, DATA), ["250"] * 4 + ["503"])


class OtherCommandTests(SynchronousTestCase):
    def test_answers(self) -> None:
        """Every command has an answer, with its enhanced code."""
        talk = Talk()
        talk.say(EHLO)
        for command, answer in [
            (b"NOOP\r\n", "250 2.0.0 OK\r\n"),
            (b"RSET\r\n", "250 2.0.0 OK\r\n"),
            (
                b"VRFY bob\r\n",
                "252 2.0.0 Just try sending a mail and we'll see how it turns out...\r\n",
            ),
            (b"EXPN staff\r\n", "502 5.5.1 Lists are not expanded here\r\n"),
            (b"XYZZY\r\n", "500 5.5.2 Unrecognized command\r\n"),
            (b"AUTH PLAIN\r\n", "503 5.5.1"),
            (b"STARTTLS\r\n", "503 5.5.1"),
            (b"HELP\r\n", "214-2.0.0"),
        ]:
            self.assertTrue(talk.say(command).startswith(answer), command)

    def test_quit(self) -> None:
        """QUIT is the last that is answered, whatever stands behind it."""
        talk = Talk()
        self.assertEqual(
            talk.say(QUIT, b"NOOP\r\n"),
            "221 2.0.0 mx.example closing connection. Have a jolly good day.\r\n",
        )
        self.assertEqual(talk.channel.closed, "close")
        self.assertEqual(talk.say(b"NOOP\r\n"), "")

    def test_errors(self) -> None:
        """A peer that only makes errors is sent away with 421."""
        talk = Talk(settings=evolve(SETTINGS, max_bad_commands=5))
        codes = talk.codes(*[b"XYZZY\r\n"] * 50)
        self.assertEqual(codes, ["500"] * 5 + ["421"])
        self.assertEqual(talk.channel.closed, "linger")

    def test_errors_of_order_and_grammar(self) -> None:
        """What the session refuses is answered, and the conversation goes on."""
        talk = Talk()
        self.assertEqual(talk.codes(MAIL, b"MAIL\r\n", b"NOOP\nNOOP\r\n"), ["503", "503", "500"])
        self.assertEqual(talk.codes(EHLO, MAIL), ["250", "250"])

    def test_tls_on_a_plain_port(self) -> None:
        """A client that speaks TLS at once is told, and closed."""
        talk = Talk()
        self.assertEqual(talk.say(b"\x16\x03\x01\x02\x00\x01")[:3], "501")
        self.assertEqual(talk.channel.closed, "linger")

    def test_turns(self) -> None:
        """A peer that sends thousands of commands at once lets others have their turn."""
        talk = Talk(settings=PATIENT)
        talk.heard()
        talk.conversation.received(b"NOOP\r\n" * 250)
        self.assertEqual([len(octets.splitlines()) for octets in talk.channel.written], [100])
        for expected in (100, 50):
            talk.heard()
            resting, talk.channel.resting = talk.channel.resting, None
            assert resting is not None
            resting.callback(None)
            self.assertEqual(len(talk.heard().splitlines()), expected)
        self.assertIsNone(talk.channel.resting)


class StartTLSTests(SynchronousTestCase):
    def talk(self, *plugins: object) -> Talk:
        self.tls = RefusingTLS()
        talk = Talk(*(plugins or (OfferingTLS(rcpt=ACCEPT),)), tls=self.tls)
        talk.say(EHLO)
        return talk

    def test_order(self) -> None:
        """220 leaves in the clear before the handshake begins."""
        talk = self.talk()
        talk.channel.log.clear()
        self.assertEqual(talk.say(b"STARTTLS\r\n"), "220 2.0.0 Go ahead.\r\n")
        self.assertEqual(talk.channel.log, ["write", "secure"])

    def test_secured(self) -> None:
        """Inside of TLS all begins anew, without a greeting, and hooks know about it."""
        plugin = OfferingTLS(rcpt=ACCEPT)
        talk = self.talk(plugin)
        talk.say(b"STARTTLS\r\n")
        talk.secured()
        self.assertEqual(talk.heard(), "")
        self.assertEqual(talk.say(MAIL)[:3], "503")
        self.assertNotIn("STARTTLS", talk.say(EHLO))
        self.assertEqual(talk.say(b"STARTTLS\r\n")[:9], "503 5.5.1")
        plugin.asked.clear()
        talk.say(MAIL)
        (_, (connection, _)) = plugin.asked[0]
        self.assertEqual(connection.secured, SUMMARY)

    def test_hello_hooks_do_not_see_the_name_from_before(self) -> None:
        """RFC 3207 section 4.2: what was said in the clear is forgotten, the HELO name too."""
        plugin = OfferingTLS()
        talk = self.talk(plugin)
        talk.say(b"STARTTLS\r\n")
        talk.secured()
        plugin.asked.clear()
        talk.say(EHLO)
        self.assertIsNone(plugin.asked[0][1][0].hello)

    def test_commands_behind_starttls(self) -> None:
        """What an attacker puts behind STARTTLS in the clear is never obeyed."""
        plugin = OfferingTLS(rcpt=ACCEPT)
        talk = self.talk(plugin)
        plugin.asked.clear()
        talk.say(b"STARTTLS\r\nEHLO evil.example\r\n", MAIL, RCPT)
        talk.secured()
        self.assertEqual(talk.heard(), "")
        self.assertEqual(plugin.asked, [])
        self.assertEqual(talk.codes(RCPT, EHLO), ["503", "250"])

    def test_with_arguments(self) -> None:
        """RFC 3207 section 4: STARTTLS takes no parameters."""
        self.assertEqual(self.talk().say(b"STARTTLS now\r\n")[:9], "501 5.5.4")

    def test_no_certificate(self) -> None:
        """Where there is no certificate (any more) the peer may go on in the clear."""
        talk = self.talk()
        self.tls.is_ready = False
        self.assertEqual(talk.say(b"STARTTLS\r\n")[:9], "454 4.7.0")
        self.assertEqual(talk.say(MAIL)[:3], "250")

    def test_handshake_fails(self) -> None:
        """Nothing is said after a broken handshake; `IServerTLS` hears of it; it is closed."""
        talk = self.talk()
        talk.say(b"STARTTLS\r\n")
        talk.not_secured("no cipher in common")
        self.assertEqual(talk.heard(), "")
        self.assertEqual(self.tls.failures, ["no cipher in common"])
        self.assertEqual(talk.channel.closed, "linger")

    def test_handshake_fails_since_the_peer_left(self) -> None:
        """To remember the failure is not given up because the peer is gone."""
        plugin = OfferingTLS()
        talk = self.talk(plugin)
        self.tls.telling = Deferred()
        talk.say(b"STARTTLS\r\n")
        talk.not_secured("the peer broke off")
        talk.conversation.leave()
        self.assertEqual(talk.over, [])
        self.tls.telling.callback(None)
        self.assertEqual(talk.over, [None])
        self.assertEqual(plugin.asked[-1][0], "disconnected")


class RequiredTLSTests(SynchronousTestCase):
    """Nothing is taken from some clients before TLS."""

    def talk(self, ready: bool = True) -> Talk:
        self.tls = RefusingTLS(ready)
        self.tls.is_required = True
        self.plugin = OfferingTLS() if ready else Everything()
        talk = Talk(self.plugin, tls=self.tls, port=2525)
        self.assertEqual(talk.heard()[:4], "220 ")
        return talk

    def test_before_and_after(self) -> None:
        """A transaction is refused before the handshake, unheard by plugins, and taken after it."""
        talk = self.talk()
        told = "530 5.7.0 Must issue a STARTTLS command first\r\n"
        self.assertEqual(talk.say(b"HELO client.example\r\n"), told)
        self.assertIn("STARTTLS", talk.say(EHLO))
        self.assertEqual(talk.say(MAIL, RCPT, DATA), 3 * told)
        self.assertEqual(talk.codes(b"NOOP\r\n"), ["250"])
        self.assertNotIn("mail", self.plugin.stages)
        talk.say(b"STARTTLS\r\n")
        talk.secured()
        self.assertEqual(talk.codes(EHLO, MAIL), ["250", "250"])

    def test_no_certificate(self) -> None:
        """Where it is our fault that there is no TLS, mail is to come later, not to be returned."""
        talk = self.talk(ready=False)
        self.assertEqual(talk.codes(EHLO), ["250"])
        self.assertEqual(talk.say(MAIL)[:9], "454 4.7.0")

    def test_implicit_tls(self) -> None:
        """Where TLS is there from the start, nothing more is required."""
        tls = RefusingTLS()
        tls.is_required = True
        talk = Talk(Everything(), tls=tls, implicit_tls=True)
        talk.secured()
        self.assertEqual(talk.codes(EHLO, MAIL), ["220", "250", "250"][1:])


class ImplicitTLSTests(SynchronousTestCase):
    def test_handshake_comes_first(self) -> None:
        """The connect hooks and the greeting wait for the handshake."""
        plugin = Everything()
        talk = Talk(plugin, tls=RefusingTLS(), implicit_tls=True)
        self.assertEqual((talk.heard(), plugin.asked), ("", []))
        talk.secured()
        self.assertEqual(talk.heard()[:4], "220 ")
        self.assertEqual(plugin.asked[0][1][0].secured, SUMMARY)
        self.assertNotIn("STARTTLS", talk.say(EHLO))
        self.assertEqual(talk.say(b"STARTTLS\r\n")[:3], "503")

    def test_handshake_fails(self) -> None:
        """Without TLS there is no greeting."""
        tls = RefusingTLS()
        talk = Talk(Everything(), tls=tls, implicit_tls=True)
        talk.not_secured("the peer does not speak TLS")
        self.assertEqual((talk.heard(), talk.channel.closed), ("", "linger"))
        self.assertEqual(tls.failures, ["the peer does not speak TLS"])

    def test_no_certificate(self) -> None:
        """A listener that has lost its certificate hangs up, and says nothing in the clear."""
        talk = Talk(Everything(), tls=RefusingTLS(ready=False), implicit_tls=True)
        self.assertEqual((talk.heard(), talk.channel.closed), ("", "close"))


class VerdictTests(SynchronousTestCase):
    """Every stage of a transaction, every verdict."""

    def test_refusals(self) -> None:
        """A refusal leaves all as it was, so the peer may try something else, or go on."""
        steps = [("mail", MAIL), ("rcpt", RCPT), ("data", DATA)]
        for number, (stage, _) in enumerate(steps):
            for verdict, digit in [(Reject(), "5"), (TempFail(), "4"), (Reject(OWN), "5")]:
                plugin = Everything(**{"rcpt": ACCEPT, stage: verdict})
                talk = Talk(plugin)
                codes = talk.codes(EHLO, *[command for _, command in steps[: number + 1]])
                self.assertEqual([code[0] for code in codes], ["2"] * (number + 1) + [digit])
                self.assertIsNone(talk.channel.closed)
                plugin.answers[stage] = ACCEPT
                codes = talk.codes(*[command for _, command in steps[number:]])
                self.assertEqual(codes[-1], "354")

    def test_disconnects(self) -> None:
        """Disconnect says its reply, and nothing behind it is answered."""
        steps = [("mail", MAIL), ("rcpt", RCPT), ("data", DATA)]
        for number, (stage, _) in enumerate(steps):
            for verdict, code in [(Disconnect(), "421"), (Disconnect(OWN), "553")]:
                talk = Talk(Everything(**{"rcpt": ACCEPT, stage: verdict}))
                commands = [command for _, command in steps[: number + 1]]
                codes = talk.codes(EHLO, *commands, b"NOOP\r\n")
                self.assertEqual(codes, ["250"] * (number + 1) + [code])
                self.assertEqual(talk.channel.closed, "linger")

    def test_the_end_by_another_name(self) -> None:
        """A plugin that puts off with 421 ends the connection; no peer waits in vain."""
        later = TempFail(Reply.of(421, "4.7.0", "come back tomorrow"))
        steps = [EHLO, MAIL, RCPT, DATA, MESSAGE + END]
        for number, stage in enumerate(("hello", "mail", "rcpt", "data", "message")):
            talk = Talk(Everything(**{"rcpt": ACCEPT, stage: later}))
            for step in steps[:number]:
                talk.say(step)
            self.assertEqual(talk.codes(steps[number], b"NOOP\r\n"), ["421"])
            self.assertEqual(talk.channel.closed, "linger", stage)

    def test_after_the_data(self) -> None:
        """A message that a hook refuses is not queued, and the next may follow."""
        for stage in ("message", "queue"):
            for verdict, digit in [
                (Reject(), "5"),
                (TempFail(), "4"),
                (Reject(OWN), "5"),
                (Disconnect(), "4"),
            ]:
                talk = Talk(Everything(**{"rcpt": ACCEPT, stage: verdict}))
                talk.until_data()
                self.assertEqual(talk.say(MESSAGE, END)[0], digit)
                self.assertEqual(queued(talk.spool), [])
                if isinstance(verdict, Disconnect):
                    self.assertEqual(talk.channel.closed, "linger")
                else:
                    self.assertEqual(talk.codes(MAIL, RCPT), ["250", "250"])

    def test_own_words_of_acceptance(self) -> None:
        """A plugin's own positive replies reach the peer, at every stage."""
        replies = {
            "mail": Reply.of(250, "2.1.0", "welcome, sender"),
            "rcpt": Reply.of(251, "2.1.5", "will be forwarded"),
            "data": Reply.of(354, None, "speak"),
            "queue": Reply.of(250, "2.6.0", "got it"),
        }
        talk = Talk(Everything(**{stage: Accept(reply) for stage, reply in replies.items()}))
        talk.say(EHLO)
        self.assertEqual(
            talk.say(MAIL, RCPT, DATA, MESSAGE, END).splitlines(),
            [
                "250 2.1.0 welcome, sender",
                "251 2.1.5 will be forwarded",
                "354 speak",
                f"250 2.6.0 got it ({ID}.1)",
            ],
        )


class ErrorTests(SynchronousTestCase):
    def test_plugins_are_told(self) -> None:
        """A plugin that limits errors sees them all: unknown, malformed and out of order."""
        plugin = Everything()
        talk = Talk(plugin)
        talk.say(b"NONSENSE\r\nRCPT TO:<bob@a.example>\r\n" + EHLO + b"MAIL\r\n" + MAIL)
        told = {stage: arguments[0].errors for stage, arguments in plugin.asked}
        self.assertEqual((told["connect"], told["hello"], told["mail"]), (0, 2, 3))
