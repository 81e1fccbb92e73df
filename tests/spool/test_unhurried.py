"""What is written at once, and what along with it."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.spool.requests import Errand, Request
from harakatls.spool.unhurried import PATIENCE, Submission


class SubmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[Request[Any]] = []
        self.submission = Submission(self.written.append, self.clock, PATIENCE)
        self.requests: list[Request[Any]] = [Errand(lambda _: None) for _ in range(4)]

    def test_alone(self) -> None:
        """It waits no longer than that, and all that came meanwhile goes with it."""
        one, two, *_ = self.requests
        self.submission.submit_unhurried(one)
        self.clock.advance(PATIENCE / 2)
        self.submission.submit_unhurried(two)
        self.assertEqual(self.written, [])
        self.clock.advance(PATIENCE / 2)
        self.assertEqual(self.written, [one, two])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_along(self) -> None:
        """Whoever is in a hurry takes it along, and the order stays: the end of a claim first."""
        one, two, three, four = self.requests
        self.submission.submit_unhurried(one)
        self.submission.submit_unhurried(two)
        self.submission.submit(three)
        self.assertEqual(self.written, [one, two, three])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.submission.submit_unhurried(four)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.written, self.requests)

    def test_without_patience(self) -> None:
        """Without patience nothing waits for others."""
        submission = Submission(self.written.append, self.clock, 0.0)
        submission.submit_unhurried(self.requests[0])
        self.assertEqual(self.written, self.requests[:1])
