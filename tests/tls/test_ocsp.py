"""Tests for harakatls.tls.ocsp."""

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.ocsp import (
    CLOCK_SKEW,
    LIFE_WITHOUT_END,
    ResponseRefused,
    Staple,
    must_staple,
    read_response,
    request_for,
    responder_url,
)
from tests.tls.peers import issued
from tests.tls.responding import (
    DAY,
    NOW,
    OCSP_SIGNING,
    REVOKED,
    SERVER_AUTH,
    UNKNOWN,
    URL,
    Holder,
    certify,
    key_of,
    leaf,
    respond,
    root,
)

MINUTE = timedelta(minutes=1)


def delegate(
    issuer: Holder | None = None,
    usage: x509.ObjectIdentifier | None = OCSP_SIGNING,
    days: int = 30,
    since: int = 9,
) -> Holder:
    """One who may sign for the authority, if the usage is right."""
    return certify(
        "signer",
        key_of("EC", "signer"),
        issuer or root(),
        usage=usage,
        not_before=NOW - since * DAY,
        not_after=NOW + days * DAY,
    )


class CertificateTests(SynchronousTestCase):
    """What a certificate says about its responder."""

    def test_url(self) -> None:
        """The responder that the certificate names is asked, and no other kind of place."""
        self.assertEqual(responder_url(leaf().certificate), URL)
        self.assertIsNone(responder_url(root().certificate))
        trusted = x509.load_pem_x509_certificate(issued("a.example").cert_chain_pems[0].bytes())
        self.assertIsNone(responder_url(trusted))
        for url in (
            *("ldap://ocsp.example/", "https://ocsp.example/", "http://", "http:///x", "ocsp"),
            *("http://ocsp.example:99999/", "http://ocsp.example:0/", "http://[::1/"),
            *("http://ocsp.example/a b", "http://ocsp.example/\r\nX: y", "file:///etc/passwd"),
        ):
            with self.subTest(url=url):
                found = certify("a.example", key_of("EC"), root(), url=url)
                self.assertIsNone(responder_url(found.certificate))

    def test_must_staple(self) -> None:
        """Who has ordered must-staple is warned where there is no staple, and nobody else."""
        self.assertTrue(must_staple(leaf(must=True).certificate))
        self.assertFalse(must_staple(leaf().certificate))

    def test_request(self) -> None:
        """Every authority knows the certificate by SHA-1; no nonce keeps it from its cache."""
        request = ocsp.load_der_ocsp_request(request_for(leaf().certificate, root().certificate))
        self.assertEqual(request.serial_number, leaf().certificate.serial_number)
        self.assertIsInstance(request.hash_algorithm, SHA1)
        self.assertEqual(len(request.extensions), 0)


class ResponseTests(SynchronousTestCase):
    def read(self, der: bytes, about: Holder | None = None, issuer: Holder | None = None) -> Staple:
        """What we make of it now."""
        certificate, by = (about or leaf()).certificate, (issuer or root()).certificate
        return read_response(der, certificate, by, NOW)

    def assert_refused(self, der: bytes, words: str) -> None:
        """It is not shown to anybody, and the operator reads why."""
        with self.assertRaises(ResponseRefused) as caught:
            self.read(der)
        self.assertIn(words, str(caught.exception))

    def test_direct(self) -> None:
        """A response of the issuer itself is shown as it is, whatever kind of key signs."""
        for by_name in (False, True):
            der = respond(leaf(), by_name=by_name)
            self.assertEqual(self.read(der), Staple(der, NOW - DAY, NOW + 6 * DAY))
        for kind in ("RSA", "Ed25519"):
            with self.subTest(kind=kind):
                issuer = root(kind, "Other")
                ours = certify("mx.example.com", key_of("EC"), issuer)
                self.assertFalse(self.read(respond(ours, issuer), ours, issuer).revoked)

    def test_sha256(self) -> None:
        """A responder that names the certificate by another hash is understood."""
        self.read(respond(leaf(), hashed=SHA256()))

    def test_delegated(self) -> None:
        """One whom the issuer has certified for this may sign."""
        for by_name in (False, True):
            der = respond(leaf(), signer=delegate(), by_name=by_name)
            self.assertEqual(self.read(der).next_update, NOW + 6 * DAY)

    def test_end_of_the_delegate(self) -> None:
        """What clients refuse once the signer's certificate has ended is not shown after that."""
        der = respond(leaf(), signer=delegate(days=2))
        self.assertEqual(self.read(der).next_update, NOW + 2 * DAY)

    def test_wrong_delegates(self) -> None:
        """Nobody else signs: not with another usage, out of date, or from elsewhere."""
        self.assert_refused(respond(leaf(), signer=delegate(usage=SERVER_AUTH)), "not for signing")
        self.assert_refused(respond(leaf(), signer=delegate(usage=None)), "not for signing")
        self.assert_refused(respond(leaf(), signer=delegate(days=-1)), "not valid now")
        self.assert_refused(respond(leaf(), signer=delegate(since=-1)), "not valid now")
        elsewhere = delegate(root(name="Elsewhere"))
        self.assert_refused(respond(leaf(), signer=elsewhere), "not of the issuer")
        namesake = delegate(certify("Responding Trust", key_of("EC", "namesake")))
        self.assert_refused(respond(leaf(), signer=namesake), "not of the issuer")

    def test_another_authority(self) -> None:
        """Nor another authority, even one of the same name."""
        self.assert_refused(respond(leaf(), root(name="Elsewhere")), "nobody")
        namesake = certify("Responding Trust", key_of("EC", "namesake"))
        self.assert_refused(respond(leaf(), namesake, by_name=True), "signature is wrong")

    def test_about_another(self) -> None:
        """A good word about another certificate is none about ours."""
        self.assert_refused(respond(leaf("other.example")), "another certificate")
        ours, elsewhere = leaf(), root(name="Elsewhere")
        # The same serial number of another authority:
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                ours.certificate,
                elsewhere.certificate,
                SHA1(),
                ocsp.OCSPCertStatus.GOOD,
                NOW - DAY,
                NOW + DAY,
                None,
                None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, root().certificate)
        )
        der = builder.sign(root().key, SHA256()).public_bytes(Encoding.DER)
        self.assert_refused(der, "another certificate")

    def test_dates(self) -> None:
        """Not of the past, nor of the future, but for clocks that differ a little."""
        self.assert_refused(respond(leaf(), end=NOW), "out of date")
        self.assert_refused(respond(leaf(), end=NOW - DAY / 2), "out of date")
        self.read(respond(leaf(), begin=NOW + CLOCK_SKEW))
        self.assert_refused(respond(leaf(), begin=NOW + CLOCK_SKEW + MINUTE), "of the future")

    def test_without_an_end(self) -> None:
        """A response without nextUpdate serves for a while, not for ever."""
        staple = self.read(respond(leaf(), begin=NOW, end=None))
        self.assertEqual(staple.next_update, NOW + LIFE_WITHOUT_END)
        late = respond(leaf(), begin=NOW - LIFE_WITHOUT_END, end=None)
        self.assert_refused(late, "out of date")

    def test_status(self) -> None:
        """Revoked is told; what the responder does not know is no staple."""
        self.assertTrue(self.read(respond(leaf(), status=REVOKED)).revoked)
        self.assert_refused(respond(leaf(), status=UNKNOWN), "does not know")
        builder = ocsp.OCSPResponseBuilder
        for status in ocsp.OCSPResponseStatus:
            if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
                der = builder.build_unsuccessful(status).public_bytes(Encoding.DER)
                self.assert_refused(der, status.name.lower())

    def test_damaged(self) -> None:
        """Not one octet may be another: what is damaged is refused, in words."""
        der = respond(leaf(), signer=delegate())
        for at in range(len(der) - len(delegate().certificate.signature)):
            damaged = bytearray(der)
            damaged[at] ^= 0x41
            with self.assertRaises(ResponseRefused):
                self.read(bytes(damaged))
        for length in range(len(der)):
            with self.assertRaises(ResponseRefused):
                self.read(der[:length])
        self.assert_refused(der + b"\0", "cannot be read")

    @given(st.binary(max_size=200))
    def test_anything(self, octets: bytes) -> None:
        """Whatever a responder sends, nothing but a refusal comes of it."""
        with self.assertRaises(ResponseRefused):
            self.read(octets)
