"""One hook is asked: time limits, failures, and being cancelled."""

import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.hooks import asking
from harakatls.hooks.asking import Hook, HookFailed, ask
from harakatls.interfaces import SpoolFull
from harakatls.testing.values import connection, transaction


class AskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def ask(self, method: Any, timeout: float = 30.0) -> Deferred[Any]:
        hook = Hook("rcpt", "greylist", method, timeout)
        return Deferred.fromCoroutine(ask(hook, self.clock, connection(), transaction()))

    def test_answer_without_waiting(self) -> None:
        """A hook that needs not wait answers at once, and no timer was made for it."""

        async def method(*_: object) -> str:
            return "yes"

        self.assertEqual(self.successResultOf(self.ask(method)), "yes")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answer_after_waiting(self) -> None:
        """What a hook says after a look-up is its answer, and its timer is gone."""
        looked_up: Deferred[int] = Deferred()
        again: Deferred[int] = Deferred()

        async def method(*_: object) -> int:
            return await looked_up + await again

        asked = self.ask(method)
        self.clock.advance(29)
        self.assertNoResult(asked)
        looked_up.callback(40)
        self.assertNoResult(asked)
        again.callback(2)
        self.assertEqual(self.successResultOf(asked), 42)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_blocking(self) -> None:
        """The operator learns which plugin it is that makes everybody wait."""
        self.patch(asking, "monotonic", self.clock.seconds)
        waits: Deferred[None] = Deferred()

        async def at_once(*_: object) -> None:
            self.clock.advance(1.5)

        async def later(*_: object) -> None:
            await waits
            self.clock.advance(2.5)
            raise OSError

        async def patient(*_: object) -> None:
            await deferLater(self.clock, 20)

        with capturedLogs() as events:
            self.ask(at_once)
            asked = self.ask(later)
            self.ask(patient)
            self.clock.advance(20)
            waits.callback(None)
            self.failureResultOf(asked, HookFailed)
        self.flushLoggedErrors(OSError)
        told = [(e["plugin"], e["seconds"]) for e in events if e["log_level"] is LogLevel.warn]
        self.assertEqual(told, [("greylist", 1.5), ("greylist", 2.5)])

    def test_hook_that_catches_a_failure(self) -> None:
        """A hook may catch the failure of what it waited for and go on."""
        looked_up: Deferred[int] = Deferred()

        async def method(*_: object) -> str:
            try:
                await looked_up
            except OSError:
                return "no answer"
            return "answer"

        asked = self.ask(method)
        looked_up.errback(OSError("refused"))
        self.assertEqual(self.successResultOf(asked), "no answer")

    def test_too_slow(self) -> None:
        """A hook that hangs fails when its time is over; what it waits for is cancelled."""
        cancelled: list[Deferred[None]] = []
        waiting: Deferred[None] = Deferred(cancelled.append)

        async def method(*_: object) -> None:
            await waiting

        asked = self.ask(method, timeout=5)
        with capturedLogs() as logged:
            self.clock.advance(4.9)
            self.assertNoResult(asked)
            self.clock.advance(0.2)
        self.failureResultOf(asked, HookFailed)
        self.assertEqual(cancelled, [waiting])
        (event,) = logged
        self.assertEqual(event["log_level"], LogLevel.error)
        self.assertEqual(event["plugin"], "greylist")
        self.assertEqual(event["subject"], transaction().id)

    def test_without_a_limit(self) -> None:
        """A timeout of 0 lets a hook wait as long as it likes (tarpit.timeout)."""
        waiting: Deferred[str] = Deferred()

        async def method(*_: object) -> str:
            return await waiting

        asked = self.ask(method, timeout=0)
        self.clock.advance(100_000)
        waiting.callback("at last")
        self.assertEqual(self.successResultOf(asked), "at last")

    def test_too_slow_whatever_it_answers_then(self) -> None:
        """A hook cannot turn its own lateness into a yes."""
        waiting: Deferred[None] = Deferred()

        async def method(*_: object) -> str:
            try:
                await waiting
            except CancelledError:
                pass
            return "yes"

        asked = self.ask(method)
        self.clock.advance(31)
        self.failureResultOf(asked, HookFailed)

    def test_too_slow_and_waits_again(self) -> None:
        """A hook that swallows its cancellation and waits on does not hold up the mail."""
        waiting: Deferred[None] = Deferred()
        cancelled: list[object] = []
        again: Deferred[None] = Deferred(cancelled.append)
        ended = []

        async def method(*_: object) -> None:
            try:
                await waiting
            except CancelledError:
                try:
                    await again
                finally:
                    ended.append(True)

        asked = self.ask(method)
        self.clock.advance(31)
        self.failureResultOf(asked, HookFailed)
        self.assertEqual((cancelled, ended), ([again], [True]))

    def test_raises_at_once(self) -> None:
        """A hook that raises has failed, and the log has its name and its traceback."""

        async def method(*_: object) -> None:
            raise ValueError("broken")

        self.failureResultOf(self.ask(method), HookFailed)
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertEqual(str(failure.value), "broken")

    def test_ends_the_program(self) -> None:
        """A hook that wants to end the program has failed; the conversation goes on."""

        async def at_once(*_: object) -> None:
            sys.exit("no database")

        async def after_waiting(*_: object) -> None:
            await waiting
            sys.exit("no database")

        waiting: Deferred[None] = Deferred()
        asked = self.ask(after_waiting)
        waiting.callback(None)
        for failed in (asked, self.ask(at_once)):
            self.failureResultOf(failed, HookFailed)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 2)

    def test_raises_after_waiting(self) -> None:
        """The same, when it had to wait first."""
        waiting: Deferred[None] = Deferred()

        async def method(*_: object) -> None:
            await waiting
            raise ValueError("broken")

        asked = self.ask(method)
        waiting.callback(None)
        self.failureResultOf(asked, HookFailed)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wrong_arguments(self) -> None:
        """A method that does not take what it is given has failed; nothing worse happens."""

        async def method() -> None:
            """Takes nothing."""

        self.failureResultOf(self.ask(method), HookFailed)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_cancelled(self) -> None:
        """When a peer leaves, the hook hears of it, and the log is not filled with tracebacks."""
        heard = []
        waiting: Deferred[None] = Deferred()

        async def method(*_: object) -> None:
            try:
                await waiting
            except CancelledError:
                heard.append(True)
                raise

        asked = self.ask(method)
        asked.cancel()
        self.failureResultOf(asked, HookFailed)
        self.assertEqual(heard, [True])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_space(self) -> None:
        """A full disk is told as such, so that the peer is answered 452."""
        waiting: Deferred[None] = Deferred()

        async def at_once(*_: object) -> None:
            raise SpoolFull("disk")

        async def later(*_: object) -> None:
            await waiting
            raise SpoolFull("disk")

        self.failureResultOf(self.ask(at_once), SpoolFull)
        asked = self.ask(later)
        waiting.callback(None)
        self.failureResultOf(asked, SpoolFull)
