"""Tests of the plugin delay_deny."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Recipient
from harakatls.plugins.delay_deny import load
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Disconnect, Reject, TempFail
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, MAIL, RCPT, Talk
from tests.plugins.support import site_of

NO = Reject(Reply.of(554, "5.7.1", "I know you"))
OTHER = b"RCPT TO:<cid@a.example>\r\n"


class PickyAboutBob(Everything):
    """Refuses bob, and accepts nobody."""

    async def rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Any:
        return NO if recipient.address.local_part == "bob" else CONTINUE


class DelayDenyTests(SynchronousTestCase):
    def talk(self, *others: Everything, text: str = "") -> Talk:
        """The others are plugin1 and so on."""
        return Talk(load(site_of(self, {"delay_deny.ini": text})), *others)

    def test_until_a_recipient_is_accepted(self) -> None:
        """What is refused at connect, EHLO, MAIL or RCPT is refused there and then, as it was."""
        for stage in ("connect", "hello", "mail", "rcpt"):
            for verdict, said in (
                (NO, "554 5.7.1 I know you"),
                (TempFail(), "450 4.7.1 recipient <bob@a.example> denied"),
                (Disconnect(), "421 4.7.0 recipient <bob@a.example> denied"),
            ):
                talk = self.talk(Everything(**{stage: verdict}), Everything(rcpt=ACCEPT))
                self.assertEqual(talk.heard()[:3], "220")
                self.assertEqual(talk.codes(EHLO, MAIL), ["250", "250"])
                self.assertEqual(talk.say(RCPT), f"{said}\r\n", stage)

    def test_a_recipient_that_nobody_accepts(self) -> None:
        """A recipient that nobody accepts is refused for that, whatever was put off."""
        talk = self.talk(Everything(mail=NO))
        self.assertIn("550 5.7.1 I cannot deliver mail", talk.say(EHLO, MAIL, RCPT))

    def test_too_many_who_are_unknown(self) -> None:
        """Whoever guesses names is sent away at once: none of them may ever be accepted."""
        talk = self.talk(Everything(rcpt=Disconnect()))
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT), ["250", "250", "421"])
        self.assertEqual(talk.channel.closed, "linger")

    def test_another_has_the_last_word(self) -> None:
        """Nothing is lost where a plugin before this one says yes to the recipient."""
        for refuses in ({"connect": NO}, {"hello": NO}, {"mail": NO}, {"rcpt": NO}):
            plugin = load(site_of(self, {"delay_deny.ini": ""}))
            talk = Talk(
                Everything(accepted_rcpt=ACCEPT),
                plugin,
                Everything(**refuses),
                Everything(rcpt=ACCEPT),
            )
            codes = talk.codes(EHLO, MAIL, RCPT, DATA)
            self.assertEqual(codes, ["250", "250", "250", "554"], refuses)

    def test_relaying_escapes(self) -> None:
        """Whoever may relay is not refused for where he connects from."""
        for stage in ("connect", "hello", "mail", "rcpt"):
            talk = self.talk(Everything(relaying=True, **{stage: NO}))
            self.assertEqual(talk.codes(EHLO, MAIL, RCPT, DATA), ["250"] * 3 + ["354"])

    def test_later_refusals_stand(self) -> None:
        """There is nothing to wait for any more."""
        for stage in ("accepted_rcpt", "data", "message"):
            talk = self.talk(Everything(rcpt=ACCEPT, **{stage: NO}))
            self.assertIn("554 5.7.1 I know you\r\n", talk.say(EHLO, MAIL, RCPT, DATA, b".\r\n"))

    def test_of_one_recipient(self) -> None:
        """It is not held against the next one, nor against the next message."""
        talk = self.talk(PickyAboutBob(), Everything(rcpt=ACCEPT))
        codes = talk.codes(EHLO, MAIL, RCPT, OTHER, RCPT, OTHER)
        self.assertEqual(codes, ["250", "250", "554", "250", "554", "250"])
        talk = self.talk(PickyAboutBob(), Everything())
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT, RCPT, OTHER)[2:], ["550"] * 3)

    def test_of_one_message(self) -> None:
        """A refused sender is forgotten with his message."""
        plugin = Everything(mail=NO, rcpt=ACCEPT)
        talk = self.talk(plugin)
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT)[-1], "554")
        plugin.answers["mail"] = CONTINUE
        self.assertEqual(talk.codes(b"RSET\r\n", MAIL, RCPT), ["250"] * 3)

    def test_of_one_hello(self) -> None:
        """Another EHLO is another chance, as it is without the plugin."""
        plugin = Everything(hello=NO, rcpt=ACCEPT)
        talk = self.talk(plugin)
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT)[-1], "554")
        plugin.answers["hello"] = CONTINUE
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT), ["250"] * 3)

    def test_what_is_kept(self) -> None:
        """A client that says the same again and again fills no memory."""
        seen: list[Any] = []

        class Notes(Everything):
            async def reset(self, connection: Any, transaction: Any) -> None:
                seen.append((connection.notes, transaction.notes))

        talk = self.talk(PickyAboutBob(hello=NO), Notes())
        talk.say(*[EHLO] * 30, MAIL, *[RCPT] * 30, b"RSET\r\n")
        (connection, transaction) = seen[-1]
        self.assertEqual(len(connection["delay_deny_pre"]), 1)
        self.assertEqual(len(transaction["delay_deny_pre"]), 1)

    def test_who_takes_the_place_of_another(self) -> None:
        """What was refused about an alias is said, though others are accepted in its place."""
        dan = Recipient(parse_address("dan@a.example"))
        talk = self.talk(PickyAboutBob(), Everything(rcpt=Accept(becomes=(dan,))))
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT)[-1], "554")

    def test_included(self) -> None:
        """Only these are put off; the others refuse at once."""
        for text, delayed in (
            ("included_plugins=plugin1\n", True),
            ("included_plugins=plugin9, plugin1:mail\n", True),
            ("included_plugins=plugin1:mail:hook_mail\n", True),
            ("included_plugins=plugin1:helo;plugin2\n", False),
            ("excluded_plugins=plugin1\n", False),
            ("excluded_plugins=plugin1:mail\n", False),
            ("excluded_plugins=plugin1:rcpt plugin2\n", True),
        ):
            talk = self.talk(Everything(mail=NO), text=text)
            self.assertEqual(talk.codes(EHLO, MAIL)[1], "250" if delayed else "554", text)

    def test_haraka_names(self) -> None:
        """helo and ehlo are one hook here."""
        for hook in ("helo", "ehlo", "hello"):
            talk = self.talk(Everything(hello=NO), text=f"included_plugins=plugin1:{hook}\n")
            self.assertEqual(talk.codes(EHLO), ["250"])

    def test_mistakes(self) -> None:
        """A mistake keeps the server from starting, and is named with file and key."""
        for text, words in (
            ("included_plugins=a:rctp\n", "included_plugins: 'a:rctp' is none; expected plugin"),
            ("excluded_plugins=:mail\n", "excluded_plugins: ':mail' is none"),
            ("included_plugins=a\nexcluded_plugins=b\n", "excluded_plugins: cannot be used"),
        ):
            problem = str(
                self.assertRaises(ConfigError, load, site_of(self, {"delay_deny.ini": text}))
            )
            self.assertTrue(problem.startswith(f"delay_deny.ini {words}"), problem)

    def test_function(self) -> None:
        """What has no meaning here is told."""
        site = site_of(self, {"delay_deny.ini": "included_plugins=a:mail:b\n"})
        load(site)
        (warning,) = site.config.warnings
        self.assertIn("'a:mail:b' names a function", warning)
