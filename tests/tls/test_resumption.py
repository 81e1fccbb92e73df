"""Sessions that clients resume with harakatls.tls.server, and what is known of them then."""

from cryptography.x509 import load_pem_x509_certificate

from harakatls.connection import TLSSummary
from harakatls.tls.layer import TLSBroken
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS
from tests.tls.peers import (
    TLS_1_3,
    VERSIONS,
    Outcome,
    authority,
    begun,
    client_context,
    client_on,
    hello_of,
    issued,
    peer_of,
    pem_files,
    plain_client,
    shake_hands,
    to_us,
)
from tests.tls.server_case import ANCHOR, DEFAULT, ME, ServerTestCase, summary_of


class ResumptionTests(ServerTestCase):
    """Session tickets."""

    def resume(
        self,
        tls: ServerTLS,
        version: int,
        first: tuple[str | None, int],
        second: tuple[str | None, int],
        cert: bool = False,
    ) -> TLSSummary | None:
        """
        A session that began with the first (name, port) is offered at the second.

        @return: what the server knows then; None where it refused.
        """
        _, went_on = self.offer(tls, version, first, second, cert)
        return summary_of(tls, went_on) if went_on.succeeded else None

    def offer(
        self,
        tls: ServerTLS,
        version: int,
        first: tuple[str | None, int],
        second: tuple[str | None, int],
        cert: bool = False,
    ) -> tuple[Outcome, Outcome]:
        """@return: both handshakes."""
        showing = issued("client.example").configure_cert if cert else None
        context = client_context(version, showing)
        began = to_us(tls, client_on(context, first[0]), peer_of(first[1]))
        self.assertTrue(began.succeeded)
        session = began.client.get_session()
        began.client.shutdown()
        assert session is not None
        client = client_on(context, second[0])
        client.set_session(session)
        return began, to_us(tls, client, peer_of(second[1]))

    def test_resumed(self) -> None:
        """A client that comes again saves us the costly part of the handshake."""
        tls = self.directory()
        for version in VERSIONS:
            for name in (None, "named.example"):
                summary = self.resume(tls, version, (name, 25), (name, 25))
                assert summary is not None
                self.assertTrue(summary.resumed)
                self.assertEqual(summary.server_name, name)
                self.assertFalse(summary_of(tls, to_us(tls, plain_client(version, name))).resumed)

    def assert_full(
        self,
        tls: ServerTLS,
        version: int,
        first: tuple[str | None, int],
        second: tuple[str | None, int],
        cert: bool = False,
    ) -> None:
        summary = self.resume(tls, version, first, second, cert)
        assert summary is not None, (first, second)
        self.assertFalse(summary.resumed, (first, second))

    def test_not_across_names(self) -> None:
        """
        A session made under one name is none under another (RFC 6066 section 3), be it one of the
        same certificate, below the same wildcard, or as unknown; and nobody is refused for that.
        """
        tls = self.directory()
        names = (
            *((None, "named.example"), ("named.example", "a.wild.example")),
            *(("named.example", "other.example"), ("a.wild.example", "b.wild.example")),
            *((None, ME), (ME, None), ("unknown.example", None), ("x.example", "y.example")),
        )
        for version in VERSIONS:
            for first, second in names:
                for cert in (False, True):
                    self.assert_full(tls, version, (first, 25), (second, 25), cert)

    def test_every_name(self) -> None:
        """Whatever the name, who comes again under it saves the costly part."""
        tls = self.directory()
        names = ((ME, ME), ("a.wild.example", "A.wild.example."), ("unknown.example",) * 2)
        for version in VERSIONS:
            for first, second in names:
                summary = self.resume(tls, version, (first, 465), (second, 465), cert=True)
                assert summary is not None
                self.assertTrue(summary.resumed)

    def test_not_across_listeners(self) -> None:
        """A session of one port is none on another, be the rules there the same."""
        tls = self.directory()
        for version in VERSIONS:
            for name in (None, "named.example", "a.wild.example"):
                for first, second in ((25, 465), (465, 587), (587, 25)):
                    for cert in (False, True):
                        self.assert_full(tls, version, (name, first), (name, second), cert)

    def test_others_meanwhile(self) -> None:
        """Which session is whose does not hang on who came in between, or is under way."""
        tls = self.directory()
        for version in VERSIONS:
            context = client_context(version)
            client, others = client_on(context), (plain_client(), plain_client(None, ME))
            hello = hello_of(client)
            server = begun(tls.connection_creator(peer_of(25), hello), hello)
            for port, other in zip((465, 587), others, strict=True):
                self.assertTrue(to_us(tls, other, peer_of(port)).succeeded)
            began = shake_hands(client, server)
            self.assertTrue(began.succeeded)
            session = client.get_session()
            client.shutdown()
            assert session is not None
            for port, resumed in ((465, False), (25, True)):
                again = client_on(context)
                again.set_session(session)
                outcome = to_us(tls, again, peer_of(port))
                self.assertTrue(outcome.succeeded)
                self.assertEqual(summary_of(tls, outcome).resumed, resumed)

    def test_hello_that_cannot_be_read(self) -> None:
        """
        Where OpenSSL alone knows the name, there is no session to come back to: it would be one of
        whoever is meant by no name.
        """
        tls = self.directory()
        for version in VERSIONS:
            for name in (None, "named.example"):
                for before, after in ((b"", None), (None, b""), (b"", b"")):
                    context = client_context(version)
                    began = to_us(tls, client_on(context, name), hello=before)
                    session = began.client.get_session()
                    began.client.shutdown()
                    assert session is not None
                    again = client_on(context, name)
                    again.set_session(session)
                    outcome = to_us(tls, again, hello=after)
                    self.assertTrue(outcome.succeeded)
                    self.assertFalse(summary_of(tls, outcome).resumed)

    def test_not_into_a_stricter_port(self) -> None:
        """Nobody gets around a required certificate with a session of another port."""
        ini = "requireAuthorized[]=465\nrequireAuthorized[]=587\nca=ca.pem\necdhCurve=auto\n"
        tls = self.directory({"ca.pem": authority("Other Trust").cert_pem.bytes()}, ini)
        for version in VERSIONS:
            self.assertIsNone(self.resume(tls, version, (None, 25), (None, 465), cert=True))
        tls = self.directory({"ca.pem": authority().cert_pem.bytes()}, ini)
        for version in VERSIONS:
            for first, second in ((25, 465), (465, 25), (465, 587)):
                self.assert_full(tls, version, (None, first), (None, second), cert=True)

    def test_verdict_is_kept(self) -> None:
        """A resumed client is as verified, or not, as it was, though OpenSSL says it is fine."""
        for trusted in (True, False):
            anchor = authority() if trusted else authority("Other Trust")
            ini = "ca=ca.pem\necdhCurve=auto\n"
            tls = self.directory({"ca.pem": anchor.cert_pem.bytes()}, ini)
            for version in VERSIONS:
                summary = self.resume(tls, version, (None, 25), (None, 25), cert=True)
                assert summary is not None
                self.assertTrue(summary.resumed)
                self.assertEqual(summary.verified, trusted)
                self.assertEqual(summary.verify_error is None, trusted)
                self.assertEqual(summary.peer_names, ("client.example",))

    def test_required_certificate(self) -> None:
        """Where it is required, a session is resumed only by who had one, and says so."""
        ini = "rejectUnauthorized=true\nca=ca.pem\necdhCurve=auto\n"
        tls = self.directory({"ca.pem": authority().cert_pem.bytes()}, ini)
        for version in VERSIONS:
            summary = self.resume(tls, version, (None, 25), (None, 25), cert=True)
            assert summary is not None
            self.assertTrue(summary.resumed)
            self.assertTrue(summary.verified)

    def test_expired_certificate(self) -> None:
        """
        A session outlives its certificate, since in TLS 1.3 each connection brings a new ticket. A
        client whose certificate has expired is told as such, and not let in where it needs one.
        """
        leaf = issued("client.example")
        expiry = load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).not_valid_after_utc
        for reject in (False, True):
            settings = InboundTLS(
                **pem_files(DEFAULT), anchors=(ANCHOR,), reject_unauthorized=reject
            )
            for version in VERSIONS:
                tls = ServerTLS(settings, ME, seconds=lambda: self.seconds)
                self.seconds = expiry.timestamp() - 1
                _, again = self.offer(tls, version, (None, 25), (None, 25), cert=True)
                self.assertTrue(summary_of(tls, again).resumed)
                self.assertTrue(summary_of(tls, again).verified)
                self.seconds += 2
                if reject:
                    problem = self.assertRaises(TLSBroken, summary_of, tls, again)
                    self.assertIn("expired", str(problem))
                else:
                    self.assertFalse(summary_of(tls, again).verified)
                    self.assertIn("expired", summary_of(tls, again).verify_error or "")

    def test_verdict_is_forgotten(self) -> None:
        """Of a session that another process began we say that we did not look."""
        files = {"ca.pem": authority().cert_pem.bytes()}
        tls = self.directory(files, "ca=ca.pem\necdhCurve=auto\n")
        self.patch(tls._snapshot.judgements, "keep", lambda *_: None)
        summary = self.resume(tls, TLS_1_3, (None, 25), (None, 25), cert=True)
        assert summary is not None
        self.assertFalse(summary.verified)
        self.assertIn("resumed", summary.verify_error or "")
