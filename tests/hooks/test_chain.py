"""All hooks are asked: in order, until one decides."""

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Hello
from harakatls.hooks.asking import HookFailed
from harakatls.hooks.chain import HookChain
from harakatls.hooks.stages import STAGES
from harakatls.interfaces import SpoolFull
from harakatls.mail.address import parse_address
from harakatls.mail.route import NextHop
from harakatls.queued import Delayed, Delivered, Failed
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.testing.values import connection, envelope, queued_message, recipient, transaction
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Continue, Disconnect, Reject, TempFail
from tests.hooks.plugins import Everything, RcptOnly, loaded

PEER = connection()
MAIL = transaction()
BOB = recipient("bob@a.example")
MESSAGE: Any = object()
VERDICT_STAGES: dict[str, tuple[Any, ...]] = {
    "connect": (PEER,),
    "hello": (PEER, Hello("client.example", True)),
    "mail": (PEER, MAIL),
    "rcpt": (PEER, MAIL, BOB),
    "data": (PEER, MAIL),
    "message": (PEER, MAIL, MESSAGE),
}


class ChainTestCase(SynchronousTestCase):
    def chain(self, *plugins: object, last_queue: Any = None) -> HookChain:
        named = [loaded(plugin, f"plugin{n}") for n, plugin in enumerate(plugins)]
        return HookChain(named, Clock(), last_queue)

    def ask(self, asked: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(asked))


class VerdictTests(ChainTestCase):
    def test_nobody_hooks(self) -> None:
        """Without plugins no stage objects to anything."""
        chain = self.chain()
        for stage, arguments in VERDICT_STAGES.items():
            self.assertIs(self.ask(getattr(chain, stage)(*arguments)), CONTINUE, stage)

    def test_each_stage_gets_its_arguments(self) -> None:
        """Each hook is told what its interface says."""
        plugin = Everything()
        chain = self.chain(plugin)
        for stage, arguments in VERDICT_STAGES.items():
            self.assertIsInstance(self.ask(getattr(chain, stage)(*arguments)), Continue)
        self.assertEqual(plugin.asked, list(VERDICT_STAGES.items()))

    def test_first_opinion_counts(self) -> None:
        """The first verdict other than Continue ends the stage: the next plugin is not asked."""
        verdicts = [ACCEPT, Reject(), TempFail(), Disconnect(), Reject(Reply.of(550, None, "no"))]
        for stage, arguments in VERDICT_STAGES.items():
            for verdict in verdicts:
                first, last = Everything(), Everything()
                second = Everything(**{stage: verdict})
                answer = self.ask(getattr(self.chain(first, second, last), stage)(*arguments))
                self.assertIs(answer, verdict)
                asked = [p.stages.count(stage) for p in (first, second, last)]
                self.assertEqual(asked, [1, 1, 0])

    def test_broken_filter_lets_nothing_past(self) -> None:
        """A hook that raises counts as TempFail; Haraka would go on without it."""
        for stage, arguments in VERDICT_STAGES.items():
            last = Everything()
            chain = self.chain(Everything(**{stage: KeyError("x")}), last)
            verdict = self.ask(getattr(chain, stage)(*arguments))
            self.assertEqual(verdict, TempFail())
            self.assertNotIn(stage, last.stages)
            self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_nonsense(self) -> None:
        """A hook that forgets to return a verdict does not let mail past either."""
        for answer in (None, True, "OK", Continue):
            chain = self.chain(Everything(rcpt=answer))
            self.assertEqual(self.ask(chain.rcpt(PEER, MAIL, BOB)), TempFail())

    def test_slow_hook(self) -> None:
        """A hook that hangs counts as TempFail when its time is over."""
        clock = Clock()
        chain = HookChain([loaded(Everything(mail=Deferred()), timeout=7)], clock)
        asked = Deferred.fromCoroutine(chain.mail(PEER, MAIL))
        clock.advance(6)
        self.assertNoResult(asked)
        clock.advance(2)
        self.assertEqual(self.successResultOf(asked), TempFail())

    def test_waits_between_plugins(self) -> None:
        """A plugin that has to wait holds up the ones behind it, not their order."""
        looked_up: Deferred[Any] = Deferred()
        second = Everything(mail=ACCEPT)
        asked = Deferred.fromCoroutine(
            self.chain(Everything(mail=looked_up), second).mail(PEER, MAIL)
        )
        self.assertEqual(second.asked, [])
        looked_up.callback(CONTINUE)
        self.assertIs(self.successResultOf(asked), ACCEPT)

    def test_no_deferred_without_waiting(self) -> None:
        """Hooks that need not wait cost neither a timer nor a turn of the reactor."""

        async def rcpt(*_: object) -> Accept:
            return ACCEPT

        clock = Clock()
        asked = HookChain([loaded(RcptOnly(rcpt))], clock).rcpt(PEER, MAIL, BOB)
        with self.assertRaises(StopIteration) as stopped:
            asked.send(None)
        self.assertIs(stopped.exception.value, ACCEPT)
        self.assertEqual(clock.getDelayedCalls(), [])


class RelayingTests(ChainTestCase):
    def test_one_yes_is_enough(self) -> None:
        """A peer relays when any plugin allows it, and not when one is broken or says nonsense."""
        no, yes, broken = (Everything(relaying=a) for a in (False, True, OSError()))
        odd = Everything(relaying="maybe")
        for plugins, relaying in [
            ((), False),
            ((no,), False),
            ((no, yes), True),
            ((broken, yes), True),
            ((broken,), False),
            ((odd,), False),
        ]:
            self.assertIs(self.ask(self.chain(*plugins).relaying(PEER)), relaying)
        self.flushLoggedErrors(OSError)


class CapabilitiesTests(ChainTestCase):
    def test_all_edit_in_order(self) -> None:
        """Each plugin sees what those before it offer."""

        class Adding(Everything):
            def __init__(self, keyword: str) -> None:
                super().__init__()
                self.keyword = keyword

            async def capabilities(self, connection: Any, offered: Capabilities) -> Capabilities:
                return offered.adding(self.keyword)

        chain = self.chain(
            Adding("STARTTLS"),
            Everything(capabilities=RuntimeError("x")),
            Everything(capabilities="AUTH"),
            Adding("XCLIENT"),
        )
        offered = self.ask(chain.capabilities(PEER, Capabilities.of("PIPELINING")))
        self.assertEqual(list(offered), ["PIPELINING", "STARTTLS", "XCLIENT"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class QueueTests(ChainTestCase):
    addresses = ("a@x.example", "b@y.example", "c@z.example")

    def setUp(self) -> None:
        self.mail = transaction(envelope=envelope(recipients=self.addresses))

    def queue(self, *plugins: object, last_queue: Any = None) -> Any:
        return self.ask(self.chain(*plugins, last_queue=last_queue).queue(PEER, self.mail, MESSAGE))

    def taking(self, *addresses: str) -> Everything:
        return Everything(queue=Accept(recipients=frozenset(map(parse_address, addresses))))

    def asked_about(self, plugin: Everything) -> list[tuple[str, ...]]:
        return [
            tuple(str(r.address) for r in arguments[1].envelope.recipients)
            for _, arguments in plugin.asked
        ]

    def test_nobody_takes_it(self) -> None:
        """A message that nobody wants is put off, never dropped (451 4.3.0)."""
        for plugins in ((), (Everything(),)):
            verdict = self.queue(*plugins)
            self.assertIsInstance(verdict, TempFail)
            self.assertEqual(str(verdict.reply)[:9], "451 4.3.0")

    def test_nonsense_about_recipients(self) -> None:
        """Who cannot say what was taken has taken nothing that may be counted on."""
        nonsense: tuple[Any, ...] = (
            Accept(recipients=cast(Any, 3)),
            Accept(recipients=cast(Any, "a@x.example")),
            Accept(handed_on=cast(Any, ("a@x.example",))),
            Accept(handed_on=cast(Any, None)),
        )
        for answer in nonsense:
            last = Everything(queue=ACCEPT)
            self.assertEqual(self.queue(Everything(queue=answer), last_queue=last), TempFail())
            self.assertEqual(last.asked, [])

    def test_last_queue_is_asked_last(self) -> None:
        """The durable queue takes what the plugins leave."""
        last = Everything(queue=ACCEPT)
        plugin = Everything()
        self.assertIs(self.queue(plugin, last_queue=last), ACCEPT)
        self.assertEqual(len(plugin.asked), 1)
        self.assertEqual(self.asked_about(last), [self.addresses])

    def test_taken_by_a_plugin(self) -> None:
        """What a plugin took is not queued again."""
        last = Everything(queue=ACCEPT)
        accepted = Accept(Reply.of(250, "2.0.0", "mine"))
        self.assertIs(self.queue(Everything(queue=accepted), last_queue=last), accepted)
        self.assertEqual(last.asked, [])

    def test_taken_in_part(self) -> None:
        """Each recipient goes to one queue: the next is asked about the others alone."""
        last = Everything(queue=ACCEPT)
        self.assertIs(self.queue(self.taking("b@y.example"), last_queue=last), ACCEPT)
        self.assertEqual(self.asked_about(last), [("a@x.example", "c@z.example")])

    def test_taken_in_parts_by_plugins_alone(self) -> None:
        """When nobody is left the stage is over."""
        first, second = self.taking("b@y.example"), self.taking("a@x.example", "c@z.example")
        last = Everything(queue=ACCEPT)
        self.assertIsInstance(self.queue(first, second, last_queue=last), Accept)
        self.assertEqual(last.asked, [])

    def test_rest_is_not_taken(self) -> None:
        """A message is accepted for all of its recipients or not at all."""
        verdict = self.queue(self.taking("b@y.example"), Everything())
        self.assertIsInstance(verdict, TempFail)
        refused = Everything(queue=Reject())
        self.assertEqual(self.queue(self.taking("b@y.example"), refused), Reject())

    def test_broken_queue(self) -> None:
        """A queue plugin that raises does not let the next take the message in its place."""
        last = Everything(queue=ACCEPT)
        self.assertEqual(self.queue(Everything(queue=OSError()), last_queue=last), TempFail())
        self.assertEqual(last.asked, [])
        self.flushLoggedErrors(OSError)

    def test_no_space(self) -> None:
        """A full disk is told as such."""
        chain = self.chain(last_queue=Everything(queue=SpoolFull("disk")))
        asked = Deferred.fromCoroutine(chain.queue(PEER, self.mail, MESSAGE))
        self.failureResultOf(asked, SpoolFull)

    def test_commit_has_no_limit(self) -> None:
        """A slow disk does not make us forget whose the message is."""
        clock = Clock()
        committed: Deferred[Any] = Deferred()
        chain = HookChain([], clock, Everything(queue=committed))
        asked = Deferred.fromCoroutine(chain.queue(PEER, self.mail, MESSAGE))
        self.assertEqual(clock.getDelayedCalls(), [])
        committed.callback(ACCEPT)
        self.assertIs(self.successResultOf(asked), ACCEPT)


class TellingTests(ChainTestCase):
    def test_all_are_told(self) -> None:
        """Each plugin hears of the end, whatever the one before it did."""
        hop = NextHop("192.0.2.1", "a.example")
        queued, ok, no = queued_message(), Reply.of(250, None, "ok"), Reply.of(550, None, "no")
        delivered, delayed, failed = Delivered(BOB, ok, hop), Delayed(BOB, no), Failed(BOB, no)
        for stage, arguments in [
            ("disconnected", (PEER,)),
            ("delivered", (queued, delivered)),
            ("delayed", (queued, delayed)),
            ("failed", (queued, failed)),
        ]:
            broken, last = Everything(**{stage: ValueError("x")}), Everything()
            self.assertIsNone(self.ask(getattr(self.chain(broken, last), stage)(*arguments)))
            self.assertEqual(last.asked, [(stage, arguments)])
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class RouteTests(ChainTestCase):
    hops = (NextHop("192.0.2.1", "a.example", source="route"),)

    def test_first_route_counts(self) -> None:
        """The first plugin that knows a way is followed."""
        last = Everything(route=())
        chain = self.chain(Everything(), Everything(route=self.hops), last)
        self.assertEqual(self.ask(chain.route("a.example", queued_message())), self.hops)
        self.assertEqual(last.asked, [])

    def test_nobody_knows(self) -> None:
        """Otherwise it is left to the DNS."""
        chain = self.chain(Everything())
        self.assertIsNone(self.ask(chain.route("a.example", queued_message())))

    def test_broken(self) -> None:
        """A broken route plugin must not send internal mail out to the world."""
        for answer in (OSError(), [self.hops[0]], "192.0.2.1"):
            chain = self.chain(Everything(route=answer), Everything(route=self.hops))
            asked = Deferred.fromCoroutine(chain.route("a.example", queued_message()))
            self.failureResultOf(asked, HookFailed)
        self.flushLoggedErrors(OSError)


class StagesTests(ChainTestCase):
    def test_stages(self) -> None:
        """The operator sees which plugin runs where, and in which order."""

        async def rcpt(*_: object) -> Continue:
            return CONTINUE

        chain = HookChain(
            [loaded(RcptOnly(rcpt), "greylist"), loaded(RcptOnly(rcpt), "relay")],
            Clock(),
            Everything(),
        )
        self.assertEqual(
            chain.stages(), (("rcpt", ("greylist", "relay")), ("queue", ("queue/spool",)))
        )

    def test_every_stage_is_asked_by_a_method(self) -> None:
        """No stage is known that nobody asks."""
        chain = self.chain(Everything())
        self.assertEqual([stage for stage, _ in chain.stages()], [stage for stage, _ in STAGES])
        for stage, _ in STAGES:
            self.assertTrue(callable(getattr(chain, stage, None) or getattr(chain.users, stage)))
