"""Connections that break, and hosts that fall silent or take their time."""

from typing import Any

from twisted.internet.defer import Deferred

from harakatls.outbound.delivery import Result
from harakatls.queued import Delayed, Delivered
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, FIRST, SECOND, STEPS, THIRD, DeliveryTestCase, at, three


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


class BrokenTests(DeliveryTestCase):
    """Connections that break, and servers that fall silent."""

    def stuck(self, **settings: Any) -> tuple[ObligingPeer, Deferred[Result]]:
        """
        A large message that the server begins to take, and then takes no more of.

        @param settings: fields of `OutboundSettings`.
        """
        content = b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
        self.bodies.content = content
        peer = ObligingPeer("8BITMIME", DATA=SILENCE)
        self.serve(peer)
        running = self.begin(queued_message(size=len(content)), self.delivery(**settings))
        self.network.transports[0].stuck = True
        peer.output += b"354 Go on\r\n"
        self.network.flush()
        return peer, running

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
        _, running = self.stuck(data_timeout=50.0)
        result = self.after(51, running)
        self.assertEqual(
            result.trials[0].result, "451 4.4.2 mx1.example: no data was taken for 50 seconds"
        )
        self.assertLess(self.network.transports[0].most_buffered, 300_000)
        self.assertNothingIsLeft()

    def test_a_server_that_says_why_before_it_closes(self) -> None:
        """552 in the middle of the message is the reason, not "the connection broke"."""
        peer, running = self.stuck()
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
        peer, running = self.stuck()
        for _ in range(17):
            peer.output += b"x" * 65536
            self.network.flush()
        result = self.successResultOf(running)
        self.assertIn("451 4.4.2 mx1.example: not a reply", result.trials[0].result)
        self.assertNothingIsLeft()
