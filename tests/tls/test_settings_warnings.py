"""What in tls.ini has no effect, and that it is told."""

from tests.tls.settings_case import SettingsTestCase


class WarningTests(SettingsTestCase):
    """What has no effect is told, never silently ignored."""

    def test_switched_off(self) -> None:
        """Nobody is bothered about what is not built where it is not asked for."""
        for text in (
            "mutual_tls=false\nsecureProtocol=SSLv23_method\n",
            "[redis]\ndisable_for_failed_hosts=false\n",
        ):
            self.load(text)
            self.assertEqual(self.config.warnings, ())

    def test_in_the_wrong_section(self) -> None:
        """What means nothing for outgoing mail is told, and never offered to every server."""
        for key in ("key=a.pem", "cert=a.pem", "honorCipherOrder=false", "requestCert=true"):
            with self.subTest(key=key):
                self.assert_warned(f"[outbound]\n{key}\n", "[outbound]", key.partition("=")[0])

    def test_keys_without_effect(self) -> None:
        """Options of Haraka's that nothing is done with, in each section they may stand in."""
        for section in ("", "[inbound]\n", "[outbound]\n", "[a.example]\n"):
            for key in (
                *("pfx", "passphrase", "crl", "secureOptions", "sessionIdContext"),
                *("ALPNProtocols", "session"),
            ):
                with self.subTest(section=section, key=key):
                    self.assert_warned(f"{section}{key}=x\n", f"{key}: has no effect")

    def test_wrong_direction(self) -> None:
        """What is about the other direction, or has a place of its own."""
        for text, word in (
            ("no_tls_hosts[]=192.0.2.1\n", "[outbound]"),
            ("[inbound]\nno_tls_hosts[]=192.0.2.1\n", "section [no_tls_hosts]"),
            ("[inbound]\nforce_tls_hosts[]=a.example\n", "require_tls_hosts"),
        ):
            with self.subTest(text=text):
                self.assert_warned(text, "has no effect", word)

    def test_contradictions(self) -> None:
        """Two that cannot both count: which one does is told."""
        for text, words in (
            ("rejectUnauthorized=true\nrequestCert=false\n", ("requestCert=false",)),
            (
                "rejectUnauthorized=true\n[inbound]\nrequireAuthorized[]=465\n",
                ("requireAuthorized", "no difference"),
            ),
            (
                "[outbound]\nforce_tls_hosts[]=a.example\nno_tls_hosts[]=A.example\n",
                ("[outbound] no_tls_hosts", "a.example", "wins"),
            ),
            ("[redis]\nhost=a.example\nip=192.0.2.1\n", ("ip", "host wins")),
            ("[redis]\ndb=1\ndatabase=2\ndbid=1\n", ("database", "db wins")),
        ):
            with self.subTest(text=text):
                self.assert_warned(text, *words)

    def test_ways_around(self) -> None:
        """A client chooses the name it asks for, and with it the least that is demanded."""
        for text, words in (
            (
                "rejectUnauthorized=true\n[mx.example.com]\nrejectUnauthorized=false\n",
                ("[mx.example.com] rejectUnauthorized", "is false"),
            ),
            (
                "requireAuthorized[]=465\nrequireAuthorized[]=587\n"
                "[mx.example.com]\nrequireAuthorized[]=587\n",
                ("[mx.example.com] requireAuthorized", "lacks 465,"),
            ),
        ):
            with self.subTest(text=text):
                self.assert_warned(text, *words)
        for section in ("requestCert=false", "requireAuthorized[]=465\nrequireAuthorized[]=25"):
            self.load(f"requireAuthorized[]=465\n[mx.example.com]\n{section}\n")
            self.assertEqual(self.config.warnings, ())

    def test_no_contradiction(self) -> None:
        """A section of its own may demand more than all others do: that is what it is for."""
        for general in ("requestCert=false\n", "requireAuthorized[]=465\n"):
            for section in ("inbound", "mx.example.com"):
                self.load(f"{general}[{section}]\nrejectUnauthorized=true\n")
                self.assertEqual(self.config.warnings, ())

    def test_memory_switched_off(self) -> None:
        """How long to remember says nothing where nothing is remembered."""
        for key in ("disable_expiry", "disable_inbound_expiry"):
            self.assert_warned(f"[redis]\n{key}=60\n", f"[redis] {key}: has no effect")
            self.load(f"[redis]\ndisable_for_failed_hosts=false\n{key}=60\n")
            self.assertEqual(self.config.warnings, ())

    def test_clients_by_name(self) -> None:
        """[no_tls_hosts] is compared with addresses; a name in it never matches."""
        self.assert_warned("[no_tls_hosts]\nmx.example.com\n", "'mx.example.com'", "never")
        self.assert_warned("[no_tls_hosts]\n192.0.2.1=false\n", "192.0.2.1", "no effect")

    def test_misspelt_sections(self) -> None:
        """A word that looks like a section is one misspelt, not a certificate's name."""
        for name in ("inbuond", "Outbound", "reddis", "smtp_foward", "no_tls_host"):
            self.assert_warned(f"[{name}]\nminVersion=TLSv1.3\n", f"[{name}]: unknown section")

    def test_staples(self) -> None:
        """The former name does the same, and is told; where both are there, the new one counts."""
        for text, expected in (
            ("", False),
            ("requestOCSP=true\n", True),
            ("requestOCSP=true\n[inbound]\nrequestOCSP=false\n", False),
            ("[inbound]\nrequestOCSP=true\n", True),
        ):
            with self.subTest(text=text):
                self.assertIs(self.load(text).inbound.staples, expected)
                self.assertEqual(self.config.warnings, ())
        settings = self.assert_warned("enableOCSPStapling=true\n", "former name of requestOCSP")
        self.assertTrue(settings.inbound.staples)
        settings = self.assert_warned(
            "enableOCSPStapling=true\nrequestOCSP=false\n", "enableOCSPStapling", "wins"
        )
        self.assertFalse(settings.inbound.staples)
        self.assert_refused("requestOCSP=perhaps\n", "requestOCSP", "perhaps")
        self.assert_warned("[outbound]\nrequestOCSP=true\n", "[outbound]", "incoming")

    def test_a_plugin_without_a_section_of_its_own(self) -> None:
        """It is not taken for a host's: who writes it relies on what it says."""
        for name in ("auth_bridge", "auth/auth_bridge"):
            self.assert_warned(
                f"[{name}]\nrejectUnauthorized=true\n", f"[{name}]", "write [smtp_bridge]"
            )
        self.assert_warned("[smtp_relay]\nrejectUnauthorized=true\n", "unknown section")

    def test_unknown(self) -> None:
        """A misspelt option is told, with the one that was meant."""
        self.assert_warned("minversion=TLSv1.3\n", "minversion", "did you mean minVersion?")
        self.assert_warned("[inbond]\nkey=a.pem\n", "inbond", "unknown section")

    def test_forced_and_excluded(self) -> None:
        """Two lists are two lists: no warning where they do not meet."""
        self.load("[outbound]\nforce_tls_hosts[]=a.example\nno_tls_hosts[]=b.example\n")
        self.assertEqual(self.config.warnings, ())
