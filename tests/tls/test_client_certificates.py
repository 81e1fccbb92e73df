"""What clients have to show: options of tls.ini, each with a handshake that would end otherwise."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import trustme
from OpenSSL import SSL

from harakatls.connection import Connection, TLSSummary
from harakatls.tls.server import ServerTLS
from tests.tls.options_case import OptionsTestCase
from tests.tls.peers import (
    TLS_1_3,
    VERSIONS,
    Outcome,
    Transport,
    authority,
    issued,
    key_octets,
    peer_of,
    plain_client,
    self_signed,
    to_us,
    with_chain,
)


class ClientCertificateTests(OptionsTestCase):
    """requestCert, rejectUnauthorized, requireAuthorized and the ca for clients."""

    CLIENTS = (
        (None, None, False),
        (issued("client.example"), None, True),
        (issued("client.example", by="Other Trust"), "certificate", False),
    )

    def client(self, leaf: trustme.LeafCert | None, version: int | None = None) -> SSL.Connection:
        """A client that shows *leaf*, if asked for a certificate."""
        return plain_client(version, configure=leaf.configure_cert if leaf else None)

    def shaken(
        self, ini: str, leaf: trustme.LeafCert | None, version: int, peer: Connection
    ) -> tuple[Outcome, TLSSummary | None]:
        tls = self.server(ini)
        outcome = to_us(tls, self.client(leaf, version), peer)
        summary = None
        if outcome.succeeded:
            summary = tls.summary(Transport(outcome.server))
        return outcome, summary

    def each(self) -> Iterator[tuple[int, Connection]]:
        """Each version, by STARTTLS and by TLS from the start."""
        for version in VERSIONS:
            for port, implicit in ((587, False), (465, True)):
                yield version, peer_of(port, implicit_tls=implicit)

    def test_request_cert(self) -> None:
        """Clients are asked by default; whoever shows none or a bad one is served, and recorded."""
        for version, peer in self.each():
            for leaf, problem, verified in self.CLIENTS:
                outcome, summary = self.shaken("ca=ca.pem\n", leaf, version, peer)
                self.assert_succeeded(outcome)
                assert summary is not None
                self.assertEqual(summary.verified, verified)
                self.assertEqual(summary.peer_names, ("client.example",) if leaf else ())
                self.assertEqual(len(summary.fingerprint), 64 if leaf else 0)
                if problem is None:
                    self.assertIsNone(summary.verify_error)
                else:
                    self.assertIn(problem, summary.verify_error or "")

    def test_not_requested(self) -> None:
        """requestCert=false asks nobody."""
        for version, peer in self.each():
            ini = "ca=ca.pem\nrequestCert=false\n"
            outcome, summary = self.shaken(ini, issued("client.example"), version, peer)
            self.assert_succeeded(outcome)
            assert summary is not None
            self.assertEqual((summary.verified, summary.fingerprint), (False, ""))

    def test_reject_unauthorized(self) -> None:
        """
        No certificate, or one that is not trusted: no service, by STARTTLS as little as on 465
        (Haraka takes any certificate after STARTTLS, #3451).
        """
        for version, peer in self.each():
            for leaf, _, verified in self.CLIENTS:
                ini = "ca=ca.pem\n[inbound]\nrejectUnauthorized=true\n"
                outcome, summary = self.shaken(ini, leaf, version, peer)
                self.assertEqual(outcome.succeeded, verified)
                if summary is not None:
                    self.assertTrue(summary.verified)

    def test_require_authorized(self) -> None:
        """The same on listed ports alone, semicolon of the document and all."""
        ini = "ca=ca.pem\nrequireAuthorized[]=465;\nrequireAuthorized[]=587;\n"
        for version in VERSIONS:
            for port, strict in ((25, False), (465, True), (587, True)):
                for leaf, _, verified in self.CLIENTS:
                    outcome, _ = self.shaken(ini, leaf, version, peer_of(port))
                    self.assertEqual(outcome.succeeded, verified or not strict)

    def test_required_without_request(self) -> None:
        """A port that requires a certificate asks for it, whatever requestCert says."""
        ini = "ca=ca.pem\nrequestCert=false\nrequireAuthorized[]=465\n"
        for version in VERSIONS:
            for leaf, _, verified in self.CLIENTS:
                outcome, _ = self.shaken(ini, leaf, version, peer_of(465))
                self.assertEqual(outcome.succeeded, verified)

    def test_expired(self) -> None:
        """A client whose certificate has expired is not let in where it is required."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        leaf = authority().issue_cert("client.example", not_after=yesterday)
        for version in VERSIONS:
            _, summary = self.shaken("ca=ca.pem\n", leaf, version, peer_of())
            assert summary is not None
            self.assertIn("expired", summary.verify_error or "")
            ini = "ca=ca.pem\nrejectUnauthorized=true\n"
            self.assertFalse(self.shaken(ini, leaf, version, peer_of())[0].succeeded)

    def test_authorities_are_named(self) -> None:
        """Clients are told whose certificates count, so that they can choose one."""
        outcome = self.inbound("ca=ca.pem\n")
        (name,) = outcome.client.get_client_ca_list()
        self.assertEqual(name.organizationName, "Harbour Trust")
        self.assertEqual(self.inbound("").client.get_client_ca_list(), [])

    def test_ca_of_inbound(self) -> None:
        """The clients' authorities may stand in [inbound]."""
        leaf = issued("client.example")
        ini = "rejectUnauthorized=true\nca=other_ca.pem\n"
        outcome, _ = self.shaken(ini, leaf, TLS_1_3, peer_of())
        self.assertFalse(outcome.succeeded)
        outcome, _ = self.shaken(f"{ini}[inbound]\nca=ca.pem\n", leaf, TLS_1_3, peer_of())
        self.assert_succeeded(outcome)

    def test_ca_cannot_be_read(self) -> None:
        """Where ca names nothing usable, no client is trusted; the others are served."""
        tls = ServerTLS(self.settings("ca=none.pem\n").inbound, "mx.example.com")
        self.assertTrue(tls.ready())
        self.assertEqual(tls.problems, ("ca: none.pem: there is no such file",))
        outcome = to_us(tls, self.client(issued("client.example")))
        self.assert_succeeded(outcome)
        self.assertFalse(tls.summary(Transport(outcome.server)).verified)

    def test_ca_beside_certificates(self) -> None:
        """In config/tls what ca names is no bundle without a key, nor told of twice if broken."""
        _, pinned = self_signed("client.example", "client.example")  # says not that it is a CA
        for ini in (
            "ca=tls/ca.pem\n",
            "[outbound]\nca=tls/ca.pem\n",
            "[smtp_forward]\nca=tls/ca.pem\n",
        ):
            tls = ServerTLS(self.settings(ini, {"tls/ca.pem": pinned}).inbound, "mx.example.com")
            self.assertEqual(tls.problems, ())
        (problem,) = ServerTLS(
            self.settings("", {"tls/ca.pem": pinned}).inbound, "x.example"
        ).problems
        self.assertIn("no key belongs", problem)
        tls = ServerTLS(self.settings("ca=tls/ca.pem\n", {"tls/ca.pem": b"x"}).inbound, "x.example")
        (problem,) = tls.problems
        self.assertTrue(problem.startswith("ca: tls/ca.pem: "), problem)

    def test_ca_is_an_issuer_too(self) -> None:
        """An authority in config/tls completes the chains there, also if ca names it."""
        leaf = with_chain("named.example")
        files = {
            "tls/leaf.pem": key_octets(leaf) + leaf.cert_chain_pems[0].bytes(),
            "tls/ca.pem": leaf.cert_chain_pems[1].bytes(),
        }
        tls = ServerTLS(self.settings("ca=tls/ca.pem\n", files).inbound, "mx.example.com")
        self.assertEqual(tls.problems, ())
        outcome = to_us(tls, plain_client(server_name="named.example"))
        self.assertEqual(len(outcome.client.get_peer_cert_chain(as_cryptography=True) or ()), 2)
