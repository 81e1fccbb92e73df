"""Who is told what."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.envelope import Recipient
from harakatls.mail.route import LMTP
from harakatls.outbound.notices import Action, notices, warning_is_due
from harakatls.queued import Delayed, Delivered, Failed, Outcome
from harakatls.smtp.reply import Reply
from harakatls.testing.values import ARRIVED, NEXT_HOP, queued_message, recipient

BOB = recipient()
OK = Reply.of(250, "2.0.0", "Kept")
LATER = Reply.of(451, "4.7.1", "Later")
NEVER = Reply.of(550, "5.1.1", "No such user")


def asks(*notify: str) -> Recipient:
    """Bob, of whom the sender wants to be told these."""
    return evolve(BOB, notify=frozenset(notify))


class NoticesTests(SynchronousTestCase):
    """RFC 3461 sections 4.1 and 5.2."""

    def told(
        self, *outcomes: Outcome, sender: str | None = "a@b.example", warns: bool = False
    ) -> list[Action]:
        queued = queued_message(sender)
        return [n.action for n in notices(queued, zip(outcomes, outcomes, strict=True), warns)]

    def test_failures(self) -> None:
        """A failure is told unless the sender named other things, or nothing."""
        for who in (BOB, asks("FAILURE"), asks("SUCCESS", "FAILURE")):
            self.assertEqual(self.told(Failed(who, NEVER)), [Action.FAILED])
        for who in (asks("NEVER"), asks("SUCCESS"), asks("DELAY")):
            self.assertEqual(self.told(Failed(who, NEVER)), [])

    def test_success(self) -> None:
        """Success is told on demand alone, and only where the next hop will not tell it."""
        for who in (BOB, asks("NEVER"), asks("FAILURE", "DELAY")):
            self.assertEqual(self.told(Delivered(who, OK, NEXT_HOP)), [])
        happy = asks("SUCCESS")
        self.assertEqual(self.told(Delivered(happy, OK, NEXT_HOP)), [Action.RELAYED])
        mailbox = evolve(NEXT_HOP, protocol=LMTP)
        self.assertEqual(self.told(Delivered(happy, OK, mailbox)), [Action.DELIVERED])
        self.assertEqual(self.told(Delivered(happy, OK, NEXT_HOP, will_report=True)), [])

    def test_delays(self) -> None:
        """A delay is told when it is time to, to those who did not object."""
        for who in (BOB, asks("DELAY", "FAILURE")):
            self.assertEqual(self.told(Delayed(who, LATER)), [])
            self.assertEqual(self.told(Delayed(who, LATER), warns=True), [Action.DELAYED])
        for who in (asks("NEVER"), asks("FAILURE", "SUCCESS")):
            self.assertEqual(self.told(Delayed(who, LATER), warns=True), [])

    def test_nobody(self) -> None:
        """A message from nobody is never answered: reports do not run in circles."""
        happy = asks("SUCCESS", "FAILURE", "DELAY")
        for outcome in (Failed(happy, NEVER), Delivered(happy, OK, NEXT_HOP), Delayed(BOB, LATER)):
            self.assertEqual(self.told(outcome, sender=None, warns=True), [])

    def test_status(self) -> None:
        """Its class is that of the action, whatever the reply was (RFC 3464 section 2.3.4)."""
        given_up = Failed(BOB, Reply.of(554, "5.7.1", "Too many failures"))
        (notice,) = notices(queued_message(), [(Delayed(BOB, LATER), given_up)], False)
        self.assertEqual((str(notice.status), notice.words), ("5.7.1", LATER))
        bare = Delivered(asks("SUCCESS"), Reply.of(250, None, "Kept"), NEXT_HOP)
        (notice,) = notices(queued_message(), [(bare, bare)], False)
        self.assertEqual(str(notice.status), "2.0.0")

    def test_when_to_warn(self) -> None:
        """Once, after the time that was set; with no time never."""
        queued = queued_message()
        self.assertFalse(warning_is_due(queued, 0, ARRIVED + 10**6))
        self.assertFalse(warning_is_due(queued, 60, ARRIVED + 59))
        self.assertTrue(warning_is_due(queued, 60, ARRIVED + 60))
        self.assertFalse(warning_is_due(evolve(queued, warned=True), 60, ARRIVED + 60))
