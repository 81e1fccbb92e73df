"""Tests for harakatls.tls.policy."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.mail.route import LMTP, NextHop
from harakatls.tls.policy import (
    ClientCertificate,
    Decision,
    SecurityLevel,
    client_certificate,
    offers_starttls,
    outbound_decision,
    requires_tls,
)
from harakatls.tls.settings import InboundTLS, OutboundTLS

HOP = NextHop("192.0.2.7", "example.com", mx_name="mx.example.net")
MX = "mx.example.net"
LONG_AGO = 1_700_000_000.0


def outbound(force: str = "", exclude: str = "", reject: bool = False) -> OutboundTLS:
    """Settings with hosts as blank-separated lists."""
    return OutboundTLS(
        force_tls_hosts=HostList.parse(force.split()),
        no_tls_hosts=HostList.parse(exclude.split()),
        reject_unauthorized=reject,
    )


def decide(
    settings: OutboundTLS,
    hop: NextHop = HOP,
    failed_at: float | None = None,
    enabled: bool = True,
) -> Decision:
    return outbound_decision(hop, settings, failed_at, enabled)


class OutboundDecisionTests(SynchronousTestCase):
    """How much TLS a delivery needs."""

    def test_opportunistic(self) -> None:
        """Without a rule, TLS is used where it is offered, and mail still goes out where not."""
        decision = decide(outbound())
        self.assertIs(decision.level, SecurityLevel.MAY)
        self.assertFalse(decision.authenticated)
        self.assertTrue(decision.may_fall_back)
        self.assertIsNone(decision.refusal)
        self.assertEqual(decision.server_name, "mx.example.net")
        self.assertEqual(decision.reference, "mx.example.net")

    def test_forced(self) -> None:
        """The list is compared with address, network, MX and domain, as the document says."""
        for entry in (
            "192.0.2.7",
            "192.0.2.0/24",
            "mx.example.net",
            "MX.Example.NET.",
            "*.example.net",
            "example.com",
        ):
            with self.subTest(entry=entry):
                decision = decide(outbound(force=entry))
                self.assertIs(decision.level, SecurityLevel.VERIFY)
                self.assertTrue(decision.authenticated)
                self.assertFalse(decision.may_fall_back)
                self.assertIsNone(decision.refusal)
                self.assertEqual(decision.reference, "mx.example.net")
                self.assertIn("force_tls_hosts", decision.reasons[0])
        for entry in ("192.0.2.8", "example.net", "sub.example.com", "*.example.com"):
            with self.subTest(entry=entry):
                self.assertIs(decide(outbound(force=entry)).level, SecurityLevel.MAY)

    def test_excluded(self) -> None:
        """A host with broken TLS gets mail in the clear, without a try."""
        for entry in ("192.0.2.0/24", "mx.example.net", "example.com"):
            with self.subTest(entry=entry):
                decision = decide(outbound(exclude=entry))
                self.assertIs(decision.level, SecurityLevel.NONE)
                self.assertIn("no_tls_hosts", decision.reasons[0])

    def test_forced_beats_all(self) -> None:
        """Neither another list nor a failure of yesterday opens a forced host's mail."""
        settings = outbound(force="mx.example.net", exclude="example.com")
        decision = decide(settings, failed_at=LONG_AGO)
        self.assertIs(decision.level, SecurityLevel.VERIFY)
        self.assertIn("force_tls_hosts lists mx.example.net", decision.reasons[0])
        self.assertIn("no_tls_hosts", decision.reasons[1])

    def test_forced_while_tls_is_off(self) -> None:
        """enable_tls=false never sends a forced host's mail in the clear: it waits."""
        decision = decide(outbound(force="example.com"), enabled=False)
        self.assertIs(decision.level, SecurityLevel.VERIFY)
        assert decision.refusal is not None
        self.assertIn("enable_tls", decision.refusal)
        self.assertIn("example.com", decision.refusal)

    def test_tls_is_off(self) -> None:
        """Others get their mail in the clear then."""
        decision = decide(outbound(), enabled=False)
        self.assertEqual(decision, Decision(SecurityLevel.NONE, ("enable_tls is off",)))

    def test_excluded_beats_memory(self) -> None:
        """The reason that is told is the operator's list, not what happened."""
        decision = decide(outbound(exclude="example.com"), failed_at=LONG_AGO)
        self.assertIn("no_tls_hosts", decision.reasons[0])

    def test_failed_before(self) -> None:
        """Where TLS failed lately it is left alone, and the time of that is told."""
        decision = decide(outbound(), failed_at=LONG_AGO)
        self.assertIs(decision.level, SecurityLevel.NONE)
        self.assertIn("2023-11-14 22:13:20", decision.reasons[0])

    def test_reject_unauthorized(self) -> None:
        """Where TLS is used then, only with a valid certificate: no way round by a broken one."""
        decision = decide(outbound(reject=True), failed_at=LONG_AGO)
        self.assertIs(decision.level, SecurityLevel.MAY)
        self.assertTrue(decision.authenticated)
        self.assertFalse(decision.may_fall_back)

    def test_a_unix_socket(self) -> None:
        """Nothing that is said of a domain asks for TLS with a mail store on this machine."""
        hop = NextHop("/run/dovecot/lmtp", "a.example", protocol=LMTP)
        for settings in (outbound(force="a.example"), outbound(reject=True), outbound()):
            decision = outbound_decision(hop, settings, None, False)
            self.assertEqual((decision.level, decision.refusal), (SecurityLevel.NONE, None))
            self.assertIn("a Unix socket", decision.reasons[0])

    def test_names(self) -> None:
        """SNI is never an address; the certificate is for the name, else for the address."""
        for hop, server_name, reference in (
            (NextHop("192.0.2.7", "example.com"), None, "192.0.2.7"),
            (NextHop("2001:db8::7", "example.com"), None, "2001:db8::7"),
            (NextHop("::ffff:192.0.2.7", "x.example"), None, "192.0.2.7"),
            (NextHop("[IPv6:2001:db8::7]", "x.example"), None, "2001:db8::7"),
            (NextHop("relay.example.org", "x.example"), "relay.example.org", "relay.example.org"),
            (NextHop("192.0.2.7", "x", mx_name="MX.example.net."), MX, MX),
            (NextHop("192.0.2.7", "x", mx_name="192.0.2.7"), None, "192.0.2.7"),
            (NextHop("192.0.2.7", "x", mx_name="mail host"), None, "192.0.2.7"),
            (NextHop("mail host", "x"), None, None),
        ):
            with self.subTest(hop=hop):
                decision = decide(outbound(), hop=hop)
                self.assertEqual(
                    (decision.server_name, decision.reference), (server_name, reference)
                )

    def test_levels(self) -> None:
        """The levels are a scale: a later source of policy may take the higher of two."""
        self.assertLess(SecurityLevel.NONE, SecurityLevel.MAY)
        self.assertLess(SecurityLevel.MAY, SecurityLevel.ENCRYPT)
        self.assertLess(SecurityLevel.ENCRYPT, SecurityLevel.VERIFY)
        self.assertFalse(Decision(SecurityLevel.ENCRYPT, ()).may_fall_back)


class InboundTests(SynchronousTestCase):
    """What is offered to and asked of clients."""

    def test_offers(self) -> None:
        """STARTTLS is offered but to listed hosts and on listed ports."""
        settings = InboundTLS(
            no_tls_hosts=HostList.parse(["192.168.1.1", "172.16.0.0/16"]),
            no_starttls_ports=frozenset({2525}),
        )
        self.assertTrue(offers_starttls("192.0.2.1", 25, settings))
        self.assertTrue(offers_starttls("172.15.0.1", 25, settings))
        self.assertFalse(offers_starttls("192.168.1.1", 25, settings))
        self.assertFalse(offers_starttls("172.16.255.1", 587, settings))
        self.assertFalse(offers_starttls("192.0.2.1", 2525, settings))

    def test_required(self) -> None:
        """Who must use TLS is offered it, whatever other lists say: else no mail could come."""
        settings = InboundTLS(
            no_tls_hosts=HostList.parse(["192.0.2.0/24"]),
            no_starttls_ports=frozenset({2525}),
            require_tls_hosts=HostList.parse(["192.0.2.7", "2001:db8::/32"]),
            require_tls_ports=frozenset({587}),
        )
        for peer, port, required, offered in (
            ("192.0.2.7", 25, True, True),
            ("192.0.2.7", 2525, True, True),
            ("2001:db8:1::1", 25, True, True),
            ("192.0.2.8", 587, True, True),
            ("203.0.113.1", 587, True, True),
            ("192.0.2.8", 25, False, False),
            ("203.0.113.1", 2525, False, False),
            ("203.0.113.1", 25, False, True),
        ):
            self.assertIs(requires_tls(peer, port, settings), required, (peer, port))
            self.assertIs(offers_starttls(peer, port, settings), offered, (peer, port))

    def test_client_certificate(self) -> None:
        """Haraka's expectations H.26: rejectUnauthorized everywhere, requireAuthorized by port."""
        ports = frozenset({465})
        for reject, port, listed, demand in (
            (True, 25, frozenset({25}), ClientCertificate.REQUIRED),
            (True, 25, frozenset[int](), ClientCertificate.REQUIRED),
            (False, 465, ports, ClientCertificate.REQUIRED),
            (False, 25, ports, ClientCertificate.ASKED_FOR),
        ):
            settings = InboundTLS(reject_unauthorized=reject, require_authorized=listed)
            self.assertIs(client_certificate(port, settings), demand)
        settings = InboundTLS(request_certificate=False, require_authorized=ports)
        self.assertIs(client_certificate(25, settings), ClientCertificate.IGNORED)
        self.assertIs(client_certificate(465, settings), ClientCertificate.REQUIRED)
