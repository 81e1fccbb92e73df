"""
The TLS document about the handshake: from ciphers to requestOCSP, in its order.
"""

from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography.x509 import ocsp
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed

from harakatls.tls.responder import NoResponse
from harakatls.tls.stapling import Stapler
from tests.tls.documented import (
    GOOD_CLIENT,
    OTHER,
    SMTP,
    SMTPS,
    SUBMISSION,
    UNTRUSTED_CLIENT,
    WAYS,
    Configure,
    Documented,
    DocumentTestCase,
    Visit,
)
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS, ciphers, groups, key_pem
from tests.tls.responding import DAY, URL, leaf, respond, root

CIPHERS = (
    "ciphers=EECDH+AESGCM:EDH+aRSA+AESGCM:EECDH+AES256:EDH+aRSA+AES256:EECDH+AES128:"
    "EDH+aRSA+AES128:RSA+AES:RSA+3DES\n"
)
OLD = "ALL:@SECLEVEL=0"
OURS = "ca=ca.pem\n"  # the authority of these tests' clients


class CipherTests(DocumentTestCase):
    """ciphers."""

    def test_example(self) -> None:
        """The list of the document is a list of what is allowed: all else is refused."""
        server = self.server(f"key=rsa.key\ncert=rsa.crt\n{CIPHERS}")
        free = self.server("key=rsa.key\ncert=rsa.crt\n")
        chacha = ciphers("ECDHE-RSA-CHACHA20-POLY1305")
        for port in WAYS.values():
            for name in ("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "AES256-SHA"):
                visit = self.assert_served(server.visit(port, TLS_1_2, configure=ciphers(name)))
                self.assertEqual(visit.tls.get_cipher_name(), name)
            self.assert_refused(server.visit(port, TLS_1_2, configure=chacha), "handshake failure")
            self.assert_served(free.visit(port, TLS_1_2, configure=chacha))
            self.assert_served(server.visit(port, TLS_1_3))

    def test_tls_1_3(self) -> None:
        """Ours: names that begin with TLS_ are the list for TLS 1.3."""
        server = self.server("ciphers=ECDHE+AESGCM:TLS_CHACHA20_POLY1305_SHA256\n")
        for port in WAYS.values():
            visit = self.assert_served(server.visit(port, TLS_1_3))
            self.assertEqual(visit.tls.get_cipher_name(), "TLS_CHACHA20_POLY1305_SHA256")
            assert visit.secured is not None
            self.assertEqual(visit.secured.cipher, "TLS_CHACHA20_POLY1305_SHA256")


class MinVersionTests(DocumentTestCase):
    """minVersion."""

    def test_example(self) -> None:
        """`` minVersion=TLSv1.1 ``, blanks and all: TLS 1.1 is served, TLS 1.0 is not."""
        server = self.server(" minVersion=TLSv1.1 \n", warnings=1)
        for port in WAYS.values():
            for version in (SSL.TLS1_1_VERSION, TLS_1_2, TLS_1_3):
                self.assert_served(server.visit(port, version, configure=ciphers(OLD)))
            visit = server.visit(port, SSL.TLS1_VERSION, configure=ciphers(OLD))
            self.assert_refused(visit, "version")

    def test_unset(self) -> None:
        """Unset, it is TLS 1.2, as in the Node.js of today."""
        server = self.server()
        for port in WAYS.values():
            for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
                visit = server.visit(port, version, configure=ciphers(OLD))
                self.assert_refused(visit, "version")
            self.assert_served(server.visit(port, TLS_1_2))

    def test_higher(self) -> None:
        """TLSv1.3 shuts TLS 1.2 out."""
        server = self.server("minVersion=TLSv1.3\n")
        for port in WAYS.values():
            self.assert_refused(server.visit(port, TLS_1_2), "version")
            self.assert_served(server.visit(port, TLS_1_3))


class CipherOrderTests(DocumentTestCase):
    """honorCipherOrder."""

    LIST = (
        "ciphers=ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
        "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256\n"
    )

    def test_order(self) -> None:
        """The first of our list that the client has, by default; else the client's first."""

        def prefer_small(context: SSL.Context) -> None:
            context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
            context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384")

        for ini, bits in (
            ("", 256),
            ("honorCipherOrder=true\n", 256),
            ("honorCipherOrder=false\n", 128),
        ):
            server = self.server(self.LIST + ini)
            for port, version in self.each_way():
                visit = self.assert_served(server.visit(port, version, configure=prefer_small))
                self.assertEqual(visit.tls.get_cipher_bits(), bits)


class CurveTests(DocumentTestCase):
    """ecdhCurve."""

    def test_default(self) -> None:
        """prime256v1 (NIST P-256), and no other."""
        for ini in ("", "ecdhCurve=prime256v1\n"):
            server = self.server(ini)
            for port, version in self.each_way():
                visit = self.assert_served(server.visit(port, version))
                assert visit.secured is not None
                self.assertEqual(visit.secured.group, "secp256r1")
                visit = server.visit(port, version, configure=groups("P-384"))
                self.assert_refused(visit, "handshake failure")

    def test_another(self) -> None:
        """One curve can be specified; clients without it are refused."""
        server = self.server("ecdhCurve=secp384r1\nkey=rsa.key\ncert=rsa.crt\n")
        for port, version in self.each_way():
            visit = self.assert_served(server.visit(port, version))
            assert visit.secured is not None
            self.assertEqual(visit.secured.group, "secp384r1")
            exchange = ciphers("ECDHE-RSA-AES256-GCM-SHA384")

            def old_curve(context: SSL.Context, exchange: Configure = exchange) -> None:
                exchange(context)
                groups("P-256")(context)

            visit = server.visit(port, version, configure=old_curve)
            self.assert_refused(visit, "handshake failure")


class ClientCertificateTestCase(DocumentTestCase):
    """Clients without a certificate, with one of our authority, and with one of another."""

    CLIENTS = ((None, False), (GOOD_CLIENT, True), (UNTRUSTED_CLIENT, False))

    def visit(
        self, server: Documented, port: int, version: int, client: trustme.LeafCert | None
    ) -> Visit:
        return server.visit(port, version, configure=client.configure_cert if client else None)


class RequestCertTests(ClientCertificateTestCase):
    """requestCert."""

    def test_true(self) -> None:
        """The default: a client is asked, and whatever it shows, it is served."""
        for ini in ("", "requestCert=true\n"):
            server = self.server(ini + OURS)
            for port, version in self.each_way():
                for client, verified in self.CLIENTS:
                    visit = self.assert_served(self.visit(server, port, version, client))
                    assert visit.secured is not None
                    self.assertEqual(visit.secured.verified, verified)
                    self.assertEqual(bool(visit.secured.fingerprint), client is not None)

    def test_false(self) -> None:
        """Nobody is asked, so nobody shows a certificate."""
        server = self.server(f"requestCert=false\n{OURS}")
        for port, version in self.each_way():
            visit = self.assert_served(self.visit(server, port, version, GOOD_CLIENT))
            assert visit.secured is not None
            self.assertEqual((visit.secured.verified, visit.secured.fingerprint), (False, ""))


class RejectUnauthorizedTests(ClientCertificateTestCase):
    """rejectUnauthorized."""

    def test_true(self) -> None:
        """Connections from clients without a CA validated certificate are rejected."""
        server = self.server(f"rejectUnauthorized=true\n{OURS}")
        for port, version in self.each_way():
            for client, verified in self.CLIENTS:
                visit = self.visit(server, port, version, client)
                if verified:
                    self.assert_served(visit)
                else:
                    self.assert_refused(visit, "alert")

    def test_false(self) -> None:
        """The default: they are not."""
        for ini in ("", "rejectUnauthorized=false\n"):
            server = self.server(ini + OURS)
            for port, version in self.each_way():
                for client, _ in self.CLIENTS:
                    self.assert_served(self.visit(server, port, version, client))


class RequireAuthorizedTests(ClientCertificateTestCase):
    """requireAuthorized."""

    def test_example(self) -> None:
        """``requireAuthorized[]=465;`` and 587, semicolons and all: on just these ports."""
        ini = (
            f"rejectUnauthorized=false\nrequireAuthorized[]=465;\nrequireAuthorized[]=587;\n{OURS}"
        )
        server = self.server(ini)
        for version in VERSIONS:
            for client, verified in self.CLIENTS:
                for port in (SMTP, OTHER):
                    self.assert_served(self.visit(server, port, version, client))
                for port in (SMTPS, SUBMISSION):
                    visit = self.visit(server, port, version, client)
                    if verified:
                        self.assert_served(visit)
                    else:
                        self.assert_refused(visit, "alert")

    def test_none(self) -> None:
        """By default no port is listed."""
        server = self.server(OURS)
        for port in (SMTP, SMTPS, SUBMISSION, OTHER):
            self.assert_served(server.visit(port))


class StaplingTests(DocumentTestCase):
    """requestOCSP."""

    def setUp(self) -> None:
        self.certificate = leaf()  # it names a responder
        self.asked: list[str] = []
        self.is_down = False

    def begin(self, ini: str, queue: Path | None = None, warnings: int = 0) -> Documented:
        """A server starts; the responder answers at once, with what is good for six days."""
        key, cert = key_pem(self.certificate.key), self.certificate.pem + root().pem
        server = self.server(ini, {"tls_key.pem": key, "tls_cert.pem": cert}, warnings)

        def ask(url: str, request: bytes) -> "Deferred[bytes]":
            self.asked.append(url)
            if self.is_down:
                return fail(NoResponse("the responder is down"))
            now = datetime.fromtimestamp(server.clock.seconds(), UTC)
            return succeed(respond(self.certificate, begin=now - DAY, end=now + 6 * DAY))

        directory = (queue or Path(self.mktemp())).absolute()
        stapler = Stapler(server.tls, server.staples, ask, directory, server.clock)
        stapler.startService()
        self.addCleanup(stapler.stopService)
        server.clock.advance(0)
        return server

    def stapled(self, server: Documented, port: int = SMTP, version: int | None = None) -> bytes:
        """What a client that asks for the status is told; b"" for nothing."""
        seen = [b""]

        def see(_connection: SSL.Connection, staple: bytes, _data: object) -> bool:
            seen.append(staple)
            return True

        visit = server.visit(
            port,
            version,
            configure=lambda context: context.set_ocsp_client_callback(see),
            asks_for_staple=True,
        )
        self.assert_served(visit)
        return seen[-1]

    def next_update(self, staple: bytes) -> float:
        """Until when a response is valid, in seconds since the epoch."""
        found = ocsp.load_der_ocsp_response(staple).next_update_utc
        assert found is not None
        return found.timestamp()

    def test_true(self) -> None:
        """The client gets it along with the session's setup, and need not ask the responder."""
        for name in ("requestOCSP", "enableOCSPStapling"):
            server = self.begin(f"{name}=true\n", warnings=int(name != "requestOCSP"))
            for port, version in self.each_way():
                staple = ocsp.load_der_ocsp_response(self.stapled(server, port, version))
                self.assertEqual(staple.serial_number, self.certificate.certificate.serial_number)
                self.assertIs(staple.certificate_status, ocsp.OCSPCertStatus.GOOD)

    def test_false(self) -> None:
        """The default: none is sent, and no responder is asked."""
        for ini in ("", "requestOCSP=false\n"):
            server = self.begin(ini)
            for port, version in self.each_way():
                self.assertEqual(self.stapled(server, port, version), b"")
        self.assertEqual(self.asked, [])

    def test_cached(self) -> None:
        """It is kept for as long as it is valid, and refreshed: no client sees one that is not."""
        server = self.begin("requestOCSP=true\n")
        first = self.stapled(server)
        for _ in range(5):
            self.assertEqual(self.stapled(server), first)
        self.assertEqual(self.asked, [URL])
        for _ in range(20):
            server.clock.advance(DAY.total_seconds())
            self.assertGreater(self.next_update(self.stapled(server)), server.clock.seconds())
        self.assertIn(len(self.asked), range(3, 12))

    def test_out_of_date(self) -> None:
        """A responder that is gone: its last response for as long as that is valid, then none."""
        server = self.begin("requestOCSP=true\n")
        first = self.stapled(server)
        self.is_down = True
        end = self.next_update(first)
        server.clock.advance(end - 1 - server.clock.seconds())
        self.assertEqual(self.stapled(server), first)
        server.clock.advance(2)
        for port, version in self.each_way():
            self.assertEqual(self.stapled(server, port, version), b"")
        self.is_down = False
        server.clock.advance(3700)
        self.assertNotEqual(self.stapled(server), b"")

    def test_restart(self) -> None:
        """Better than the document: after a restart they need not be fetched again."""
        queue = Path(self.mktemp())
        first = self.stapled(self.begin("requestOCSP=true\n", queue))
        self.assertEqual(self.stapled(self.begin("requestOCSP=true\n", queue)), first)
        self.assertEqual(self.asked, [URL])
