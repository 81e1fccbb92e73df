"""What the replies of hosts make of recipients, in one attempt."""

from attrs import evolve

from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.mail.route import NextHop
from harakatls.queued import Delayed, Delivered, Failed
from harakatls.testing.peers import HANG_UP, ObligingPeer
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, FIRST, STEPS, DeliveryTestCase, at, three


class ReplyTests(DeliveryTestCase):
    """Every class of reply at every step."""

    def test_a_passing_refusal_leads_to_the_next_host(self) -> None:
        """4yz anywhere at one host does not keep mail from the next (unlike Haraka)."""
        for step in STEPS:
            self.setUp()
            self.serve(ObligingPeer(**at(step, "451 4.3.0 Later")), ObligingPeer())
            result = self.attempt()
            self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept", step)
            self.assertEqual(
                [(trial.host, trial.result) for trial in result.trials],
                [
                    ("mx1.example [192.0.2.1]:25", "451 4.3.0 Later"),
                    ("mx2.example [192.0.2.2]:25", "250 2.0.0 Kept"),
                ],
                step,
            )
            self.assertNothingIsLeft()

    def test_only_passing_refusals_delay(self) -> None:
        """The reason of each host is kept; the last one stands in the queue."""
        for step in STEPS:
            self.setUp()
            peers = [ObligingPeer(**at(step, f"451 4.3.{n} Later")) for n in range(3)]
            self.serve(*peers)
            result = self.attempt()
            self.assertEqual(self.only(result), "delayed 451 4.3.2 Later", step)
            self.assertEqual(
                [trial.result for trial in result.trials],
                ["451 4.3.0 Later", "451 4.3.1 Later", "451 4.3.2 Later"],
                step,
            )

    def test_a_lasting_refusal_of_the_transaction_is_final(self) -> None:
        """5yz to MAIL, RCPT, DATA or the message is not asked elsewhere."""
        for step in ("MAIL", "RCPT", "DATA", "end"):
            for extension in ("PIPELINING", "8BITMIME"):
                self.setUp()
                second = ObligingPeer()
                self.serve(ObligingPeer(extension, **at(step, "550 5.7.1 Never")), second)
                result = self.attempt()
                self.assertEqual(self.only(result), "failed 550 5.7.1 Never", step)
                self.assertEqual(second.commands, [], step)
                self.assertNothingIsLeft()

    def test_a_host_that_refuses_us_is_one_host(self) -> None:
        """554 in the greeting of one MX, or 5yz to EHLO and HELO, leads to the next one."""
        for peer in (
            ObligingPeer(connect="554 5.7.1 Go away"),
            ObligingPeer(EHLO="550 5.7.1 Go away", HELO="550 5.7.1 Go away"),
        ):
            self.setUp()
            self.serve(peer, ObligingPeer())
            self.assertEqual(self.only(self.attempt()), "delivered 250 2.0.0 Kept")

    def test_all_hosts_that_refuse_us_are_final(self) -> None:
        """Where every host of a domain says never, the sender is told without days of waiting."""
        self.serve(*(ObligingPeer(connect="554 5.7.1 Go away") for _ in range(3)))
        self.assertEqual(self.only(self.attempt()), "failed 554 5.7.1 Go away")

    def test_one_host_that_is_merely_away_keeps_the_hope(self) -> None:
        """It may take the mail tomorrow."""
        self.serve(ObligingPeer(connect="554 5.7.1 Go away"))
        result = self.attempt()
        self.assertIsInstance(result.outcomes[0], Delayed)
        self.assertEqual(
            [trial.result for trial in result.trials],
            [
                "554 5.7.1 Go away",
                "451 4.4.1 mx2.example: no connection: Connection refused",
                "451 4.4.1 mx3.example: no connection: Connection refused",
            ],
        )

    def test_a_reply_of_no_use_is_a_passing_failure(self) -> None:
        """3yz where it makes no sense delivers nothing, and fails nothing."""
        for step in ("connect", "EHLO", "MAIL", "RCPT", "end"):
            self.setUp()
            self.serve(ObligingPeer("8BITMIME", **at(step, "300 What now")))
            self.assertIsInstance(self.attempt().outcomes[0], Delayed, step)

    def test_421_ends_the_conversation(self) -> None:
        """A server that shuts down in the middle is left for the next one."""
        for step in STEPS:
            self.setUp()
            self.serve(ObligingPeer(**at(step, ("421 4.3.2 Bye", HANG_UP))), ObligingPeer())
            self.assertEqual(self.only(self.attempt()), "delivered 250 2.0.0 Kept", step)
            self.assertNothingIsLeft()

    def test_what_is_no_reply(self) -> None:
        """A server that speaks something else is left, and the log says what it said."""
        for step in STEPS:
            self.setUp()
            self.serve(ObligingPeer(**at(step, "HTTP/1.1 400 Bad Request")))
            result = self.attempt()
            self.assertIsInstance(result.outcomes[0], Delayed, step)
            self.assertIn("HTTP/1.1 400", result.trials[0].result)
            self.assertNothingIsLeft()

    def test_a_flood_is_not_kept(self) -> None:
        """A hostile reply fills neither the queue nor the log, and has no control characters."""
        self.serve(ObligingPeer(MAIL="\n".join(["550-" + "\x1b[2J" * 100] * 60 + ["550 x"])))
        told = self.only(self.attempt())
        self.assertLess(len(told), 1100)
        self.assertTrue(told.startswith("failed 550  [2J [2J"), told)
        self.assertTrue(told.isprintable())
        self.serve(ObligingPeer(MAIL="550-5.1.1 One\n550 5.1.1 Two"))
        self.assertEqual(self.only(self.attempt()), "failed 550 5.1.1 One Two")


class RecipientTests(DeliveryTestCase):
    """One outcome for each recipient."""

    def test_each_has_its_own(self) -> None:
        """One unknown user keeps the message from nobody else."""
        for extension in ("PIPELINING", "8BITMIME"):
            self.setUp()
            answers = ["550 5.1.1 Unknown", "250 Ok", "450 4.2.1 Busy"]
            peer = ObligingPeer(extension, RCPT=list(answers))
            self.serve(peer, ObligingPeer("PIPELINING", RCPT="450 4.2.1 Still busy"))
            result = self.attempt(three())
            self.assertEqual(
                self.told(result),
                {
                    "ann@recipient.example": "failed 550 5.1.1 Unknown",
                    "bob@recipient.example": "delivered 250 2.0.0 Kept",
                    "cid@recipient.example": "delayed 450 4.2.1 Still busy",
                },
            )

    def test_the_next_host_is_asked_for_the_delayed_alone(self) -> None:
        """Nobody gets a message twice because another recipient was busy."""
        self.serve(
            ObligingPeer(RCPT=["250 Ok", "450 4.2.1 Busy", "250 Ok"]), second := ObligingPeer()
        )
        result = self.attempt(three())
        self.assertEqual({type(outcome) for outcome in result.outcomes}, {Delivered})
        rcpts = [c for c in second.commands if c.startswith("RCPT")]
        self.assertEqual(rcpts, ["RCPT TO:<bob@recipient.example>"])

    def test_nobody_accepted_sends_nothing(self) -> None:
        """A server that says 354 all the same gets an empty message for nobody (RFC 2920)."""
        peer = ObligingPeer(RCPT="550 5.1.1 Unknown", DATA="354 Go on")
        self.serve(peer)
        self.attempt(three())
        self.assertEqual(peer.messages, [b""])

    def test_a_refused_sender_with_354_sends_nothing(self) -> None:
        """A broken server does not get the message for a transaction it has refused."""
        peer = ObligingPeer(MAIL="550 5.7.1 Never", DATA="354 Go on")
        self.serve(peer)
        self.assertEqual(self.only(self.attempt()), "failed 550 5.7.1 Never")
        self.assertEqual(peer.messages, [])
        self.assertNothingIsLeft()

    def test_many_recipients_take_several_transactions(self) -> None:
        """Every server takes a hundred at once; more of them make more transactions."""
        peer = ObligingPeer()
        self.serve(peer)
        many = queued_message(recipients=[f"u{n}@{DOMAIN}" for n in range(250)])
        result = self.attempt(many)
        self.assertEqual(len(result.outcomes), 250)
        self.assertEqual({type(outcome) for outcome in result.outcomes}, {Delivered})
        self.assertEqual(len(peer.messages), 3)
        self.assertEqual(self.network.attempts, [(FIRST, 25)])

    def test_too_many_are_sent_at_once_in_another_transaction(self) -> None:
        """A server that takes two at a time gets all, without waiting for another attempt."""
        peer = ObligingPeer(RCPT=["250 Ok", "452 4.5.3 Too many", "452 4.5.3 Too many"])
        self.serve(peer)
        result = self.attempt(three())
        self.assertEqual({type(outcome) for outcome in result.outcomes}, {Delivered})
        self.assertEqual(len(peer.messages), 2)

    def test_always_split(self) -> None:
        """always_split of outbound.ini gives each recipient a transaction of its own."""
        peer = ObligingPeer()
        self.serve(peer)
        self.attempt(three(), self.delivery(always_split=True))
        self.assertEqual(len(peer.messages), 3)

    def test_only_pending_recipients_are_tried(self) -> None:
        """Who has the message already does not get it again."""
        queued = three()
        self.serve(peer := ObligingPeer())
        self.attempt(evolve(queued, pending=queued.pending[2:]))
        self.assertIn("RCPT TO:<cid@recipient.example>", peer.commands)
        self.assertNotIn("RCPT TO:<bob@recipient.example>", peer.commands)

    def test_postmaster(self) -> None:
        """<postmaster> is sent as it was given (RFC 5321 section 4.1.1.3)."""
        self.hops = (NextHop(FIRST, "", source="route"),)
        self.serve(peer := ObligingPeer())
        postmaster = Recipient(Address("postmaster", ""))
        self.attempt(queued_message(domain="", pending=(postmaster,)))
        self.assertIn("RCPT TO:<postmaster>", peer.commands)


class FailedTypeTests(DeliveryTestCase):
    """Outcomes carry what reports need."""

    def test_host_and_tls(self) -> None:
        """The report can name the host that refused, and the TLS of that connection."""
        self.serve(ObligingPeer("STARTTLS", MAIL="550 5.7.1 Never"))
        (outcome,) = self.attempt().outcomes
        assert isinstance(outcome, Failed)
        assert outcome.next_hop is not None
        self.assertEqual(outcome.next_hop.mx_name, "mx1.example")
        assert outcome.secured is not None
        self.assertEqual(outcome.secured.protocol, "TLSv1.3")
