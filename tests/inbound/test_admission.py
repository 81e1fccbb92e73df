"""Connections in all and by address: who is counted, who is sent away, what the log tells."""

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.hosts import HostList
from harakatls.config.ini import Ini
from harakatls.hooks.chain import HookChain
from harakatls.inbound.admission import (
    MOST_CONNECTIONS,
    QUIET,
    Admission,
    most_connections,
)
from harakatls.inbound.limits import PeerLimits
from harakatls.plugins.xclient import XClientOffer
from tests.hooks.plugins import loaded
from tests.inbound.protocol_case import ProtocolTestCase
from tests.inbound.support import DATA, EHLO, END, MAIL, QUIT, RCPT, SETTINGS
from tests.inbound.transports import CLOSED, MemoryTransport, lost

IN_ALL = "421 4.3.2 Too many connections, try later\r\n"
OF_YOURS = "421 4.7.0 Too many connections from your address, try later\r\n"


class AdmissionTests(SynchronousTestCase):
    def admission(self, **limits: Any) -> Admission:
        self.clock = Clock()
        return Admission(PeerLimits(**limits), self.clock)

    def admitted(self, admission: Admission, *hosts: str) -> list[bool]:
        return [admission.admit(host) is None for host in hosts]

    def test_per_address(self) -> None:
        """One address has its number, the next one has its own."""
        admission = self.admission(connections_per_address=2)
        self.assertEqual(
            self.admitted(admission, *["192.0.2.1"] * 3, "192.0.2.2"), [True, True, False, True]
        )

    def test_left(self) -> None:
        """Whoever leaves makes room; who was not admitted leaves nothing behind."""
        admission = self.admission(connections=2, connections_per_address=1)
        for _ in range(3):
            self.assertIsNone(admission.enter("a"))
            self.assertIsNone(admission.admit("192.0.2.1"))
            self.assertIsNone(admission.enter("b"))
            self.assertIsNotNone(admission.admit("192.0.2.1"))
            self.assertIsNotNone(admission.enter("c"))
            admission.leave(None)
            admission.leave(None)
            admission.leave("192.0.2.1")
        self.assertEqual(admission._by_network, {})

    def test_ipv6(self) -> None:
        """IPv6 is counted by the network that one customer has at least."""
        admission = self.admission(connections_per_address=1)
        self.assertEqual(
            self.admitted(admission, "2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8:0:1::1"),
            [True, False, True],
        )

    def test_moved(self) -> None:
        """Who speaks for another host is counted there, and no longer where it came from."""
        admission = self.admission(connections_per_address=1)
        self.assertEqual(self.admitted(admission, "192.0.2.1", "192.0.2.2"), [True, True])
        self.assertIsNone(admission.move("192.0.2.1", "192.0.2.3"))
        self.assertEqual(self.admitted(admission, "192.0.2.1", "192.0.2.3"), [True, False])
        self.assertIsNotNone(admission.move("192.0.2.3", "192.0.2.2"))
        self.assertEqual(self.admitted(admission, "192.0.2.3"), [False])

    def test_moved_to_the_same(self) -> None:
        """A client that is told of twice is one connection, not one too many."""
        admission = self.admission(connections_per_address=1)
        for host in ("192.0.2.1", "2001:db8::1"):
            self.assertIsNone(admission.admit(host))
            self.assertIsNone(admission.move(host, host))
        self.assertIsNone(admission.move("2001:db8::1", "2001:db8::2"))
        self.assertEqual(self.admitted(admission, "192.0.2.1", "2001:db8::3"), [False, False])

    def test_unlimited_hosts(self) -> None:
        """This machine, and those the operator lists, have as many as they like."""
        admission = self.admission(
            connections_per_address=1, unlimited_hosts=HostList.parse(["192.0.2.0/28"])
        )
        hosts = ["127.0.0.1", "127.0.0.1", "::1", "::1", "192.0.2.3", "192.0.2.3"]
        self.assertEqual(self.admitted(admission, *hosts), [True] * 6)
        self.assertEqual(self.admitted(admission, *["192.0.2.16"] * 2), [True, False])

    def test_no_limit(self) -> None:
        """With 0 one address may have any number of connections."""
        admission = self.admission(connections_per_address=0)
        self.assertEqual(self.admitted(admission, *["192.0.2.1"] * 500), [True] * 500)

    def test_most(self) -> None:
        """Half the descriptors, unless the operator names a number."""
        self.assertEqual(most_connections(None, 1024), 512)
        self.assertEqual(most_connections(None, 1 << 20), MOST_CONNECTIONS)
        self.assertEqual(most_connections(None, 1), 1)
        self.assertEqual(most_connections(700, 1024), 700)
        self.assertEqual(most_connections(0, 1024), 1024)

    def test_log(self) -> None:
        """The first is told at once, those of the next minute in one line, then the count begins
        anew."""
        admission = self.admission(connections_per_address=1)
        with capturedLogs() as events:
            self.admitted(admission, *["192.0.2.1"] * 1002)
            self.clock.advance(QUIET)
            self.clock.advance(QUIET)
            self.admitted(admission, "192.0.2.1")
        lines = [formatEvent(event) for event in events]
        why = "192.0.2.1: there are 1 connections from its address already"
        self.assertEqual(
            lines,
            [
                f"turned away {why}",
                f"turned away 1000 more within 60 seconds, the last of them {why}",
                f"turned away {why}",
            ],
        )


class LimitedTests(ProtocolTestCase):
    """At the port, with everything behind it."""

    def limited(self, **limits: Any) -> Any:
        self.settings = evolve(SETTINGS, peers=PeerLimits(**limits))
        return self.factory()

    def test_too_many_in_all(self) -> None:
        """They hear 421 and are closed; no hook has been asked, and there is room again later."""
        factory = self.limited(connections=1)
        first, _ = self.connect(factory)
        _, transport = self.connect(factory)
        self.assertEqual((transport.text(), transport.closed), (IN_ALL, "lose"))
        self.assertEqual(self.plugin.stages.count("connect"), 1)
        first.connectionLost(lost(CLOSED))
        transport.protocol.connectionLost(lost(CLOSED))
        self.assertEqual(factory.connections, set())
        _, transport = self.connect(factory)
        self.assertEqual(transport.text()[:4], "220 ")

    def test_too_many_of_an_address(self) -> None:
        """An IPv4 peer of an IPv6 socket is the same peer."""
        factory = self.limited(connections_per_address=1)
        self.connect(factory)
        mapped = IPv6Address("TCP", "::ffff:192.0.2.10", 4000)
        _, transport = self.connect(factory, MemoryTransport(mapped))
        self.assertEqual((transport.text(), transport.closed), (OF_YOURS, "lose"))
        other = IPv4Address("TCP", "192.0.2.11", 4000)
        _, transport = self.connect(factory, MemoryTransport(other))
        self.assertEqual(transport.text()[:4], "220 ")

    def test_ports_share(self) -> None:
        """What one port has taken is missing at the other."""
        factory = self.limited(connections=1)
        other = self.factory()
        other.port = evolve(other.port, admission=factory.port.admission)
        self.connect(factory)
        _, transport = self.connect(other)
        self.assertEqual(transport.text(), IN_ALL)

    def test_leaves_within_xclient(self) -> None:
        """A peer that goes while hooks are asked about XCLIENT leaves no count behind."""
        factory = self.factory()
        offer = XClientOffer(HostList.parse(["192.0.2.10"]))
        chain = HookChain([loaded(offer), loaded(self.plugin)], self.clock)
        factory.port = evolve(factory.port, chain=chain)
        protocol, _ = self.connect(factory)
        protocol.dataReceived(EHLO)
        self.plugin.answers["disconnected"] = Deferred()
        protocol.dataReceived(b"XCLIENT ADDR=203.0.113.9\r\n")
        del self.plugin.answers["disconnected"]
        protocol.connectionLost(lost(CLOSED))
        self.assertEqual(factory.connections, set())
        self.assertEqual(factory.port.admission._by_network, {})

    def test_implicit_tls(self) -> None:
        """Nothing is said in the clear to one who waits for TLS."""
        self.settings = evolve(SETTINGS, peers=PeerLimits(connections=1))
        factory = self.factory(implicit_tls=True)
        self.connect(factory)
        _, transport = self.connect(factory)
        self.assertEqual((transport.text(), transport.closed), ("", "lose"))

    def test_what_they_say(self) -> None:
        """Whoever was sent away may go on talking, and is not heard."""
        factory = self.limited(connections=1)
        self.connect(factory)
        protocol, transport = self.connect(factory)
        transport.taken()
        protocol.dataReceived(EHLO + QUIT)
        protocol.readConnectionLost()
        factory.connections.remove(protocol)
        protocol.stop()
        protocol.connectionLost(lost())
        protocol.stop()
        self.assertEqual(transport.text(), "")


class MemoryTests(ProtocolTestCase):
    def test_too_much_mail(self) -> None:
        """While others' messages fill the memory no further one may begin; they go on."""
        self.settings = evolve(SETTINGS, peers=PeerLimits(memory=1000))
        factory = self.factory()
        first, heard = self.connect(factory)
        first.dataReceived(EHLO + MAIL + RCPT + DATA + (b"x" * 98 + b"\r\n") * 12)
        second, transport = self.connect(factory)
        second.dataReceived(EHLO)
        transport.taken()
        second.dataReceived(MAIL + RCPT)
        self.assertEqual(transport.text()[:9], "452 4.3.1")
        heard.taken()
        first.dataReceived(END)
        self.assertEqual(heard.text()[:3], "250")
        second.dataReceived(MAIL)
        self.assertEqual(transport.text()[:3], "250")

    def test_no_limit(self) -> None:
        """With 0 there is room however much is in memory."""
        admission = Admission(PeerLimits(memory=0), Clock())
        self.assertTrue(admission.has_room(1 << 40))


class PeerLimitsTests(SynchronousTestCase):
    def load(self, *lines: str) -> PeerLimits:
        return PeerLimits.load(Ini.parse("connection.ini", "\n".join(["[max]", *lines])))

    def test_values(self) -> None:
        """What connection.ini says is taken, and the rest is as documented."""
        limits = self.load(
            "connections=100", "connections_per_address=5", "unlimited_hosts[]=192.0.2.0/24"
        )
        self.assertEqual((limits.connections, limits.connections_per_address), (100, 5))
        self.assertIn("192.0.2.99", limits.unlimited_hosts)
        self.assertEqual(self.load(), PeerLimits())

    def test_bad_values(self) -> None:
        """Each is refused by file, section and key, with what was found and expected."""
        for line, text in [
            ("connections=many", "connections: 'many' is not a whole number of at least 0"),
            ("connections=-1", "connections: '-1' is not a whole number of at least 0"),
            ("connections_per_address=1.5", "connections_per_address: '1.5' is not a whole number"),
            ("commands_without_message=x", "commands_without_message: 'x' is not a whole number"),
            ("seconds_without_message=1h", "seconds_without_message: '1h' is not a number of sec"),
            ("memory=much", "memory: 'much' is not a size in octets"),
            ("unlimited_hosts[]=192.0.2.0/33", "unlimited_hosts: '192.0.2.0/33'"),
        ]:
            error = self.assertRaises(ConfigError, self.load, line)
            self.assertIn(f"connection.ini [max] {text}", str(error))
        for text, found in [
            ("refuse_early_talkers=no way", "connection.ini refuse_early_talkers: 'no way' is nei"),
            ("[min]\noctets_per_minute=-5", "connection.ini [min] octets_per_minute: '-5' is not"),
        ]:
            ini = Ini.parse("connection.ini", text)
            error = self.assertRaises(ConfigError, PeerLimits.load, ini)
            self.assertIn(found, str(error))
