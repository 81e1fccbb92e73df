"""Plugins that have a message wait."""

from typing import Any

from twisted.internet.defer import Deferred

from harakatls.hooks.chain import HookChain
from harakatls.outbound.delivery import Result
from harakatls.outbound.held_back import LONGEST, AskedFirst
from harakatls.queued import QueuedMessage
from harakatls.testing.values import queued_message
from tests.hooks.plugins import Everything, loaded
from tests.outbound.runner_case import Deliveries, RunnerTestCase, delivered


class HeldBackTests(RunnerTestCase):
    def asked(self, *answers: Any) -> AskedFirst:
        """@param answers: of one plugin each."""
        plugins = [loaded(Everything(send=answer)) for answer in answers]
        self.made = Deliveries(delivered)
        return AskedFirst(HookChain(plugins, self.clock), self.made, self.clock)

    def attempt(self, attempts: AskedFirst) -> Result:
        attempt = attempts.attempt(queued_message(), lambda _: True)
        return self.successResultOf(Deferred.fromCoroutine(attempt))

    def test_let_go(self) -> None:
        """Where nobody objects, or who does cannot say so, the attempt is made."""
        for answer in (None, RuntimeError("broken"), "later", float("nan")):
            attempts = self.asked(answer, None)
            self.assertTrue(self.attempt(attempts).outcomes)
            self.flushLoggedErrors(RuntimeError)

    def test_due(self) -> None:
        """The first who objects counts; the wait is bounded at both ends."""
        now = self.clock.seconds()
        for answers, seconds in (
            ((60, 5), 60.0),
            ((None, 5.5), 5.5),
            ((-7,), 1.0),
            ((float("inf"),), LONGEST),
        ):
            result: Any = self.attempt(self.asked(*answers))
            self.assertEqual((result.due, result.outcomes), (now + seconds, ()))
            self.assertEqual(len(self.made.tried), 0)

    def test_not_counted(self) -> None:
        """It waits as long as the plugin wants, with all its attempts before it."""
        answers: list[float | None] = [60.0, 60.0, None]

        class Waits(Everything):
            async def send(self, queued: QueuedMessage) -> float | None:
                return answers.pop(0)

        chain = HookChain([loaded(Waits())], self.clock)
        runner = self.start(delivered)
        runner._delivery = AskedFirst(chain, self.deliveries, self.clock)
        self.queue()
        (row,) = self.spool._rows.values()
        self.assertEqual((row.queued.attempts, row.queued.history), (0, ()))
        self.clock.pump([30.0, 29.0])
        self.assertEqual(len(answers), 2)
        self.clock.pump([1.5, 30.0, 31.0])
        self.assertEqual((answers, dict(self.spool._rows)), ([], {}))
