"""Tests for harakatls.tls.files, by what tls.ini names."""

import os
from pathlib import Path

from harakatls.config.directory import ConfigDirectory
from harakatls.tls.files import PEMFile
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.settings_case import SettingsTestCase


class FileTests(SettingsTestCase):
    """Keys, certificates and trust anchors."""

    def test_default_names(self) -> None:
        """The pair that the document's command makes is found without a word in tls.ini."""
        settings = self.load("", tls_key_pem="KEY", tls_cert_pem="CERT")
        self.assertEqual(settings.inbound.keys, (PEMFile("tls_key.pem", b"KEY"),))
        self.assertEqual(settings.inbound.certs, (PEMFile("tls_cert.pem", b"CERT"),))

    def test_one_pair(self) -> None:
        """A pair of other names, relative to the directory or absolute."""
        elsewhere = os.path.abspath(self.mktemp())
        Path(elsewhere).write_text("CERT")
        settings = self.load(f"key=a.pem\ncert={elsewhere}\n", a_pem="KEY")
        self.assertEqual(settings.inbound.keys, (PEMFile("a.pem", b"KEY"),))
        self.assertEqual(settings.inbound.certs, (PEMFile(elsewhere, b"CERT"),))

    def test_several_pairs(self) -> None:
        """key[] and cert[] name an RSA and an ECDSA pair."""
        settings = self.load(
            "key[]=r.pem\ncert[]=R.pem\nkey[]=e.pem\ncert[]=E.pem\n", r_pem="1", e_pem="2"
        )
        self.assertEqual([file.name for file in settings.inbound.keys], ["r.pem", "e.pem"])
        self.assertEqual([file.content for file in settings.inbound.keys], [b"1", b"2"])
        self.assertEqual([file.name for file in settings.inbound.certs], ["R.pem", "E.pem"])

    def test_cannot_be_read(self) -> None:
        """A wrong file does not stop the server: what is wrong is kept, to be told."""
        settings = self.load("key=dir\ncert=empty.pem\n", **{"dir/x": "", "empty_pem": " \n"})
        self.assertEqual(settings.inbound.keys[0].content, None)
        self.assertIn("Is a directory", settings.inbound.keys[0].problem or "")
        self.assertEqual(settings.inbound.certs[0].problem, "the file is empty")

    def test_unreadable(self) -> None:
        """A file that is there but cannot be read is told as such, not as missing."""
        config = write_config(self)
        (config.path / "tls_key.pem").symlink_to("tls_key.pem")
        problem = TLSSettings.load(config).inbound.keys[0].problem
        self.assertIn("cannot be read", problem or "")

    def test_names_no_file(self) -> None:
        """An empty key= is a mistake, not the default."""
        self.assert_refused("key=\n", "key", "no file")
        self.assert_refused("[inbound]\ncert\n", "[inbound] cert")

    def test_key_is_not_shown(self) -> None:
        """A private key does not get into a log by way of a repr."""
        settings = self.load("", tls_key_pem="SECRET")
        self.assertNotIn("SECRET", repr(settings))

    def test_trust_anchors(self) -> None:
        """ca is for clients, ca of [outbound] for next hops; one never stands in for the other."""
        text = "ca=a.pem\n[outbound]\nca=b.pem\n"
        settings = self.load(text, a_pem="A", b_pem="B")
        self.assertEqual(settings.inbound.anchors, (PEMFile("a.pem", b"A"),))
        self.assertEqual(settings.outbound.anchors, (PEMFile("b.pem", b"B"),))
        self.assertEqual(self.load("ca=a.pem\n", a_pem="A").outbound.anchors, ())


class DirectoryTests(SettingsTestCase):
    """config/tls."""

    def names(self, config: ConfigDirectory) -> list[str]:
        return [file.name for file in TLSSettings.load(config).inbound.directory]

    def test_files(self) -> None:
        """Every file at any depth is read, but what begins with a dot."""
        config = write_config(
            self,
            {
                "tls/b.pem": "B",
                "tls/a": "A",
                "tls/sub/deep/c.crt": "C",
                "tls/.b.pem.swp": "",
                "tls/.git/x": "",
            },
        )
        found = TLSSettings.load(config).inbound.directory
        expected = {"tls/a": b"A", "tls/b.pem": b"B", "tls/sub/deep/c.crt": b"C"}
        self.assertEqual({file.name: file.content for file in found}, expected)

    def test_links(self) -> None:
        """Links as certbot and Kubernetes make them are followed; one in a circle ends."""
        config = write_config(self, {"live/a.pem": "A", "tls/..2026/b.pem": "B"})
        (config.path / "tls" / "..data").symlink_to("..2026")
        (config.path / "tls" / "b.pem").symlink_to("..data/b.pem")
        (config.path / "tls" / "site").symlink_to("../live")
        (config.path / "live" / "again").symlink_to("../tls")
        (config.path / "tls" / "gone.pem").symlink_to("nowhere")
        names = self.names(config)
        self.assertEqual(names, ["tls/b.pem", "tls/gone.pem", "tls/site/a.pem"])

    def test_no_directory(self) -> None:
        """Where tls is no directory, that is told and nothing else happens."""
        config = write_config(self, {"tls": "x"})
        (found,) = TLSSettings.load(config).inbound.directory
        self.assertIsNone(found.content)
        self.assertIn("Not a directory", found.problem or "")

    def test_default_pair(self) -> None:
        """With the directory, a missing default pair is no mistake unless tls.ini names it."""
        files = {"tls/a.pem": "A"}
        self.assertEqual(TLSSettings.load(write_config(self, files)).inbound.keys, ())
        for more in ({"tls.ini": "key=tls_key.pem\n"}, {"tls_cert.pem": "C"}):
            settings = TLSSettings.load(write_config(self, {**files, **more})).inbound
            self.assertEqual([file.name for file in settings.keys], ["tls_key.pem"])
            self.assertEqual([file.name for file in settings.certs], ["tls_cert.pem"])
