"""Connections through a proxy: who is believed, what is told, and what becomes of it."""

from attrs import evolve
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface.verify import verifyObject

from harakatls.config.hosts import HostList
from harakatls.connection import Endpoint
from harakatls.inbound.haproxy import HEADER_TIMEOUT
from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.protocol import CLOSE_TIMEOUT, LINGER_OCTETS
from harakatls.inbound.proxy_header import SIGNATURE
from tests.inbound.proxy_case import (
    BLOCK,
    CLIENT,
    LINE,
    LOCAL,
    OURS,
    PROXY,
    STRANGER,
    TOLD,
    ProxyTestCase,
    block,
)
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, QUIT, RCPT, queued
from tests.inbound.transports import MemoryTransport, TLSClient, lost


class BelievedTests(ProxyTestCase):
    def test_addresses(self) -> None:
        """Hooks are asked about the client, and may know of the proxy; before, nobody is."""
        for header in (LINE, BLOCK):
            transport = self.connect()
            self.assertEqual((transport.text(), self.plugin.stages), ("", []))
            transport.protocol.dataReceived(header)
            self.assertEqual(transport.text()[:4], "220 ")
            connection = self.connection()
            self.assertEqual((connection.peer, connection.local), (CLIENT, TOLD))
            self.assertEqual(connection.proxied_by, Endpoint("10.0.0.5", 50000))
            self.assertFalse(connection.is_anonymous)
            self.plugin.asked.clear()

    def test_message(self) -> None:
        """The whole conversation comes in one segment with the header, or octet by octet."""
        said = EHLO + MAIL + RCPT + DATA + MESSAGE + END + QUIT
        for header in (LINE, BLOCK):
            for size in (1, len(header) - 1, len(header), len(header) + 1, 1 << 16):
                transport = self.connect()
                octets = header + said
                for at in range(0, len(octets), size):
                    transport.protocol.dataReceived(octets[at : at + size])
                self.assertEqual(transport.closed, "lose")
        messages = queued(self.spool)
        self.assertEqual(len(messages), 10)
        for _, _, message in messages:
            self.assertIn(b"([192.0.2.1])", message)
            self.assertNotIn(b"10.0.0.5", message)

    def test_ipv6_proxy(self) -> None:
        """A proxy is known by its network as well, and IPv4 within IPv6."""
        for host in ("fd00::7", "::ffff:10.0.0.5"):
            transport = self.connect(IPv6Address("TCP", host, 50000))
            transport.protocol.dataReceived(LINE)
            self.assertEqual(self.connection().peer, CLIENT)

    def test_starttls(self) -> None:
        """STARTTLS behind the header is what it is without."""
        transport = self.connect()
        transport.protocol.dataReceived(LINE + EHLO + b"STARTTLS\r\n")
        client = TLSClient(transport)
        client.shake()
        self.assertIn("Hello [192.0.2.1]", client.say(EHLO))

    def test_implicit_tls(self) -> None:
        """The header comes before the handshake, however the two are cut."""
        for header in (LINE, BLOCK):
            for together in (True, False):
                transport = self.connect(implicit_tls=True)
                self.assertEqual(transport.taken(), b"")
                client = TLSClient(transport)
                hello = client.hello()
                for octets in [header + hello] if together else [header, hello]:
                    transport.protocol.dataReceived(octets)
                client.pump()
                client.shake()
                self.assertIn("220 ", client.heard())
                self.assertEqual(self.connection().peer, CLIENT)
                self.assertTrue(self.connection().implicit_tls)

    def test_tls_without_header(self) -> None:
        """From a trusted address TLS may begin at once; it is the client itself then."""
        transport = self.connect(implicit_tls=True)
        client = TLSClient(transport)
        client.shake()
        self.assertIn("220 ", client.heard())
        self.assertEqual(self.connection().peer, Endpoint("10.0.0.5", 50000))
        self.assertIsNone(self.connection().proxied_by)

    def test_local(self) -> None:
        """Where the proxy tells nothing, the addresses are those of the connection."""
        for header in (b"PROXY UNKNOWN\r\n", LOCAL, block(0x21, 0x31, bytes(216))):
            transport = self.connect()
            transport.protocol.dataReceived(header)
            self.assertEqual(transport.text()[:4], "220 ")
            connection = self.connection()
            self.assertEqual(connection.peer, Endpoint("10.0.0.5", 50000))
            self.assertEqual(connection.local, Endpoint("10.0.0.1", 2525))
            self.assertTrue(connection.is_anonymous)

    def test_submission(self) -> None:
        """The rules of a port are those of the port that the client has connected to."""
        transport = self.connect()
        transport.protocol.dataReceived(LINE.replace(b" 25\r", b" 587\r") + EHLO)
        transport.taken()
        transport.protocol.dataReceived(MAIL)
        self.assertEqual(transport.text(), "530 5.7.0 Authentication required\r\n")

    def test_relaying(self) -> None:
        """
        Clients of a proxy that tells nothing do not relay because the proxy's own address may.
        """
        self.plugin.answers = {"relaying": True}
        for header, code in ((LINE, "250"), (b"PROXY UNKNOWN\r\n", "550"), (LOCAL, "550")):
            transport = self.connect()
            transport.protocol.dataReceived(header + EHLO + MAIL)
            transport.taken()
            transport.protocol.dataReceived(RCPT)
            self.assertEqual(transport.text()[:3], code, header)

    def test_counted(self) -> None:
        """The connections of an address are counted by the address that was told."""
        limits = PeerLimits(connections_per_address=1)
        self.settings = evolve(self.settings, peers=limits)
        factory = self.factory()
        first, second, other = (self.connect(factory=factory) for _ in range(3))
        for transport, header in (
            (first, LINE),
            (second, LINE.replace(b"40000", b"40001")),
            (other, LINE.replace(b"192.0.2.1", b"192.0.2.2")),
        ):
            transport.protocol.dataReceived(header)
        self.assertEqual(
            [transport.text()[:4] for transport in (first, second, other)], ["220 ", "421 ", "220 "]
        )


class NotBelievedTests(ProxyTestCase):
    def refused(self, transport: MemoryTransport, text: str) -> None:
        """It heard *text* alone, and the connection ends."""
        self.assertEqual(transport.text(), f"{text}\r\n")
        self.assertEqual(transport.closed, "half")
        transport.protocol.dataReceived(EHLO)
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertEqual((transport.text(), transport.closed), ("", "abort"))
        transport.protocol.connectionLost(lost())
        self.assertEqual(self.last.connections, set())
        self.assertNotIn("connect", self.plugin.stages)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_malformed(self) -> None:
        """What is no header is not served, on no port."""
        for header in (
            b"PROXY TCP4 x\r\n",
            b"PROXY " + b"x" * 200,
            SIGNATURE + b"\x99\x11\0\0",
            EHLO,
        ):
            for implicit_tls in (False, True):
                transport = self.connect(implicit_tls=implicit_tls)
                transport.protocol.dataReceived(header)
                self.refused(transport, "421 Invalid PROXY format")

    def test_tls_on_a_plain_port(self) -> None:
        """Without a header only a port with implicit TLS can be used."""
        transport = self.connect()
        transport.protocol.dataReceived(b"\x16\x03\x01")
        self.refused(transport, "421 Invalid PROXY format")

    def test_late(self) -> None:
        """A header has its time, however many octets of it come meanwhile."""
        for implicit_tls in (False, True):
            for sent in (b"", LINE[:-1]):
                transport = self.connect(implicit_tls=implicit_tls)
                transport.protocol.dataReceived(sent)
                self.clock.advance(HEADER_TIMEOUT - 1)
                self.assertEqual(transport.text(), "")
                self.clock.advance(1)
                self.refused(transport, "421 PROXY timeout")

    def test_in_time(self) -> None:
        """Once the header is there its clock is stopped."""
        transport = self.connect()
        transport.protocol.dataReceived(LINE)
        transport.taken()
        self.clock.advance(HEADER_TIMEOUT + CLOSE_TIMEOUT)
        self.assertEqual((transport.text(), transport.closed), ("", ""))

    def test_gone(self) -> None:
        """A health check that only connects, or only closes its side, leaves nothing behind."""
        for half in (False, True):
            transport = self.connect()
            verifyObject(IHalfCloseableProtocol, transport.protocol)
            if half:
                transport.protocol.readConnectionLost()
                self.assertEqual(transport.closed, "lose")
            transport.protocol.connectionLost(lost())
            self.assertEqual((self.last.connections, self.plugin.stages), (set(), []))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stranger(self) -> None:
        """Who is not listed is served, but may not speak for others; nothing is believed."""
        for header in (LINE, BLOCK, b"proxy unknown\r\n", b"PROXY\r\n"):
            transport = self.connect(STRANGER)
            self.assertEqual(transport.text()[:4], "220 ")
            transport.protocol.dataReceived(header)
            self.assertEqual(transport.text(), "421 4.7.0 PROXY not allowed from 203.0.113.9\r\n")
            self.assertEqual(transport.closed, "half")
            self.assertEqual(self.connection().peer.host, "203.0.113.9")

    def test_stranger_with_implicit_tls(self) -> None:
        """It is told in the clear, and the log tells what is wrong."""
        for header in (LINE, BLOCK):
            transport = self.connect(STRANGER, implicit_tls=True)
            transport.protocol.dataReceived(header)
            self.assertEqual(transport.text(), "421 4.7.0 PROXY not allowed from 203.0.113.9\r\n")
            self.assertEqual(transport.closed, "half")
            self.assertIn("PROXY header", self.tls.failures[-1])

    def test_client_behind_the_proxy(self) -> None:
        """A second header is the client's: it does not get to choose who it is."""
        for again in (LINE.replace(b"192.0.2.1", b"127.0.0.1"), BLOCK):
            transport = self.connect()
            transport.protocol.dataReceived(LINE + again)
            self.assertIn("421 4.7.0 PROXY not allowed from 192.0.2.1\r\n", transport.text())
            self.assertEqual(transport.closed, "half")

    def test_switched_off(self) -> None:
        """Without proxies in the configuration the word is as unwelcome as from a stranger."""
        self.settings = evolve(self.settings, proxies=HostList())
        transport = self.connect()
        transport.taken()
        transport.protocol.dataReceived(LINE)
        self.assertEqual(transport.text(), "421 4.7.0 PROXY not allowed from 10.0.0.5\r\n")


class EndTests(ProxyTestCase):
    def test_stopping(self) -> None:
        """Who has not said for whom it speaks has nothing to lose."""
        early, late = self.connect(), MemoryTransport(PROXY, OURS)
        factory = self.last
        late.connect(factory.buildProtocol(PROXY))
        late.protocol.dataReceived(LINE)
        late.taken()
        Deferred.fromCoroutine(factory.drain(30))
        self.assertEqual(early.text(), "421 Server is shutting down, closing connection\r\n")
        self.assertEqual(late.text(), "421 4.3.2 Server is shutting down, closing connection\r\n")

    def test_half_closed(self) -> None:
        """What was said before the peer closed its side is answered."""
        transport = self.connect()
        transport.protocol.dataReceived(LINE + EHLO)
        transport.protocol.readConnectionLost()
        transport.protocol.writeConnectionLost()
        transport.protocol.connectionLost(lost())
        self.assertEqual(self.last.connections, set())
        self.assertEqual(self.plugin.stages[-1], "disconnected")

    def test_endless(self) -> None:
        """After the end nothing is kept of what still comes."""
        transport = self.connect()
        transport.protocol.dataReceived(LINE + QUIT + b"x")
        transport.protocol.dataReceived(bytes(LINGER_OCTETS + 1))
        self.assertEqual(transport.closed, "abort")
