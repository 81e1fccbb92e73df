"""secureProtocol, from tls.ini to handshakes in both directions."""

from OpenSSL import SSL

from harakatls.config.errors import ConfigError
from harakatls.tls.parameters import TLSVersion
from tests.tls.options_case import OLD, PEER, OptionsTestCase
from tests.tls.peers import TLS_1_2, TLS_1_3, ciphers, plain_client, plain_server

TLS_1_0, TLS_1_1 = SSL.TLS1_VERSION, SSL.TLS1_1_VERSION
PINNED = {
    "TLSv1_method": TLS_1_0,
    "TLSv1_1_method": TLS_1_1,
    "TLSv1_2_method": TLS_1_2,
    "TLSv1_3_method": TLS_1_3,
}


class SecureProtocolTests(OptionsTestCase):
    def versions_in(self, ini: str) -> set[int]:
        """With which versions a client gets through."""
        return {
            version
            for version in PINNED.values()
            if self.inbound(ini, plain_client(version, configure=ciphers(OLD))).succeeded
        }

    def versions_out(self, ini: str) -> set[int]:
        """With which versions of a server we get through."""
        return {
            version
            for version in PINNED.values()
            if self.outbound(ini, plain_server(PEER, version, ciphers(OLD)))[0].succeeded
        }

    def warnings(self, ini: str) -> list[str]:
        return [w for w in self.loaded(ini).warnings if "secureProtocol" in w]

    def test_one_version(self) -> None:
        """Each method is one version and no other, in each of its spellings."""
        for method, version in PINNED.items():
            for name in (method, method.replace("_method", "_server_method")):
                self.assertEqual(self.versions_in(f"secureProtocol={name}\n"), {version})
            for name in (method, method.replace("_method", "_client_method;")):
                ini = f"[outbound]\nsecureProtocol={name}\n"
                self.assertEqual(self.versions_out(ini), {version})
                self.assertEqual(self.versions_in(ini), {TLS_1_2, TLS_1_3})

    def test_any_version(self) -> None:
        """The default leaves all to minVersion and maxVersion (with Node it ends at TLS 1.2)."""
        for name in ("SSLv23_method", "TLS_method", "SSLv23_server_method", "tls_client_method"):
            ini = f"secureProtocol={name}\n"
            self.assertEqual(self.versions_in(ini), {TLS_1_2, TLS_1_3})
            self.assertEqual(self.versions_in(ini + "minVersion=TLSv1.3\n"), {TLS_1_3})
            self.assertEqual(self.versions_out(ini + "maxVersion=TLSv1.2\n"), {TLS_1_2})
            self.assertEqual(self.warnings(ini + "minVersion=TLSv1.3\n"), [])

    def test_wins(self) -> None:
        """It wins over the other two, with a warning (Haraka does not start)."""
        ini = "secureProtocol=TLSv1_2_method\nminVersion=TLSv1.3\n"
        self.assertEqual(self.versions_in(ini), {TLS_1_2})
        (warning,) = self.warnings(ini)
        self.assertIn("wins over minVersion", warning)
        (warning,) = self.warnings("[inbound]\nsecureProtocol=TLSv1_3_method\nmaxVersion=TLSv1.2\n")
        self.assertIn("tls.ini [inbound] secureProtocol", warning)
        self.assertIn("wins over maxVersion", warning)

    def test_inherited(self) -> None:
        """A section of its own wins over the top."""
        ini = "secureProtocol=TLSv1_2_method\n[inbound]\nsecureProtocol=TLSv1_3_method\n"
        self.assertEqual(self.versions_in(ini), {TLS_1_3})
        self.assertEqual(self.versions_out(ini), {TLS_1_2})

    def test_old_versions(self) -> None:
        """What they cost is told, under the key that allows them."""
        (warning,) = self.warnings("secureProtocol=TLSv1_method\n")
        self.assertIn("security level 0", warning)

    def test_refused(self) -> None:
        """SSL 2 and 3, what is no method, and suites for another version."""
        for text, word in (
            ("SSLv2_method", "broken"),
            ("SSLv3_method", "broken"),
            ("SSLv3_server_method", "broken"),
            ("DTLS_method", "not one of SSLv23_method"),
            ("TLSv1.2", "not one of"),
            ("", "not one of"),
            ("TLSv1_2_method\nciphers=TLS_AES_128_GCM_SHA256", "TLSv1_2_method"),
        ):
            for section in ("", "[outbound]\n", "[smtp_proxy]\n", "[mx.example.com]\n"):
                with self.assertRaises(ConfigError) as caught:
                    self.settings(f"{section}secureProtocol={text}\n")
                self.assertIn(word, str(caught.exception))
                self.assertIn(section.strip(), str(caught.exception))

    def test_parameters(self) -> None:
        """It is resolved where the settings are read, so that `harakatls tls` shows versions."""
        parameters = self.settings("secureProtocol=TLSv1_1_method\n").inbound.parameters
        self.assertIs(parameters.min_version, TLSVersion.TLS_1_1)
        self.assertIs(parameters.max_version, TLSVersion.TLS_1_1)
