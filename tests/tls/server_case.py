"""What the tests of the server's side share."""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.tls.certificates import told_names
from harakatls.tls.files import PEMFile
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    Outcome,
    Transport,
    authority,
    chain_octets,
    issued,
    key_octets,
    self_signed,
    with_chain,
)

ME = "mx.example.com"
DEFAULT = with_chain(ME)
RSA = with_chain(ME, kind="RSA")
NAMED = with_chain("named.example", "other.example")
WILD = issued("*.wild.example")
ANCHOR = PEMFile("ca.pem", authority().cert_pem.bytes())
SMALL_RSA = b"".join(self_signed(ME, key=rsa.generate_private_key(65537, 1024)))
NAMES = {
    None: (ME,),
    ME: (ME,),
    "named.example": ("named.example", "other.example"),
    "OTHER.example.": ("named.example", "other.example"),
    "a.wild.example": ("*.wild.example",),
    "a.b.wild.example": (ME,),
    "wild.example": (ME,),
    "unknown.example": (ME,),
}


def summary_of(tls: ServerTLS, outcome: Outcome) -> TLSSummary:
    return tls.summary(Transport(outcome.server))


def names_shown(outcome: Outcome) -> tuple[str, ...]:
    """The names of the certificate that the client got to see."""
    return told_names(outcome.shown.to_cryptography())


class ServerTestCase(SynchronousTestCase):
    def directory(
        self, files: Mapping[str, bytes] | None = None, ini: str = "ecdhCurve=auto\n"
    ) -> ServerTLS:
        """A server with config/tls."""
        found = {
            "tls_key.pem": key_octets(DEFAULT),
            "tls_cert.pem": chain_octets(DEFAULT),
            "tls/named.pem": key_octets(NAMED) + chain_octets(NAMED),
            "tls/sub/wild.pem": key_octets(WILD) + chain_octets(WILD),
            "tls.ini": ini.encode(),
        }
        found.update(files or {})
        return ServerTLS(TLSSettings.load(write_config(self, found)).inbound, ME)
