"""One attempt to deliver, against servers in memory."""

from typing import Any

from attrs import evolve

from harakatls.interfaces import SpoolDamaged
from harakatls.mail.envelope import MailParameters
from harakatls.outbound.delivery import OURS
from harakatls.queued import Delivered, QueuedMessage
from harakatls.testing.peers import SILENCE, ObligingPeer
from harakatls.testing.values import MESSAGE, FixedBody, queued_message
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase, three


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
