"""
Certificates and hosts of tls.ini, each option with a handshake that would end otherwise if it did
nothing.
"""

from OpenSSL import SSL

from harakatls.mail.route import NextHop
from harakatls.tls.client import ClientTLS
from harakatls.tls.server import ServerTLS
from tests.tls.options_case import ECDSA, FILES, PEER, RSA, OptionsTestCase
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    VERSIONS,
    ciphers,
    issued,
    key_octets,
    offered,
    peer_of,
    plain_client,
    plain_server,
    serial,
    signatures,
)


class CertificateTests(OptionsTestCase):
    """key, cert, key[] and cert[]."""

    def test_default_pair(self) -> None:
        """tls_key.pem and tls_cert.pem are shown, with their chain, in each version of TLS."""
        for version in VERSIONS:
            outcome = self.assert_succeeded(self.inbound("", version=version))
            self.assertEqual(outcome.serial, serial(ECDSA))
            self.assertEqual(len(outcome.client.get_peer_cert_chain() or ()), 2)

    def test_other_names(self) -> None:
        """key and cert name another pair."""
        outcome = self.inbound("key=rsa.key\ncert=rsa.crt\n")
        self.assertEqual(self.assert_succeeded(outcome).serial, serial(RSA))
        outcome = self.inbound("[inbound]\nkey=rsa.key\ncert=rsa.crt\n")
        self.assertEqual(self.assert_succeeded(outcome).serial, serial(RSA))

    def test_several_pairs(self) -> None:
        """Each client gets the pair it can use, with the chain of that pair alone."""
        ini = (
            "key[]=rsa.key\ncert[]=rsa.crt\nkey[]=tls_key.pem\ncert[]=tls_cert.pem\n"
            "ecdhCurve=auto\n"
        )
        for leaf, version, configure in (
            (RSA, TLS_1_2, ciphers("ECDHE-RSA-AES128-GCM-SHA256")),
            (ECDSA, TLS_1_2, ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")),
            (RSA, TLS_1_3, signatures("RSA-PSS+SHA256")),
            (ECDSA, TLS_1_3, signatures("ECDSA+SHA256")),
        ):
            client = plain_client(version, configure=configure)
            outcome = self.assert_succeeded(self.inbound(ini, client))
            self.assertEqual(outcome.serial, serial(leaf))
            chain = outcome.client.get_peer_cert_chain(as_cryptography=True) or []
            self.assertEqual(len(chain), 2)
            self.assertEqual(chain[0].issuer, chain[1].subject)

    def test_both_kinds_on_offer(self) -> None:
        """A client that can use both gets the cheaper ECDSA, whatever the order in tls.ini."""
        for ini in (
            "key[]=rsa.key\nkey[]=tls_key.pem\ncert[]=rsa.crt\ncert[]=tls_cert.pem\n",
            "key[]=tls_key.pem\nkey[]=rsa.key\ncert[]=tls_cert.pem\ncert[]=rsa.crt\n",
        ):
            for version in VERSIONS:
                outcome = self.assert_succeeded(self.inbound(ini, version=version))
                self.assertEqual(outcome.serial, serial(ECDSA))

    def test_broken_pair(self) -> None:
        """A wrong certificate stops nothing but STARTTLS, and is told by file and reason."""
        for files, word in (
            ({"tls_key.pem": key_octets(RSA)}, "tls_cert.pem"),
            ({"tls_cert.pem": b"garbage"}, "tls_cert.pem: there is no certificate in it"),
            ({"tls_key.pem": b""}, "tls_key.pem: the file is empty"),
            ({"tls_key.pem": FILES["tls_key.pem"][:100]}, "tls_key.pem"),
        ):
            tls = ServerTLS(self.settings(files=files).inbound, "mx.example.com")
            self.assertFalse(tls.ready())
            self.assertFalse(offered(self, tls, peer_of()))
            self.assertEqual(len(tls.problems), 1)
            self.assertIn(word, tls.problems[0])

    def test_never_shown_to_servers(self) -> None:
        """The server's certificate is not given to each server that asks for one (#2693)."""

        def ask(context: SSL.Context) -> None:
            context.set_verify(SSL.VERIFY_PEER, lambda *_: True)

        for version in VERSIONS:
            for ini in ("", "[outbound]\nkey=rsa.key\ncert=rsa.crt\n"):
                outcome, _, _ = self.outbound(ini, plain_server(PEER, version, ask))
                self.assert_succeeded(outcome)
                self.assertIsNone(outcome.server.get_peer_certificate())


class WhoTests(OptionsTestCase):
    """no_starttls_ports, [no_tls_hosts], force_tls_hosts, ca."""

    def test_no_starttls_ports(self) -> None:
        """STARTTLS is not offered there, and is elsewhere."""
        tls = self.server("no_starttls_ports[]=2525\n")
        self.assertFalse(offered(self, tls, peer_of(2525)))
        self.assertTrue(offered(self, tls, peer_of(25)))

    def test_no_tls_hosts(self) -> None:
        """The section is about clients: addresses and networks."""
        tls = self.server("[no_tls_hosts]\n192.168.1.3\n172.16.0.0/16\n2001:db8::/32\n")
        for peer in ("192.168.1.3", "172.16.2.1", "2001:db8::25"):
            self.assertFalse(offered(self, tls, peer_of(peer=peer)))
        self.assertTrue(offered(self, tls, peer_of(peer="192.168.1.4")))

    def test_forced_with_good_certificate(self) -> None:
        """Mail goes to a forced host whose certificate is right; the name is sent along."""
        for version in VERSIONS:
            for entry in ("192.0.2.7", "192.0.2.0/24", "mx.example.net", "example.org"):
                ini = f"[outbound]\nca=ca.pem\nforce_tls_hosts[]={entry}\n"
                outcome, decision, summary = self.outbound(ini, plain_server(PEER, version))
                self.assert_succeeded(outcome)
                self.assertTrue(decision.authenticated)
                assert summary is not None
                self.assertTrue(summary.verified)
                self.assertIsNone(summary.verify_error)
                self.assertEqual(outcome.server.get_servername(), b"mx.example.net")

    def test_forced_address(self) -> None:
        """A bare address is compared with the certificate's addresses; Haraka never can."""
        hop = NextHop("192.0.2.7", "example.org")
        ini = "[outbound]\nca=ca.pem\nforce_tls_hosts[]=192.0.2.7\n"
        good = plain_server(issued("192.0.2.7", "relay.example"))
        outcome, _, summary = self.outbound(ini, good, hop)
        self.assert_succeeded(outcome)
        assert summary is not None
        self.assertTrue(summary.verified)
        self.assertIsNone(outcome.server.get_servername())
        outcome, _, _ = self.outbound(ini, plain_server(issued("192.0.2.8")), hop)
        self.assert_failed(outcome, "certificate verify failed")

    def test_forced_with_wrong_certificate(self) -> None:
        """Untrusted, for another name, expired: nothing is sent, while others get their mail."""
        ini = "[outbound]\nca=ca.pem\n"
        for version in VERSIONS:
            for leaf in (issued("mx.example.net", by="Other Trust"), issued("else.example.net")):
                outcome, _, summary = self.outbound(ini, plain_server(leaf, version))
                self.assert_succeeded(outcome)
                assert summary is not None
                self.assertFalse(summary.verified)
                forced = ini + "force_tls_hosts[]=example.org\n"
                outcome, _, _ = self.outbound(forced, plain_server(leaf, version))
                self.assert_failed(outcome, "certificate verify failed")
                self.assertIsNotNone(outcome.server_error)
                with self.assertRaises(SSL.Error):
                    outcome.server.recv(100)

    def test_ca_for_next_hops(self) -> None:
        """ca of [outbound] stands instead of the system's; that of the top does not count."""
        force = "force_tls_hosts[]=example.org\n"
        for ini, good in (
            ("[outbound]\nca=ca.pem\n", True),
            ("[outbound]\nca=other_ca.pem\n", False),
            ("[outbound]\n", False),
            ("ca=ca.pem\n[outbound]\n", False),
        ):
            outcome, _, _ = self.outbound(ini + force)
            self.assertEqual(outcome.succeeded, good, ini)

    def test_ca_cannot_be_read(self) -> None:
        """Where ca names nothing usable, no forced host is trusted; it is told, others get mail."""
        for ini in ("[outbound]\nca=none.pem\n", "[outbound]\nca=rsa.key\n"):
            tls = ClientTLS(self.settings(ini).outbound)
            self.assertEqual(len(tls.problems), 1)
            self.assertIn("ca", tls.problems[0])
            self.assert_succeeded(self.outbound(ini)[0])
            self.assert_failed(self.outbound(f"{ini}force_tls_hosts[]=example.org\n")[0])

    def test_reject_unauthorized_outbound(self) -> None:
        """For outgoing mail: where TLS is used, then with a valid certificate alone."""
        ini = "rejectUnauthorized=true\n[outbound]\nca=ca.pem\n"
        self.assert_succeeded(self.outbound(ini)[0])
        untrusted = plain_server(issued("mx.example.net", by="Other Trust"))
        self.assert_failed(self.outbound(ini, untrusted)[0])
        untrusted = plain_server(issued("mx.example.net", by="Other Trust"))
        self.assert_succeeded(self.outbound(f"{ini}rejectUnauthorized=false\n", untrusted)[0])
