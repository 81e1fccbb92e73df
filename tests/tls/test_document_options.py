"""
The TLS document about the handshake: from ciphers to secureProtocol, in its order.
"""

from collections.abc import Callable
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.logger import capturedLogs

from harakatls.service.groups import GroupFiles
from harakatls.tls.dhparams import read_group
from tests.tls.dh_groups import OF_DSA, OWN, modulus_of, without_ffdhe
from tests.tls.documented import (
    GOOD_CLIENT,
    OTHER,
    SMTP,
    SMTPS,
    SUBMISSION,
    UNTRUSTED_CLIENT,
    WAYS,
    Documented,
    DocumentTestCase,
    Visit,
)
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS, Configure, ciphers, client_context, groups

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


class DHParamTests(DocumentTestCase):
    """dhparam."""

    RSA = "key=rsa.key\ncert=rsa.crt\n"

    def modulus(self, server: Documented) -> int:
        """Of the group that is used, after handshakes on both kinds of port."""
        for port in WAYS.values():
            visit = self.assert_served(server.visit(port, TLS_1_2, configure=without_ffdhe))
            self.assertEqual(visit.tls.get_cipher_name(), "DHE-RSA-AES128-GCM-SHA256")
        client = SSL.Connection(client_context(TLS_1_2, without_ffdhe), None)
        return modulus_of(self, server.tls, client)

    def test_file(self) -> None:
        """The file contains the parameters to use; by default it is dhparams.pem."""
        for ini, name in (("", "dhparams.pem"), ("dhparam=own.pem\n", "own.pem")):
            server = self.server(self.RSA + ini, {name: OF_DSA})
            self.assertEqual(self.modulus(server), OWN.modulus)

    def test_generated(self) -> None:
        """If it is missing, it will be generated; nobody waits, and the next start has it."""
        for ini, name in (("", "dhparams.pem"), ("dhparam=own.pem\n", "own.pem")):
            server = self.server(self.RSA + ini)
            path = server.settings.config.resolve(name)
            before = self.modulus(server)
            self.assertFalse(path.exists())
            self.successResultOf(GroupFiles(call_at_once).make(server.settings.tls))
            self.assertEqual(read_group(path.read_bytes()).modulus, before)
            again = Documented.of(server.settings.config.path)
            self.assertEqual(again.tls.problems, ())
            self.assertEqual(self.modulus(again), before)

    def test_failure(self) -> None:
        """Where it cannot be, a line in the log says so, and the handshakes are as before."""
        server = self.server(f"{self.RSA}dhparam=none/dh.pem\n")
        with capturedLogs() as events:
            self.successResultOf(GroupFiles(call_at_once).make(server.settings.tls))
        (event,) = events
        self.assertIn("none/dh.pem cannot be made", event["log_format"].format(**event))
        self.modulus(server)


async def call_at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """In place of a thread."""
    return function(*arguments)


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


class SecureProtocolTests(DocumentTestCase):
    """secureProtocol."""

    def test_default(self) -> None:
        """SSLv23_method: whatever versions the other options allow."""
        for ini in ("", "secureProtocol=SSLv23_method\n"):
            server = self.server(ini)
            for port, version in self.each_way():
                self.assert_served(server.visit(port, version))

    def test_one_version(self) -> None:
        """The other methods of OpenSSL's page are for one version each."""
        for method, only in (("TLSv1_2_method", TLS_1_2), ("TLSv1_3_method", TLS_1_3)):
            server = self.server(f"secureProtocol={method}\n")
            for port, version in self.each_way():
                visit = server.visit(port, version)
                if version == only:
                    self.assert_served(visit)
                else:
                    self.assert_refused(visit, "version")
