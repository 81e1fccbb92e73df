"""Staples in handshakes: what clients of our server get to see."""

from collections.abc import Mapping

from attrs import evolve, field, frozen
from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.tls.contexts import trial_context
from harakatls.tls.files import PEMFile
from harakatls.tls.parameters import ContextParameters, TLSVersion
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS
from harakatls.tls.trial import TrialFailed
from tests.tls.peers import VERSIONS, Outcome, client_context, client_on, key_pem, to_us
from tests.tls.responding import Holder, certify, files_of, key_of, leaf, respond, root

ME = "mx.example.com"
EC, RSA, NAMED = leaf(), leaf(kind="RSA"), leaf("named.example")
WILD = leaf("*.wild.example")
GROUPS = ContextParameters(groups=None)


def bundle(holder: Holder) -> PEMFile:
    """A file of config/tls."""
    return PEMFile("tls/x.pem", key_pem(holder.key) + holder.pem + root().pem)


DIRECTORY = (bundle(NAMED), bundle(WILD))


@frozen
class Kept:
    """Staples by certificate; all of them, unless told otherwise."""

    staples: Mapping[Certificate, bytes] = field(
        factory=lambda: {h.certificate: respond(h) for h in (EC, RSA, NAMED, WILD)}
    )

    def octets(self, certificate: Certificate) -> bytes:
        """As L{Staples.octets}."""
        return self.staples.get(certificate, b"")


def settings(*holders: Holder, staples: bool = True) -> InboundTLS:
    return InboundTLS(
        parameters=GROUPS, directory=DIRECTORY, staples=staples, **files_of(*(holders or (EC, RSA)))
    )


class StapleTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.kept = Kept()
        self.tls = ServerTLS(settings(), ME, self.kept.octets)
        self.assertEqual(self.tls.problems, ())

    def staple(
        self,
        version: int | None = None,
        name: str | None = None,
        tls: ServerTLS | None = None,
        context: SSL.Context | None = None,
        asks: bool = True,
    ) -> tuple[bytes, Outcome]:
        """What a client is shown, who asks or does not; b"" for nothing."""
        seen = [b""]

        def see(_connection: SSL.Connection, staple: bytes, _data: object) -> bool:
            seen.append(staple)
            return True

        context = context or client_context(version)
        context.set_ocsp_client_callback(see)
        client = client_on(context, name)
        if asks:
            client.request_ocsp()
        outcome = to_us(tls or self.tls, client)
        return seen[-1], outcome


class HandshakeTests(StapleTestCase):
    def test_each_kind(self) -> None:
        """RSA and ECDSA, in both versions: the staple is that of the certificate shown."""
        for version, number in ((TLSVersion.TLS_1_2, "TLSv1.2"), (TLSVersion.TLS_1_3, "TLSv1.3")):
            for kind, holder in (("EC", EC), ("RSA", RSA)):
                with self.subTest(version=version, kind=kind):
                    parameters = evolve(GROUPS, min_version=version, max_version=version)
                    staple, outcome = self.staple(context=trial_context(parameters, kind))
                    self.assertTrue(outcome.succeeded)
                    self.assertEqual(outcome.client.get_protocol_version_name(), number)
                    self.assertEqual(outcome.serial, holder.certificate.serial_number)
                    self.assertEqual(staple, self.kept.octets(holder.certificate))

    def test_by_name(self) -> None:
        """Each name has its own staple, also where OpenSSL had to find the name itself."""
        for version in VERSIONS:
            for name, holder in (("named.example", NAMED), ("a.wild.example", WILD), (ME, EC)):
                staple, outcome = self.staple(version, name)
                self.assertTrue(outcome.succeeded)
                self.assertEqual(staple, self.kept.octets(holder.certificate))

    def test_none(self) -> None:
        """A client that asks where there is nothing gets its handshake."""
        for tls in (
            ServerTLS(settings(), ME),
            ServerTLS(settings(staples=False), ME, self.kept.octets),
        ):
            for version in VERSIONS:
                staple, outcome = self.staple(version, tls=tls)
                self.assertTrue(outcome.succeeded)
                self.assertFalse(staple)

    def test_not_asked(self) -> None:
        """Who does not ask gets none."""
        for version in VERSIONS:
            staple, outcome = self.staple(version, asks=False)
            self.assertTrue(outcome.succeeded)
            self.assertEqual(staple, b"")

    def test_fault(self) -> None:
        """A fault of ours in the look-up costs the staple, not the connection."""

        def broken(_: Certificate) -> bytes:
            raise ZeroDivisionError

        tls = ServerTLS(settings(), ME, broken)
        for version in VERSIONS:
            staple, outcome = self.staple(version, tls=tls)
            self.assertTrue(outcome.succeeded)
            self.assertFalse(staple)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(VERSIONS))

    def test_new_staple(self) -> None:
        """What has been fetched is in the very next handshake."""
        staples = {EC.certificate: b""}
        tls = ServerTLS(settings(EC), ME, Kept(staples).octets)
        self.assertFalse(self.staple(tls=tls)[0])
        staples[EC.certificate] = respond(EC)
        self.assertEqual(self.staple(tls=tls)[0], staples[EC.certificate])


class TrialTests(StapleTestCase):
    """The server's own look at what clients get."""

    def test_all(self) -> None:
        """Each certificate is tried by a handshake under one of its names."""
        certified = self.tls.certified()
        shown = {found.certificate for found in certified}
        self.assertEqual(shown, {h.certificate for h in (EC, RSA, NAMED, WILD)})
        for found in certified:
            self.assertEqual(found.issuer, root().certificate)
            expected = self.kept.octets(found.certificate)
            self.assertEqual(self.tls.staple_shown(found.pair), expected)

    def test_required_certificate(self) -> None:
        """It works as well where clients without a certificate are sent away."""
        strict = evolve(settings(), reject_unauthorized=True, anchors=(PEMFile("ca", root().pem),))
        for version in (TLSVersion.TLS_1_2, None):
            parameters = ContextParameters(max_version=version)
            tls = ServerTLS(evolve(strict, parameters=parameters), ME, self.kept.octets)
            for found in tls.certified():
                expected = self.kept.octets(found.certificate)
                self.assertEqual(tls.staple_shown(found.pair), expected)

    def test_malformed(self) -> None:
        """OpenSSL drops what is no response, without a word: that is found out."""
        tls = ServerTLS(settings(EC), ME, lambda _: b"no response")
        (found, *_) = tls.certified()
        self.assertEqual(tls.staple_shown(found.pair), b"")

    def test_never_shown(self) -> None:
        """A certificate that no client gets to see, since no cipher is left for it, is told."""
        parameters = ContextParameters(ciphers="ECDHE+aRSA", max_version=TLSVersion.TLS_1_2)
        tls = ServerTLS(evolve(settings(), parameters=parameters), ME, self.kept.octets)
        kinds = {found.pair.kind: found.pair for found in tls.certified()}
        self.assertTrue(tls.staple_shown(kinds["RSA"]))
        with self.assertRaises(TrialFailed):
            tls.staple_shown(kinds["EC"])

    def test_issuer(self) -> None:
        """A root that is not in the certificate's file is found among those that ca names."""
        alone = InboundTLS(keys=(PEMFile("k", key_pem(EC.key)),), certs=(PEMFile("c", EC.pem),))
        (found,) = ServerTLS(alone, ME).certified()
        self.assertIsNone(found.issuer)
        trusting = evolve(alone, anchors=(PEMFile("ca", root().pem),))
        (found,) = ServerTLS(trusting, ME).certified()
        self.assertEqual(found.issuer, root().certificate)


class ChangeTests(StapleTestCase):
    def test_replaced(self) -> None:
        """Who has asked to be told of other certificates is, once they are shown."""
        told: list[set[Certificate]] = []

        def tell() -> None:
            told.append({found.certificate for found in self.tls.certified()})

        self.tls.on_change(tell)
        renewed = certify(ME, key_of("EC"), root())
        self.tls.replace(evolve(settings(renewed), directory=()))
        self.assertEqual(told, [{renewed.certificate}])
        with self.assertRaises(ConfigError):
            self.tls.replace(InboundTLS(parameters=ContextParameters(ciphers="nonsense")))
        self.assertEqual(len(told), 1)
