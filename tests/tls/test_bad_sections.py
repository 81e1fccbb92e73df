"""Sections of names whose rules leave no certificate to show: nobody runs into a hole."""

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    VERSIONS,
    chain_octets,
    issued,
    key_octets,
    peer_of,
    plain_client,
    self_signed,
    to_us,
)

ME = "mx.example"
DEFAULT, OWN, WILD = (
    issued(ME),
    issued("a.b.example", kind="RSA"),
    issued("*.b.example", kind="RSA"),
)
NAMES = (None, "a.b.example", "c.b.example", "b.example", ME, "other.example")
TOO_STRICT = "ciphers=DEFAULT@SECLEVEL=5\n"  # for keys of RSA with 2048 bits


class SectionTests(SynchronousTestCase):
    def server(self, ini: str, *leaves: str) -> ServerTLS:
        """With a default pair, and in config/tls what *leaves* say."""
        named = {"own": OWN, "wild": WILD}
        files: dict[str, str | bytes] = {
            f"tls/{name}.pem": key_octets(named[name]) + chain_octets(named[name])
            for name in leaves
        }
        files |= {"tls_key.pem": key_octets(DEFAULT), "tls_cert.pem": chain_octets(DEFAULT)}
        settings = TLSSettings.load(write_config(self, {"tls.ini": ini, **files}))
        return ServerTLS(settings.inbound, ME)

    def test_no_certificate_left(self) -> None:
        """Where OpenSSL refuses a name's certificates under its rules, another is shown."""
        for ini in (
            f"[a.b.example]\n{TOO_STRICT}",
            f"[*.b.example]\n{TOO_STRICT}",
            f"[a.b.example]\n{TOO_STRICT}[*.b.example]\n{TOO_STRICT}",
            f"[a.b.example]\n{TOO_STRICT}requireAuthorized[]=465\n",
            f"[a.b.example]\nrequestCert=false\n[*.b.example]\n{TOO_STRICT}",
        ):
            for leaves in (("own",), ("wild",), ("own", "wild")):
                tls = self.server(ini, *leaves)
                for version in VERSIONS:
                    for name in NAMES:
                        outcome = to_us(tls, plain_client(version, name), peer_of(25))
                        self.assertTrue(outcome.succeeded, (ini, leaves, name))
                self.assertTrue(all(told.startswith("tls.ini [") for told in tls.problems))
                self.assertTrue(tls.problems, (ini, leaves))

    def test_default_refused(self) -> None:
        """Rules of the default pair's own name may leave that name another, or none at all."""
        tls = self.server(f"[{ME}]\nciphers=DEFAULT@SECLEVEL=5\n", "wild")
        for name in NAMES:
            self.assertTrue(to_us(tls, plain_client(None, name)).succeeded, name)

    def test_refused_under_the_rules_for_all(self) -> None:
        """
        The rules of a wildcard that is left without a certificate go, and with them may go what
        only they let through.
        """
        small = b"".join(self_signed("*.b.example", key=rsa.generate_private_key(65537, 1024)))
        own = issued("a.b.example")
        ini = "ciphers=DEFAULT@SECLEVEL=5\n[*.b.example]\nciphers=DEFAULT@SECLEVEL=3\n"
        files: dict[str, str | bytes] = {
            "tls.ini": ini,
            "tls/own.pem": key_octets(own) + chain_octets(own),
        }
        files["tls/wild.pem"] = small
        tls = ServerTLS(TLSSettings.load(write_config(self, files)).inbound, ME)
        self.assertFalse(tls.ready())
        for name in ("own", "wild"):
            self.assertTrue(any(f"tls/{name}.pem" in told for told in tls.problems), tls.problems)
