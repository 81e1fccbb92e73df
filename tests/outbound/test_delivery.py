"""One attempt to deliver, against servers in memory."""

from typing import Any

from attrs import evolve
from twisted.logger import globalLogPublisher

from harakatls.connection import TLSSummary
from harakatls.interfaces import SpoolDamaged
from harakatls.mail.address import Address
from harakatls.mail.envelope import MailParameters, Recipient
from harakatls.mail.route import NextHop
from harakatls.outbound.delivery import OURS
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer
from harakatls.testing.values import MESSAGE, FixedBody, queued_message
from tests.outbound.support import DOMAIN, FIRST, SECOND, THIRD, DeliveryTestCase

STEPS = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "end")


def at(step: str, answer: Any) -> dict[str, Any]:
    """For `ObligingPeer`."""
    return {step: answer}


def three() -> QueuedMessage:
    """For ann, bob and cid."""
    return queued_message(recipients=[f"{name}@{DOMAIN}" for name in ("ann", "bob", "cid")])


class DeliveredTests(DeliveryTestCase):
    """All is well."""

    def test_the_message_arrives(self) -> None:
        """The server gets sender, recipient and message as they were, and QUIT."""
        peer = ObligingPeer()
        self.serve(peer)
        result = self.attempt()
        self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept")
        self.assertEqual(
            peer.commands,
            [
                "EHLO mta.example",
                f"MAIL FROM:<alice@sender.example> SIZE={len(MESSAGE)}",
                "RCPT TO:<bob@recipient.example>",
                "DATA",
                "QUIT",
            ],
        )
        self.assertEqual(peer.messages, [MESSAGE])
        self.assertNothingIsLeft()

    def test_the_outcome_says_where_it_went(self) -> None:
        """Observers and the queue listing learn host, name and reply."""
        self.serve(ObligingPeer())
        (outcome,) = self.attempt().outcomes
        assert isinstance(outcome, Delivered)
        hop = outcome.next_hop
        self.assertEqual((hop.host, hop.mx_name, hop.port), (FIRST, "mx1.example", 25))
        self.assertIsNone(outcome.secured)

    def test_pipelining_needs_two_writes(self) -> None:
        """MAIL, RCPT and DATA travel together where the server offers it (RFC 2920)."""
        peer = ObligingPeer("PIPELINING", DATA=SILENCE)
        self.serve(peer)
        self.begin(three())
        self.assertEqual(len(peer.commands), 6)

    def test_without_pipelining_each_command_waits(self) -> None:
        """Old servers get one command at a time."""
        peer = ObligingPeer("SIZE", MAIL=SILENCE)
        self.serve(peer)
        self.begin()
        self.assertEqual(
            [c.split(":")[0] for c in peer.commands], ["EHLO mta.example", "MAIL FROM"]
        )

    def test_without_pipelining_it_arrives_as_well(self) -> None:
        """A server that offers nothing gets the message for all recipients."""
        peer = ObligingPeer("8BITMIME")
        self.serve(peer)
        outcomes = self.attempt(three()).outcomes
        self.assertEqual([type(outcome) for outcome in outcomes], [Delivered] * 3)
        self.assertEqual(peer.messages, [MESSAGE])

    def test_helo_for_servers_that_do_not_know_ehlo(self) -> None:
        """RFC 5321 section 3.2: mail to very old servers works."""
        peer = ObligingPeer(EHLO="502 5.5.1 What?")
        self.serve(peer)
        self.assertEqual(self.only(self.attempt()), "delivered 250 2.0.0 Kept")
        self.assertEqual(
            peer.commands[1:3], ["HELO mta.example", "MAIL FROM:<alice@sender.example>"]
        )

    def test_the_null_reverse_path(self) -> None:
        """Reports leave with MAIL FROM:<>."""
        peer = ObligingPeer("8BITMIME")
        self.serve(peer)
        self.attempt(queued_message(None))
        self.assertIn("MAIL FROM:<>", peer.commands)

    def test_the_received_field_is_put_on_top(self) -> None:
        """The trace shows that the message passed here; SIZE counts it."""
        peer = ObligingPeer()
        self.serve(peer)
        self.attempt(delivery=self.delivery(received_header="Haraka outbound"))
        top = b"Received: (Haraka outbound); Tue, 14 Nov 2023 22:13:20 -0000\r\n"
        self.assertEqual(peer.messages, [top + MESSAGE])
        self.assertIn(f"SIZE={len(top + MESSAGE)}", peer.commands[1])

    def test_a_large_message_does_not_stand_in_memory(self) -> None:
        """25 MB go through a buffer of some dozen kilobytes, and arrive whole."""
        content = b"Subject: big\r\n\r\n" + b".0123456789abcdef\r\n" * 1_300_000
        self.bodies.content = content
        peer = ObligingPeer()
        self.serve(peer)
        result = self.attempt(queued_message(size=len(content)))
        self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept")
        self.assertEqual(peer.messages[0], content)
        self.assertLess(self.network.transports[0].most_buffered, 300_000)
        self.assertNothingIsLeft()

    def test_one_timer_for_a_whole_delivery(self) -> None:
        """A thousand deliveries at once are a thousand timers, not ten thousand."""
        made: list[object] = []
        call_later = self.clock.callLater

        def count(*arguments: object, **named: object) -> object:
            made.append(arguments)
            return call_later(*arguments, **named)  # type: ignore[arg-type]

        self.clock.callLater = count  # type: ignore[assignment,method-assign]
        self.serve(ObligingPeer())
        self.attempt()
        self.assertEqual(len(made), 1)


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


class TimeTests(DeliveryTestCase):
    """One attempt, all in all."""

    def test_a_server_that_takes_its_time(self) -> None:
        """Just in time with each answer, it has the message for an hour, not for a night."""
        peer = ObligingPeer("8BITMIME", RCPT=SILENCE)
        self.serve(peer)
        many = queued_message(recipients=[f"u{n}@{DOMAIN}" for n in range(100)])
        self.exchangers[DOMAIN] = [(10, "mx1.example")]
        running = self.begin(many)
        answers = 0
        while not running.called:
            self.pass_time(290)
            peer.output += b"250 2.1.5 Ok\r\n"
            self.network.flush()
            answers += 1
        self.assertEqual(answers, 13)
        result = self.successResultOf(running)
        self.assertIn("the message took too long, all in all", result.trials[0].result)
        self.assertEqual({type(outcome) for outcome in result.outcomes}, {Delayed})
        self.assertNothingIsLeft()

    def test_many_slow_hosts(self) -> None:
        """After an hour no further host is tried; the next attempt may find better ones."""
        hosts = [f"192.0.2.{number}" for number in range(10, 20)]
        self.exchangers[DOMAIN] = [(n, f"mx{n}.example") for n in range(10, 20)]
        for number, host in enumerate(hosts, 10):
            self.hosts[f"mx{number}.example"] = [host]
            self.network.serve(host, ObligingPeer(connect=SILENCE))
        running = self.begin(delivery=self.delivery(greeting_timeout=900.0))
        for _ in range(10):
            self.pass_time(901)
        self.assertEqual(len(self.successResultOf(running).trials), 4)


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


class BrokenTests(DeliveryTestCase):
    """Connections that break, and servers that fall silent."""

    def test_a_broken_connection_leads_to_the_next_host(self) -> None:
        """At any step before the end of the message, in order or not."""
        for step in STEPS[:-1]:
            for ending in (HANG_UP, BREAK_OFF):
                self.setUp()
                self.serve(ObligingPeer("8BITMIME", **at(step, ending)), ObligingPeer())
                result = self.attempt()
                self.assertEqual(self.only(result), "delivered 250 2.0.0 Kept", step)
                self.assertNothingIsLeft()

    def test_the_reason_says_at_which_step(self) -> None:
        """The log tells an operator where it broke."""
        self.serve(ObligingPeer("8BITMIME", RCPT=HANG_UP))
        self.assertEqual(
            self.attempt().trials[0].result,
            "451 4.4.2 mx1.example: the server closed the connection"
            " while waiting for the answer to RCPT",
        )

    def test_after_the_end_of_the_message_no_other_host_is_asked(self) -> None:
        """The server may have the message; the same attempt does not deliver it twice."""
        for ending in (HANG_UP, BREAK_OFF):
            self.setUp()
            second = ObligingPeer()
            self.serve(ObligingPeer(end=ending), second)
            result = self.attempt()
            self.assertIn("may arrive twice", self.only(result))
            self.assertTrue(self.only(result).startswith("delayed 451 4.4.2"))
            self.assertEqual(second.commands, [])

    def test_what_was_refused_before_the_break_counts(self) -> None:
        """An unknown user is not tried again because the connection broke later."""
        self.serve(ObligingPeer(RCPT=["550 5.1.1 Unknown", "250 Ok", "250 Ok"], end=HANG_UP))
        told = self.told(self.attempt(three()))
        self.assertEqual(told["ann@recipient.example"], "failed 550 5.1.1 Unknown")
        self.assertTrue(told["bob@recipient.example"].startswith("delayed 451 4.4.2"))

    def test_a_silent_server_is_left_in_time(self) -> None:
        """Each step has its time limit of RFC 5321 section 4.5.3.2, then the next host comes."""
        limits: dict[str, Any] = {
            "greeting_timeout": 11.0,
            "command_timeout": 12.0,
            "end_of_data_timeout": 13.0,
        }
        expected = {"connect": 11, "end": 13}
        for step in STEPS:
            self.setUp()
            self.serve(ObligingPeer("8BITMIME", **at(step, SILENCE)), ObligingPeer())
            running = self.begin(delivery=self.delivery(**limits))
            seconds = expected.get(step, 12)
            self.pass_time(seconds - 1)
            self.assertNoResult(running)
            self.pass_time(2)
            result = self.successResultOf(running)
            self.assertIn(f"no answer within {seconds} seconds", result.trials[0].result)
            wanted = Delayed if step == "end" else Delivered
            self.assertIsInstance(result.outcomes[0], wanted, step)
            self.assertNothingIsLeft()

    def test_a_drop_now_and_then_is_no_answer(self) -> None:
        """A server that sends an octet before each limit does not hold a delivery for ever."""
        peer = ObligingPeer("8BITMIME", MAIL=SILENCE)
        self.serve(peer)
        running = self.begin(delivery=self.delivery(command_timeout=60.0))
        for _ in range(7):
            peer.output += b"2"
            self.pass_time(10)
        self.assertIn("no answer within 60 seconds", self.successResultOf(running).trials[0].result)

    def test_a_server_that_takes_no_data(self) -> None:
        """The message stays in the queue, not in the memory of a connection that hangs."""
        content = b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
        self.bodies.content = content
        peer = ObligingPeer("8BITMIME", DATA=SILENCE)
        self.serve(peer)
        running = self.begin(queued_message(size=len(content)), self.delivery(data_timeout=50.0))
        self.network.transports[0].stuck = True
        peer.output += b"354 Go on\r\n"
        self.network.flush()
        result = self.after(51, running)
        self.assertEqual(
            result.trials[0].result, "451 4.4.2 mx1.example: no data was taken for 50 seconds"
        )
        self.assertLess(self.network.transports[0].most_buffered, 300_000)
        self.assertNothingIsLeft()

    def test_a_server_that_says_why_before_it_closes(self) -> None:
        """552 in the middle of the message is the reason, not "the connection broke"."""
        content = b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
        self.bodies.content = content
        peer = ObligingPeer("8BITMIME", DATA=SILENCE)
        self.serve(peer)
        running = self.begin(queued_message(size=len(content)))
        self.network.transports[0].stuck = True
        peer.output += b"354 Go on\r\n"
        self.network.flush()
        peer.output += b"552 5.3.4 Too big\r\n"
        peer.ending = HANG_UP
        self.network.flush()
        self.assertEqual(self.only(self.successResultOf(running)), "failed 552 5.3.4 Too big")

    def test_no_host_answers(self) -> None:
        """connect_timeout for each host, and the reason for each."""
        for host in (FIRST, SECOND, THIRD):
            self.network.swallow(host)
        running = self.begin(delivery=self.delivery(connect_timeout=7.0))
        for _ in range(3):
            self.assertNoResult(running)
            self.pass_time(7.5)
        result = self.successResultOf(running)
        self.assertEqual(
            self.only(result), "delayed 451 4.4.1 mx3.example: no connection within 7 seconds"
        )
        self.assertEqual(len(result.trials), 3)

    def test_the_goodbye_is_not_waited_for(self) -> None:
        """A server that never answers QUIT costs the delivery no time, and is closed later."""
        self.serve(ObligingPeer(QUIT=SILENCE))
        self.assertEqual(self.only(self.attempt()), "delivered 250 2.0.0 Kept")
        self.assertTrue(self.network.transports[0].connected)
        self.assertNothingIsLeft()

    def test_a_server_that_floods(self) -> None:
        """Megabytes that nobody asked for end the connection."""
        content = b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
        self.bodies.content = content
        peer = ObligingPeer("8BITMIME", DATA=SILENCE)
        self.serve(peer)
        running = self.begin(queued_message(size=len(content)))
        self.network.transports[0].stuck = True
        peer.output += b"354 Go on\r\n"
        self.network.flush()
        for _ in range(17):
            peer.output += b"x" * 65536
            self.network.flush()
        result = self.successResultOf(running)
        self.assertIn("451 4.4.2 mx1.example: not a reply", result.trials[0].result)
        self.assertNothingIsLeft()


class BeforehandTests(DeliveryTestCase):
    """What a server cannot take is not sent to it."""

    def test_a_message_beyond_its_size(self) -> None:
        """The sender learns the limit, and not a byte of the message is sent (RFC 1870)."""
        peer = ObligingPeer("SIZE 100")
        self.serve(peer)
        text = f"The message has {len(MESSAGE)} octets, the server takes 100"
        self.assertEqual(self.only(self.attempt()), f"failed 552 5.3.4 {text}")
        self.assertEqual(peer.commands, ["EHLO mta.example", "QUIT"])

    def test_an_address_beyond_ascii(self) -> None:
        """Without SMTPUTF8 there is no way to write it (RFC 6531)."""
        self.serve(ObligingPeer("SIZE"))
        result = self.attempt(queued_message("jörg@sender.example"))
        self.assertTrue(self.only(result).startswith("failed 550 5.6.7"))

    def test_a_header_beyond_ascii(self) -> None:
        """The same for what stands in the header."""
        self.bodies.content = "Subject: Grüße\r\n\r\nx\r\n".encode()
        self.serve(ObligingPeer("SIZE"))
        result = self.attempt(self.international())
        self.assertTrue(self.only(result).startswith("failed 550 5.6.9"))

    def test_a_message_that_needs_nothing(self) -> None:
        """A client that says SMTPUTF8 by habit has its plain messages delivered."""
        self.bodies.content = "Subject: x\r\n\r\nGrüße\r\n".encode()
        self.serve(peer := ObligingPeer("SIZE"))
        self.assertTrue(self.only(self.attempt(self.international())).startswith("delivered"))
        self.assertNotIn("SMTPUTF8", peer.commands[1])

    def test_with_the_extension(self) -> None:
        """Where it is offered it is used."""
        self.serve(peer := ObligingPeer("SMTPUTF8", "8BITMIME"))
        result = self.attempt(queued_message("jörg@sender.example"))
        self.assertTrue(self.only(result).startswith("delivered"))
        self.assertIn("SMTPUTF8", peer.commands[1])
        self.assertIn("<jörg@sender.example>", peer.commands[1])

    def international(self) -> QueuedMessage:
        """Its sender has said SMTPUTF8."""
        queued = queued_message()
        parameters = MailParameters(body="8BITMIME", smtputf8=True)
        return evolve(queued, envelope=evolve(queued.envelope, parameters=parameters))


class SpoolTests(DeliveryTestCase):
    """The message itself cannot be read."""

    def test_it_is_found_out_before_mail(self) -> None:
        """Nothing is begun with the server."""
        self.bodies.content = SpoolDamaged("gone")
        peer = ObligingPeer()
        self.serve(peer)
        self.failureResultOf(self.begin(), SpoolDamaged)
        self.assertEqual(peer.commands, ["EHLO mta.example"])
        self.assertNothingIsLeft()

    def test_half_a_message_never_gets_its_dot(self) -> None:
        """A body that breaks off is not delivered as if it were whole."""

        class Broken(FixedBody):
            async def read(self, length: int) -> bytes:
                chunk = await super().read(100)
                if not chunk:
                    raise SpoolDamaged("half of it is gone")
                return chunk

        self.bodies.open_body = lambda queued: Broken(b"x" * 98 + b"\r\n")  # type: ignore
        content_size = Broken(b"x" * 98 + b"\r\n").size
        self.assertEqual(content_size, 100)
        self.bodies.open_body = lambda queued: _longer(Broken(b"x" * 98 + b"\r\n"))  # type: ignore
        peer = ObligingPeer()
        self.serve(peer)
        self.failureResultOf(self.begin(), SpoolDamaged)
        self.assertEqual(peer.messages, [])
        self.assertNothingIsLeft()

    def test_what_was_delivered_before_counts(self) -> None:
        """Who has the message does not get it again because it could not be opened once more."""
        for problem in (SpoolDamaged("gone"), OSError("too many open files"), ZeroDivisionError()):
            self.setUp()
            self.serve(ObligingPeer())
            open_body = self.bodies.open_body
            opened: list[str] = []

            def once(
                queued: QueuedMessage,
                problem: Exception = problem,
                open_body: Any = open_body,
                opened: list[str] = opened,
            ) -> Any:
                if opened:
                    raise problem
                opened.append(queued.id)
                return open_body(queued)

            self.bodies.open_body = once  # type: ignore[method-assign]
            result = self.attempt(three(), self.delivery(always_split=True))
            self.assertEqual(
                self.told(result),
                {
                    "ann@recipient.example": "delivered 250 2.0.0 Kept",
                    "bob@recipient.example": f"delayed {OURS}",
                    "cid@recipient.example": f"delayed {OURS}",
                },
            )
            self.flushLoggedErrors(type(problem))
            self.assertNothingIsLeft()


def _longer(body: FixedBody) -> FixedBody:
    body.size += 1000
    return body


class RouteTests(DeliveryTestCase):
    """Without any host."""

    def test_a_domain_that_does_not_exist(self) -> None:
        """The sender is told at once."""
        self.exchangers.clear()
        result = self.attempt()
        self.assertEqual(self.only(result), f"failed 550 5.1.2 The domain {DOMAIN} does not exist")
        self.assertEqual([trial.host for trial in result.trials], [""])

    def test_hosts_that_are_skipped_are_in_the_history(self) -> None:
        """ "MX has no address" stands beside what the others said."""
        del self.hosts["mx1.example"]
        self.serve(ObligingPeer(), ObligingPeer(MAIL="451 4.3.0 Later"))
        result = self.attempt()
        self.assertEqual(result.trials[0].result, "550 5.4.4 MX mx1.example has no address")
        self.assertEqual(result.trials[1].result, "451 4.3.0 Later")

    def test_a_domain_of_many_hosts_has_an_end(self) -> None:
        """Twenty hosts in one attempt are enough."""
        self.exchangers[DOMAIN] = [(n, f"h{n}.example") for n in range(10)]
        self.hosts.update(
            {f"h{n}.example": [f"192.0.2.{10 * n + m}" for m in range(5)] for n in range(10)}
        )
        self.assertEqual(len(self.attempt().trials), 20)
        self.assertEqual(len(self.network.attempts), 20)


class InterruptedTests(DeliveryTestCase):
    """The server is told to stop."""

    def test_what_was_settled_counts(self) -> None:
        """A recipient that has the message is not sent it again after the restart."""
        self.serve(ObligingPeer(end=["250 2.0.0 Kept", SILENCE]))
        running = self.begin(three(), self.delivery(always_split=True))
        running.cancel()
        self.network.flush()
        result = self.successResultOf(running)
        self.assertTrue(result.interrupted)
        told = self.told(result)
        self.assertEqual(told["ann@recipient.example"], "delivered 250 2.0.0 Kept")
        self.assertTrue(told["bob@recipient.example"].startswith("delayed 451 4.3.2"))
        self.assertNothingIsLeft()

    def test_while_connecting(self) -> None:
        """Nothing is left of a connection that was not made yet."""
        self.network.swallow(FIRST)
        running = self.begin()
        running.cancel()
        self.assertTrue(self.successResultOf(running).interrupted)
        self.assertNothingIsLeft()


class LogTests(DeliveryTestCase):
    """What the operator reads."""

    def events(self, queued: QueuedMessage | None = None) -> list[dict[str, Any]]:
        """Of the deliveries' logger, during one attempt."""
        found: list[dict[str, Any]] = []
        observe: Any = found.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.attempt(queued)
        return [e for e in found if e.get("log_namespace") == "harakatls.outbound"]

    def test_one_line_for_a_delivery(self) -> None:
        """With the fields that searches in logs are made for."""
        self.serve(ObligingPeer())
        (event,) = self.events()
        wanted = {
            "outcome": "delivered",
            "queue_id": queued_message().id,
            "domain": DOMAIN,
            "host": "mx1.example",
            "ip": FIRST,
            "port": 25,
            "tls": "N",
            "verified": False,
            "response": "250 2.0.0 Kept",
            "recipients": 1,
            "rcpts": "1/0/0",
            "fails": 0,
            "delay": 0,
        }
        self.assertEqual({key: event[key] for key in wanted}, wanted)

    def test_a_host_that_was_passed_over(self) -> None:
        """The line says which one, and why, before that of the next host."""
        self.serve(ObligingPeer(connect="421 4.3.2 Busy"), ObligingPeer())
        first, second = self.events()
        self.assertEqual((first["outcome"], first["response"]), ("unusable", "421 4.3.2 Busy"))
        self.assertEqual((second["outcome"], second["host"]), ("delivered", "mx2.example"))

    def test_no_host_at_all(self) -> None:
        """Each attempt ends with delivered, deferred or bounced."""
        *hosts, last = self.events()
        self.assertEqual([event["outcome"] for event in hosts], ["unusable"] * 2)
        self.assertEqual((last["outcome"], last["host"]), ("deferred", "mx3.example"))
        self.assertIn("Connection refused", str(last["response"]))

    def test_a_lasting_refusal_of_one_host_and_a_passing_one_of_another(self) -> None:
        """The line of the outcome is about the host that gives hope; the others have their own."""
        del self.exchangers[DOMAIN]
        self.exchangers[DOMAIN] = [(10, "mx1.example"), (20, "mx2.example")]
        self.serve(ObligingPeer(connect="421 4.3.2 Busy"), ObligingPeer(connect="554 5.7.1 No"))
        told = [(event["outcome"], event["host"]) for event in self.events()]
        self.assertEqual(
            told,
            [
                ("unusable", "mx1.example"),
                ("unusable", "mx2.example"),
                ("deferred", "mx1.example"),
            ],
        )

    def test_kinds_of_outcome_have_a_line_each(self) -> None:
        """A bounced recipient is found even where others were delivered."""
        self.serve(ObligingPeer(RCPT=["550 5.1.1 Unknown", "250 Ok"]))
        self.assertEqual(
            [(e["outcome"], e["recipients"], e["rcpts"]) for e in self.events(three())],
            [("bounced", 1, "2/0/1"), ("delivered", 2, "2/0/1")],
        )


class FailedTypeTests(DeliveryTestCase):
    """Outcomes carry what reports need."""

    def test_host_and_tls(self) -> None:
        """The report can name the host that refused, and the TLS of that connection."""
        summary = TLSSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, verified=True)
        self.serve(ObligingPeer("STARTTLS", MAIL="550 5.7.1 Never"))
        (outcome,) = self.attempt().outcomes
        assert isinstance(outcome, Failed)
        assert outcome.next_hop is not None
        self.assertEqual(outcome.next_hop.mx_name, "mx1.example")
        assert outcome.secured is not None
        self.assertEqual(outcome.secured.protocol, summary.protocol)
