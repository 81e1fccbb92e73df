"""Octets in and out: socket options, TLS, limits, peers that are slow or gone, and stopping."""

import gc
from typing import Any
from uuid import RFC_4122, UUID
from weakref import ref

from attrs import evolve
from OpenSSL import SSL
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred

from harakatls.inbound.protocol import CLOSE_TIMEOUT, LINGER_OCTETS, InboundProtocol
from harakatls.tls.layer import TLSBroken
from harakatls.verdict import ACCEPT
from tests.inbound.protocol_case import ProtocolTestCase
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    MAIL,
    MESSAGE,
    PATIENT,
    QUIT,
    RCPT,
    queued,
)
from tests.inbound.transports import (
    ABORTED,
    CLOSED,
    MemoryTransport,
    TLSClient,
    lost,
)
from tests.tls.records import RecordWriter

STARTTLS = b"STARTTLS\r\n"
UUID_4 = (RFC_4122, 4)
# The beginning of a TLS record with a ClientHello of 5 octets, which cannot be read as one.
HELLO = b"\x16\x03\x01\x00\x09\x01\x00\x00\x05hello"


class ConnectionTests(ProtocolTestCase):
    def test_greeting_and_message(self) -> None:
        """A message comes in, and the answers are each one write."""
        protocol, transport = self.connect()
        for octets in (EHLO, MAIL + RCPT + DATA, MESSAGE + END, QUIT):
            protocol.dataReceived(octets)
        self.assertEqual(len(transport.written), 5)
        self.assertEqual(transport.text()[:4], "220 ")
        self.assertEqual(transport.closed, "lose")
        self.assertEqual(len(queued(self.spool)), 1)

    def test_socket_options(self) -> None:
        """Small answers are not held back, and dead peers are found out."""
        _, transport = self.connect()
        self.assertEqual(transport.options, {"nodelay": True, "keepalive": True})

    def test_addresses(self) -> None:
        """Hooks see an IPv4 peer of an IPv6 socket as IPv4, and no interface names."""
        for host, seen in [
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0", "fe80::1"),
            ("2001:db8::1", "2001:db8::1"),
        ]:
            peer = IPv6Address("TCP", host, 4000)
            self.connect(transport=MemoryTransport(peer, IPv6Address("TCP", "::1", 2525)))
            connection = self.plugin.asked[-1][1][0]
            self.assertEqual((connection.peer.host, connection.peer.port), (seen, 4000))
            self.assertEqual(connection.local.port, 2525)

    def test_ids(self) -> None:
        """Each connection has an id of its own, which the banner begins to tell."""
        ids = set()
        for _ in range(3):
            _, transport = self.connect()
            connection = self.plugin.told("connect")[-1][0]
            self.assertIn(f"({connection.id[:6]})", transport.text())
            self.assertEqual(connection.id, str(UUID(connection.id)).upper())
            self.assertEqual((UUID(connection.id).variant, UUID(connection.id).version), UUID_4)
            ids.add(connection.id)
        self.assertEqual(len(ids), 3)

    def test_memory(self) -> None:
        """
        What a connection took is free as soon as it is over, not when the garbage collector comes:
        OpenSSL's part alone has some 30 KB.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        protocol, transport = self.connect()
        protocol.dataReceived(EHLO + STARTTLS)
        client = TLSClient(transport)
        client.shake()
        for said in (EHLO, MAIL + RCPT + DATA, MESSAGE + END, QUIT):
            client.say(said)
        layer = protocol._link.layer
        assert layer is not None
        left: list[ref[Any]] = [
            ref(protocol),
            ref(protocol._conversation),
            ref(layer.connection),
        ]
        del layer
        protocol.connectionLost(lost(CLOSED))
        transport.protocol = None
        del protocol
        self.assertEqual([one() for one in left], [None, None, None])

    def test_peer_is_gone(self) -> None:
        """After a connection is lost nothing of it is left: no timer, no hook, no entry."""
        for octets in (b"", EHLO, EHLO + MAIL + RCPT + DATA + MESSAGE, EHLO + QUIT):
            factory = self.factory()
            protocol, _ = self.connect(factory)
            protocol.dataReceived(octets)
            self.assertEqual(len(factory.connections), 1)
            protocol.connectionLost(lost())
            self.assertEqual(factory.connections, set())
            self.assertEqual(self.plugin.stages[-1], "disconnected")
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_closed(self) -> None:
        """A client that sends all and shuts its side down is answered, then closed."""
        protocol, transport = self.connect()
        protocol.dataReceived(EHLO + MAIL + RCPT + DATA + MESSAGE + END)
        protocol.readConnectionLost()
        self.assertEqual(transport.closed, "lose")
        self.assertIn("Message Queued", transport.text())


class ClosingTests(ProtocolTestCase):
    def test_last_words_are_not_cut_off(self) -> None:
        """A peer that is sent away in the middle of sending still gets to hear why."""
        self.settings = evolve(self.settings, max_bad_commands=2)
        protocol, transport = self.connect()
        protocol.dataReceived(b"XYZZY\r\n" * 10)
        self.assertEqual(transport.text().splitlines()[-1][:3], "421")
        self.assertEqual((transport.closed, transport.reading), ("half", True))
        protocol.dataReceived(b"XYZZY\r\n" * 10)
        self.assertEqual(transport.text(), "")
        protocol.readConnectionLost()
        self.assertEqual(transport.closed, "half")
        protocol.connectionLost(lost(CLOSED))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peer_that_does_not_go(self) -> None:
        """We do not wait for ever for a peer to hang up."""
        for octets in (QUIT, b"\x16\x03\x01\x00\x00\x00"):
            protocol, transport = self.connect()
            protocol.dataReceived(octets)
            self.clock.advance(CLOSE_TIMEOUT - 0.1)
            self.assertNotEqual(transport.closed, "abort")
            self.clock.advance(0.2)
            self.assertEqual(transport.closed, "abort")

    def test_peer_that_goes_on_sending(self) -> None:
        """Nor do we take what it goes on sending for ever."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"\x16\x03\x01\x00\x00\x00")
        for _ in range(LINGER_OCTETS // 65536):
            protocol.dataReceived(b"x" * 65536)
        self.assertEqual(transport.closed, "half")
        protocol.dataReceived(b"x")
        self.assertEqual(transport.closed, "abort")

    def test_idle(self) -> None:
        """A silent peer is told and closed."""
        _, transport = self.connect()
        transport.text()
        self.clock.advance(301)
        self.assertEqual(transport.text()[:9], "421 4.4.2")
        self.assertEqual(transport.closed, "half")


class BackpressureTests(ProtocolTestCase):
    def test_peer_that_does_not_read(self) -> None:
        """While our answers are not taken no more commands are, so that memory is bounded."""
        protocol, transport = self.connect()
        transport.producer.pauseProducing()
        self.assertFalse(transport.reading)
        transport.producer.resumeProducing()
        self.assertTrue(transport.reading)
        self.assertEqual(protocol.transport, transport)

    def test_flood(self) -> None:
        """The answers to a flood are written bit by bit, as they are taken."""
        self.settings = PATIENT
        protocol, transport = self.connect()
        protocol.dataReceived(b"NOOP\r\n" * 1000)
        transport.producer.pauseProducing()
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(len(transport.text().splitlines()), 101)
        transport.producer.resumeProducing()
        for _ in range(10):
            self.clock.advance(0)
        self.assertEqual(len(transport.text().splitlines()), 900)

    def test_both_reasons(self) -> None:
        """A peer is read again only when neither we nor it are in the way."""
        self.settings = PATIENT
        looked_up: Deferred[Any] = Deferred()
        self.plugin.answers["mail"] = looked_up
        protocol, transport = self.connect()
        protocol.dataReceived(EHLO + MAIL)
        protocol.dataReceived(b"RSET\r\n" * 12_000)
        self.assertFalse(transport.reading)
        transport.producer.pauseProducing()
        transport.producer.resumeProducing()
        self.assertFalse(transport.reading)
        looked_up.callback(ACCEPT)
        transport.producer.pauseProducing()
        for _ in range(130):
            self.clock.advance(0)
        self.assertFalse(transport.reading)
        transport.producer.resumeProducing()
        for _ in range(130):
            self.clock.advance(0)
        self.assertTrue(transport.reading)

    def test_peer_that_never_reads(self) -> None:
        """Who floods us and reads nothing is cut off."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"NOOP\r\n" * 1000)
        transport.producer.pauseProducing()
        self.clock.advance(1)
        self.clock.advance(301)
        self.assertEqual(transport.closed, "abort")


class StartTLSTests(ProtocolTestCase):
    def begin(self, *more: bytes) -> tuple[InboundProtocol, MemoryTransport]:
        protocol, transport = self.connect()
        protocol.dataReceived(EHLO)
        transport.text()
        protocol.dataReceived(STARTTLS + b"".join(more))
        return protocol, transport

    def test_order(self) -> None:
        """220 in the clear, then the ClientHello is awaited, then TLS takes over."""
        protocol, transport = self.begin()
        self.assertEqual(transport.written, [b"220 2.0.0 Go ahead.\r\n"])
        client = TLSClient(transport)
        hello = client.hello()
        protocol.dataReceived(hello[:4])
        self.assertEqual(self.tls.hellos, [])
        protocol.dataReceived(hello[4:])
        self.assertEqual(self.tls.hellos, [hello])
        client.pump()
        client.shake()
        self.assertEqual(client.heard(), "")
        self.assertIn("250-PIPELINING", client.say(EHLO))

    def test_binding(self) -> None:
        """What the connection is known by is the same at both of its ends, inside of TLS alone."""
        protocol, transport = self.begin()
        self.assertIsNone(protocol.binding())
        client = TLSClient(transport)
        protocol.dataReceived(client.hello())
        client.pump()
        client.shake()
        label = b"EXPORTER-Channel-Binding"
        expected = client.connection.export_keying_material(label, 32, b"")
        self.assertEqual(protocol.binding(), expected)

    def test_octet_by_octet(self) -> None:
        """A ClientHello that comes in pieces is whole in the end."""
        protocol, transport = self.begin()
        client = TLSClient(transport)
        hello = client.hello()
        for octet in hello:
            protocol.dataReceived(bytes([octet]))
        self.assertEqual(self.tls.hellos, [hello])
        client.pump()
        client.shake()
        self.assertIn("250-PIPELINING", client.say(EHLO))

    def test_commands_behind_starttls_are_no_hello(self) -> None:
        """What came in the clear together with STARTTLS reaches neither SMTP nor TLS."""
        _, transport = self.begin(MAIL, RCPT)
        TLSClient(transport).shake()
        self.assertEqual(len(self.tls.hellos), 1)
        self.assertEqual(self.tls.hellos[0][:1], HELLO[:1])
        self.assertNotIn("mail", self.plugin.stages)

    def test_commands_in_place_of_a_hello(self) -> None:
        """OpenSSL answers what is no TLS; nothing of it is obeyed."""
        protocol, transport = self.begin()
        protocol.dataReceived(MAIL)
        self.assertEqual(self.tls.failures, ["the peer does not speak TLS (wrong version number)"])
        self.assertEqual(transport.closed, "half")
        self.assertNotIn("mail", self.plugin.stages)

    def test_too_slow(self) -> None:
        """A handshake has handshake_timeout seconds; then the failure is told, and we are gone."""
        for sent in (b"", HELLO[:4], TLSClient(MemoryTransport()).hello()):
            protocol, transport = self.begin()
            protocol.dataReceived(sent)
            self.clock.advance(29.9)
            self.assertEqual(transport.closed, "")
            self.clock.advance(0.2)
            self.assertEqual(transport.closed, "abort")
            self.assertEqual(self.tls.failures.pop(), "it took longer than 30 seconds")
            protocol.connectionLost(lost(ABORTED))
            self.assertEqual(self.plugin.stages[-1], "disconnected")
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_completed_in_time(self) -> None:
        """Afterwards only the time limits of a conversation hold."""
        _, transport = self.begin()
        TLSClient(transport).shake()
        self.clock.advance(100)
        self.assertEqual(transport.closed, "")

    def test_peer_leaves(self) -> None:
        """A peer that breaks off the handshake is told to `IServerTLS` (no-go)."""
        for reason, told in [
            (lost(), "the peer broke off"),
            (lost(CLOSED), "the peer broke off"),
        ]:
            for sent in (b"", TLSClient(MemoryTransport()).hello()):
                protocol, _ = self.begin()
                protocol.dataReceived(sent)
                protocol.connectionLost(reason)
                self.assertEqual(self.tls.failures.pop(), told)
                self.assertEqual(self.plugin.stages[-1], "disconnected")
                self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peer_refuses(self) -> None:
        """The alert of a peer that does not like our certificate is told in plain words."""
        _, transport = self.begin()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: False)
        client = TLSClient(transport, context)
        self.assertRaises(SSL.Error, client.shake)
        client.pump()
        self.assertEqual(
            self.tls.failures,
            ["the peer does not trust the issuer of our certificate (tlsv1 alert unknown ca)"],
        )
        self.assertEqual(transport.closed, "half")

    def test_we_refuse(self) -> None:
        """
        A client that speaks before it knows of our refusal still gets to read the alert: nothing
        that it sends meanwhile is answered by a reset.
        """
        protocol, transport = self.begin()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        hello = TLSClient(transport, context).hello()
        protocol.dataReceived(hello)
        self.assertEqual(transport.taken()[0], 21)  # ContentType alert
        self.assertEqual(transport.closed, "half")
        protocol.dataReceived(b"early words")
        self.assertEqual(transport.closed, "half")
        protocol.readConnectionLost()
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertEqual(transport.closed, "abort")

    def test_peer_closes_its_side(self) -> None:
        """Half a connection is not enough for a handshake."""
        protocol, transport = self.begin()
        protocol.readConnectionLost()
        self.assertEqual(self.tls.failures, ["the peer broke off"])
        self.assertEqual(transport.closed, "lose")

    def test_lost_after_the_handshake(self) -> None:
        """A connection that breaks later is no failure of TLS."""
        protocol, transport = self.begin()
        TLSClient(transport).shake()
        protocol.connectionLost(lost())
        self.assertEqual(self.tls.failures, [])

    def test_mistake_of_ours(self) -> None:
        """Where TLS cannot even be begun nothing is said in the clear; the log has it."""
        self.tls.broken = RuntimeError("there is no certificate to show")
        protocol, transport = self.begin()
        transport.text()
        protocol.dataReceived(HELLO)
        self.assertEqual((transport.text(), transport.closed), ("", "abort"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        protocol.connectionLost(lost(ABORTED))
        self.assertEqual(self.plugin.stages[-1], "disconnected")
        self.assertEqual(self.tls.failures, [])  # it says nothing about the peer

    def test_refused_after_the_handshake(self) -> None:
        """A client whose session is no longer good enough gets no greeting, and no traceback."""
        self.tls.refusal = TLSBroken("the client's certificate has expired since")
        protocol, transport = self.begin()
        TLSClient(transport).shake()
        self.assertEqual(self.tls.failures, ["the client's certificate has expired since"])
        self.assertEqual(transport.closed, "abort")
        protocol.connectionLost(lost(ABORTED))
        self.assertEqual(self.plugin.stages[-1], "disconnected")

    def test_key_updates(self) -> None:
        """Who asks for new keys again and again is answered all along: nothing piles up."""
        protocol, transport = self.begin()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        by_hand = RecordWriter(context)
        client = TLSClient(transport, context)
        client.shake()
        client.pump()
        protocol.dataReceived(by_hand.key_update())  # OpenSSL answers when it is called next
        for _ in range(3):
            transport.written.clear()
            protocol.dataReceived(by_hand.key_update())
            self.assertEqual(len(transport.written), 1)

    def test_closing_over_tls(self) -> None:
        """A peer that is sent away in the middle of sending reads why, over TLS as well."""
        self.settings = evolve(self.settings, max_bad_commands=1)
        _, transport = self.begin()
        client = TLSClient(transport)
        client.shake()
        self.assertIn("421 ", client.say(b"XYZZY\r\n" * 2))
        self.assertEqual(transport.closed, "half")
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertEqual(transport.closed, "abort")


class ImplicitTLSTests(ProtocolTestCase):
    def test_same_way(self) -> None:
        """On an SMTPS port the hello comes first, then the greeting, all inside of TLS."""
        _, transport = self.connect(self.factory(implicit_tls=True))
        self.assertEqual(transport.written, [])
        client = TLSClient(transport)
        client.shake()
        self.assertEqual(client.heard()[:4], "220 ")
        self.assertNotIn("STARTTLS", client.say(EHLO))

    def test_silent_peer(self) -> None:
        """A peer that never begins is cut off by the limit of the handshake."""
        _, transport = self.connect(self.factory(implicit_tls=True))
        self.clock.advance(31)
        self.assertEqual(transport.closed, "abort")
        self.assertEqual(self.tls.failures, ["it took longer than 30 seconds"])
