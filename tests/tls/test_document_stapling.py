"""
The TLS document about OCSP stapling: requestOCSP.
"""

from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import ocsp
from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed

from harakatls.tls.responder import NoResponse
from harakatls.tls.stapling import Stapler
from tests.tls.documented import SMTP, Documented, DocumentTestCase
from tests.tls.peers import key_pem
from tests.tls.responding import DAY, URL, leaf, respond, root


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
