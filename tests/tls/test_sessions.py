"""Tests for harakatls.tls.sessions, and for what becomes of sessions in handshakes."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from attrs import evolve
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.mail.route import NextHop
from harakatls.tls.client import ClientTLS
from harakatls.tls.files import PEMFile
from harakatls.tls.handshake import Judgement
from harakatls.tls.parameters import TLSVersion
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.server import ServerTLS
from harakatls.tls.sessions import LONGEST_LIFE, MOST_FOR_ONE, KeptSession, SessionKey, Sessions
from harakatls.tls.settings import InboundTLS, OutboundTLS
from tests.tls.peers import (
    TLS_1_3,
    VERSIONS,
    Outcome,
    Transport,
    authority,
    issued,
    peer_of,
    pem_files,
    server_context,
    shake_hands,
    to_us,
)

HOST = "mx.example.net"
GOOD = issued(HOST)
HOP = NextHop("192.0.2.7", "example.org", mx_name=HOST)
MAY = Decision(SecurityLevel.MAY, (), HOST, HOST)
VERIFY = Decision(SecurityLevel.VERIFY, (), HOST, HOST, authenticated=True)
SETTINGS = OutboundTLS(anchors=(PEMFile("ca.pem", authority().cert_pem.bytes()),))
NOW = float(int(time.time()))


class SessionTestCase(SynchronousTestCase):
    """Handshakes one after another, each closed as it should be."""

    def setUp(self) -> None:
        self.seconds = NOW
        self.tls = ClientTLS(SETTINGS, lambda: self.seconds)

    def shaken(
        self,
        context: SSL.Context,
        decision: Decision = VERIFY,
        hop: NextHop | None = HOP,
        keep: bool = True,
        close: Callable[[SSL.Connection], object] = SSL.Connection.shutdown,
    ) -> TLSSummary:
        """@param keep: the server has answered something."""
        creator = self.tls.connection_creator(decision, hop)
        client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
        client.set_connect_state()
        server = SSL.Connection(context, None)
        server.set_accept_state()
        return self.finished(shake_hands(client, server), decision, keep, close)

    def finished(
        self,
        outcome: Outcome,
        decision: Decision,
        keep: bool = True,
        close: Callable[[SSL.Connection], object] = SSL.Connection.shutdown,
    ) -> TLSSummary:
        self.assertTrue(outcome.succeeded, outcome)
        transport = Transport(outcome.client)
        summary = self.tls.summary(transport, decision)
        if keep:
            self.tls.keep_session(transport)
        close(outcome.client)
        close(outcome.server)
        return summary


class ResumptionTests(SessionTestCase):
    """The second connection to a host."""

    def test_resumed(self) -> None:
        """It is resumed, and what was found at the first holds, in both versions."""
        for version, name in VERSIONS.items():
            context = server_context(GOOD, version)
            first = self.shaken(context)
            self.assertFalse(first.resumed)
            self.assertTrue(first.verified)
            for _ in range(5):
                again = self.shaken(context)
                self.assertTrue(again.resumed)
                self.assertTrue(again.verified)
                self.assertIsNone(again.verify_error)
                self.assertEqual(again.protocol, name)
                self.assertEqual(again.fingerprint, first.fingerprint)
                self.assertEqual(again.peer_names, (HOST,))

    def test_with_us(self) -> None:
        """Our own server takes its tickets back."""
        for version in VERSIONS:
            tls = ServerTLS(InboundTLS(**pem_files(GOOD)), HOST)
            tls_settings = evolve(
                SETTINGS.parameters,
                min_version=TLSVersion(version),
                max_version=TLSVersion(version),
            )
            self.tls = ClientTLS(evolve(SETTINGS, parameters=tls_settings), lambda: self.seconds)
            resumed = []
            for _ in range(3):
                creator = self.tls.connection_creator(VERIFY, HOP)
                client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
                resumed.append(self.finished(to_us(tls, client, peer_of()), VERIFY).resumed)
            self.assertEqual(resumed, [False, True, True])

    def test_not_verified_stays_so(self) -> None:
        """OpenSSL calls every resumed session valid; what was found wrong is told again."""
        for version in VERSIONS:
            context = server_context(issued("else.example"), version)
            first, again = self.shaken(context, MAY), self.shaken(context, MAY)
            self.assertTrue(again.resumed)
            self.assertFalse(again.verified)
            self.assertEqual(again.verify_error, first.verify_error)
            self.assertIn("else.example", again.verify_error or "")

    def test_another_policy(self) -> None:
        """A session is only for what it was made for: a stricter policy shakes hands in full."""
        others: list[tuple[NextHop, Decision]] = [
            (HOP, VERIFY),
            (HOP, evolve(MAY, authenticated=True)),
            (HOP, evolve(MAY, level=SecurityLevel.ENCRYPT)),
            (HOP, evolve(MAY, reference="192.0.2.7")),
            (HOP, evolve(MAY, server_name="other.example")),
            (HOP, evolve(MAY, identity=("aa",))),
            (evolve(HOP, host="192.0.2.8"), MAY),
            (evolve(HOP, port=2525), MAY),
        ]
        for version in VERSIONS:
            context = server_context(GOOD, version)
            for hop, decision in others:
                self.shaken(context, MAY)
                if decision.reference == HOST:
                    self.assertFalse(self.shaken(context, decision, hop).resumed)
                self.assertTrue(self.shaken(context, MAY).resumed)
                self.setUp()
        self.assertEqual(len({SessionKey.of(*other) for other in [*others, (HOP, MAY)]}), 9)

    def test_a_wrong_certificate_behind_a_lax_session(self) -> None:
        """What was let pass at MAY never is at VERIFY, by whatever session."""
        for version in VERSIONS:
            context = server_context(issued("else.example"), version)
            self.shaken(context, MAY)
            creator = self.tls.connection_creator(VERIFY, HOP)
            client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
            client.set_connect_state()
            server = SSL.Connection(context, None)
            server.set_accept_state()
            self.assertFalse(shake_hands(client, server).succeeded)
            self.assertIn("certificate is for else.example", creator.failure or "")

    def test_lost_tickets(self) -> None:
        """A server with new keys costs one full handshake, in which its certificate is judged."""
        for version in VERSIONS:
            self.shaken(server_context(GOOD, version))
            renewed = server_context(issued(HOST, kind="RSA"), version)
            found = self.shaken(renewed)
            self.assertFalse(found.resumed)
            self.assertTrue(found.verified)
            self.assertTrue(self.shaken(renewed).resumed)
            wrong = server_context(issued("else.example"), version)
            outcome = self.shaken(wrong, MAY)
            self.assertFalse(outcome.resumed or outcome.verified)

    def test_new_settings(self) -> None:
        """With new settings come new sessions, also where a connection was open meanwhile."""
        for version in VERSIONS:
            context = server_context(GOOD, version)
            self.shaken(context)

            def change(client: SSL.Connection, context: SSL.Context = context) -> None:
                if client.get_context() is not context:
                    self.tls.adopt(ClientTLS(SETTINGS, lambda: self.seconds))
                client.shutdown()

            self.assertTrue(self.shaken(context, close=change).resumed)
            self.assertFalse(self.shaken(context).resumed)

    def test_without_a_hop(self) -> None:
        """Who does not say with whom gets a full handshake, and leaves nothing."""
        context = server_context(GOOD)
        self.shaken(context)
        self.assertFalse(self.shaken(context, hop=None).resumed)
        self.assertTrue(self.shaken(context).resumed)

    def test_tickets_are_used_once(self) -> None:
        """RFC 8446 appendix C.4: else two connections could be told to be of one client."""
        for version in VERSIONS:
            context = server_context(GOOD, version)
            self.shaken(context)
            self.assertTrue(self.shaken(context, keep=False).resumed)
            self.assertFalse(self.shaken(context, keep=False).resumed)

    def test_no_new_ticket(self) -> None:
        """Where a resumed TLS 1.3 session has brought no new ticket, the old one is not kept."""
        context = server_context(GOOD, TLS_1_3)
        self.shaken(context)
        creator = self.tls.connection_creator(VERIFY, HOP)
        client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
        server = SSL.Connection(context, None)
        client.set_connect_state()
        server.set_accept_state()
        for side, other in ((client, server), (server, client)):
            self.assertRaises(SSL.WantReadError, side.do_handshake)
            other.bio_write(side.bio_read(1 << 16))
        client.do_handshake()  # and the tickets are still to come
        self.assertTrue(self.tls.summary(Transport(client), VERIFY).resumed)
        self.tls.keep_session(Transport(client))
        client.shutdown()
        self.assertFalse(self.shaken(context).resumed)

    def test_age(self) -> None:
        """However often it is resumed: after two hours the certificate is looked at again."""
        for version in VERSIONS:
            self.setUp()
            context = server_context(GOOD, version)
            self.shaken(context)
            self.seconds += LONGEST_LIFE / 2
            self.assertTrue(self.shaken(context).resumed)
            self.seconds += LONGEST_LIFE / 2 - 1
            self.assertTrue(self.shaken(context).resumed)
            self.seconds += 1
            self.assertFalse(self.shaken(context).resumed)

    def test_expiring_certificate(self) -> None:
        """No session outlives the certificate that it was made with."""
        # OpenSSL goes by the real time, which may be minutes later by now.
        soon = datetime.fromtimestamp(NOW + 3600, UTC)
        context = server_context(authority().issue_cert(HOST, not_after=soon), TLS_1_3)
        self.shaken(context)
        self.seconds += 3599
        self.assertTrue(self.shaken(context).resumed)
        self.seconds += 1
        self.assertFalse(self.shaken(context, MAY).resumed)
        creator = self.tls.connection_creator(VERIFY, HOP)
        self.assertIsNone(
            getattr(creator.clientConnectionForTLS(None), "offered", 0)  # type: ignore[arg-type]
        )

    def test_large(self) -> None:
        """A host with a chain or with tickets as large as can be does not fill the memory."""
        for version in VERSIONS:
            names = [f"{'x' * 60}.{'y' * 60}.n{number}.example" for number in range(130)]
            context = server_context(authority().issue_cert(HOST, *names), version)
            self.shaken(context)
            self.assertFalse(self.shaken(context).resumed)

    def test_cut_connection(self) -> None:
        """Of a connection that is cut, the session costs one full handshake at most."""
        for version in VERSIONS:
            context = server_context(GOOD, version)
            self.shaken(context, close=lambda side: None)
            self.shaken(context)
            self.assertTrue(self.shaken(context).resumed)


class StoreTests(SynchronousTestCase):
    """How many, and how long."""

    def setUp(self) -> None:
        self.sessions = Sessions(most=10)

    def kept(self, expiry: float = NOW + 1) -> KeptSession:
        return KeptSession(SSL.Session(), Judgement(True), expiry)

    def key(self, number: int) -> SessionKey:
        return SessionKey.of(evolve(HOP, port=number), MAY)

    def test_newest(self) -> None:
        """The newest first, each once."""
        one, two = self.kept(), self.kept()
        self.sessions.keep(self.key(1), one)
        self.sessions.keep(self.key(1), two)
        taken = [self.sessions.take(self.key(1), NOW) for _ in range(3)]
        self.assertEqual(taken, [two, one, None])
        self.assertEqual(len(self.sessions), 0)

    def test_too_old(self) -> None:
        """What is too old is gone, not only left."""
        self.sessions.keep(self.key(1), self.kept(NOW))
        self.sessions.keep(self.key(1), self.kept(NOW - 1))
        self.assertIsNone(self.sessions.take(self.key(1), NOW))
        self.assertEqual(len(self.sessions), 0)

    def test_bounds(self) -> None:
        """So many for one host, so many in all; the hosts not heard of for longest go."""
        for _ in range(20):
            self.sessions.keep(self.key(0), self.kept())
        self.assertEqual(len(self.sessions), MOST_FOR_ONE)
        for number in range(1, 100):
            self.sessions.keep(self.key(number), self.kept())
            if number > 3:
                again = self.sessions.take(self.key(3), NOW)
                assert again is not None
                self.sessions.keep(self.key(3), again)
            self.assertLessEqual(len(self.sessions), 10)
        self.assertIsNone(self.sessions.take(self.key(0), NOW))
        self.assertIsNone(self.sessions.take(self.key(50), NOW))
        self.assertIsNotNone(self.sessions.take(self.key(3), NOW))
        self.assertIsNotNone(self.sessions.take(self.key(99), NOW))
        self.assertEqual(len(self.sessions), 8)
