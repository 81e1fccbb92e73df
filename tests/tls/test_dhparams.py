"""Tests for harakatls.tls.dhparams, and for dhparam on real handshakes."""

import os
from binascii import b2a_base64
from decimal import Decimal, getcontext
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.tls.client import ClientTLS
from harakatls.tls.dhparams import FFDHE2048, DHGroup, GroupRefused, read_group, write_group
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.dh_groups import DHE, OF_DSA, OWN, modulus_of, without_ffdhe
from tests.tls.options_case import RSA, OptionsTestCase
from tests.tls.peers import (
    TLS_1_2,
    chain_octets,
    groups,
    issued,
    key_octets,
    plain_client,
    serial,
    to_us,
)


def ffdhe(bits: int, constant: int) -> int:
    """The modulus as RFC 7919 appendix A defines it."""
    getcontext().prec = 800
    e = int(Decimal(1).exp() * Decimal(2) ** (bits - 130))
    modulus: int = 2**bits - 2 ** (bits - 64) + (e + constant) * 2**64 - 1
    return modulus


class ReadingTests(SynchronousTestCase):
    """What dhparams.pem may hold."""

    def assert_refused(self, content: bytes, *words: str) -> None:
        with self.assertRaises(GroupRefused) as caught:
            read_group(content)
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_constant(self) -> None:
        """The built-in group is the one of the RFC, computed from its formula."""
        self.assertEqual(FFDHE2048, DHGroup(ffdhe(2048, 560316), 2))

    def test_own_form(self) -> None:
        """What is written is read again."""
        self.assertEqual(read_group(FFDHE2048.pem()), FFDHE2048)
        self.assertEqual(read_group(b"# mine\n" + OWN.pem()), OWN)

    def test_other_form(self) -> None:
        """X9.42, as OpenSSL writes groups that have a subgroup."""
        self.assertEqual(OWN.bits, 2048)
        self.assertNotEqual(OWN.generator, 2)

    def test_small(self) -> None:
        """Groups that can be broken, and those that wear the server out."""
        self.assert_refused(DHGroup(ffdhe(1024, 129093)).pem(), "1024 bits", "2048")
        self.assert_refused(DHGroup(2**8193 - 1).pem(), "8193 bits", "8192")

    def test_no_group(self) -> None:
        """A modulus that is no prime, and generators without a use."""
        for group in (
            DHGroup(FFDHE2048.modulus - 2),
            DHGroup(FFDHE2048.modulus, 1),
            DHGroup(FFDHE2048.modulus, 0),
            DHGroup(FFDHE2048.modulus, FFDHE2048.modulus - 1),
            DHGroup(FFDHE2048.modulus, -2),
        ):
            self.assert_refused(group.pem(), "no group")

    def test_other_files(self) -> None:
        """Garbage, nothing, half of a file, and another file in its place."""
        whole = FFDHE2048.pem()
        self.assert_refused(b"garbage", "no DH PARAMETERS")
        self.assert_refused(b"", "no DH PARAMETERS")
        self.assert_refused(whole[:200], "cut off")
        self.assert_refused(whole.replace(b"\n-----END", b"=\n-----END"), "cannot be read")
        lines = whole.splitlines(keepends=True)
        self.assert_refused(b"".join(lines[:3] + lines[4:]), "cannot be read")
        self.assert_refused(key_octets(RSA), "but RSA PRIVATE KEY")
        self.assert_refused(chain_octets(RSA), "but CERTIFICATE")

    @given(st.binary(max_size=300))
    def test_any_octets(self, octets: bytes) -> None:
        """Whatever is in it, there is a reason and nothing else."""
        text = b"-----BEGIN DH PARAMETERS-----\n%b\n-----END DH PARAMETERS-----\n"
        for content in (octets, text % octets, text % b2a_base64(octets, newline=False)):
            self.assertRaises(GroupRefused, read_group, content)

    @given(st.integers(0, 2**200), st.integers(0, 2**200))
    def test_any_numbers(self, modulus: int, generator: int) -> None:
        """The sizes of numbers are right in what is written, at each boundary."""
        self.assert_refused(DHGroup(modulus, generator).pem(), f"{modulus.bit_length()} bits")


class WritingTests(SynchronousTestCase):
    """A file that is missing is made: whole, or not at all."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "dhparams.pem"

    def test_missing(self) -> None:
        """Nothing but the file is there afterwards, and everybody may read it."""
        self.assertTrue(write_group(self.path))
        self.assertEqual(read_group(self.path.read_bytes()), FFDHE2048)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o644)
        self.assertEqual(os.listdir(self.directory), ["dhparams.pem"])

    def test_empty(self) -> None:
        """An empty one is as good as none."""
        self.path.touch()
        self.assertTrue(write_group(self.path))
        self.assertEqual(read_group(self.path.read_bytes()), FFDHE2048)

    def test_there(self) -> None:
        """Somebody else has made one meanwhile: it stays."""
        self.path.write_bytes(OF_DSA)
        self.assertFalse(write_group(self.path))
        self.assertEqual(self.path.read_bytes(), OF_DSA)
        self.assertEqual(os.listdir(self.directory), ["dhparams.pem"])

    def test_link(self) -> None:
        """A link stays a link, and what it names is made."""
        (self.directory / "elsewhere").mkdir()
        self.path.symlink_to("elsewhere/dh.pem")
        self.assertTrue(write_group(self.path))
        self.assertTrue(self.path.is_symlink())
        self.assertTrue((self.directory / "elsewhere" / "dh.pem").is_file())

    def test_never_half(self) -> None:
        """Where the disk fails in between, nothing is left of it."""

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        self.assertRaises(OSError, write_group, self.path)
        self.assertEqual(os.listdir(self.directory), [])

    def test_no_directory(self) -> None:
        """Nor is a directory made for it."""
        self.assertRaises(FileNotFoundError, write_group, self.directory / "none" / "dh.pem")


class OptionTests(OptionsTestCase):
    """dhparam in tls.ini, from the file to the wire."""

    keys = "key=rsa.key\ncert=rsa.crt\n"

    def modulus(self, tls: ServerTLS) -> int:
        return modulus_of(self, tls, plain_client(TLS_1_2, configure=without_ffdhe))

    def make(self, ini: str, **files: bytes) -> ServerTLS:
        named = {name.replace("_", "."): content for name, content in files.items()}
        return ServerTLS(self.settings(self.keys + ini, named).inbound, "mx.example.com")

    def test_missing(self) -> None:
        """DHE works from the first handshake on, with the group of the RFC."""
        tls = self.make("")
        self.assertEqual(tls.problems, ())
        self.assertEqual(self.modulus(tls), FFDHE2048.modulus)
        self.assert_succeeded(to_us(tls, plain_client(TLS_1_2, configure=DHE)))

    def test_default_name(self) -> None:
        """dhparams.pem is used without a word in tls.ini."""
        self.assertEqual(self.modulus(self.make("", dhparams_pem=OF_DSA)), OWN.modulus)

    def test_other_name(self) -> None:
        """dhparam names the file; [inbound] wins."""
        tls = self.make("dhparam=dh.pem\n", dh_pem=OF_DSA)
        self.assertEqual(self.modulus(tls), OWN.modulus)
        self.assert_succeeded(to_us(tls, plain_client(TLS_1_2, configure=DHE)))
        tls = self.make("[inbound]\ndhparam=dh.pem\n", dh_pem=OF_DSA, dhparams_pem=b"garbage")
        self.assertEqual(self.modulus(tls), OWN.modulus)
        self.assertEqual(tls.problems, ())

    def test_beside_certificates(self) -> None:
        """In config/tls it is no broken bundle, whichever section names it."""
        named = {"tls/dh.pem": OF_DSA}
        for ini in ("dhparam=tls/dh.pem\n", "[inbound]\ndhparam=tls/../tls/dh.pem\n"):
            settings = self.settings(self.keys + ini, named)
            tls = ServerTLS(settings.inbound, "mx.example.com")
            self.assertEqual(tls.problems, ())
            self.assertEqual(self.modulus(tls), OWN.modulus)
            self.assertEqual(settings.inbound.directory, ())
        settings = self.settings(self.keys, named)
        (problem,) = ServerTLS(settings.inbound, "mx.example.com").problems
        self.assertIn("tls/dh.pem", problem)

    def test_with_a_certificate(self) -> None:
        """Who keeps the group in the file of key and certificate has both."""
        leaf = issued("named.example")
        bundle = key_octets(leaf) + chain_octets(leaf) + OF_DSA
        settings = self.settings(self.keys + "dhparam=tls/all.pem\n", {"tls/all.pem": bundle})
        tls = ServerTLS(settings.inbound, "mx.example.com")
        outcome = to_us(tls, plain_client(server_name="named.example"))
        self.assertEqual(outcome.serial, serial(leaf))
        self.assertEqual(tls.problems, ())

    def test_client_with_groups(self) -> None:
        """Clients that offer groups of RFC 7919 by name are served as well."""

        def named(context: SSL.Context) -> None:
            DHE(context)
            groups("ffdhe2048")(context)

        tls = self.make("", dhparams_pem=OF_DSA)
        self.assert_succeeded(to_us(tls, plain_client(TLS_1_2, configure=named)))

    def test_wrong_file(self) -> None:
        """The file and the reason are named, and the group of the RFC is used."""
        for content, word in (
            (b"garbage", "no DH PARAMETERS"),
            (OF_DSA[:300], "cut off"),
            (key_octets(RSA), "but RSA PRIVATE KEY"),
            (DHGroup(ffdhe(1024, 129093)).pem(), "1024 bits"),
        ):
            tls = self.make("dhparam=dh.pem\n", dh_pem=content)
            (problem,) = tls.problems
            self.assertIn("dhparam: dh.pem: ", problem)
            self.assertIn(word, problem)
            self.assertTrue(tls.ready())
            self.assertEqual(self.modulus(tls), FFDHE2048.modulus)

    def test_unreadable(self) -> None:
        """What is no file at all is no group, and nothing is made in its place."""
        config = write_config(self, {"tls.ini": "dhparam=dh\n", "dh/x": b""})
        file = TLSSettings.load(config).inbound.group_file
        self.assertFalse(file.missing)
        self.assertIn("cannot be read", str(file.problem))

    def test_made_is_no_change(self) -> None:
        """The file that is made has what was in use: contexts, and so tickets, stay as they are."""
        self.assertEqual(
            self.settings("").inbound,
            self.settings("", {"dhparams.pem": FFDHE2048.pem()}).inbound,
        )
        self.assertNotEqual(
            self.settings("").inbound, self.settings("", {"dhparams.pem": OF_DSA}).inbound
        )
        self.assertTrue(self.settings("").inbound.group_file.missing)
        self.assertTrue(self.settings("", {"dhparams.pem": b" \n"}).inbound.group_file.missing)

    def test_no_name(self) -> None:
        """A value that names no file."""
        for text in ("dhparam=\n", "dhparam[]=a.pem\n", "dhparam\n", "dhparam=a\x00b\n"):
            with self.assertRaises(ConfigError) as caught:
                self.settings(text)
            self.assertIn("tls.ini dhparam", str(caught.exception))

    def test_strict_level(self) -> None:
        """A security level for which the group is too small shuts out DHE, and nothing else."""
        strong = issued("mx.example.com", kind="ECDSA")
        files = {"tls_key.pem": key_octets(strong), "tls_cert.pem": chain_octets(strong)}
        settings = self.settings("ciphers=DEFAULT:@SECLEVEL=3\n", files)
        tls = ServerTLS(settings.inbound, "mx.example.com")
        self.assertEqual(tls.problems, ())
        self.assert_succeeded(to_us(tls, plain_client(TLS_1_2)))

    def test_outbound(self) -> None:
        """The server chooses: a file of ours has no effect there, which is told."""
        settings = self.settings("[outbound]\ndhparam=dh.pem\n")
        ClientTLS(settings.outbound)
        self.assertEqual(settings.outbound, self.settings("").outbound)
