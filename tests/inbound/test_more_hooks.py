"""Hooks beside the transaction: unknown commands, VRFY, NOOP, RSET, QUIT, and its end."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Recipient
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, Accept, Disconnect, Reject, TempFail
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
    Talk,
    queued,
)

RSET = b"RSET\r\n"


class CommandTests(SynchronousTestCase):
    def test_answered_by_a_plugin(self) -> None:
        """A command of a plugin's own: its reply is said, and it is no error of the client."""
        plugin = Everything(unrecognized=Accept(Reply.of(211, None, "{}")))
        talk = Talk(plugin, settings=evolve(SETTINGS, max_bad_commands=3))
        for _ in range(10):
            self.assertEqual(talk.say(b"status queue  LIST \r\n"), "211 {}\r\n")
        _, transaction, verb, argument = plugin.told("unrecognized")[0]
        self.assertIsNone(transaction)
        self.assertEqual((verb, argument.strip()), ("STATUS", "queue  LIST"))

    def test_unknown_within_a_transaction(self) -> None:
        """The plugin sees the transaction, which goes on whatever it says."""
        for verdict in (ACCEPT, Reject(), TempFail()):
            plugin = Everything(unrecognized=verdict, rcpt=ACCEPT)
            talk = Talk(plugin)
            talk.codes(EHLO, MAIL)
            talk.say(b"XYZZY\r\n")
            self.assertEqual(talk.codes(RCPT, DATA), ["250", "354"])
            self.assertIsNotNone(plugin.told("unrecognized")[0][1])

    def test_told_before_the_answer(self) -> None:
        """A plugin that waits at RSET or QUIT keeps the peer waiting, as tarpit does."""
        for verb, code in (("rset", "250"), ("quit", "221")):
            waits: Deferred[Any] = Deferred()
            talk = Talk(Everything(**{verb: waits}))
            self.assertEqual(talk.say(verb.encode() + b"\r\n"), "")
            waits.callback("nonsense that nobody looks at")
            self.assertEqual(talk.heard()[:3], code)

    def test_verify_is_told_whom(self) -> None:
        """The plugin gets what the peer wrote; EXPN is not its business."""
        plugin = Everything(verify=Accept(Reply.of(250, "2.1.5", "Bob <bob@a.example>")))
        talk = Talk(plugin)
        self.assertEqual(talk.say(b"VRFY bob\r\n"), "250 2.1.5 Bob <bob@a.example>\r\n")
        self.assertEqual(talk.codes(b"EXPN staff\r\n"), ["502"])
        self.assertEqual([about[2] for about in plugin.told("verify")], ["bob"])


class EndOfTransactionTests(SynchronousTestCase):
    """However a transaction ends, plugins hear of it, once."""

    def ended(self, plugin: Everything, talk: Talk, *octets: bytes) -> str:
        """@return: what was answered. The plugin has heard of one end more."""
        before = len(plugin.told("reset"))
        answer = talk.say(*octets)
        self.assertEqual(len(plugin.told("reset")), before + 1, octets)
        return answer

    def test_each_end(self) -> None:
        """Taken, refused at its end, RSET, EHLO, a refused sender, and a peer that leaves."""
        plugin = Everything(rcpt=ACCEPT)
        talk = Talk(plugin)
        talk.codes(EHLO)
        self.ended(plugin, talk, MAIL, RCPT, DATA, MESSAGE, END)
        plugin.answers["message"] = Reject()
        self.ended(plugin, talk, MAIL, RCPT, DATA, MESSAGE, END)
        self.ended(plugin, talk, MAIL, RSET)
        self.ended(plugin, talk, MAIL, RCPT, EHLO)
        plugin.answers["mail"] = Reject()
        self.ended(plugin, talk, MAIL)
        plugin.answers["mail"] = ACCEPT
        talk.say(MAIL, RCPT)
        before = len(plugin.told("reset"))
        talk.conversation.leave()
        self.assertEqual(len(plugin.told("reset")), before + 1)
        self.assertEqual(plugin.asked[-1][0], "disconnected")

    def test_nothing_ended(self) -> None:
        """Without a transaction there is no end of one."""
        plugin = Everything()
        talk = Talk(plugin)
        talk.say(EHLO, RSET, EHLO, b"NOOP\r\n", QUIT)
        talk.conversation.leave()
        self.assertEqual(plugin.told("reset"), [])

    def test_as_it_was_in_the_end(self) -> None:
        """With its recipients, and the notes that plugins have made."""
        plugin = Everything(rcpt=ACCEPT)
        talk = Talk(plugin)
        talk.say(EHLO, MAIL, RCPT)
        plugin.told("mail")[0][1].notes["seen"] = True
        talk.say(RSET)
        ((_, transaction),) = plugin.told("reset")
        self.assertEqual(len(transaction.envelope.recipients), 1)
        self.assertEqual(transaction.notes, {"seen": True})

    def test_nobody_waits_for_the_end(self) -> None:
        """The peer has its answer before the plugins are told: its message is ours."""
        for waits_at in (MAIL + RCPT + DATA + MESSAGE + END, MAIL + RSET):
            waits: Deferred[Any] = Deferred()
            plugin = Everything(rcpt=ACCEPT, reset=waits)
            talk = Talk(plugin)
            talk.codes(EHLO)
            self.assertEqual(talk.codes(waits_at)[-1], "250")
            self.assertEqual(talk.say(MAIL), "")
            waits.callback(None)
            self.assertEqual(talk.heard()[:3], "250")

    def test_peer_leaves_while_they_are_told(self) -> None:
        """All are told, and the message is ours."""
        first, second = Everything(rcpt=ACCEPT, reset=Deferred()), Everything()
        talk = Talk(first, second)
        talk.codes(EHLO, MAIL, RCPT, DATA, MESSAGE, END)
        talk.conversation.leave()
        self.assertEqual(len(second.told("reset")), 1)
        self.assertEqual(len(queued(talk.spool)), 1)
        self.assertEqual(talk.over, [None])

    def test_broken(self) -> None:
        """A hook that raises harms nobody."""
        talk = Talk(Everything(rcpt=ACCEPT, reset=KeyError("x")))
        self.assertEqual(
            talk.codes(EHLO, MAIL, RCPT, DATA, MESSAGE, END, MAIL, RSET),
            ["250", "250", "250", "354", "250", "250", "250"],
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)


class TooLargeTests(SynchronousTestCase):
    def answer(self, verdict: Any) -> str:
        self.plugin = Everything(rcpt=ACCEPT, too_large=verdict)
        talk = Talk(self.plugin, settings=evolve(SETTINGS, max_bytes=20))
        talk.until_data()
        answer = talk.say(MESSAGE, END)
        self.assertEqual(queued(talk.spool), [])
        return answer

    def test_never_taken(self) -> None:
        """A plugin may say that it is too large for now, but never that it is not."""
        own = Reply.of(250, "2.0.0", "let it in")
        for verdict in (ACCEPT, Accept(own), Reject()):
            self.assertEqual(self.answer(verdict), "552 5.3.4 Message too big!\r\n")
        self.assertEqual(self.answer(TempFail()), "450 4.3.4 Message too big!\r\n")
        self.assertEqual(self.answer(Disconnect())[:3], "421")

    def test_told_the_size(self) -> None:
        """In octets, so that the operator can be told."""
        self.answer(ACCEPT)
        self.assertEqual(self.plugin.told("too_large")[0][2], len(MESSAGE))


class InPlaceTests(SynchronousTestCase):
    """Recipients that get the mail in place of the one who was named."""

    def talk(self, becomes: Callable[[str], tuple[Recipient, ...] | None], **more: Any) -> Talk:
        class Aliases(Everything):
            async def rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Any:
                return Accept(becomes=becomes(recipient.address.local_part))

        self.plugin = Aliases()
        return Talk(self.plugin, **more)

    def test_others(self) -> None:
        """The mail goes to them alone; whoever is meant twice gets it once."""
        aliases = {"all": (bob("ann"), bob("cid"), bob("ann")), "one": (bob("cid"),)}
        talk = self.talk(lambda name: aliases.get(name))
        talk.until_data(*(to(name) for name in ("cid", "all", "one", "all", "dan", "ann")))
        talk.say(MESSAGE, END)
        ((_, recipients, _),) = queued(talk.spool)
        self.assertEqual(recipients, ["cid@a.example", "ann@a.example", "dan@a.example"])

    def test_nobody(self) -> None:
        """A message for nobody is taken with the usual words, and is nowhere."""
        talk = self.talk(lambda name: () if name == "null" else None)
        talk.until_data(to("null"))
        answer = talk.say(MESSAGE, END)
        self.assertRegex(answer, r"^250 2\.0\.0 Message Queued \(\S+\)\r\n$")
        self.assertEqual(queued(talk.spool), [])
        self.assertEqual(self.plugin.told("queue"), [])
        talk.codes(MAIL, to("null"), to("bob"), DATA, MESSAGE, END)
        self.assertEqual([to_ for _, to_, _ in queued(talk.spool)], [["bob@a.example"]])

    def test_reports(self) -> None:
        """RFC 3461 section 5.2.7: to the sender it is the same recipient."""
        kept = Recipient(
            parse_address("cid@a.example"), "rfc822;other@b.example", frozenset({"NEVER"})
        )
        talk = self.talk(lambda name: (bob("ann"), kept))
        rcpt = b"RCPT TO:<bob@a.example> NOTIFY=SUCCESS ORCPT=rfc822;bob@a.example\r\n"
        talk.codes(EHLO, MAIL, rcpt, RSET)
        ((_, transaction),) = self.plugin.told("reset")
        ann, cid = transaction.envelope.recipients
        self.assertEqual(ann.original, "rfc822;bob@a.example")
        self.assertEqual(ann.notify, frozenset({"SUCCESS"}))
        self.assertEqual(cid, kept)

    def test_too_many(self) -> None:
        """What one name stands for counts in full: later, if there is a message without it."""
        many = tuple(bob(f"u{n}") for n in range(199))
        aliases = {"all": many[:99], "more": many}
        talk = self.talk(
            aliases.get,
            settings=evolve(SETTINGS, max_recipients=100),
        )
        codes = talk.codes(EHLO, MAIL, to("ann"), to("all"), to("cid"), to("all"))
        self.assertEqual(codes, ["250", "250", "250", "250", "452", "250"])
        self.assertEqual(talk.codes(RSET, MAIL, to("ann"), to("more")), ["250"] * 3 + ["452"])
        self.assertEqual(talk.codes(RSET, MAIL, to("more")), ["250", "250", "550"])


def bob(name: str) -> Recipient:
    return Recipient(parse_address(f"{name}@a.example"))


def to(name: str) -> bytes:
    return f"RCPT TO:<{name}@a.example>\r\n".encode()
