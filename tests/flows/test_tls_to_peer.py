"""
Whole stories about TLS with next hops: from the spool by way of real handshakes to the attempt that
is kept, the log, the queue listing and the report to the sender.
"""

from email import message_from_bytes
from typing import Any

import trustme
from attrs import evolve
from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.mail.route import NextHop
from harakatls.queued import Trial
from harakatls.service.logs import message_of
from harakatls.service.queue_view import message_lines
from harakatls.testing.peers import ObligingPeer
from harakatls.tls.certificates import certificate_names
from harakatls.tls.client import ClientTLS
from harakatls.tls.files import PEMFile
from harakatls.tls.mutual import HostRule, MutualTLS
from harakatls.tls.settings import NoGoSettings, OutboundTLS
from tests.flows.test_spool_to_peer import HOME, MX1, MX2, FlowTestCase, StaticRoute
from tests.flows.tls_network import SecurePeer, TLSNetwork
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS, authority, issued, pem_files, server_context

TRUSTED = (PEMFile("ca.pem", authority().cert_pem.bytes()),)
GOOD = issued("mx1.example")
OURS = issued("client.example")
PLAIN = OutboundTLS(anchors=TRUSTED)
FORCED = evolve(PLAIN, force_tls_hosts=HostList.parse(["recipient.example", "192.0.2.1/32"]))


def mutual(*hosts: str) -> OutboundTLS:
    """Our certificate is for these."""
    rules = tuple(HostRule.make(HostList.parse([host]), None) for host in hosts)
    return evolve(PLAIN, mutual=MutualTLS.make(False, rules, HostList()), **pem_files(OURS))


def served(
    leaf: trustme.LeafCert = GOOD, version: int = TLS_1_3, demanding: bool = False
) -> SSL.Context:
    """@param demanding: a client needs a certificate, whoever has issued it."""
    context = server_context(leaf, version)
    if demanding:
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(mode, lambda *_: True)
        context.set_session_id(b"x")
    return context


def shown_to(peer: SecurePeer) -> list[str]:
    """The names in the certificate that the server has got to see."""
    assert peer.connection is not None
    certificate: Certificate | None = peer.connection.get_peer_certificate(as_cryptography=True)
    return [] if certificate is None else list(certificate_names(certificate))


class TLSFlowTestCase(FlowTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.network = TLSNetwork(self.clock)

    def begin(self, settings: OutboundTLS, *plugins: object, **more: Any) -> None:
        self.tls: Any = ClientTLS(settings)
        self.assertEqual(self.tls.problems, ())
        self.start(*plugins, tls_settings=settings, **more)

    def trials(self) -> tuple[Trial, ...]:
        """Of the last attempt of the message that waits."""
        (row,) = self.spool._rows.values()
        return row.queued.history[-1].trials

    def listed(self) -> str:
        """What `harakatls queue list` prints of it."""
        (row,) = self.spool._rows.values()
        return "\n".join(message_lines(row.queued, "waits"))

    def accepted(self) -> str:
        """A message comes. @return: the log."""
        with capturedLogs() as events:
            self.accept()
        return "\n".join(message_of(event) for event in events)

    def passed(self, seconds: float) -> str:
        """@return: the log of that time."""
        with capturedLogs() as events:
            self.pass_time(seconds)
        return "\n".join(message_of(event) for event in events)


class CertificateTests(TLSFlowTestCase):
    """A server that wants a certificate of ours."""

    def test_it_gets_one(self) -> None:
        """H.35: by the rule for it, and the log says which rule that was."""
        for version in VERSIONS:
            self.setUp()
            peer = SecurePeer(served(version=version, demanding=True))
            self.network.serve(MX1, peer)
            self.begin(mutual("mx1.example"))
            log = self.accepted()
            self.assertEqual(len(peer.messages), 1)
            self.assertEqual(shown_to(peer), ["client.example"])
            self.assertRegex(
                log,
                r"delivered .* verified=True .* tls_reasons=.*no rule for this host: TLS if it is "
                r"offered; mutual_auth_hosts lists mx1\.example: our default client certificate is "
                r"shown if it asks for one",
            )
            self.assertAllIsDone()

    def test_another_host(self) -> None:
        """A host without a rule gets none, though there is one for the next."""
        first, second = (SecurePeer(served(demanding=d)) for d in (True, False))
        self.network.serve(MX1, first)
        self.network.serve(MX2, second)
        self.begin(mutual("mx2.example"))
        self.accept()
        self.assertEqual((len(first.messages), len(second.messages)), (0, 1))
        self.assertEqual(shown_to(first), [])
        self.assertAllIsDone()

    def test_it_is_told(self) -> None:
        """In TLS 1.3 the refusal comes after our handshake; both versions end in its words."""
        words = {
            TLS_1_2: "the server had asked for a certificate of ours, and got none",
            TLS_1_3: "the peer wants a certificate from us (tlsv13 alert certificate required)",
        }
        for version, text in words.items():
            self.setUp()
            self.network.serve(MX1, SecurePeer(served(version=version, demanding=True)))
            self.begin(PLAIN, temp_fail_intervals=(60.0,))
            log = self.accepted()
            first = self.trials()[0]
            self.assertIn("451 4.7.5 TLS failed with mx1.example: ", first.result)
            self.assertIn(text, first.result)
            self.assertIn(text, log)
            self.assertIn(text, self.listed())
            # At the next attempt opportunistic TLS does without.
            clear = ObligingPeer("STARTTLS")
            again = SecurePeer(served(version=version, demanding=True))
            self.network.serve(MX1, again, clear)
            log = self.passed(61)
            self.assertEqual(len(clear.messages), 1)
            self.assertRegex(log, "delivered .* tls=N .* in the clear, since TLS failed just now: ")
            self.assertIn(text, log)
            self.assertAllIsDone()

    def test_a_forced_host_that_wants_one(self) -> None:
        """It gets nothing in the clear; the reason is not sought in its own certificate."""
        self.network.serve(MX1, SecurePeer(served(demanding=True)))
        self.begin(FORCED, temp_fail_intervals=(60.0,))
        self.accept()
        first = self.trials()[0]
        self.assertIn("TLS is required, but it failed with mx1.example: ", first.result)
        self.assertIn("the peer wants a certificate from us", first.result)
        self.assertIn("force_tls_hosts lists 192.0.2.1", first.reasons[0])


class DecisionTests(TLSFlowTestCase):
    """The decision and its reasons, wherever they have to show."""

    def test_everywhere(self) -> None:
        """A wrong certificate at a forced host: attempt, log, listing and report."""
        home = ObligingPeer()
        self.network.serve(HOME, home)
        wrong = "certificate is for evil.example, not mx1.example"
        reasons = ("force_tls_hosts lists 192.0.2.1",)
        evil = served(issued("evil.example"))
        peers = [SecurePeer(evil) for _ in range(2)]
        self.network.serve(MX1, *peers)
        self.begin(FORCED, temp_fail_intervals=(10.0,))
        log = self.accepted()
        first = self.trials()[0]
        self.assertEqual(first.reasons, reasons)
        self.assertEqual(
            first.result,
            f"451 4.7.5 TLS is required, but it failed with mx1.example: {wrong}",
        )
        self.assertIn(f"unusable TX.1 domain=recipient.example host=mx1.example ip={MX1}", log)
        self.assertIn(wrong, log)
        self.assertIn("tls_reasons=force_tls_hosts lists 192.0.2.1", log)
        listed = self.listed()
        self.assertIn(f"tried mx1.example [{MX1}]:25: {first.result}", listed)
        self.assertIn("TLS: force_tls_hosts lists 192.0.2.1", listed)
        self.passed(10.1)
        (report,) = home.messages
        parts: Any = message_from_bytes(report).get_payload()
        told = " ".join(parts[0].get_payload(decode=True).decode().split())
        self.assertIn(wrong, told)
        self.assertIn("TLS: (force_tls_hosts lists 192.0.2.1)", told)
        for peer in peers:
            self.assertEqual([said.line for said in peer.said if said.secured], [])
            self.assertFalse(any("MAIL" in line for line in peer.commands))
        self.assertAllIsDone()

    def test_an_address_as_next_hop(self) -> None:
        """A forced address is compared with the addresses in the certificate, and sends no name."""
        for leaf, delivered in (
            (issued(MX1, "relay.example"), True),
            (issued(MX2), False),
            (issued("mx1.example"), False),
        ):
            self.setUp()
            peer = SecurePeer(served(leaf))
            self.network.serve(MX1, peer)
            hop = NextHop(MX1, "recipient.example", source="route")
            self.begin(FORCED, StaticRoute("recipient.example", hop), temp_fail_intervals=(9.0,))
            log = self.accepted()
            self.assertEqual(len(peer.messages), int(delivered))
            assert peer.connection is not None
            self.assertIsNone(peer.connection.get_servername())
            if delivered:
                self.assertRegex(log, "delivered .* verified=True")
            else:
                self.assertIn(f"not {MX1}", self.trials()[0].result)

    def test_an_unencrypted_delivery(self) -> None:
        """That a host offered no TLS, or is not to have it, shows with what was decided."""
        settings = evolve(PLAIN, no_tls_hosts=HostList.parse(["mx1.example"]))
        self.network.serve(MX1, SecurePeer(served(), RCPT="450 4.2.1 Later"))
        self.network.serve(MX2, ObligingPeer(RCPT="450 4.2.1 Later"))
        self.begin(settings, temp_fail_intervals=(60.0,))
        log = self.accepted()
        self.assertEqual(
            [(trial.tls, trial.reasons) for trial in self.trials()],
            [
                ("", ("no_tls_hosts lists mx1.example",)),
                ("", ("no rule for this host: TLS if it is offered",)),
            ],
        )
        self.assertIn("tls_reasons=no_tls_hosts lists mx1.example", log)
        self.assertIn("TLS: no_tls_hosts lists mx1.example", self.listed())


class SessionTests(TLSFlowTestCase):
    """The second connection to a host."""

    def test_resumed(self) -> None:
        """It is sent over a resumed session, which is as verified as the first."""
        for version in VERSIONS:
            self.setUp()
            context = served(version=version)
            for answer in ({}, {"RCPT": "450 4.2.1 Later"}):
                self.network.serve(MX1, SecurePeer(context, **answer))
            self.begin(FORCED, temp_fail_intervals=(60.0,), pool_timeout=0.0)
            self.accept()
            self.assertEqual(self.diary.entries, ["delivered bob@recipient.example"])
            self.accept()
            first = self.trials()[0]
            self.assertRegex(first.tls, "^TLSv1.[23] .* verified, resumed$")
            self.assertIn(first.tls, self.listed())

    def test_a_resumption_that_fails(self) -> None:
        """It is no failure of TLS: once more in full, on a new connection."""
        for version in VERSIONS:
            self.setUp()
            context = served(version=version)
            broken = served(version=SSL.TLS1_1_VERSION)
            peers = [SecurePeer(context), SecurePeer(broken), SecurePeer(context)]
            self.network.serve(MX1, *peers)
            settings: dict[str, Any] = {"temp_fail_intervals": (60.0,), "pool_timeout": 0.0}
            self.begin(PLAIN, nogo=NoGoSettings(enabled=True), **settings)
            self.accept()
            log = self.accepted()
            self.assertEqual([len(peer.messages) for peer in peers], [1, 0, 1])
            self.assertIn("could not resume a TLS session with mx1.example: ", log)
            self.assertNotIn("non-TLS", log)
            self.assertRegex(log, "delivered .* tls=TLSv1")

    def test_a_handshake_that_fails_in_full(self) -> None:
        """Without a session to blame, there is no second connection."""
        self.network.serve(MX1, SecurePeer(served(version=SSL.TLS1_1_VERSION)))
        self.begin(PLAIN, temp_fail_intervals=(60.0,))
        self.accept()
        self.assertEqual([host for host, _ in self.network.attempts], [MX1, MX2])


class NetworkTests(SynchronousTestCase):
    """The tool itself."""

    def test_the_peers_speak_tls(self) -> None:
        """A peer without a certificate that fits is found out: nothing is pretended."""
        flow = TLSFlowTestCase()
        flow.setUp()
        peer = SecurePeer(served(issued("mx1.example", by="Other Trust")))
        flow.network.serve(MX1, peer)
        flow.begin(FORCED, temp_fail_intervals=(60.0,))
        flow.accept()
        self.assertIn("unable to get local issuer", flow.trials()[0].result)
        self.assertFalse(peer.secured)
