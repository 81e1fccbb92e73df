"""Versions, ciphers and curves of tls.ini: each makes a handshake end otherwise."""

from OpenSSL import SSL

from harakatls.config.errors import ConfigError
from harakatls.tls.client import ClientTLS
from harakatls.tls.policy import outbound_decision
from tests.tls.options_case import ECDSA_PEER, HOP, OLD, PEER, OptionsTestCase, prefer_small
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS, ciphers, groups, plain_client, plain_server


class ParameterTests(OptionsTestCase):
    """ciphers, minVersion, maxVersion, honorCipherOrder, ecdhCurve."""

    def test_min_version(self) -> None:
        """TLS 1.2 by default; TLSv1.3 shuts older clients out, in each direction."""
        self.assert_succeeded(self.inbound("", version=TLS_1_2))
        self.assert_failed(self.inbound("minVersion=TLSv1.3\n", version=TLS_1_2), "version")
        self.assert_succeeded(self.inbound("minVersion=TLSv1.3\n", version=TLS_1_3))
        self.assert_succeeded(self.inbound("[outbound]\nminVersion=TLSv1.3\n", version=TLS_1_2))
        outcome, _, _ = self.outbound("minVersion=TLSv1.3\n", plain_server(PEER, TLS_1_2))
        self.assert_failed(outcome, "version")
        outcome, _, _ = self.outbound("", plain_server(PEER, TLS_1_2))
        self.assert_succeeded(outcome)

    def test_old_versions(self) -> None:
        """TLS 1.0 and 1.1 for those who allow them, and for nobody else."""
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            for ini in ("minVersion=TLSv1\n", f"minVersion=TLSv1\nciphers={OLD}\n"):
                client = plain_client(version, configure=ciphers(OLD))
                self.assert_succeeded(self.inbound(ini, client))
            client = plain_client(version, configure=ciphers(OLD))
            self.assert_failed(self.inbound("", client), "version")
            server = plain_server(PEER, version, ciphers(OLD))
            outcome, _, _ = self.outbound("minVersion=TLSv1\n", server)
            self.assert_succeeded(outcome)
            server = plain_server(PEER, version, ciphers(OLD))
            self.assert_failed(self.outbound("", server)[0], "version")
        client = plain_client(SSL.TLS1_VERSION, configure=ciphers(OLD))
        self.assert_failed(self.inbound("minVersion=TLSv1.1\n", client), "version")

    def test_max_version(self) -> None:
        """maxVersion is ours: TLS 1.3 can be switched off."""
        self.assert_failed(self.inbound("maxVersion=TLSv1.2\n", version=TLS_1_3), "version")
        self.assert_succeeded(self.inbound("maxVersion=TLSv1.2\n", version=TLS_1_2))
        outcome, _, _ = self.outbound("maxVersion=TLSv1.2\n", plain_server(PEER, TLS_1_3))
        self.assert_failed(outcome, "version")

    def test_ciphers(self) -> None:
        """Only listed ciphers are used, up to TLS 1.2 and in TLS 1.3."""
        ini = "ciphers=ECDHE-ECDSA-CHACHA20-POLY1305:TLS_AES_128_GCM_SHA256\n"
        for version, cipher in (
            (TLS_1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
            (TLS_1_3, "TLS_AES_128_GCM_SHA256"),
        ):
            outcome = self.assert_succeeded(self.inbound(ini, version=version))
            self.assertEqual(outcome.server.get_cipher_name(), cipher)
            server = plain_server(ECDSA_PEER, version)
            outcome, _, _ = self.outbound(f"[outbound]\n{ini}", server)
            self.assertEqual(self.assert_succeeded(outcome).server.get_cipher_name(), cipher)
        client = plain_client(TLS_1_2, configure=ciphers("ECDHE-ECDSA-AES128-GCM-SHA256"))
        self.assert_failed(self.inbound(ini, client), "no shared cipher")

    def test_ciphers_of_the_document(self) -> None:
        """The example of the document is understood, though some of its ciphers are gone."""
        ini = (
            "ciphers=EECDH+AESGCM:EDH+aRSA+AESGCM:EECDH+AES256:EDH+aRSA+AES256:EECDH+AES128:"
            "EDH+aRSA+AES128:RSA+AES:RSA+3DES\n"
        )
        outcome = self.assert_succeeded(self.inbound(ini, version=TLS_1_2))
        self.assertIn("GCM", outcome.server.get_cipher_name() or "")
        self.assert_succeeded(self.inbound(ini, version=TLS_1_3))

    def test_suites_alone(self) -> None:
        """A list of TLS 1.3 suites alone leaves no older cipher open."""
        ini = "ciphers=TLS_AES_128_GCM_SHA256\n"
        self.assert_failed(self.inbound(ini, version=TLS_1_2), "version")
        outcome = self.assert_succeeded(self.inbound(ini))
        self.assertEqual(outcome.server.get_cipher_name(), "TLS_AES_128_GCM_SHA256")

    def test_unknown_ciphers(self) -> None:
        """A list in which nothing is known is an error that names the section."""
        self.assert_refused("ciphers=AES-NONE", "AES-NONE")
        self.assert_refused("ciphers=TLS_NONE", "TLS_NONE")

    def test_no_anonymous_ciphers(self) -> None:
        """ALL does not mean a cipher without a certificate, unless that is asked for by name."""
        anonymous = ciphers("ADH-AES256-GCM-SHA384:AECDH-AES256-SHA:@SECLEVEL=0")
        ini = "ciphers=ALL:@SECLEVEL=0\nminVersion=TLSv1\necdhCurve=auto\n"
        for words in ("ALL", "ALL:!ADH", "ALL:-AECDH"):  # to shut out some does not ask for others
            text = ini.replace("ALL", words)
            self.assert_failed(self.inbound(text, plain_client(TLS_1_2, configure=anonymous)))
        ini = ini.replace("ALL", "ALL:aNULL")
        self.assert_succeeded(self.inbound(ini, plain_client(TLS_1_2, configure=anonymous)))

    def test_forced_never_anonymous(self) -> None:
        """A forced host cannot do without a certificate, even where tls.ini allows that."""
        ini = "[outbound]\nciphers=aNULL:@SECLEVEL=0\nca=ca.pem\n"

        def server() -> SSL.Connection:
            return plain_server(PEER, TLS_1_2, ciphers("ALL:aNULL:@SECLEVEL=0"))

        with self.assertRaises(ConfigError):  # nothing would be left
            ClientTLS(self.settings(ini).outbound)
        ini = ini.replace("aNULL", "ALL:aNULL") + "force_tls_hosts[]=example.org\n"
        outcome, _, summary = self.outbound(ini, server())
        self.assert_succeeded(outcome)
        assert summary is not None
        self.assertTrue(summary.verified)

    def test_honor_cipher_order(self) -> None:
        """By default our order counts, else the client's, in TLS 1.2 and 1.3."""
        ini = (
            "ciphers=ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
            "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256\n"
        )
        for version in VERSIONS:
            for extra, bits in (
                ("", 256),
                ("honorCipherOrder=true\n", 256),
                ("honorCipherOrder=no\n", 128),
            ):
                client = plain_client(version, configure=prefer_small)
                outcome = self.assert_succeeded(self.inbound(ini + extra, client))
                self.assertEqual(outcome.server.get_cipher_bits(), bits)

    def test_default_curve(self) -> None:
        """prime256v1, and nothing else, when unset: as documented."""
        for version in VERSIONS:
            outcome = self.assert_succeeded(self.inbound("", version=version))
            self.assertEqual(outcome.server.get_group_name(), "secp256r1")
            client = plain_client(version, configure=groups("X25519"))
            self.assert_failed(self.inbound("", client))
            outcome, _, _ = self.outbound("", plain_server(PEER, version))
            self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), "secp256r1")

    def test_curve(self) -> None:
        """Another curve, a list of them, and in [outbound] one of its own."""
        for version in VERSIONS:
            outcome = self.assert_succeeded(self.inbound("ecdhCurve=secp384r1\n", version=version))
            self.assertEqual(outcome.server.get_group_name(), "secp384r1")
            ini = "ecdhCurve=X25519:prime256v1\nkey=rsa.key\ncert=rsa.crt\n"
            for only, used in (("X25519", "x25519"), ("P-256", "secp256r1")):
                client = plain_client(version, configure=groups(only))
                outcome = self.assert_succeeded(self.inbound(ini, client))
                self.assertEqual(outcome.server.get_group_name(), used)
            outcome, _, _ = self.outbound(
                "[outbound]\necdhCurve=secp521r1\n", plain_server(PEER, version)
            )
            self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), "secp521r1")

    def test_automatic_curves(self) -> None:
        """auto has the modern groups: safe from quantum computers where the peer can do that."""
        outcome = self.assert_succeeded(self.inbound("ecdhCurve=auto\n"))
        self.assertEqual(outcome.server.get_group_name(), "X25519MLKEM768")
        outcome = self.assert_succeeded(self.inbound("ecdhCurve=auto\n", version=TLS_1_2))
        self.assertEqual(outcome.server.get_group_name(), "x25519")
        outcome, _, summary = self.outbound("ecdhCurve=auto\n", plain_server(PEER))
        self.assert_succeeded(outcome)
        assert summary is not None
        self.assertEqual(summary.group, "X25519MLKEM768")
        for only, used in (("X25519", "x25519"), ("P-256", "secp256r1"), ("P-384", "secp384r1")):
            outcome, _, _ = self.outbound(
                "ecdhCurve=auto\n", plain_server(PEER, configure=groups(only))
            )
            self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), used)

    def test_small_hello(self) -> None:
        """Our first packet fits where a large one would be lost, though all groups are offered."""
        tls = ClientTLS(self.settings("ecdhCurve=auto\n").outbound)
        creator = tls.connection_creator(outbound_decision(HOP, self.settings().outbound, None))
        client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
        client.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        self.assertLess(len(client.bio_read(1 << 16)), 600)

    def test_unknown_curve(self) -> None:
        """A curve that OpenSSL does not know is an error that names the section."""
        self.assert_refused("ecdhCurve=brainpool999", "brainpool999")
        self.assert_refused("ecdhCurve=auto:X25519", "auto:X25519")
