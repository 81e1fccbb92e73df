"""What the tests of options share: from tls.ini to a handshake, in either direction."""

from collections.abc import Mapping

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.connection import TLSSummary
from harakatls.mail.route import NextHop
from harakatls.tls.client import ClientTLS
from harakatls.tls.policy import Decision, outbound_decision
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    Outcome,
    Transport,
    authority,
    chain_octets,
    from_us,
    issued,
    key_octets,
    plain_client,
    plain_server,
    reasons,
    to_us,
    with_chain,
)

RSA = with_chain("mx.example.com", kind="RSA")
ECDSA = with_chain("mx.example.com")
PEER = issued("mx.example.net", kind="RSA")
ECDSA_PEER = issued("mx.example.net")
HOP = NextHop("192.0.2.7", "example.org", mx_name="mx.example.net")
FILES = {
    "tls_key.pem": key_octets(ECDSA),
    "tls_cert.pem": chain_octets(ECDSA),
    "rsa.key": key_octets(RSA),
    "rsa.crt": chain_octets(RSA),
    "ca.pem": authority().cert_pem.bytes(),
    "other_ca.pem": authority("Other Trust").cert_pem.bytes(),
}
OLD = "ALL:@SECLEVEL=0"


class OptionsTestCase(SynchronousTestCase):
    def settings(self, ini: str = "", files: Mapping[str, bytes] | None = None) -> TLSSettings:
        """From tls.ini with this text."""
        return TLSSettings.load(write_config(self, {**FILES, **(files or {}), "tls.ini": ini}))

    def loaded(self, ini: str) -> ConfigDirectory:
        """Whose warnings are those about tls.ini with this text."""
        config = write_config(self, {**FILES, "tls.ini": ini})
        TLSSettings.load(config)
        return config

    def server(self, ini: str = "") -> ServerTLS:
        tls = ServerTLS(self.settings(ini).inbound, "mx.example.com")
        self.assertEqual(tls.problems, ())
        return tls

    def inbound(
        self, ini: str, client: SSL.Connection | None = None, version: int | None = None
    ) -> Outcome:
        """A client's handshake with a server of ours."""
        return to_us(self.server(ini), client or plain_client(version))

    def outbound(
        self, ini: str, server: SSL.Connection | None = None, hop: NextHop = HOP
    ) -> tuple[Outcome, Decision, TLSSummary | None]:
        """Our handshake with another server, as decided for *hop*."""
        settings = self.settings(ini).outbound
        decision = outbound_decision(hop, settings, None)
        tls = ClientTLS(settings)
        outcome = from_us(tls, decision, server or plain_server(PEER))
        summary = None
        if outcome.succeeded:
            summary = tls.summary(Transport(outcome.client), decision)
        return outcome, decision, summary

    def assert_succeeded(self, outcome: Outcome) -> Outcome:
        self.assertIsNone(outcome.client_error)
        self.assertIsNone(outcome.server_error)
        return outcome

    def assert_failed(self, outcome: Outcome, word: str = "") -> None:
        """Both sides know, and one of them for this reason."""
        self.assertFalse(outcome.succeeded)
        self.assertIn(word, reasons(outcome.client_error) + reasons(outcome.server_error))

    def assert_refused(self, ini: str, *words: str) -> None:
        """OpenSSL refuses a value: an error that says where, not a server without it."""
        for role in ("inbound", "outbound"):
            settings = self.settings(f"[{role}]\n{ini}\n")
            with self.assertRaises(ConfigError) as caught:
                if role == "inbound":
                    ServerTLS(settings.inbound, "mx.example.com")
                else:
                    ClientTLS(settings.outbound)
            self.assertIn(f"tls.ini [{role}] {ini.partition('=')[0]}: ", str(caught.exception))
            for word in words:
                self.assertIn(word, str(caught.exception))


def prefer_small(context: SSL.Context) -> None:
    """A client that would rather have keys of 128 bits."""
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384")
