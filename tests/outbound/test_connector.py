"""From a next hop to an open connection: how much TLS, and what happens where there is none."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from harakatls.config.hosts import HostList
from harakatls.connection import TLSSummary
from harakatls.mail.route import NextHop
from harakatls.outbound.connector import Connector, Opened, Unusable
from harakatls.outbound.settings import OutboundSettings
from harakatls.testing.network import PretendedTLS
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, Answer, ObligingPeer, ScriptedPeer
from harakatls.tls.policy import SecurityLevel
from harakatls.tls.settings import NoGoSettings, OutboundTLS
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase

HOP = NextHop(FIRST, DOMAIN, mx_name="mx1.example")
FORCED = OutboundTLS(force_tls_hosts=HostList.parse([DOMAIN]))
EXCLUDED = OutboundTLS(no_tls_hosts=HostList.parse(["mx1.example"]))
STRICT = OutboundTLS(reject_unauthorized=True)
NOGO = NoGoSettings(enabled=True, expiry=1000.0)


class Unasked:
    """A memory that must not be used."""

    async def failed_at(self, host: str) -> float | None:
        raise AssertionError(f"asked for {host}")


class ConnectorTestCase(DeliveryTestCase):
    """One host, and its peers one after another."""

    def open(
        self, *peers: ScriptedPeer, earlier: int = 0, connector: Connector | None = None, **how: Any
    ) -> "Deferred[Opened | Unusable]":
        """@param how: arguments of `connector`."""
        self.network.serve(FIRST, *peers)
        opening = (connector or self.connector(**how)).open(HOP, earlier)
        running = Deferred.fromCoroutine(opening)
        self.network.flush()
        return running

    def opened(self, *peers: ScriptedPeer, **how: Any) -> Opened:
        """It has to succeed."""
        opened = self.successResultOf(self.open(*peers, **how))
        assert isinstance(opened, Opened), opened
        return opened

    def unusable(self, *peers: ScriptedPeer, **how: Any) -> Unusable:
        """It has to fail."""
        unusable = self.successResultOf(self.open(*peers, **how))
        assert isinstance(unusable, Unusable), unusable
        return unusable

    def lines(self, peer: ScriptedPeer) -> list[tuple[str, bool]]:
        """What the peer heard, and whether inside of TLS."""
        return [(said.line, said.secured) for said in peer.said]


class OpportunisticTests(ConnectorTestCase):
    """TLS if offered, whoever the peer may be."""

    def test_tls_is_used_where_it_is_offered(self) -> None:
        """EHLO again inside of TLS: what was heard before does not count (RFC 3207)."""
        peer = ObligingPeer("STARTTLS", "SIZE 10")
        opened = self.opened(peer)
        self.assertEqual(
            self.lines(peer),
            [("EHLO mta.example", False), ("STARTTLS", False), ("EHLO mta.example", True)],
        )
        self.assertIs(opened.decision.level, SecurityLevel.MAY)
        assert opened.secured is not None
        self.assertEqual(opened.secured.server_name, "mx1.example")
        self.assertNotIn("STARTTLS", opened.protocol.session.capabilities)

    def test_in_the_clear_where_it_is_not(self) -> None:
        """Mail to old servers still goes."""
        self.assertIsNone(self.opened(ObligingPeer("8BITMIME")).secured)

    def test_in_the_clear_where_it_is_refused(self) -> None:
        """454 or 502 to STARTTLS: on the same connection, at once (unlike Haraka)."""
        for refusal in ("454 4.7.0 Not now", "502 5.5.1 What?"):
            self.setUp()
            peer = ObligingPeer("STARTTLS", STARTTLS=refusal)
            self.assertIsNone(self.opened(peer).secured)
            self.assertEqual(len(self.network.attempts), 1)

    def test_a_server_that_leaves_at_starttls(self) -> None:
        """421 is no refusal of TLS; nothing is said behind it."""
        peer = ObligingPeer("STARTTLS", STARTTLS=("421 4.3.2 Bye", HANG_UP))
        self.assertEqual(str(self.unusable(peer).reply), "421 4.3.2 Bye")

    def test_an_untrusted_certificate_is_good_enough(self) -> None:
        """Encryption without proof is better than none."""
        summary = TLSSummary("TLSv1.2", "X", 128, verified=False, verify_error="self-signed")
        self.tls = PretendedTLS(summary)
        opened = self.opened(ObligingPeer("STARTTLS"))
        assert opened.secured is not None
        self.assertEqual(opened.secured.verify_error, "self-signed")

    def test_hosts_without_tls_by_configuration(self) -> None:
        """no_tls_hosts of [outbound]: STARTTLS is not said."""
        peer = ObligingPeer("STARTTLS")
        self.opened(peer, tls_settings=EXCLUDED)
        self.assertEqual(peer.commands, ["EHLO mta.example"])

    def test_enable_tls_off(self) -> None:
        """enable_tls=false of outbound.ini: STARTTLS is not said."""
        peer = ObligingPeer("STARTTLS")
        self.opened(peer, settings=OutboundSettings(enable_tls=False))
        self.assertEqual(peer.commands, ["EHLO mta.example"])


class FallbackTests(ConnectorTestCase):
    """The handshake fails where TLS is a may."""

    def test_not_at_the_first_attempt(self) -> None:
        """A fault of a moment does not lay mail open; the host is left for this attempt."""
        unusable = self.unusable(ObligingPeer("STARTTLS", handshake=False), ObligingPeer())
        self.assertEqual(
            str(unusable.reply),
            "451 4.7.5 TLS failed with mx1.example: "
            "the peer does not speak TLS (wrong version number)",
        )
        self.assertEqual(len(self.network.attempts), 1)

    def test_on_a_new_connection_at_the_next(self) -> None:
        """Mail to hosts whose TLS is broken gets through, and the log says how."""
        broken, second = ObligingPeer("STARTTLS", handshake=False), ObligingPeer("STARTTLS")
        opened = self.opened(broken, second, earlier=1)
        self.assertIsNone(opened.secured)
        self.assertEqual(self.lines(broken)[-1], ("STARTTLS", False))
        self.assertEqual(self.lines(second), [("EHLO mta.example", False)])
        self.assertIs(opened.decision.level, SecurityLevel.NONE)
        self.assertIn("in the clear, since TLS failed just now", opened.decision.reasons[-1])
        self.assertFalse(self.network.transports[0].connected)

    def test_a_host_that_is_gone_by_then(self) -> None:
        """The reason is the last one."""
        unusable = self.unusable(ObligingPeer("STARTTLS", handshake=False), earlier=1)
        self.assertEqual(str(unusable.reply.enhanced), "4.4.1")

    def test_a_host_that_refuses_the_second_connection(self) -> None:
        """Its words are kept."""
        unusable = self.unusable(
            ObligingPeer("STARTTLS", handshake=False),
            ObligingPeer(connect="421 4.7.0 Too many connections"),
            earlier=1,
        )
        self.assertEqual(str(unusable.reply), "421 4.7.0 Too many connections")

    def test_a_break_right_after_the_handshake(self) -> None:
        """In TLS 1.3 a server may object to our side only then."""
        for ending in (HANG_UP, BREAK_OFF):
            self.setUp()
            usual = "250-peer.example\n250 STARTTLS"
            peer = ObligingPeer("STARTTLS", EHLO=[usual, ending])
            self.assertIsNone(self.opened(peer, ObligingPeer(), earlier=1).secured)

    def test_what_comes_later(self) -> None:
        """
        A host that is slow or speaks nonsense inside of TLS can do TLS: what it was to get is not
        sent in the clear for that, now or later.
        """
        for later in (SILENCE, "what is this?"):
            self.setUp()
            slow = ObligingPeer("STARTTLS", EHLO=["250-peer.example\n250 STARTTLS", later])
            running = self.open(slow, ObligingPeer("STARTTLS"), earlier=1, nogo=NOGO)
            self.pass_time(OutboundSettings().command_timeout + 1)
            unusable = self.successResultOf(running)
            assert isinstance(unusable, Unusable), unusable
            self.assertIn("while waiting for the answer to EHLO", str(unusable.reply))
            self.assertEqual(len(self.network.attempts), 1)
            self.assertIsNotNone(self.opened(earlier=1, nogo=NOGO).secured)

    def test_a_handshake_that_hangs(self) -> None:
        """handshake_timeout ends it, as a failure of TLS."""
        settings = OutboundSettings(handshake_timeout=9.0)
        running = self.open(ObligingPeer("STARTTLS", handshake=SILENCE), settings=settings)
        self.assertNoResult(running)
        self.pass_time(8)
        self.assertNoResult(running)
        self.pass_time(2)
        unusable = self.successResultOf(running)
        assert isinstance(unusable, Unusable)
        self.assertIn("the handshake took more than 9 seconds", str(unusable.reply))
        self.assertNothingIsLeft()

    def test_plaintext_behind_starttls_is_an_attack(self) -> None:
        """Replies that somebody has put there are never believed, and nothing is sent."""
        peer = ObligingPeer("STARTTLS")
        peer.extra = b"250-peer.example\r\n250 AUTH PLAIN\r\n"
        unusable = self.unusable(peer, ObligingPeer(), earlier=1)
        self.assertIn("plaintext behind", str(unusable.reply))
        self.assertEqual(len(self.network.attempts), 1)
        self.assertEqual(self.tls.decisions, [])


class AtSTARTTLSTests(ConnectorTestCase):
    """A host that offers STARTTLS and answers it with nothing that is yes or no."""

    ODD = (HANG_UP, BREAK_OFF, SILENCE, "259 2.9.9 Odd", "334 Odd", "what is this?")

    def opening(self, answer: Answer, **how: Any) -> "Opened | Unusable":
        """@param answer: to STARTTLS, on the first connection alone."""
        self.setUp()
        running = self.open(ObligingPeer("STARTTLS", STARTTLS=answer), ObligingPeer(), **how)
        self.pass_time(OutboundSettings().command_timeout + 1)
        return self.successResultOf(running)

    def test_not_at_the_first_attempt(self) -> None:
        """Who can break a connection has to do so for as long as the message waits."""
        for answer in self.ODD:
            unusable = self.opening(answer)
            assert isinstance(unusable, Unusable), answer
            self.assertIn("TLS failed with mx1.example: ", str(unusable.reply))
            self.assertEqual(len(self.network.attempts), 1)

    def test_on_a_new_connection_at_the_next(self) -> None:
        """As for a handshake that fails: else such mail comes back to its sender."""
        for answer in self.ODD:
            opened = self.opening(answer, earlier=1)
            assert isinstance(opened, Opened), answer
            self.assertIsNone(opened.secured)
            self.assertIn("in the clear, since TLS failed just now", opened.decision.reasons[-1])
            self.assertEqual(len(self.network.attempts), 2)
            self.assertTrue(self.network.transports[0].peer.gone)

    def test_never_where_tls_is_required(self) -> None:
        """By the list of forced hosts, or for the certificate's sake."""
        for answer in self.ODD:
            for tls_settings in (FORCED, STRICT):
                unusable = self.opening(answer, earlier=5, tls_settings=tls_settings)
                assert isinstance(unusable, Unusable), answer
                self.assertIn("TLS is required, but it failed", str(unusable.reply))
                self.assertEqual(len(self.network.attempts), 1)

    def test_it_is_not_remembered(self) -> None:
        """There was no handshake: the host may be able to do TLS a moment later."""
        for answer in self.ODD:
            self.opening(answer, earlier=1, nogo=NOGO)
            self.assertIsNotNone(self.opened(ObligingPeer("STARTTLS"), nogo=NOGO).secured)


class MemoryTests(ConnectorTestCase):
    """disable_for_failed_hosts: hosts with which TLS failed lately."""

    def test_a_failure_is_remembered(self) -> None:
        """The next message does not try TLS with this host, even at its first attempt."""
        self.unusable(ObligingPeer("STARTTLS", handshake=False), nogo=NOGO)
        opened = self.opened(second := ObligingPeer("STARTTLS"), nogo=NOGO)
        self.assertEqual(second.commands, ["EHLO mta.example"])
        self.assertIn("TLS failed with this host at", opened.decision.reasons[0])

    def test_not_for_ever(self) -> None:
        """disable_expiry seconds later TLS is tried again."""
        self.unusable(ObligingPeer("STARTTLS", handshake=False), nogo=NOGO)
        self.clock.advance(1001)
        self.assertIsNotNone(self.opened(ObligingPeer("STARTTLS"), nogo=NOGO).secured)

    def test_only_if_switched_on(self) -> None:
        """By default every delivery tries TLS."""
        self.unusable(ObligingPeer("STARTTLS", handshake=False))
        self.assertIsNotNone(self.opened(ObligingPeer("STARTTLS")).secured)

    def test_never_for_forced_hosts(self) -> None:
        """Who breaks a handshake does not get the mail of a forced host in the clear."""
        self.unusable(ObligingPeer("STARTTLS", handshake=False), nogo=NOGO)
        peer = ObligingPeer("STARTTLS")
        opened = self.opened(peer, nogo=NOGO, tls_settings=FORCED)
        self.assertIsNotNone(opened.secured)

    def test_where_it_does_not_count_nobody_is_asked(self) -> None:
        """Forced and excluded hosts, strict TLS, no TLS: a slow memory delays none of these."""
        self.memory = Unasked()  # type: ignore[assignment]
        for tls_settings in (FORCED, EXCLUDED, STRICT):
            self.opened(ObligingPeer("STARTTLS"), nogo=NOGO, tls_settings=tls_settings)
        settings = OutboundSettings(enable_tls=False)
        self.opened(ObligingPeer("STARTTLS"), nogo=NOGO, settings=settings)
        self.opened(ObligingPeer("STARTTLS"))

    def test_told(self) -> None:
        """The log says when a host is marked, and each time that mail goes in the clear for it."""
        with capturedLogs() as events:
            self.unusable(ObligingPeer("STARTTLS", handshake=False), nogo=NOGO)
            self.opened(ObligingPeer("STARTTLS"), nogo=NOGO)
        lines = [formatEvent(event) for event in events]
        self.assertEqual(
            lines[0], f"TLS connection failed. Marking {FIRST} as non-TLS for 1000 seconds"
        )
        self.assertIn(f"TLS disabled for {FIRST} because it was marked as non-TLS on", lines[1])

    def test_only_handshakes(self) -> None:
        """A host that goes away before or after the handshake is not one without TLS."""
        for peer in (
            ObligingPeer("STARTTLS", EHLO=HANG_UP),
            ObligingPeer("STARTTLS", STARTTLS=HANG_UP),
            ObligingPeer("STARTTLS", STARTTLS="454 4.7.0 not now"),
        ):
            self.successResultOf(self.open(peer, nogo=NOGO))
            self.assertIsNotNone(self.opened(ObligingPeer("STARTTLS"), nogo=NOGO).secured)

    def test_failures_of_forced_hosts_are_not_remembered(self) -> None:
        """They say nothing about what others may do."""
        self.unusable(ObligingPeer("STARTTLS", handshake=False), nogo=NOGO, tls_settings=FORCED)
        self.assertIsNotNone(self.opened(ObligingPeer("STARTTLS"), nogo=NOGO).secured)


class ForcedTests(ConnectorTestCase):
    """force_tls_hosts: TLS with a valid certificate, or nothing."""

    def test_with_a_valid_certificate(self) -> None:
        """Mail goes."""
        opened = self.opened(ObligingPeer("STARTTLS"), tls_settings=FORCED)
        self.assertIs(opened.decision.level, SecurityLevel.VERIFY)
        self.assertEqual(self.tls.decisions[0].reference, "mx1.example")

    def test_not_offered(self) -> None:
        """A man in the middle who removes STARTTLS from the offer gets nothing."""
        peer = ObligingPeer("8BITMIME")
        unusable = self.unusable(peer, ObligingPeer(), tls_settings=FORCED, earlier=5)
        self.assertEqual(
            str(unusable.reply),
            "451 4.7.4 TLS is required, but mx1.example does not offer STARTTLS",
        )
        self.assertEqual(peer.commands, ["EHLO mta.example", "QUIT"])
        self.assertIn("force_tls_hosts", unusable.decision.reasons[0])

    def test_helo_alone(self) -> None:
        """A server that knows no EHLO cannot do it either."""
        unusable = self.unusable(ObligingPeer(EHLO="502 What?"), tls_settings=FORCED)
        self.assertEqual(str(unusable.reply.enhanced), "4.7.4")

    def test_refused(self) -> None:
        """The server's own words are in the reason."""
        peer = ObligingPeer("STARTTLS", STARTTLS="454 4.7.0 TLS not available")
        unusable = self.unusable(peer, tls_settings=FORCED, earlier=5)
        self.assertEqual(
            str(unusable.reply),
            "451 4.7.4 TLS is required, but mx1.example "
            "refused STARTTLS: 454 4.7.0 TLS not available",
        )

    def test_a_failed_handshake_never_falls_back(self) -> None:
        """Neither at the first attempt nor at any other."""
        for earlier in (0, 1, 12):
            self.setUp()
            peer = ObligingPeer("STARTTLS", handshake=False)
            unusable = self.unusable(peer, ObligingPeer(), tls_settings=FORCED, earlier=earlier)
            self.assertIn("TLS is required, but it failed with mx1.example", str(unusable.reply))
            self.assertEqual(len(self.network.attempts), 1)

    def test_the_reason_of_the_certificate(self) -> None:
        """The log and the report say what is wrong with it."""
        self.tls = PretendedTLS(failure="certificate is for other.example, not mx1.example")
        peer = ObligingPeer("STARTTLS", handshake=False)
        unusable = self.unusable(peer, tls_settings=FORCED)
        self.assertIn("certificate is for other.example, not mx1.example", str(unusable.reply))

    def test_a_summary_that_is_not_verified_counts(self) -> None:
        """Should the handshake ever let one pass, nothing is sent all the same."""
        self.tls = PretendedTLS(TLSSummary("TLSv1.3", "X", 256, verify_error="expired"))
        peer = ObligingPeer("STARTTLS")
        unusable = self.unusable(peer, ObligingPeer(), tls_settings=FORCED, earlier=3)
        self.assertIn("expired", str(unusable.reply))
        self.assertEqual(self.lines(peer)[-1], ("STARTTLS", False))
        self.assertEqual(len(self.network.attempts), 1)

    def test_enable_tls_off_sends_nothing(self) -> None:
        """The two settings contradict each other; the safe one wins."""
        unusable = self.unusable(
            ObligingPeer("STARTTLS"),
            tls_settings=FORCED,
            settings=OutboundSettings(enable_tls=False),
        )
        self.assertEqual(self.network.attempts, [])
        self.assertIn("enable_tls is off", str(unusable.reply))


class StrictTests(ConnectorTestCase):
    """rejectUnauthorized of [outbound]: TLS if offered, and then with a valid certificate."""

    def test_not_offered_goes_in_the_clear(self) -> None:
        """It is about certificates, not about TLS."""
        self.assertIsNone(self.opened(ObligingPeer("SIZE"), tls_settings=STRICT).secured)

    def test_a_wrong_certificate_never_falls_back(self) -> None:
        """Else the check would protect from nobody."""
        peer = ObligingPeer("STARTTLS", handshake=False)
        self.unusable(peer, ObligingPeer(), tls_settings=STRICT, earlier=5)
        self.assertEqual(len(self.network.attempts), 1)


class CloseTests(ConnectorTestCase):
    """The server stops."""

    def test_connections_that_linger_are_cut(self) -> None:
        """No socket is left over from a server that does not answer QUIT."""
        connector = self.connector()
        opened = self.open(ObligingPeer(QUIT=SILENCE), connector=connector)
        connection = self.successResultOf(opened)
        assert isinstance(connection, Opened)
        connection.protocol.quit()
        self.network.flush()
        self.assertTrue(self.network.transports[0].connected)
        connector.close()
        self.network.flush()
        self.assertNothingIsLeft()
