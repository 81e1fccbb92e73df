"""Tests for harakatls.tls.client."""

from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.connection import TLSSummary
from harakatls.tls import handshake
from harakatls.tls.client import ClientTLS, ConnectionCreator, name_problem
from harakatls.tls.files import PEMFile
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.settings import OutboundTLS
from tests.tls.peers import (
    VERSIONS,
    Outcome,
    Transport,
    authority,
    intermediate,
    issued,
    key_octets,
    plain_server,
    self_signed,
    shake_hands,
    with_chain,
)

HOST = "mx.example.net"
GOOD = with_chain(HOST)
MAY = Decision(SecurityLevel.MAY, (), HOST, HOST)
VERIFY = Decision(SecurityLevel.VERIFY, (), HOST, HOST, authenticated=True)
SETTINGS = OutboundTLS(anchors=(PEMFile("ca.pem", authority().cert_pem.bytes()),))


YESTERDAY = datetime.now(UTC) - timedelta(days=1)
OTHER_ROOT = authority("Other Trust").cert_pem.bytes()
OWN_LEAF = issued(HOST, by="Other Trust")
KEY, OWN = key_octets(OWN_LEAF), OWN_LEAF.cert_chain_pems[0].bytes()


def without_issuers(leaf: trustme.LeafCert) -> tuple[bytes, bytes]:
    return key_octets(leaf), leaf.cert_chain_pems[0].bytes()


class ClientTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.tls = ClientTLS(SETTINGS)

    def shaken(
        self, decision: Decision, server: SSL.Connection
    ) -> tuple[Outcome, ConnectionCreator]:
        creator = self.tls.connection_creator(decision)
        client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
        client.set_connect_state()
        server.set_accept_state()
        return shake_hands(client, server), creator

    def summary(self, outcome: Outcome, decision: Decision) -> TLSSummary:
        self.assertTrue(outcome.succeeded)
        return self.tls.summary(Transport(outcome.client), decision)


def server_with(key: bytes, *certificates: bytes) -> SSL.Connection:
    """A server that shows what trustme cannot make."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(x509.load_pem_x509_certificate(certificates[0]))
    context.use_privatekey(load_pem_private_key(key, None))  # type: ignore[arg-type]
    for issuer in certificates[1:]:
        context.add_extra_chain_cert(x509.load_pem_x509_certificate(issuer))
    return SSL.Connection(context, None)


class HandshakeTests(ClientTestCase):
    """Certificates, judged in the handshake."""

    def test_interface(self) -> None:
        """startTLS takes what the connector gives it."""
        verifyObject(IOpenSSLClientConnectionCreator, self.tls.connection_creator(MAY))

    def test_good(self) -> None:
        """A certificate that is right is told as verified, whether that was required or not."""
        for version in VERSIONS:
            for decision in (MAY, VERIFY):
                outcome, creator = self.shaken(decision, plain_server(GOOD, version))
                summary = self.summary(outcome, decision)
                self.assertTrue(summary.verified)
                self.assertIsNone(summary.verify_error)
                self.assertIsNone(creator.failure)
                self.assertEqual(summary.server_name, HOST)
                self.assertEqual(summary.peer_names, (HOST,))
                self.assertEqual(summary.protocol, VERSIONS[version])
                self.assertEqual(len(summary.fingerprint), 64)

    def test_wrong(self) -> None:
        """
        What is wrong is told in words, at MAY in the summary, at VERIFY as the reason why the
        handshake failed: before the server could be sent anything.
        """
        expired = authority().issue_cert(HOST, not_after=YESTERDAY)
        other_name = f"certificate is for else.example, not {HOST}"
        unknown = "unable to get local issuer certificate (20)"
        for server, words in (
            (lambda: plain_server(issued("else.example")), other_name),
            (lambda: plain_server(issued(HOST, by="Other Trust")), unknown),
            (lambda: plain_server(expired), "certificate has expired (10)"),
            (lambda: server_with(*self_signed(HOST, HOST)), "self-signed certificate (18)"),
            (
                lambda: server_with(KEY, OWN, OTHER_ROOT),
                "self-signed certificate in certificate chain (19)",
            ),
            (lambda: server_with(*without_issuers(GOOD)), unknown),
        ):
            with self.subTest(words=words):
                outcome, creator = self.shaken(MAY, server())
                summary = self.summary(outcome, MAY)
                self.assertFalse(summary.verified)
                self.assertEqual(summary.verify_error, words)
                self.assertIsNone(creator.failure)
                outcome, creator = self.shaken(VERIFY, server())
                self.assertFalse(outcome.succeeded)
                self.assertEqual(creator.failure, words)
                self.assertIsNotNone(outcome.server_error)

    def test_nothing_is_sent(self) -> None:
        """To a server with a wrong certificate not one octet of the mail goes."""
        for version in VERSIONS:
            outcome, _ = self.shaken(VERIFY, plain_server(issued("else.example"), version))
            with self.assertRaises(SSL.Error):
                outcome.client.send(b"EHLO me.example\r\n")
            with self.assertRaises(SSL.Error):
                outcome.server.recv(100)

    def test_no_reference(self) -> None:
        """Where there is no name that could be right, none is."""
        decision = Decision(SecurityLevel.VERIFY, (), None, None, authenticated=True)
        outcome, creator = self.shaken(decision, plain_server(GOOD))
        self.assertFalse(outcome.succeeded)
        self.assertIn("no name", creator.failure or "")

    def test_server_name(self) -> None:
        """The name goes with the hello; an address never does."""
        outcome, _ = self.shaken(MAY, plain_server(GOOD))
        self.assertEqual(outcome.server.get_servername(), HOST.encode())
        decision = Decision(SecurityLevel.MAY, (), None, "192.0.2.7")
        outcome, _ = self.shaken(decision, plain_server(GOOD))
        self.assertIsNone(outcome.server.get_servername())

    def test_other_failure(self) -> None:
        """A handshake that fails for another reason does not blame the certificate."""
        outcome, creator = self.shaken(VERIFY, plain_server(GOOD, SSL.TLS1_1_VERSION))
        self.assertFalse(outcome.succeeded)
        self.assertIsNone(creator.failure)

    def test_mistake_of_ours(self) -> None:
        """An exception in judging ends in the log: at MAY mail goes on, at VERIFY it waits."""

        def broken(*_: object) -> str:
            raise ZeroDivisionError

        self.patch(handshake, "verify_error_text", broken)
        for decision in (MAY, VERIFY):
            server = plain_server(issued(HOST, by="Other Trust"))
            outcome, creator = self.shaken(decision, server)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)) > 0, True)
            self.assertEqual(outcome.succeeded, decision is MAY)
            self.assertNotIsInstance(outcome.client_error, ZeroDivisionError)
            if decision is MAY:
                self.assertFalse(self.summary(outcome, decision).verified)
            else:
                self.assertIn("could not be judged", creator.failure or "")

    def test_shared_contexts(self) -> None:
        """All connections of one level share a context: making one for each would be slow."""
        contexts = set()
        for decision in (MAY, VERIFY):
            for _ in range(3):
                creator = self.tls.connection_creator(decision)
                connection = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
                contexts.add(connection.get_context())
        self.assertEqual(len(contexts), 2)

    def test_verdicts_do_not_mix(self) -> None:
        """What one server's certificate was found to be does not count for the next."""
        bad, _ = self.shaken(MAY, plain_server(issued(HOST, by="Other Trust")))
        good, _ = self.shaken(MAY, plain_server(GOOD))
        self.assertTrue(self.summary(good, MAY).verified)
        self.assertFalse(self.summary(bad, MAY).verified)

    def test_system_anchors(self) -> None:
        """Without ca, those are trusted whom the system trusts: not an authority of our own."""
        self.tls = ClientTLS(OutboundTLS())
        self.assertEqual(self.tls.problems, ())
        outcome, _ = self.shaken(MAY, plain_server(GOOD))
        self.assertFalse(self.summary(outcome, MAY).verified)

    def test_partial_trust(self) -> None:
        """An intermediate authority named in ca is not enough: the root has to be there."""
        middle = intermediate("ECDSA").cert_pem.bytes()
        self.tls = ClientTLS(OutboundTLS(anchors=(PEMFile("ca.pem", middle),)))
        outcome, _ = self.shaken(VERIFY, plain_server(GOOD))
        self.assertFalse(outcome.succeeded)


class NameProblemTests(SynchronousTestCase):
    """Is this certificate for that host?"""

    def problem(self, reference: str | None, common_name: str | None, *names: str) -> str | None:
        _, pem = self_signed(common_name, *names)
        return name_problem(x509.load_pem_x509_certificate(pem), reference)

    def test_right(self) -> None:
        """The exact name in any case, and a wildcard for one label."""
        self.assertIsNone(self.problem("mx.example.net", None, "MX.Example.net"))
        self.assertIsNone(self.problem("mx.example.net", "x", "a.example", "*.example.net"))
        self.assertIsNone(self.problem("mail_in.example.net", None, "*.example.net"))

    def test_wrong(self) -> None:
        """Neither more than one label, nor the parent, nor a part of a label."""
        for names in (("*.net",), ("example.net",), ("*.a.example.net",), ("m*.example.net",)):
            self.assertIsNotNone(self.problem("mx.example.net", None, *names))

    def test_text(self) -> None:
        """The first names are told, and how many more there are."""
        self.assertEqual(
            self.problem("mx.example.net", None, "a.example", "b.example"),
            "certificate is for a.example, b.example, not mx.example.net",
        )
        many = [f"{n}.example" for n in range(9)]
        self.assertEqual(
            self.problem("mx.example.net", None, *many),
            "certificate is for 0.example, 1.example, 2.example and 6 more, not mx.example.net",
        )

    def test_common_name(self) -> None:
        """The common name alone does not count any more (RFC 9525), and that is told."""
        found = self.problem("mx.example.net", "mx.example.net")
        self.assertIn("no subject alternative name", found or "")
        found = self.problem("mx.example.net", None)
        self.assertIn("no subject alternative name", found or "")

    def test_addresses(self) -> None:
        """An address is compared with addresses, IPv4 and IPv6."""
        certificate = x509.load_pem_x509_certificate(
            issued("192.0.2.7", "2001:db8::7").cert_chain_pems[0].bytes()
        )
        self.assertIsNone(name_problem(certificate, "192.0.2.7"))
        self.assertIsNone(name_problem(certificate, "2001:db8::7"))
        self.assertEqual(
            name_problem(certificate, "192.0.2.8"),
            "certificate is for 192.0.2.7, 2001:db8::7, not 192.0.2.8",
        )

    def test_hostile_names(self) -> None:
        """What a peer writes into its certificate cannot forge a line of our log."""
        found = self.problem("mx.example.net", None, "a\r\nMAIL FROM:<x>", "b" * 5000)
        assert found is not None
        self.assertTrue(found.isprintable())
        self.assertLess(len(found), 400)
