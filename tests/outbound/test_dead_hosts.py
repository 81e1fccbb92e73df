"""Hosts that could not be reached a moment ago."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.dead_hosts import LONGEST, MOST_HOSTS, DeadHosts
from harakatls.queued import Delayed
from harakatls.testing.peers import SILENCE, ObligingPeer
from harakatls.testing.values import queued_message
from harakatls.tls.settings import OutboundTLS
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase

HOST = ("192.0.2.1", 25)


class DeadHostsTests(SynchronousTestCase):
    """The memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.hosts = DeadHosts(60.0, self.clock.seconds)

    def left_alone(self) -> float:
        """For how long from now."""
        began = self.clock.seconds()
        while self.hosts.problem(*HOST):
            self.clock.advance(10)
        return self.clock.seconds() - began

    def test_a_while(self) -> None:
        """With the reason, and when."""
        self.clock.advance(43262)
        self.hosts.failed(*HOST, "no connection within 30 seconds")
        self.assertEqual(
            self.hosts.problem(*HOST),
            "not asked: no connection within 30 seconds at 12:01:02 UTC;"
            " asked again from 12:02:02 UTC",
        )
        self.assertIsNone(self.hosts.problem("192.0.2.1", 26))
        self.assertEqual(self.left_alone(), 60)

    def test_longer_and_longer(self) -> None:
        """While it goes on, up to five times as long."""
        waits = []
        for _ in range(5):
            self.hosts.failed(*HOST, "refused")
            waits.append(self.left_alone())
        self.assertEqual(waits, [60, 120, 240, 60 * LONGEST, 60 * LONGEST])

    def test_several_at_once(self) -> None:
        """They are one failure."""
        for _ in range(5):
            self.hosts.failed(*HOST, "refused")
        self.assertEqual(self.left_alone(), 60)

    def test_it_is_back(self) -> None:
        """Then it begins anew."""
        self.hosts.failed(*HOST, "refused")
        self.left_alone()
        self.hosts.answered(*HOST)
        self.hosts.failed(*HOST, "refused")
        self.assertEqual(self.left_alone(), 60)

    def test_switched_off(self) -> None:
        """dead_host_retry=0."""
        hosts = DeadHosts(0.0, self.clock.seconds)
        hosts.failed(*HOST, "refused")
        self.assertIsNone(hosts.problem(*HOST))

    def test_bound(self) -> None:
        """A zone that names a host of its own for each mail fills no memory."""
        for number in range(MOST_HOSTS + 1):
            self.hosts.failed(f"10.0.{number // 256}.{number % 256}", 25, "refused")
        self.assertIsNone(self.hosts.problem("10.0.0.0", 25))
        self.assertIsNotNone(self.hosts.problem("10.0.0.1", 25))


class ConnectorTests(DeliveryTestCase):
    """What is remembered of next hops."""

    def setUp(self) -> None:
        super().setUp()
        self.exchangers[DOMAIN] = [(10, "mx1.example")]

    def test_no_connection(self) -> None:
        """The next message is not connected for, and says why; it is an attempt like any other."""
        delivery = self.delivery()
        self.network.swallow(FIRST)
        self.after(30, self.begin(delivery=delivery))
        result = self.attempt(delivery=delivery)
        self.assertIsInstance(result.outcomes[0], Delayed)
        self.assertIn("4.4.1 mx1.example: not asked: no connection within 30", self.only(result))
        self.assertEqual(len(self.network.attempts), 1)
        self.pass_time(61)
        self.begin(delivery=delivery)
        self.assertEqual(len(self.network.attempts), 2)

    def test_no_greeting(self) -> None:
        """A host that takes the connection and says nothing."""
        delivery = self.delivery(greeting_timeout=9.0)
        self.serve(ObligingPeer(connect=SILENCE))
        self.after(9, self.begin(delivery=delivery))
        self.assertIn(
            "not asked: no answer within 9 seconds", self.only(self.attempt(None, delivery))
        )

    def test_words_are_none(self) -> None:
        """A host that says no, to us or to our TLS, is asked for the next message."""
        strict = OutboundTLS(reject_unauthorized=True)
        peers = {
            "greeting": ObligingPeer(connect="421 4.7.0 Too many connections"),
            "MAIL": ObligingPeer(MAIL="451 4.7.1 Later"),
            "TLS": ObligingPeer("STARTTLS", handshake=False),
        }
        for name, peer in peers.items():
            self.setUp()
            delivery = self.delivery(strict if name == "TLS" else None)
            self.network.serve(FIRST, peer, second := ObligingPeer("STARTTLS"))
            self.attempt(queued_message(), delivery)
            self.attempt(queued_message(), delivery)
            self.assertEqual(len(second.messages), 1, name)

    def test_the_operator_wants_it_now(self) -> None:
        """A flush forgets."""
        delivery = self.delivery()
        self.attempt(delivery=delivery)
        delivery.forget_failures()
        self.serve(peer := ObligingPeer())
        self.attempt(delivery=delivery)
        self.assertEqual(len(peer.messages), 1)

    def test_a_kept_connection(self) -> None:
        """While one is open, the host is not dead, whatever became of another one."""
        delivery = self.delivery(pool_timeout=5.0)
        self.serve(peer := ObligingPeer(end=["250 Ok", SILENCE, "250 Ok"]))
        self.attempt(queued_message(), delivery)
        running = self.begin(queued_message(), delivery)
        self.assertIsInstance(self.attempt(queued_message(), delivery).outcomes[0], Delayed)
        peer.output += b"250 Ok\r\n"
        self.network.flush()
        self.successResultOf(running)
        self.assertIn("delivered", self.only(self.attempt(queued_message(), delivery)))

    def test_ours(self) -> None:
        """That we have no descriptors left says nothing about a host."""
        connector = self.connector()

        def no_descriptor(*_: object) -> object:
            raise OSError(24, "Too many open files")

        reach: Any = connector._reach
        working, reach.connect = reach.connect, no_descriptor
        delivery = self.delivery()
        object.__setattr__(delivery, "connector", connector)
        self.assertIn("Too many open files", self.only(self.attempt(delivery=delivery)))
        reach.connect = working
        self.serve(peer := ObligingPeer())
        self.attempt(delivery=delivery)
        self.assertEqual(len(peer.messages), 1)
