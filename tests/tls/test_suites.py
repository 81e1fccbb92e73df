"""Tests for harakatls.tls.suites."""

import subprocess

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.suites import registered_name
from tests.support import need

ALL = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
TODAY = {
    "TLS_AES_256_GCM_SHA384": "TLS_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "DHE-RSA-AES128-SHA": "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
    "AES128-CCM8": "TLS_RSA_WITH_AES_128_CCM_8",
    "DES-CBC3-SHA": "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "RC4-MD5": "TLS_RSA_WITH_RC4_128_MD5",
    "DHE-RSA-SEED-SHA": "TLS_DHE_RSA_WITH_SEED_CBC_SHA",
    "IDEA-CBC-SHA": "TLS_RSA_WITH_IDEA_CBC_SHA",
    "AECDH-NULL-SHA": "TLS_ECDH_anon_WITH_NULL_SHA",
}


class RegisteredNameTests(SynchronousTestCase):
    def test_known(self) -> None:
        """Those one meets, and the old ones."""
        for name, registered in TODAY.items():
            self.assertEqual(registered_name(name), registered)

    def test_all_of_library(self) -> None:
        """No suite of the library's is left with a name of OpenSSL's."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_cipher_list(ALL.encode())
        names = SSL.Connection(context, None).get_cipher_list()
        self.assertGreater(len(names), 20)
        registered = {registered_name(name) for name in names}
        self.assertEqual([name for name in registered if not name.startswith("TLS_")], [])
        self.assertEqual(len(registered), len(names))

    def test_same_as_openssl(self) -> None:
        """OpenSSL's own program gives the same names to all that it has."""
        need("openssl")
        listed = subprocess.run(
            ["openssl", "ciphers", "-stdname", ALL], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in listed.stdout.splitlines()]
        self.assertGreater(len(rows), 20)
        for registered, _, name, *_ in rows:
            self.assertEqual(registered_name(name), registered)

    def test_unknown(self) -> None:
        """What is none that is known stays as it is."""
        for name in ("", "x", "GOST2012-GOST8912-GOST8912", "FOO-AES128-SHA", "AES128-SHA\n"):
            self.assertEqual(registered_name(name), name)
