"""
What Haraka's tests expect of TLS outbound, numbered as in tests.haraka.tls: a client's sockets,
and the options of deliveries.
"""

from OpenSSL import SSL
from twisted.internet.task import Clock

from harakatls.config.hosts import HostList
from harakatls.mail.route import NextHop
from harakatls.service.nogo import NoGo
from harakatls.service.settings import Settings
from harakatls.tls.client import ClientTLS
from harakatls.tls.policy import outbound_decision
from harakatls.tls.settings import OutboundTLS
from tests.config.files import write_config
from tests.haraka.files import F1, ONE_CIPHER, files
from tests.inbound.transports import lost
from tests.tls.documented import FILES
from tests.tls.next_hops import ADDRESS, MX, NextHopTestCase, SecuringPeer
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS, issued

PAIRS = {name: content for name, content in FILES.items() if isinstance(content, bytes)}
MAIL = issued("mail.example.com", kind="RSA")


def demand(context: SSL.Context) -> None:
    """A server that takes nobody without a certificate."""
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)


class ClientSocketTests(NextHopTestCase):
    """Checks 33, 34 and 39."""

    def test_certificate_is_demanded(self) -> None:
        """33: that the server wants one is not swallowed: it is why the message waits."""
        for version, alert in ((TLS_1_2, "handshake failure"), (TLS_1_3, "certificate required")):
            sent = self.send("", SecuringPeer(version=version, configure=demand))
            self.assert_kept_back(sent, "TLS failed with", alert)

    def test_after_the_failure(self) -> None:
        """34: what comes from a server with which it is over, octets or its end, does no harm."""
        for version in VERSIONS:
            delivery, network = self.sender("")
            peer = SecuringPeer(version=version, configure=demand)
            self.assert_kept_back(self.attempt(delivery, network, peer))
            (transport,) = network.transports
            self.assertFalse(transport.connected)
            transport.protocol.dataReceived(b"220 once more\r\n")
            transport.protocol.connectionLost(lost())
            network.flush()
            self.clock.advance(1000)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_settings_stay(self) -> None:
        """39, 43: a connection takes nothing from the settings that the next one would miss."""
        settings = Settings.load(write_config(self, {**FILES, **files(), "tls.ini": F1}).path)
        before = Settings.load(settings.config.path).tls.outbound
        tls = ClientTLS(settings.tls.outbound)
        for host in ("mail.example.com", "first.example.com", "1.2.3.4"):
            hop = NextHop("192.0.2.7", "example.org", mx_name=host)
            for _ in range(2):
                decision = outbound_decision(hop, settings.tls.outbound, None)
                tls.connection_creator(decision).clientConnectionForTLS(None)  # type: ignore[arg-type]
                self.assertEqual(settings.tls.outbound, before)
                self.assertEqual(decision, outbound_decision(hop, before, None))


class OptionTests(NextHopTestCase):
    """Checks 41, 42, 45 and 46."""

    def test_options(self) -> None:
        """41: with F1, to mail.example.com: this server name, and the one cipher."""
        self.exchangers = {"recipient.example": [(10, "mail.example.com")]}
        self.hosts = {"mail.example.com": [ADDRESS]}
        self.is_odd = True  # options that do nothing outbound
        peer = SecuringPeer(MAIL, TLS_1_2)
        sent = self.send(F1, peer, {**files(), **PAIRS})
        secured = self.assert_delivered(sent)
        assert secured is not None
        self.assertEqual(peer.server.get_servername(), b"mail.example.com")
        self.assertEqual(secured.cipher, ONE_CIPHER)
        self.assertFalse(secured.verified)

    def test_server_name(self) -> None:
        """42: none for an address; the name from the DNS, where the address comes from there."""
        line = '[domains]\nrecipient.example={"action":"accept","nexthop":"1.2.3.4"}\n'
        for version in VERSIONS:
            peer = SecuringPeer(version=version)
            sent = self.send("", peer, {"relay_dest_domains.ini": line}, "1.2.3.4")
            self.assert_delivered(sent)
            self.assertIsNone(peer.server.get_servername())
            peer = SecuringPeer(version=version)
            self.assert_delivered(self.send("", peer))
            self.assertEqual(peer.server.get_servername(), MX.encode())

    def test_nothing_is_opened(self) -> None:
        """45: while it is switched off there is no link to Redis, whatever else [redis] says."""
        for switch, memories in (("false", False), ("true", True)):
            ini = f"[redis]\ndisable_for_failed_hosts={switch}\nhost=192.0.2.99\n"
            settings = Settings.load(write_config(self, {**FILES, "tls.ini": ini}).path)
            made = NoGo.make(settings, Clock())
            self.assertEqual(made != NoGo(), memories)
            self.assertEqual(made.outbound is not None, memories)

    def test_forced(self) -> None:
        """46: an address and no other; a domain, whatever the host."""
        by_address = OutboundTLS(force_tls_hosts=HostList.parse(["1.2.3.4"]))
        by_domain = OutboundTLS(force_tls_hosts=HostList.parse(["example.org"]))
        for host, settings, forced in (
            ("1.2.3.4", by_address, True),
            ("1.2.3.5", by_address, False),
            ("1.2.3.5", by_domain, True),
            ("192.0.2.1", by_domain, True),
        ):
            decision = outbound_decision(NextHop(host, "example.org"), settings, None)
            self.assertEqual(decision.authenticated, forced)
