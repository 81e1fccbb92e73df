"""``harakatls queue hold|remove`` beside a queue runner that has messages at hand."""

from typing import Any

from twisted.internet.defer import Deferred

from harakatls.outbound.delivery import Admit, Result
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.spool.notice import GLANCE, ROUND
from harakatls.testing.values import NEXT_HOP
from tests.flows.test_queue_runs import Deaf
from tests.service.queue_case import Done, QueueCase

LATER = Reply.of(451, "4.2.1", "Later")
OK = Reply.of(250, "2.0.0", "Kept")


class Deliveries:
    """
    Attempts that last until they are ended.

    @ivar begun: the ids of the messages.
    @ivar routed: until then it is not known where messages lead; None where that is known.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends: dict[str, Deferred[Any]] = {}
        self.routed: Deferred[None] | None = None

    async def attempt(self, queued: QueuedMessage, admit: Admit) -> Result:
        if self.routed is not None:
            await self.routed
            if not admit("mx.example:25"):
                return Result((), postponed=True)
        self.begun.append(queued.id)
        end = self.ends[queued.id] = Deferred()
        kind = await end
        if kind is Delivered:
            return Result(tuple(Delivered(one, OK, NEXT_HOP) for one in queued.pending))
        return Result(tuple(Delayed(one, LATER) for one in queued.pending))

    def end(self, queue_id: str, kind: type) -> None:
        self.ends.pop(queue_id).callback(kind)

    def forget_failures(self) -> None:
        """Nothing is remembered."""

    def close(self) -> None:
        """Nothing is open."""


class RunningTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliveries = Deliveries()
        self.runner: QueueRunner | None = None
        self.addCleanup(self.stop)

    def start(self, at_once: int = 1) -> None:
        """@param at_once: attempts; what else is due waits at hand."""
        outbound = OutboundSettings(concurrency_max=at_once)
        self.runner = QueueRunner(
            self.spool,
            Deaf(),
            self.deliveries,
            outbound,
            "mta.example",
            self.clock,
        )
        self.runner.startService()

    def stop(self) -> None:
        if self.runner is not None:
            stopped = self.runner.stopService()
            for end in self.deliveries.ends.values():
                end.callback(Delayed)
            self.successResultOf(stopped)

    def command(self, *arguments: object, answer: str | None = None) -> Done:
        """The time that it takes to come back is no less than this."""
        done = super().command(*arguments, answer=answer)
        self.clock.advance(GLANCE)
        return done

    def begun(self) -> list[str]:
        """The attempts since this was last asked."""
        begun, self.deliveries.begun = self.deliveries.begun, []
        return begun

    def states(self) -> dict[str, str]:
        """Of all messages, by their ids."""
        return {found["id"]: found["state"] for found in self.command("list", "--json").json}

    def add_three(self) -> None:
        for name in "ABC":
            self.add(f"{name}.1", "a@one.example")

    def test_removed_before_its_attempt(self) -> None:
        """What is removed is not sent a moment later, only because the server had it at hand."""
        self.add_three()
        self.start()
        self.assertEqual(self.begun(), ["A.1.1"])
        self.assertEqual(self.states()["B.1.1"], "in hand")
        self.command("remove", "-y", "B.1")
        self.deliveries.end("A.1.1", Delivered)
        self.assertEqual(self.begun(), ["C.1.1"])
        self.assertEqual(self.states(), {"C.1.1": "in hand"})

    def test_held_before_its_attempt(self) -> None:
        """What is held waits for its release, as it was, and goes then."""
        self.add_three()
        self.start()
        self.begun()
        self.command("hold", "B.1", "C.1")
        self.deliveries.end("A.1.1", Delivered)
        self.assertEqual(self.begun(), [])
        self.assertEqual(self.states(), {"B.1.1": "held", "C.1.1": "held"})
        self.assertEqual([one["attempts"] for one in self.command("list", "--json").json], [0, 0])
        self.command("release", "C.1")
        self.clock.advance(ROUND)
        self.assertEqual(self.begun(), ["C.1.1"])

    def test_while_nothing_moves(self) -> None:
        """Behind a host that is silent for minutes, a message goes within two seconds."""
        self.add_three()
        self.start()
        self.command("remove", "-y", "B.1")
        self.clock.advance(ROUND)
        self.clock.advance(ROUND)
        self.assertEqual(sorted(self.states()), ["A.1.1", "C.1.1"])
        self.assertEqual(self.begun(), ["A.1.1"])

    def test_attempt_under_way(self) -> None:
        """An attempt goes on though its message was removed; then it is gone."""
        self.add_three()
        self.start()
        self.begun()
        self.command("remove", "-y", "A.1")
        self.clock.advance(ROUND)
        self.assertEqual(self.states()["A.1.1"], "in hand")
        self.deliveries.end("A.1.1", Delayed)
        self.assertEqual(sorted(self.states()), ["B.1.1", "C.1.1"])

    def test_removed_while_it_is_routed(self) -> None:
        """That its destination turns out to be full brings no message back."""
        self.deliveries.routed = Deferred()
        for number in range(30):
            self.add(f"A{number}.1", f"a@{number % 3}.example")
        self.start(at_once=30)
        self.command("remove", "-y", "--all")
        self.clock.advance(ROUND)
        routed, self.deliveries.routed = self.deliveries.routed, None
        assert routed is not None
        routed.callback(None)
        under_way = self.begun()
        self.assertEqual(sorted(self.states()), sorted(under_way))
        for queue_id in under_way:
            self.deliveries.end(queue_id, Delayed)
        self.assertEqual((self.states(), self.begun()), ({}, []))

    def test_removed_while_it_is_claimed(self) -> None:
        """Nor does it matter that the answer of the disk was still on its way."""
        self.start()
        claim = self.spool.claim
        answer: Deferred[None] = Deferred()

        async def slowly(*arguments: Any, **which: Any) -> tuple[QueuedMessage, ...]:
            found = await claim(*arguments, **which)
            await answer
            return found

        self.patch(self.spool, "claim", slowly)
        self.add("A.1", "a@one.example")
        self.command("remove", "-y", "--all")
        self.clock.advance(ROUND)
        answer.callback(None)
        self.assertEqual((self.begun(), self.states()), ([], {}))

    def test_a_host_is_not_hurried(self) -> None:
        """To hold a message is no reason to try what failed anew."""
        told: list[str] = []
        self.spool.when_flushed(lambda: told.append("flushed"))
        self.add_three()
        self.start()
        self.command("hold", "--all")
        self.clock.advance(ROUND)
        self.assertEqual(told, [])
        self.command("flush", "--all")
        self.clock.advance(ROUND)
        self.assertEqual(told, ["flushed"])

    def test_delivery_that_ended_before(self) -> None:
        """What was delivered before the server noticed is gone once, and nothing else happens."""
        self.add_three()
        self.start(at_once=3)
        self.assertEqual(len(self.begun()), 3)
        self.command("remove", "-y", "--all")
        for queue_id in ("A.1.1", "B.1.1", "C.1.1"):
            self.deliveries.end(queue_id, Delivered)
        self.clock.advance(ROUND)
        self.assertEqual((self.begun(), self.states()), ([], {}))
