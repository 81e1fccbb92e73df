"""Tests for harakatls.tls.contexts and harakatls.tls.binding."""

import os

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, x25519
from cryptography.x509 import Certificate, load_pem_x509_certificate
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.mail.route import NextHop
from harakatls.tls import binding
from harakatls.tls.certificates import KeyPair
from harakatls.tls.client import ClientTLS
from harakatls.tls.contexts import PairRefused, TrustStore, client_context, server_context
from harakatls.tls.handshake import verify
from harakatls.tls.pairing import default_pairs
from harakatls.tls.parameters import ContextParameters
from harakatls.tls.policy import ClientCertificate, Decision, SecurityLevel
from harakatls.tls.settings import OutboundTLS
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    Outcome,
    Transport,
    authority,
    from_us,
    pem_files,
    plain_client,
    shake_hands,
    with_chain,
)

HOST = "mx.example.com"
PARAMETERS = ContextParameters(groups=None)


def pair(kind: str = "ECDSA") -> KeyPair:
    files = pem_files(with_chain(HOST, kind=kind))
    (found,), _ = default_pairs(files["keys"], files["certs"])
    return found


def shaken(context: SSL.Context, client: SSL.Connection | None = None) -> Outcome:
    server = SSL.Connection(context, None)
    server.set_accept_state()
    client = client or plain_client()
    client.set_connect_state()
    return shake_hands(client, server)


class ServerContextTests(SynchronousTestCase):
    def test_chains(self) -> None:
        """Each certificate goes out with its own issuers, whichever way the file is handed over."""
        for _ in ("memory", "file"):
            context = server_context(PARAMETERS, [pair("RSA"), pair()])
            chain = shaken(context).client.get_peer_cert_chain(as_cryptography=True) or []
            self.assertEqual(chain[0].issuer, chain[1].subject)
            self.assertEqual(len(chain), 2)
            self.patch(os, "memfd_create", self.missing)

    def missing(self, *_: object) -> int:
        raise OSError

    def test_anchors_are_not_sent(self) -> None:
        """The authorities for clients do not get into the chain of our own certificate."""
        lone = evolve(pair(), chain=pair().chain[:1])
        trust = TrustStore([*pair().chain[1:]])
        context = server_context(PARAMETERS, [lone], ClientCertificate.ASKED_FOR, trust, verify)
        self.assertEqual(len(shaken(context).client.get_peer_cert_chain() or ()), 1)

    def test_wrong_key(self) -> None:
        """A key of another certificate is refused, also one of another kind."""
        for key in (pair("RSA").private_key, ed25519.Ed25519PrivateKey.generate()):
            with self.assertRaises(PairRefused):
                server_context(PARAMETERS, [evolve(pair(), private_key=key)])

    def test_unusable_key(self) -> None:
        """A kind of key that TLS does not know is refused, not raised as something else."""
        with self.assertRaises(PairRefused):
            wrong = evolve(pair(), private_key=dsa.generate_private_key(1024))
            server_context(PARAMETERS, [wrong])
        with self.assertRaises(PairRefused):
            server_context(
                PARAMETERS, [evolve(pair(), private_key=x25519.X25519PrivateKey.generate())]
            )

    def test_many_anchors_are_not_named(self) -> None:
        """A whole bundle of authorities would make the request for a certificate huge."""
        trust = TrustStore([*pair().chain] * 40)
        context = server_context(PARAMETERS, [pair()], ClientCertificate.ASKED_FOR, trust, verify)
        self.assertEqual(shaken(context).client.get_client_ca_list(), [])

    def test_no_renegotiation(self) -> None:
        """A client cannot make us shake hands again and again."""
        client = plain_client(TLS_1_2)
        outcome = shaken(server_context(PARAMETERS, [pair()]), client)
        self.assertTrue(outcome.succeeded)
        client.renegotiate()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        outcome.server.bio_write(client.bio_read(1 << 16))
        with self.assertRaises((SSL.Error, SSL.WantReadError)):
            outcome.server.recv(10)
        client.bio_write(outcome.server.bio_read(1 << 16))
        with self.assertRaises(SSL.Error) as caught:
            client.do_handshake()
        self.assertIn("no renegotiation", str(caught.exception))


def authority_certificate() -> Certificate:
    return load_pem_x509_certificate(authority().cert_pem.bytes())


class BindingTests(SynchronousTestCase):
    """What is left where the low-level binding has not what we want."""

    def without(self, *names: str) -> None:
        """The binding without some functions."""

        class Lib:
            def __getattr__(self, name: str) -> object:
                if name in names:
                    raise AttributeError(name)
                return getattr(original, name)

        original = binding.lib  # type: ignore[attr-defined]
        self.patch(binding, "lib", Lib())

    def test_groups(self) -> None:
        """One curve of the usual ones can still be set; a list cannot, and that is told."""
        self.without("SSL_CTX_set1_curves_list")
        context = server_context(ContextParameters(), [pair()])
        self.assertEqual(shaken(context).server.get_group_name(), "secp256r1")
        with self.assertRaises(ConfigError):
            server_context(ContextParameters(groups="X25519:P-256"), [pair()])
        client_context(PARAMETERS, False, TrustStore([]), verify)

    def test_store(self) -> None:
        """Trust that cannot be shared is copied."""
        trust = TrustStore([authority_certificate()])
        self.without("SSL_CTX_set_cert_store")
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        trust.apply(context)
        context.set_verify(SSL.VERIFY_PEER, lambda *args: bool(args[4]))
        client = SSL.Connection(context, None)
        self.assertTrue(shaken(server_context(PARAMETERS, [pair()]), client).succeeded)

    def test_texts(self) -> None:
        """Errors have a number at least."""
        self.assertEqual(binding.verify_error_text(18), "self-signed certificate (18)")
        self.without("X509_verify_cert_error_string", "SSL_session_reused")
        self.assertIn("18", binding.verify_error_text(18))
        outcome = shaken(server_context(PARAMETERS, [pair()]))
        self.assertFalse(binding.is_resumed(outcome.server))

    def test_sessions(self) -> None:
        """Where it cannot be told whether a session was resumed, none is offered."""
        self.without("SSL_session_reused", "SSL_get_client_CA_list", "i2d_SSL_SESSION")
        tls, hop = ClientTLS(OutboundTLS()), NextHop("192.0.2.7", "example.net")
        context = server_context(PARAMETERS, [pair()])
        decision = Decision(SecurityLevel.MAY, ())
        for _ in range(2):
            outcome = from_us(tls, decision, SSL.Connection(context, None), hop)
            self.assertTrue(outcome.succeeded)
            self.assertFalse(getattr(outcome.client, "offered", True))
            tls.keep_session(Transport(outcome.client))
            outcome.client.shutdown()
            session = outcome.client.get_session()
            assert session is not None
            self.assertEqual(binding.session_octets(session), 0)
            self.assertFalse(binding.was_asked_for_certificate(outcome.client))

    def test_errors_are_forgotten(self) -> None:
        """A refused curve leaves no error behind that another connection would be blamed for."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.assertFalse(binding.set_groups(context, "nothing"))
        self.assertTrue(shaken(server_context(PARAMETERS, [pair()])).succeeded)


class SharedTrustTests(SynchronousTestCase):
    def test_outlives_its_owner(self) -> None:
        """Contexts go on trusting when nobody else holds the trust store any more."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        TrustStore([authority_certificate()]).apply(context)
        context.set_verify(SSL.VERIFY_PEER, lambda *args: bool(args[4]))
        server = server_context(PARAMETERS, [pair()])
        for version in (TLS_1_2, TLS_1_3):
            client = SSL.Connection(context, None)
            self.assertTrue(shaken(server, client).succeeded, version)
