"""When a message is tried again, and when it is given up."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.retry import given_up, judged, next_attempt
from harakatls.queued import Delayed, Delivered, Failed
from harakatls.smtp.reply import Reply
from harakatls.testing.values import NEXT_HOP, recipient

BOB = recipient()
LATER = Reply.of(451, "4.7.1", "Greylisted, try later")


class NextAttemptTests(SynchronousTestCase):
    """The schedule of temp_fail_intervals."""

    def test_each_interval_is_used_once_in_order(self) -> None:
        """An operator who writes 10s, 1m sees retries after 10 and after 60 seconds."""
        due = [next_attempt(attempts, (10.0, 60.0), 1000.0) for attempts in (1, 2, 3)]
        self.assertEqual(due, [1010.0, 1060.0, None])

    def test_no_intervals_give_up_at_once(self) -> None:
        """temp_fail_intervals=none returns a message after its first failure."""
        self.assertIsNone(next_attempt(1, (), 1000.0))


class GivenUpTests(SynchronousTestCase):
    """What the sender is told when patience ends."""

    def test_the_class_of_the_status_becomes_permanent(self) -> None:
        """Programs that read "4.7.1" in a final report would take it for a passing failure."""
        failed = given_up(Delayed(BOB, LATER))
        self.assertIsInstance(failed, Failed)
        self.assertEqual(str(failed.reply.enhanced), "5.7.1")
        self.assertTrue(failed.reply.is_permanent)

    def test_the_last_words_stay(self) -> None:
        """The sender learns why it was too many failures, not just that."""
        said = str(given_up(Delayed(BOB, LATER)).reply)
        self.assertEqual(said, "554 5.7.1 Too many failures (451 4.7.1 Greylisted, try later)")

    def test_without_a_status_the_time_has_expired(self) -> None:
        """A server that gives no enhanced code leads to 5.4.7, delivery time expired."""
        failed = given_up(Delayed(BOB, Reply.of(450, None, "busy")))
        self.assertEqual(str(failed.reply.enhanced), "5.4.7")


class JudgedTests(SynchronousTestCase):
    """The outcomes of an attempt as they count."""

    def test_delays_stay_while_another_attempt_is_due(self) -> None:
        """A message is not returned before its time."""
        outcomes = (Delayed(BOB, LATER),)
        self.assertEqual(judged(outcomes, 1000.0), outcomes)

    def test_delays_fail_when_none_is(self) -> None:
        """The last attempt's delays are failures; what was delivered stays delivered."""
        ann = recipient("ann@recipient.example")
        delivered = Delivered(ann, Reply.of(250, "2.0.0", "ok"), NEXT_HOP)
        first, second = judged((delivered, Delayed(BOB, LATER)), None)
        self.assertEqual(first, delivered)
        self.assertIsInstance(second, Failed)
