"""Plugins that say how long what was delayed waits, or give it up."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs, formatEvent

from harakatls.hooks.chain import HookChain
from harakatls.outbound.held_back import LONGEST
from harakatls.outbound.recorder import Observers
from harakatls.queued import Delayed
from harakatls.smtp.reply import Reply
from harakatls.testing.values import ARRIVED, NEXT_HOP, queued_message
from tests.hooks.plugins import Everything, loaded
from tests.outbound.runner_case import LATER, delayed, failed
from tests.outbound.test_recorder import RecorderTestCase, asking, one_of_each

ENOUGH = Reply.of(550, "5.7.0", "Nobody shall have it")


def said(events: Sequence[LogEvent]) -> str:
    """All lines."""
    return "\n".join(str(formatEvent(event)) for event in events)


class HookTests(RecorderTestCase):
    def answer(self, *answers: object) -> float | Reply | None:
        """@param answers: of one plugin each."""
        plugins = [loaded(Everything(delay=answer)) for answer in answers]
        chain: Observers = HookChain(plugins, self.clock)
        queued = queued_message()
        some = (Delayed(queued.pending[0], LATER, NEXT_HOP),)
        return self.successResultOf(Deferred.fromCoroutine(self._asked(chain, queued, some)))

    async def _asked(self, chain: Observers, *about: object) -> float | Reply | None:
        return await chain.delay(*about)  # type: ignore[arg-type]

    def test_first_opinion_counts(self) -> None:
        """None leaves it to the next plugin."""
        self.assertEqual(self.answer(None, 5, 60), 5.0)
        self.assertEqual(self.answer(None, ENOUGH, 60), ENOUGH)
        self.assertIsNone(self.answer(None, None))

    def test_broken(self) -> None:
        """Who fails to answer, or answers what is no delay, neither drops mail nor holds it up."""
        self.assertEqual(self.answer(ValueError("x"), 60), 60.0)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        for nonsense in (True, False, float("nan"), "60", LATER, Reply.of(250, None, "Yes")):
            with self.subTest(nonsense=nonsense):
                self.assertIsNone(self.answer(nonsense))


class SecondsTests(RecorderTestCase):
    """A plugin sets the time of the next attempt."""

    def test_in_place_of_the_interval(self) -> None:
        """It is tried again then, not when temp_fail_intervals says."""
        self.observed.delays = [7.0]
        self.start(delayed, Deferred(), temp_fail_intervals=(100.0, 200.0))
        with capturedLogs() as events:
            self.queue()
        self.assertEqual((self.only_waiting().due, self.only_waiting().attempts), (ARRIVED + 7, 1))
        self.assertIn("tried again in 7 seconds", said(events))
        (asked,) = self.observed.asked
        self.assertEqual((asked[0].due, asked[0].attempts), (ARRIVED + 100, 1))
        self.assertEqual([o.reply for o in asked[1]], [LATER])
        self.clock.advance(6)
        self.assertEqual(len(self.deliveries.tried), 1)
        self.clock.advance(1.1)
        self.assertEqual(len(self.deliveries.tried), 2)

    def test_told_to_those_who_watch(self) -> None:
        """What was recorded is what is told."""
        self.observed.delays = [7.0]
        self.start(delayed, Deferred())
        self.queue()
        ((kind, queued, _),) = self.observed.heard
        self.assertEqual((kind, queued.due), ("delayed", ARRIVED + 7))

    def test_bounds(self) -> None:
        """Neither a busy loop nor for ever."""
        for seconds, wait in ((-1.0, 1.0), (0.0, 1.0), (float("inf"), LONGEST)):
            with self.subTest(seconds=seconds):
                self.setUp()
                self.observed.delays = [seconds]
                self.start(delayed, Deferred())
                self.queue()
                self.assertEqual(self.only_waiting().due, ARRIVED + wait)

    def test_no_more_attempts_than_configured(self) -> None:
        """However short or long the waits, temp_fail_intervals says how many there are."""
        self.observed.delays = [1.0, 1.0, 1.0, 1.0]
        self.start(delayed, delayed, delayed, Deferred(), temp_fail_intervals=(100.0, 100.0))
        self.queue()
        self.clock.pump([1.1] * 8)
        self.assertEqual(self.actions(), [["failed"]])
        # Of a message that is given up anyway, nobody is asked when to try it again.
        self.assertEqual(len(self.observed.asked), 2)


class GivenUpTests(RecorderTestCase):
    """A plugin gives up what others would try again."""

    def test_the_sender_is_told(self) -> None:
        """In the plugin's words, with those of the host."""
        self.observed.delays = [ENOUGH]
        self.start(delayed, Deferred(), temp_fail_intervals=(100.0,))
        with capturedLogs() as events:
            self.queue()
        self.assertEqual(self.actions(), [["failed"]])
        (waiting,) = self.waiting()
        self.assertIsNone(waiting.envelope.reverse_path)  # the report alone
        (group,) = self.reports()[0].get_payload()[1].get_payload()[1:]
        self.assertIn("5.7.0", group["Status"])
        self.assertIn(ENOUGH.lines[0], self.reports()[0].as_string())
        lines = said(events)
        self.assertIn("a plugin gives", lines)
        self.assertIn("bounced", lines)
        self.assertEqual([kind for kind, *_ in self.observed.heard], ["failed"])

    def test_only_those_that_were_delayed(self) -> None:
        """What has arrived has arrived, and one report tells of all."""
        self.observed.delays = [ENOUGH]
        self.start(one_of_each, Deferred(), temp_fail_intervals=(100.0,))
        self.queue(asking("SUCCESS", "FAILURE", recipients=3))
        self.assertEqual(self.actions(), [["relayed", "failed", "failed"]])

    def test_both_hooks(self) -> None:
        """Mail is dropped without a word where plugins say so twice, and the log tells of both."""
        self.observed.delays = [ENOUGH]
        self.observed.bounces = False
        self.start(delayed, temp_fail_intervals=(100.0,))
        with capturedLogs() as events:
            self.queue()
        self.assertEqual(self.waiting(), [])
        lines = said(events)
        self.assertIn("a plugin gives", lines)
        self.assertIn("a plugin keeps the failure", lines)


class NotAskedTests(RecorderTestCase):
    def test_nothing_was_delayed(self) -> None:
        """What has failed is no delay."""
        self.start(failed, Deferred())
        self.queue()
        self.assertEqual(self.observed.asked, [])

    def test_broken_off(self) -> None:
        """For a shutdown no plugin gives mail up: it was hardly tried."""
        self.observed.delays = [ENOUGH]
        self.start(Deferred())
        self.queue()
        stopping = self.runner.stopService()
        self.clock.advance(60)
        self.successResultOf(stopping)
        self.assertEqual(self.observed.asked, [])
        self.assertEqual(len(self.only_waiting().pending), 1)
