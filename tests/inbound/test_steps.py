"""A coroutine runs to its end, however often it waits, and whatever comes of what it waits for."""

from collections.abc import Coroutine
from types import coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound.steps import run


class StepsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waited: list[Deferred[Any]] = []
        self.ended: list[Failure | None] = []
        self.seen: list[object] = []

    def run_steps(self, steps: Coroutine[Any, Any, None]) -> None:
        run(steps, self.waited.append, self.ended.append)

    def test_no_waiting(self) -> None:
        """What need not wait is done at once."""

        async def steps() -> None:
            self.seen.append(await succeed("there already"))

        self.run_steps(steps())
        self.assertEqual((self.seen, self.waited), (["there already"], []))
        self.assertEqual(self.ended, [None])

    def test_waiting(self) -> None:
        """It goes on with each result as that comes, and is told of each wait."""
        first, second = Deferred[int](), Deferred[int]()

        async def steps() -> None:
            self.seen += [await first, await second]

        self.run_steps(steps())
        self.assertEqual(self.waited, [first])
        first.callback(1)
        self.assertEqual((self.waited, self.ended), ([first, second], []))
        second.callback(2)
        self.assertEqual((self.seen, self.ended), ([1, 2], [None]))

    def test_failure(self) -> None:
        """A failure is raised where it was waited for, and may be caught there."""
        caught, fatal = Deferred[None](), Deferred[None]()

        async def steps() -> None:
            try:
                await caught
            except KeyError as problem:
                self.seen.append(problem)
            await fatal

        self.run_steps(steps())
        caught.errback(KeyError("a"))
        self.assertEqual([type(one) for one in self.seen], [KeyError])
        fatal.errback(ValueError("b"))
        (failure,) = self.ended
        assert failure is not None
        self.assertIsInstance(failure.value, ValueError)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_raises_at_once(self) -> None:
        """A mistake before anything is waited for is told like any other."""

        async def steps() -> None:
            raise KeyError("a")

        self.run_steps(steps())
        (failure,) = self.ended
        assert failure is not None
        self.assertIsInstance(failure.value, KeyError)

    def test_cancelled(self) -> None:
        """What is waited for may be cancelled; what is in its way is cleared up."""

        async def steps() -> None:
            try:
                await Deferred()
            finally:
                self.seen.append("cleared up")

        self.run_steps(steps())
        self.waited[0].cancel()
        (failure,) = self.ended
        assert failure is not None
        self.assertIsInstance(failure.value, CancelledError)
        self.assertEqual(self.seen, ["cleared up"])

    def test_what_is_no_deferred(self) -> None:
        """A plugin that gives the reactor what it does not know is not waited for."""

        @coroutine
        def odd() -> Any:
            self.seen.append((yield "no Deferred"))

        async def steps() -> None:
            await odd()

        self.run_steps(steps())
        self.assertEqual((self.seen, self.ended), (["no Deferred"], [None]))
