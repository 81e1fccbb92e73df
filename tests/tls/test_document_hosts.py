"""
The TLS document about hosts: no_tls_hosts, no_starttls_ports, force_tls_hosts, and [redis].
"""

from datetime import UTC, datetime, timedelta

from tests.tls.documented import OTHER, SMTP, SMTPS, SUBMISSION, Documented, DocumentTestCase
from tests.tls.next_hops import (
    ADDRESS,
    MX,
    OTHER_NAME,
    PEER,
    UNTRUSTED,
    NextHopTestCase,
    SecuringPeer,
    Sent,
)
from tests.tls.peers import TLS_1_2, VERSIONS, authority, issued

NO_TLS_HOSTS = """\
[no_tls_hosts]
192.168.1.3
172.16.0.0/16
"""
FORCED = """\
[outbound]
force_tls_hosts[]=172.17.123.1
force_tls_hosts[]=172.17.124.0/24
force_tls_hosts[]=mx.example.org
force_tls_hosts[]=example.com
"""
OURS = (
    "ca=ca.pem\n"  # at the end of [outbound]: the authority of these tests instead of the world's
)
REDIS = """\
[redis]
disable_for_failed_hosts = true
disable_expiry = 604800
disable_inbound_expiry = 3600
"""
EXPIRED = authority().issue_cert(
    *("address.example", "network.example", "mx.example.org", "shared.example"),
    not_after=datetime.now(UTC) - timedelta(days=1),
)
WEEK, HOUR = 604800, 3600


class NoTLSHostsTests(DocumentTestCase):
    """The section [no_tls_hosts]."""

    def test_listed(self) -> None:
        """Addresses and ranges that have broken TLS are not offered it; they send in the clear."""
        server = self.server(NO_TLS_HOSTS)
        for peer in ("192.168.1.3", "172.16.0.1", "172.16.255.254"):
            visit = server.visit(peer=peer)
            self.assertFalse(visit.offered)
            self.assertIsNone(visit.client)

    def test_others(self) -> None:
        """All others are."""
        server = self.server(NO_TLS_HOSTS)
        for peer in ("192.168.1.4", "172.17.0.1", "192.0.2.10"):
            for version in VERSIONS:
                self.assert_served(server.visit(version=version, peer=peer))

    def test_implicit_tls(self) -> None:
        """A port that is all TLS has nothing to leave out."""
        server = self.server(NO_TLS_HOSTS)
        self.assert_served(server.visit(SMTPS, peer="192.168.1.3"))


class NoTLSHostsOutboundTests(NextHopTestCase):
    """The section is about incoming mail; that which goes out has a list of its own (ours)."""

    def test_section(self) -> None:
        """A host that is listed there is sent to over TLS all the same."""
        self.hosts[MX] = ["192.168.1.3"]
        self.assert_delivered(self.send(NO_TLS_HOSTS, host="192.168.1.3"))

    def test_array(self) -> None:
        """C{no_tls_hosts[]} of [outbound]."""
        for entry in (ADDRESS, "192.0.2.0/24", MX, "recipient.example"):
            sent = self.send(f"[outbound]\nno_tls_hosts[]={entry}\n")
            self.assert_delivered(sent, in_the_clear=True)
        self.assert_delivered(self.send("[outbound]\nno_tls_hosts[]=192.0.3.0/24\n"))


class NoSTARTTLSPortsTests(DocumentTestCase):
    """no_starttls_ports."""

    def test_listed(self) -> None:
        """The capability is not advertised on that port, and is on others."""
        server = self.server("no_starttls_ports[]=2525\n")
        self.assertFalse(server.visit(OTHER).offered)
        for port in (SMTP, SUBMISSION, SMTPS):
            self.assert_served(server.visit(port))

    def test_several(self) -> None:
        """It is an array."""
        server = self.server("no_starttls_ports[]=2525\nno_starttls_ports[]=25\n")
        for port in (OTHER, SMTP):
            self.assertFalse(server.visit(port).offered)

    def test_none(self) -> None:
        """By default it is advertised everywhere."""
        self.assert_served(self.server().visit(OTHER))


class ForcedHostsTests(NextHopTestCase):
    """force_tls_hosts, with the four entries of the document."""

    def setUp(self) -> None:
        self.exchangers = {
            "one.example": [(10, "address.example")],
            "two.example": [(10, "network.example")],
            "three.example": [(10, "mx.example.org")],
            "example.com": [(10, "shared.example")],
            "five.example": [(10, "shared.example")],
        }
        self.hosts = {
            "address.example": ["172.17.123.1"],
            "network.example": ["172.17.124.77"],
            "mx.example.org": ["192.0.2.3"],
            "shared.example": ["192.0.2.4"],
        }
        self.forced = [
            (f"bob@{domain}", self.exchangers[domain][0][1])
            for domain in ("one.example", "two.example", "three.example", "example.com")
        ]

    def test_valid_certificate(self) -> None:
        """Mail goes to each of them over TLS, with a certificate that is verified."""
        for recipient, mx in self.forced:
            for version in VERSIONS:
                peer = SecuringPeer(issued(mx), version)
                (host,) = self.hosts[mx]
                sent = self.send(FORCED + OURS, peer, host=host, recipient=recipient)
                secured = self.assert_delivered(sent)
                assert secured is not None
                self.assertTrue(secured.verified)
                self.assertEqual(peer.server.get_servername(), mx.encode())
                self.assertIn("force_tls_hosts lists", sent.reasons[0])

    def test_invalid_certificate(self) -> None:
        """
        Untrusted, expired, or for another name: nothing is sent, whatever rejectUnauthorized
        says; others on the same host get their mail.
        """
        reject = "rejectUnauthorized=false\n"
        for leaf in (UNTRUSTED, OTHER_NAME, EXPIRED):
            for version in VERSIONS:
                for recipient, mx in self.forced:
                    peer = SecuringPeer(leaf, version)
                    (host,) = self.hosts[mx]
                    sent = self.send(
                        f"{reject}{FORCED}{OURS}{reject}", peer, host=host, recipient=recipient
                    )
                    self.assert_kept_back(sent, "TLS is required")
                peer = SecuringPeer(leaf, version)
                sent = self.send(
                    FORCED + OURS, peer, host="192.0.2.4", recipient="bob@five.example"
                )
                secured = self.assert_delivered(sent)
                assert secured is not None
                self.assertFalse(secured.verified)

    def test_never_opportunistic(self) -> None:
        """STARTTLS that is not offered, or refused, or fails: the mail waits at every attempt."""
        for recipient, mx in self.forced:
            (host,) = self.hosts[mx]
            for attempts in (0, 1):
                for peer in (
                    SecuringPeer(issued(mx), EHLO="250 mx"),
                    SecuringPeer(issued(mx), STARTTLS="454 4.7.0 later"),
                    SecuringPeer(issued(mx), TLS_1_2),
                ):
                    sent, second = self.twice(host, recipient, peer, attempts)
                    self.assert_kept_back(sent, "TLS is required")
                    self.assertEqual(second.said, [])

    def test_opportunistic_otherwise(self) -> None:
        """The same host gives others their mail in the clear, if not at the first attempt."""
        host, recipient = "192.0.2.4", "bob@five.example"
        for peer in (SecuringPeer(EHLO="250 mx"), SecuringPeer(STARTTLS="454 4.7.0 later")):
            sent, _ = self.twice(host, recipient, peer, 0)
            self.assert_delivered(sent, in_the_clear=True)
        _, second = self.twice(host, recipient, SecuringPeer(PEER, TLS_1_2), 1)
        self.assertEqual(len(second.messages), 1)
        self.assertIn("MAIL", second.in_the_clear)

    def twice(
        self, host: str, recipient: str, peer: SecuringPeer, attempts: int
    ) -> tuple[Sent, SecuringPeer]:
        """An attempt with TLS 1.3 alone; who connects a second time meets another server."""
        delivery, network = self.sender(f"{FORCED}{OURS}minVersion=TLSv1.3\n")
        second = SecuringPeer(PEER, TLS_1_2)
        return self.attempt(delivery, network, peer, host, recipient, attempts, second), second

    def test_nexthop(self) -> None:
        """The list is matched against nexthop in relay_dest_domains.ini, too."""
        for nexthop, host in (
            ("mx.example.org:2525", "192.0.2.3"),
            ("172.17.123.1", "172.17.123.1"),
            ("172.17.124.2:25", "172.17.124.2"),
        ):
            line = f'[domains]\nelse.example={{"action":"accept","nexthop":"{nexthop}"}}\n'
            name = nexthop.partition(":")[0]
            for leaf, good in ((issued(name), True), (UNTRUSTED, False)):
                sent = self.send(
                    FORCED + OURS,
                    SecuringPeer(leaf),
                    {"relay_dest_domains.ini": line},
                    host,
                    "bob@else.example",
                )
                if good:
                    self.assert_delivered(sent)
                else:
                    self.assert_kept_back(sent, "TLS is required")

    def test_by_default(self) -> None:
        """Nobody is: an invalid certificate, or none of TLS, keeps no mail back."""
        (host,) = self.hosts["mx.example.org"]
        peer = SecuringPeer(UNTRUSTED)
        self.assert_delivered(self.send("", peer, host=host, recipient="bob@three.example"))


class NoGoInboundTests(DocumentTestCase):
    """[redis]: STARTTLS is not advertised to those with whom there was a problem with TLS."""

    def break_off(self, server: Documented, times: int = 3) -> None:
        """A client breaks off in the handshake, minutes apart."""
        for _ in range(times):
            transport = server.connect(SMTP)
            transport.protocol.dataReceived(b"EHLO client.example\r\n")
            transport.protocol.dataReceived(b"STARTTLS\r\n")
            transport.protocol.dataReceived(b"no TLS at all\r\n")
            transport.protocol.connectionLost()
            server.clock.advance(300)

    def test_enabled(self) -> None:
        """For disable_inbound_expiry seconds, for that address; other addresses are offered it."""
        server = self.server(REDIS)
        self.assertTrue(server.visit(peer="192.0.2.11").succeeded)
        self.break_off(server)
        self.assertFalse(server.visit().offered)
        self.assertEqual(list(server.redis.values), [b"no_tls|192.0.2.10|inbound"])
        self.assertTrue(server.visit(peer="192.0.2.11").succeeded)
        server.clock.advance(HOUR - 301)
        self.assertFalse(server.visit().offered)
        server.clock.advance(2)
        self.assert_served(server.visit())

    def test_expiry(self) -> None:
        """disable_inbound_expiry is in seconds."""
        server = self.server(REDIS.replace("3600", "600"))
        self.break_off(server)
        self.assertFalse(server.visit().offered)
        server.clock.advance(301)
        self.assert_served(server.visit())

    def test_not_enabled(self) -> None:
        """Without disable_for_failed_hosts nothing is remembered, or even asked."""
        for ini in ("", REDIS.replace("true", "false"), "[redis]\n"):
            server = Documented.make(self, ini)
            self.break_off(server, 5)
            self.assert_served(server.visit())
            self.assertEqual(server.redis.asked, [])


class NoGoOutboundTests(NextHopTestCase):
    """[redis]: TLS is not used with hosts with which there was a problem."""

    def broken(self) -> SecuringPeer:
        """A server whose TLS cannot agree with ours."""
        return SecuringPeer(PEER, TLS_1_2)

    def test_enabled(self) -> None:
        """For disable_expiry seconds after a failure, under the key no_tls|ip.add.re.ss."""
        delivery, network = self.sender(f"{REDIS}[outbound]\nminVersion=TLSv1.3\n")
        failed = self.attempt(delivery, network, self.broken())
        self.assert_kept_back(failed, "TLS failed with")
        ((key, (_, expires)),) = self.redis.values.items()
        self.assertEqual(key, f"no_tls|{ADDRESS}".encode())
        self.assertEqual(expires, self.clock.seconds() + WEEK)
        for _ in range(2):
            sent = self.attempt(delivery, network, self.broken())
            self.assert_delivered(sent, in_the_clear=True)
            self.assertEqual(sent.peer.in_the_clear[:2], ["EHLO", "MAIL"])
            self.clock.advance(WEEK / 2 + 1)
        self.assert_delivered(self.attempt(delivery, network, SecuringPeer()))

    def test_expiry(self) -> None:
        """disable_expiry is in seconds."""
        delivery, network = self.sender(
            f"{REDIS}[outbound]\nminVersion=TLSv1.3\n".replace("604800", "60")
        )
        self.attempt(delivery, network, self.broken())
        self.clock.advance(61)
        self.assert_delivered(self.attempt(delivery, network, SecuringPeer()))

    def test_not_enabled(self) -> None:
        """Without disable_for_failed_hosts each message tries TLS, and nothing is remembered."""
        delivery, network = self.sender("[outbound]\nminVersion=TLSv1.3\n")
        for _ in range(2):
            sent = self.attempt(delivery, network, self.broken())
            self.assert_kept_back(sent, "TLS failed with")
        self.assertEqual(self.redis.asked, [])

    def test_forced(self) -> None:
        """Ours: a host on which TLS is forced is neither remembered nor looked up."""
        ini = f"{REDIS}[outbound]\n{OURS}force_tls_hosts[]={MX}\n"
        delivery, network = self.sender(ini)
        self.assert_kept_back(self.attempt(delivery, network, SecuringPeer(UNTRUSTED)))
        self.assertEqual(self.redis.asked, [])
