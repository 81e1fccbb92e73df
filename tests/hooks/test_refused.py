"""A plugin hears of the refusals of all others, and may cancel them (Haraka's deny)."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Hello
from harakatls.hooks.chain import NOBODY_QUEUED, HookChain
from harakatls.mail.envelope import Recipient
from harakatls.smtp.reply import Reply
from harakatls.testing.values import connection, recipient, transaction
from harakatls.verdict import (
    ACCEPT,
    CONTINUE,
    Accept,
    Disconnect,
    Refusal,
    Reject,
    TempFail,
)
from tests.hooks.plugins import Everything, loaded

PEER = connection()
MAIL = transaction()
BOB = recipient("bob@a.example")
MESSAGE: Any = object()
NO = Reject(Reply.of(550, "5.7.1", "Not you"))
STAGES: dict[str, tuple[Any, ...]] = {
    "connect": (PEER,),
    "hello": (PEER, Hello("client.example", True)),
    "mail": (PEER, MAIL),
    "rcpt": (PEER, MAIL, BOB),
    "accepted_rcpt": (PEER, MAIL, BOB),
    "data": (PEER, MAIL),
    "message": (PEER, MAIL, MESSAGE),
    "too_large": (PEER, MAIL, 1000),
    "queue": (PEER, MAIL, MESSAGE),
    "unrecognized": (PEER, MAIL, "XYZZY", "1"),
    "verify": (PEER, MAIL, "bob"),
    "noop": (PEER, MAIL),
}


class RefusedTests(SynchronousTestCase):
    def chain(self, *plugins: object) -> HookChain:
        return HookChain([loaded(p, f"plugin{n}") for n, p in enumerate(plugins)], Clock())

    def ask(self, asked: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def told(self, plugin: Everything) -> list[Any]:
        return plugin.told("refused")

    def test_told_of_each(self) -> None:
        """Stage, plugin and verdict are told, and the refusal stands."""
        for stage, arguments in STAGES.items():
            for verdict in (NO, TempFail(), Disconnect()):
                first, second = Everything(), Everything(**{stage: verdict})
                chain = self.chain(first, second)
                self.assertIs(self.ask(getattr(chain, stage)(*arguments)), verdict, stage)
                about = PEER, None if stage in ("connect", "hello") else MAIL
                whom = BOB if "rcpt" in stage else None
                refusal = Refusal(stage, "plugin1", verdict, whom)
                self.assertEqual(self.told(first), [(*about, refusal)])

    def test_not_told_of_a_yes(self) -> None:
        """Whoever hears of refusals hears of nothing else."""
        for stage, arguments in STAGES.items():
            for verdict in (CONTINUE, ACCEPT):
                plugin = Everything(**{stage: verdict})
                self.ask(getattr(self.chain(plugin), stage)(*arguments))
                self.assertEqual(self.told(plugin), [], stage)

    def test_told_of_failures(self) -> None:
        """A hook that raises or answers nonsense has refused, too."""
        for answer in (KeyError("x"), "OK"):
            first, second = Everything(), Everything(mail=answer)
            self.assertEqual(self.ask(self.chain(first, second).mail(PEER, MAIL)), TempFail())
            refusal = Refusal("mail", "plugin1", TempFail())
            self.assertEqual(self.told(first), [(PEER, MAIL, refusal)])
        self.flushLoggedErrors(KeyError)

    def test_cancelled(self) -> None:
        """The plugins behind the one that refused are asked, as if it had said Continue."""
        for stage, arguments in STAGES.items():
            last = Everything(**{stage: ACCEPT})
            chain = self.chain(Everything(refused=ACCEPT), Everything(**{stage: NO}), last)
            self.assertIs(self.ask(getattr(chain, stage)(*arguments)), ACCEPT, stage)
            self.assertEqual(last.stages.count(stage), 1)
            self.assertEqual(self.told(last), [])

    def test_cancelled_and_nobody_behind(self) -> None:
        """What the stage does when nobody has an opinion follows."""
        for stage, arguments in STAGES.items():
            chain = self.chain(Everything(refused=ACCEPT, **{stage: NO}))
            expected = NOBODY_QUEUED if stage == "queue" else CONTINUE
            self.assertEqual(self.ask(getattr(chain, stage)(*arguments)), expected)

    def test_each_refusal_is_told(self) -> None:
        """The refusal of a plugin behind a cancelled one is another."""
        chain = self.chain(Everything(refused=ACCEPT), Everything(mail=NO), Everything(mail=NO))
        self.assertIs(self.ask(chain.mail(PEER, MAIL)), CONTINUE)

    def test_it_stands(self) -> None:
        """Whoever fails, or answers anything but Accept, cancels nothing; the next one is told."""
        for answer in (CONTINUE, NO, TempFail(), Disconnect(), True, None, "OK", Accept):
            last = Everything()
            chain = self.chain(Everything(refused=answer), last, Everything(mail=NO))
            self.assertIs(self.ask(chain.mail(PEER, MAIL)), NO, answer)
            self.assertEqual(len(self.told(last)), 1)
        chain = self.chain(Everything(refused=OSError()), Everything(mail=NO))
        self.assertIs(self.ask(chain.mail(PEER, MAIL)), NO)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_hangs(self) -> None:
        """The refusal is said when the time of the hook is over."""
        clock = Clock()
        plugins = [loaded(Everything(refused=Deferred(), mail=NO), timeout=7)]
        asked = Deferred.fromCoroutine(HookChain(plugins, clock).mail(PEER, MAIL))
        clock.advance(6)
        self.assertNoResult(asked)
        clock.advance(2)
        self.assertIs(self.successResultOf(asked), NO)

    def test_a_peer_that_left_was_not_refused(self) -> None:
        """What is cancelled since the peer has gone is told to nobody."""
        plugin = Everything(mail=Deferred())
        asked = Deferred.fromCoroutine(self.chain(plugin).mail(PEER, MAIL))
        asked.cancel()
        self.assertEqual(self.successResultOf(asked), TempFail())
        self.assertEqual(self.told(plugin), [])


class HookedTests(SynchronousTestCase):
    def test_hooked(self) -> None:
        """What nobody hooks is known beforehand, so that it costs nothing."""
        everything = HookChain([loaded(Everything())], Clock())
        self.assertIn("reset", everything.hooked)
        self.assertEqual(HookChain([], Clock()).hooked, frozenset())


class BecomesTests(SynchronousTestCase):
    """Recipients in the place of one: what the chain makes of them."""

    ann, cid = recipient("ann@a.example"), recipient("cid@a.example")

    def rcpt(self, *plugins: object) -> Any:
        chain = HookChain([loaded(p) for p in plugins], Clock())
        return self.successResultOf(Deferred.fromCoroutine(chain.rcpt(PEER, MAIL, BOB)))

    def test_last_word_on_each(self) -> None:
        """Who has the last word hears who really gets the mail, and his yes changes nothing."""
        reply = Reply.of(250, "2.1.5", "fine")
        for last, said in ((CONTINUE, None), (Accept(reply), reply)):
            plugin = Everything(rcpt=Accept(becomes=(self.ann, self.cid)), accepted_rcpt=last)
            verdict = self.rcpt(plugin)
            asked = [about[2] for stage, about in plugin.asked if stage == "accepted_rcpt"]
            self.assertEqual(asked, [self.ann, self.cid])
            self.assertEqual(verdict, Accept(said, becomes=(self.ann, self.cid)))

    def test_as_the_sender_wants_it(self) -> None:
        """Who has the last word hears of the reports, too: a back end is to send them."""
        named = Recipient(BOB.address, "rfc822;bob@a.example", frozenset({"SUCCESS"}))
        plugin = Everything(rcpt=Accept(becomes=(self.ann,)))
        chain = HookChain([loaded(plugin)], Clock())
        self.successResultOf(Deferred.fromCoroutine(chain.rcpt(PEER, MAIL, named)))
        ((_, _, asked),) = [about for stage, about in plugin.asked if stage == "accepted_rcpt"]
        self.assertEqual(asked, Recipient(self.ann.address, named.original, named.notify))

    def test_one_no_is_enough(self) -> None:
        """The rest of them are not asked about."""
        plugin = Everything(rcpt=Accept(becomes=(self.ann, self.cid)), accepted_rcpt=NO)
        self.assertIs(self.rcpt(plugin), NO)
        self.assertEqual(plugin.stages.count("accepted_rcpt"), 1)

    def test_nonsense(self) -> None:
        """What are no recipients are not taken for some."""
        for becomes in ([self.ann], "ann@a.example", (self.ann, "cid@a.example"), 3):
            odd: Any = becomes
            self.assertEqual(self.rcpt(Everything(rcpt=Accept(becomes=odd))), TempFail())
