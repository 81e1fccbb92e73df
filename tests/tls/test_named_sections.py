"""Sections named after a certificate, on real handshakes: [mail.example.com], [*.example.com]."""

from collections.abc import Mapping

import trustme
from OpenSSL import SSL

from harakatls.config.errors import ConfigError
from harakatls.tls.server import ServerTLS
from tests.tls.dh_groups import OF_DSA, OWN, modulus_of, without_ffdhe
from tests.tls.options_case import OptionsTestCase, prefer_small
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    VERSIONS,
    Outcome,
    Transport,
    authority,
    chain_octets,
    ciphers,
    client_context,
    client_on,
    issued,
    key_octets,
    offered,
    peer_of,
    plain_client,
    serial,
    to_us,
)

STRICT, OTHER = "strict.example.net", "other.example.net"
WILD = "any.wild.example"
BOTH = issued(STRICT, OTHER, "*.wild.example", kind="RSA")
EXACT = issued("exact.wild.example")
NAMED = {
    "tls/both.pem": key_octets(BOTH) + chain_octets(BOTH),
    "tls/exact.pem": key_octets(EXACT) + chain_octets(EXACT),
    "client_ca.pem": authority("Client Trust").cert_pem.bytes(),
    "dh.pem": OF_DSA,
}
BOTH_SERIAL = serial(BOTH)
CLIENT = issued("client.example", by="Client Trust")
STRANGER = issued("stranger.example", by="Nobody's Trust")
DEMANDING = f"[{STRICT}]\nrejectUnauthorized=true\nca=client_ca.pem\n"


def showing(leaf: trustme.LeafCert | None, version: int | None = None) -> SSL.Context:
    """A client's context, with a certificate of its own."""
    return client_context(version, None if leaf is None else leaf.configure_cert)


class NamedTestCase(OptionsTestCase):
    def named_server(self, ini: str, files: Mapping[str, bytes] | None = None) -> ServerTLS:
        return ServerTLS(self.settings(ini, {**NAMED, **(files or {})}).inbound, "mx.example.com")

    def shake(
        self, ini: str, name: str | None, client: SSL.Context | None = None, port: int = 25
    ) -> Outcome:
        """A client that asks for *name*."""
        tls = self.named_server(ini)
        self.assertEqual(tls.problems, ())
        return to_us(tls, client_on(client or showing(None), name), peer_of(port))


class OptionTests(NamedTestCase):
    """Each option holds for clients that ask for the name, and for nobody else."""

    def test_versions(self) -> None:
        """minVersion and maxVersion, also where they are wider than those for all."""
        for version, refused in ((TLS_1_3, TLS_1_2), (TLS_1_2, TLS_1_3)):
            key = "minVersion" if version == TLS_1_3 else "maxVersion"
            ini = f"[{STRICT}]\n{key}={VERSIONS[version]}\n"
            self.assert_failed(self.shake(ini, STRICT, showing(None, refused)), "version")
            self.assert_succeeded(self.shake(ini, STRICT, showing(None, version)))
            for name in (OTHER, "unknown.example", None):
                self.assert_succeeded(self.shake(ini, name, showing(None, refused)))
        ini = f"[inbound]\nminVersion=TLSv1.3\n[{STRICT}]\nminVersion=TLSv1.2\n"
        self.assert_succeeded(self.shake(ini, STRICT, showing(None, TLS_1_2)))
        self.assert_failed(self.shake(ini, OTHER, showing(None, TLS_1_2)), "version")

    def test_secure_protocol(self) -> None:
        """secureProtocol."""
        ini = f"[{STRICT}]\nsecureProtocol=TLSv1_2_method\n"
        self.assert_failed(self.shake(ini, STRICT, showing(None, TLS_1_3)), "version")
        self.assert_succeeded(self.shake(ini, STRICT, showing(None, TLS_1_2)))
        self.assert_succeeded(self.shake(ini, OTHER, showing(None, TLS_1_3)))

    def test_ciphers(self) -> None:
        """ciphers and suites."""
        wanted = {TLS_1_2: "ECDHE-RSA-CHACHA20-POLY1305", TLS_1_3: "TLS_AES_128_GCM_SHA256"}
        ini = f"[{STRICT}]\nciphers={':'.join(wanted.values())}\n"
        for version, cipher in wanted.items():
            outcome = self.assert_succeeded(self.shake(ini, STRICT, showing(None, version)))
            self.assertEqual(outcome.server.get_cipher_name(), cipher)
            outcome = self.assert_succeeded(self.shake(ini, OTHER, showing(None, version)))
            self.assertNotEqual(outcome.server.get_cipher_name(), cipher)

    def test_cipher_order(self) -> None:
        """honorCipherOrder."""
        ini = (
            "ciphers=ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:"
            f"TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256\n[{STRICT}]\nhonorCipherOrder=false\n"
        )
        for version in VERSIONS:
            for name, bits in ((STRICT, 128), (OTHER, 256)):
                client = showing(None, version)
                prefer_small_rsa(client)
                outcome = self.assert_succeeded(self.shake(ini, name, client))
                self.assertEqual(outcome.server.get_cipher_bits(), bits)

    def test_curve(self) -> None:
        """ecdhCurve."""
        ini = f"[{STRICT}]\necdhCurve=secp384r1\n"
        for version in VERSIONS:
            for name, group in ((STRICT, "secp384r1"), (OTHER, "secp256r1")):
                outcome = self.assert_succeeded(self.shake(ini, name, showing(None, version)))
                self.assertEqual(outcome.server.get_group_name(), group)
        outcome = self.shake(f"[{STRICT}]\necdhCurve=auto\n", STRICT)
        self.assertEqual(self.assert_succeeded(outcome).server.get_group_name(), "X25519MLKEM768")

    def test_dhparam(self) -> None:
        """dhparam."""
        tls = self.named_server(f"[{STRICT}]\ndhparam=dh.pem\n")
        for name, own in ((STRICT, True), (OTHER, False)):
            client = plain_client(TLS_1_2, name, without_ffdhe)
            self.assertEqual(modulus_of(self, tls, client) == OWN.modulus, own)

    def test_staples(self) -> None:
        """requestOCSP: only under the names that it is said for."""
        for ini, stapled in (
            (f"[{STRICT}]\nrequestOCSP=true\n", (STRICT,)),
            (f"requestOCSP=true\n[{STRICT}]\nrequestOCSP=false\n", (OTHER, None)),
        ):
            settings = self.settings(ini, NAMED).inbound
            tls = ServerTLS(settings, "mx.example.com", lambda _: b"\x30\x03\x0a\x01\x03")
            self.assertTrue(tls.staples_wanted)
            for name in (STRICT, OTHER, None):
                self.assertEqual(self.is_stapled(tls, name), name in stapled, (ini, name))
            wanted = {found.pair.source for found in tls.certified() if found.wanted}
            self.assertEqual("tls/both.pem" in wanted, True)
            self.assertEqual("tls/exact.pem" in wanted, OTHER in stapled)

    def is_stapled(self, tls: ServerTLS, name: str | None) -> bool:
        """Whether a client that asks for a staple gets one."""
        seen: list[bytes] = []

        def see(_connection: SSL.Connection, staple: bytes, _data: object) -> bool:
            seen.append(staple)
            return True

        context = showing(None)
        context.set_ocsp_client_callback(see)
        client = client_on(context, name)
        client.request_ocsp()
        self.assert_succeeded(to_us(tls, client))
        return any(seen)

    def test_trial_of_staples(self) -> None:
        """The server's own trial asks for a name under which it staples."""
        settings = self.settings(
            f"[{OTHER}]\nrequestOCSP=true\nminVersion=TLSv1.3\nciphers=TLS_AES_128_GCM_SHA256\n",
            NAMED,
        ).inbound
        tls = ServerTLS(settings, "mx.example.com", lambda _: b"\x30\x03\x0a\x01\x03")
        (found,) = (found for found in tls.certified() if found.wanted)
        self.assertEqual(tls.staple_shown(found.pair), b"\x30\x03\x0a\x01\x03")


class ClientCertificateTests(NamedTestCase):
    """requestCert, rejectUnauthorized, requireAuthorized and ca of a name."""

    def test_rejected(self) -> None:
        """Clients without a good certificate are turned away under this name alone."""
        for version in VERSIONS:
            for leaf in (None, STRANGER):
                self.assert_failed(self.shake(DEMANDING, STRICT, showing(leaf, version)))
                self.assert_succeeded(self.shake(DEMANDING, OTHER, showing(leaf, version)))
                self.assert_succeeded(self.shake(DEMANDING, None, showing(leaf, version)))
            tls = self.named_server(DEMANDING)
            outcome = to_us(tls, client_on(showing(CLIENT, version), STRICT))
            summary = tls.summary(Transport(self.assert_succeeded(outcome).server))
            self.assertTrue(summary.verified)
            self.assertEqual(summary.server_name, STRICT)

    def test_accepted(self) -> None:
        """A name may ask for less than all others do."""
        ini = f"rejectUnauthorized=true\nca=client_ca.pem\n[{OTHER}]\nrejectUnauthorized=no\n"
        for version in VERSIONS:
            self.assert_failed(self.shake(ini, STRICT, showing(None, version)))
            self.assert_succeeded(self.shake(ini, OTHER, showing(None, version)))

    def test_request(self) -> None:
        """Whether a certificate is asked for at all."""
        ini = f"[{STRICT}]\nrequestCert=false\n"
        for version in VERSIONS:
            for name, asked in ((STRICT, False), (OTHER, True)):
                outcome = self.assert_succeeded(self.shake(ini, name, showing(CLIENT, version)))
                self.assertEqual(outcome.server.get_peer_certificate() is not None, asked)

    def test_ports(self) -> None:
        """requireAuthorized of a name: its ports instead of those for all."""
        ini = f"requireAuthorized[]=587\n[{STRICT}]\nrequireAuthorized[]=465\n"
        for name, strict_port, other_port in ((STRICT, 465, 587), (OTHER, 587, 465)):
            for version in VERSIONS:
                client = showing(None, version)
                self.assert_failed(self.shake(ini, name, client, strict_port))
                self.assert_succeeded(self.shake(ini, name, client, other_port))

    def test_anchors(self) -> None:
        """ca: whom to trust under this name."""
        ini = f"ca=ca.pem\n[{STRICT}]\nca=client_ca.pem\n"
        tls = self.named_server(ini)
        for name, verified in ((STRICT, True), (OTHER, False)):
            outcome = self.assert_succeeded(to_us(tls, client_on(showing(CLIENT), name)))
            self.assertIs(tls.summary(Transport(outcome.server)).verified, verified)
        problems = self.named_server(f"[{STRICT}]\nca=none.pem\n").problems
        self.assertEqual(problems, (f"ca of [{STRICT}]: none.pem: there is no such file",))

    def test_tickets(self) -> None:
        """A session begun under another name, or none, is no way into the stricter one."""
        for version in VERSIONS:
            for before in (OTHER, None):
                tls = self.named_server(DEMANDING)
                context = showing(None, version)
                first = self.assert_succeeded(to_us(tls, client_on(context, before)))
                session = first.client.get_session()
                assert session is not None
                again = client_on(context, before)
                again.set_session(session)
                outcome = self.assert_succeeded(to_us(tls, again))
                self.assertTrue(tls.summary(Transport(outcome.server)).resumed)
                session = outcome.client.get_session() or session
                crossing = client_on(context, STRICT)
                crossing.set_session(session)
                self.assert_failed(to_us(tls, crossing))

    def test_own_tickets(self) -> None:
        """Under the strict name itself a session resumes, and still counts as verified."""
        for version in VERSIONS:
            tls = self.named_server(DEMANDING)
            context = showing(CLIENT, version)
            first = self.assert_succeeded(to_us(tls, client_on(context, STRICT)))
            again = client_on(context, STRICT)
            session = first.client.get_session()
            assert session is not None
            again.set_session(session)
            summary = tls.summary(Transport(self.assert_succeeded(to_us(tls, again)).server))
            self.assertTrue(summary.resumed)
            self.assertTrue(summary.verified)

    def test_unread_hello(self) -> None:
        """
        Where only OpenSSL could read the hello it is too late for the rules of a name, so that the
        client is served as one that asks for none: with nothing of that name, not half of it.
        """
        tls = self.named_server(DEMANDING)
        outcome = to_us(tls, client_on(showing(None), STRICT), hello=b"")
        self.assert_succeeded(outcome)
        self.assertNotEqual(outcome.serial, BOTH_SERIAL)
        self.assertIsNone(tls.summary(Transport(outcome.server)).server_name)
        outcome = to_us(tls, client_on(showing(None), OTHER), hello=b"")
        self.assertEqual(self.assert_succeeded(outcome).serial, BOTH_SERIAL)

    def test_failing_clients(self) -> None:
        """STARTTLS stays on offer on a port where some name has its demands."""
        tls = self.named_server(DEMANDING)
        self.assertTrue(offered(self, tls, peer_of()))
        self.assertFalse(tls._may_do_without(peer_of()))
        self.assertTrue(self.named_server("")._may_do_without(peer_of()))


class NameTests(NamedTestCase):
    """Which section is about which name."""

    def asked(self, sections: str, name: str | None) -> bool:
        """Whether the section with requestCert=false is about the name."""
        outcome = self.assert_succeeded(self.shake(sections, name, showing(CLIENT)))
        return outcome.server.get_peer_certificate() is not None

    def test_wildcard(self) -> None:
        """In each spelling it is about all names one label below, whose certificates vary."""
        for section in ("*.wild.example", "_.wild.example", "*.Wild.EXAMPLE"):
            ini = f"[{section}]\nrequestCert=false\n"
            self.assertFalse(self.asked(ini, WILD))
            self.assertFalse(self.asked(ini, "exact.wild.example"))
            self.assertTrue(self.asked(ini, "two.labels.wild.example"))
            self.assertTrue(self.asked(ini, "wild.example"))
            self.assertTrue(self.asked(ini, OTHER))

    def test_exact_wins(self) -> None:
        """A section for the name itself stands alone; a wildcard's certificate will do for it."""
        ini = f"[*.wild.example]\nrequestCert=false\n[{WILD}]\nminVersion=TLSv1.3\n"
        self.assertTrue(self.asked(ini, WILD))
        self.assertFalse(self.asked(ini, "else.wild.example"))
        outcome = self.assert_succeeded(self.shake(ini, WILD))
        self.assertEqual(outcome.serial, BOTH_SERIAL)

    def test_case(self) -> None:
        """Names are compared as host names are."""
        for section in (STRICT.upper(), STRICT + "."):
            self.assertFalse(self.asked(f"[{section}]\nrequestCert=false\n", STRICT))

    def test_default_pair(self) -> None:
        """The default certificate has names as well; without one, a client is served as by main."""
        ini = "[mx.example.com]\nrequestCert=false\n"
        self.assertFalse(self.asked(ini, "mx.example.com"))
        self.assertTrue(self.asked(ini, None))

    def test_no_certificate(self) -> None:
        """A section that no certificate belongs to is told, and changes nothing."""
        for section in ("nobody.example", "*.example.net", "a.b.wild.example", "_.nobody.example"):
            tls = self.named_server(f"[{section}]\nrejectUnauthorized=true\n")
            self.assertEqual(tls.problems, (f"tls.ini [{section}]: no certificate has this name",))
            for name in ("nobody.example", "a.example.net", "a.b.wild.example", None):
                self.assert_succeeded(to_us(tls, client_on(showing(None), name)))

    def test_certificate_refused(self) -> None:
        """A certificate that the rules for its name shut out is told, by section and file."""
        tls = self.named_server(f"[{STRICT}]\nciphers=DEFAULT:@SECLEVEL=5\n")
        (problem,) = tls.problems
        self.assertIn(f"tls.ini [{STRICT}]: tls/both.pem: OpenSSL refuses it", problem)
        outcome = to_us(tls, client_on(showing(None), OTHER))
        self.assertEqual(self.assert_succeeded(outcome).serial, BOTH_SERIAL)

    def test_twice(self) -> None:
        """Two sections about one name contradict each other."""
        for other in ("_.wild.example", "*.WILD.example"):
            with self.assertRaises(ConfigError) as caught:
                self.settings(f"[*.wild.example]\nca=ca.pem\n[{other}]\nca=ca.pem\n")
            self.assertIn(f"tls.ini [{other}]: is about the same name", str(caught.exception))

    def test_mistakes(self) -> None:
        """A wrong value is told with its section, also where no certificate has the name."""
        for name in (STRICT, "nobody.example"):
            for line in ("ciphers=NONE", "ciphers=TLS_NONE", "ecdhCurve=brainpool999"):
                with self.assertRaises(ConfigError) as caught:
                    self.named_server(f"[{name}]\n{line}\n")
                self.assertIn(f"tls.ini [{name}] {line.partition('=')[0]}: ", str(caught.exception))
            for line in ("minVersion=1.2", "requestCert=perhaps", "requireAuthorized[]=smtps"):
                with self.assertRaises(ConfigError) as caught:
                    self.settings(f"[{name}]\n{line}\n")
                self.assertIn(f"tls.ini [{name}] ", str(caught.exception))

    def test_unused(self) -> None:
        """Keys that are not about a name are told; so is a misspelt one."""
        for key in (
            *("key", "cert", "no_starttls_ports", "require_tls_ports", "require_tls_hosts"),
            *("no_tls_hosts", "force_tls_hosts", "pfx", "crl", "mutual_tls"),
        ):
            (warning,) = self.loaded(f"[{STRICT}]\n{key}=true\n").warnings
            self.assertIn(f"[{STRICT}] {key}: has no effect", warning)
        (warning,) = self.loaded(f"[{STRICT}]\nminVerson=TLSv1.2\n").warnings
        self.assertIn(f"[{STRICT}] minVerson: unknown key; did you mean minVersion?", warning)


def prefer_small_rsa(context: SSL.Context) -> None:
    """Of both ciphers, this client likes the smaller one more."""
    prefer_small(context)
    ciphers("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")(context)
