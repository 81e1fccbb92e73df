"""
The TLS document, option by option, from tls.ini to a handshake that would end otherwise if the
option did nothing.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import trustme
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, TLSSummary
from harakatls.mail.route import NextHop
from harakatls.tls.client import ClientTLS
from harakatls.tls.policy import Decision, outbound_decision
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    VERSIONS,
    Outcome,
    Transport,
    authority,
    chain_octets,
    ciphers,
    from_us,
    groups,
    issued,
    key_octets,
    offered,
    peer_of,
    plain_client,
    plain_server,
    reasons,
    serial,
    signatures,
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


class CertificateTests(OptionsTestCase):
    """key, cert, key[] and cert[]."""

    def test_default_pair(self) -> None:
        """tls_key.pem and tls_cert.pem are shown, with their chain, in each version of TLS."""
        for version in VERSIONS:
            outcome = self.assert_succeeded(self.inbound("", version=version))
            self.assertEqual(outcome.serial, serial(ECDSA))
            self.assertEqual(len(outcome.client.get_peer_cert_chain() or ()), 2)

    def test_other_names(self) -> None:
        """key and cert name another pair."""
        outcome = self.inbound("key=rsa.key\ncert=rsa.crt\n")
        self.assertEqual(self.assert_succeeded(outcome).serial, serial(RSA))
        outcome = self.inbound("[inbound]\nkey=rsa.key\ncert=rsa.crt\n")
        self.assertEqual(self.assert_succeeded(outcome).serial, serial(RSA))

    def test_several_pairs(self) -> None:
        """Each client gets the pair it can use, with the chain of that pair alone."""
        ini = (
            "key[]=rsa.key\ncert[]=rsa.crt\nkey[]=tls_key.pem\ncert[]=tls_cert.pem\n"
            "ecdhCurve=auto\n"
        )
        for leaf, version, configure in (
            (RSA, TLS_1_2, ciphers("ECDHE-RSA-AES128-GCM-SHA256")),
            (ECDSA, TLS_1_2, ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")),
            (RSA, TLS_1_3, signatures("RSA-PSS+SHA256")),
            (ECDSA, TLS_1_3, signatures("ECDSA+SHA256")),
        ):
            client = plain_client(version, configure=configure)
            outcome = self.assert_succeeded(self.inbound(ini, client))
            self.assertEqual(outcome.serial, serial(leaf))
            chain = outcome.client.get_peer_cert_chain(as_cryptography=True) or []
            self.assertEqual(len(chain), 2)
            self.assertEqual(chain[0].issuer, chain[1].subject)

    def test_both_kinds_on_offer(self) -> None:
        """A client that can use both gets the cheaper ECDSA, whatever the order in tls.ini."""
        for ini in (
            "key[]=rsa.key\nkey[]=tls_key.pem\ncert[]=rsa.crt\ncert[]=tls_cert.pem\n",
            "key[]=tls_key.pem\nkey[]=rsa.key\ncert[]=tls_cert.pem\ncert[]=rsa.crt\n",
        ):
            for version in VERSIONS:
                outcome = self.assert_succeeded(self.inbound(ini, version=version))
                self.assertEqual(outcome.serial, serial(ECDSA))

    def test_broken_pair(self) -> None:
        """A wrong certificate stops nothing but STARTTLS, and is told by file and reason."""
        for files, word in (
            ({"tls_key.pem": key_octets(RSA)}, "tls_cert.pem"),
            ({"tls_cert.pem": b"garbage"}, "tls_cert.pem: there is no certificate in it"),
            ({"tls_key.pem": b""}, "tls_key.pem: the file is empty"),
            ({"tls_key.pem": FILES["tls_key.pem"][:100]}, "tls_key.pem"),
        ):
            tls = ServerTLS(self.settings(files=files).inbound, "mx.example.com")
            self.assertFalse(tls.ready())
            self.assertFalse(offered(self, tls, peer_of()))
            self.assertEqual(len(tls.problems), 1)
            self.assertIn(word, tls.problems[0])

    def test_never_shown_to_servers(self) -> None:
        """The server's certificate is not given to each server that asks for one (#2693)."""

        def ask(context: SSL.Context) -> None:
            context.set_verify(SSL.VERIFY_PEER, lambda *_: True)

        for version in VERSIONS:
            for ini in ("", "[outbound]\nkey=rsa.key\ncert=rsa.crt\n"):
                outcome, _, _ = self.outbound(ini, plain_server(PEER, version, ask))
                self.assert_succeeded(outcome)
                self.assertIsNone(outcome.server.get_peer_certificate())


class ParameterTests(OptionsTestCase):
    """ciphers, minVersion, maxVersion, honorCipherOrder, ecdhCurve."""

    def test_min_version(self) -> None:
        """TLS 1.2 by default; TLSv1.3 shuts older clients out, in each direction."""
        self.assert_succeeded(self.inbound("", version=TLS_1_2))
        self.assert_failed(self.inbound("minVersion=TLSv1.3\n", version=TLS_1_2), "version")
        self.assert_succeeded(self.inbound("minVersion=TLSv1.3\n", version=TLS_1_3))
        self.assert_succeeded(self.inbound("[outbound]\nminVersion=TLSv1.3\n", version=TLS_1_2))
        outcome, _, _ = self.outbound("minVersion=TLSv1.3\n", plain_server(PEER, TLS_1_2))
        self.assert_failed(outcome, "version")
        outcome, _, _ = self.outbound("", plain_server(PEER, TLS_1_2))
        self.assert_succeeded(outcome)

    def test_old_versions(self) -> None:
        """TLS 1.0 and 1.1 for those who allow them, and for nobody else."""
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            for ini in ("minVersion=TLSv1\n", f"minVersion=TLSv1\nciphers={OLD}\n"):
                client = plain_client(version, configure=ciphers(OLD))
                self.assert_succeeded(self.inbound(ini, client))
            client = plain_client(version, configure=ciphers(OLD))
            self.assert_failed(self.inbound("", client), "version")
            server = plain_server(PEER, version, ciphers(OLD))
            outcome, _, _ = self.outbound("minVersion=TLSv1\n", server)
            self.assert_succeeded(outcome)
            server = plain_server(PEER, version, ciphers(OLD))
            self.assert_failed(self.outbound("", server)[0], "version")
        client = plain_client(SSL.TLS1_VERSION, configure=ciphers(OLD))
        self.assert_failed(self.inbound("minVersion=TLSv1.1\n", client), "version")

    def test_max_version(self) -> None:
        """maxVersion is ours: TLS 1.3 can be switched off."""
        self.assert_failed(self.inbound("maxVersion=TLSv1.2\n", version=TLS_1_3), "version")
        self.assert_succeeded(self.inbound("maxVersion=TLSv1.2\n", version=TLS_1_2))
        outcome, _, _ = self.outbound("maxVersion=TLSv1.2\n", plain_server(PEER, TLS_1_3))
        self.assert_failed(outcome, "version")

    def test_ciphers(self) -> None:
        """Only listed ciphers are used, up to TLS 1.2 and in TLS 1.3."""
        ini = "ciphers=ECDHE-ECDSA-CHACHA20-POLY1305:TLS_AES_128_GCM_SHA256\n"
        for version, cipher in (
            (TLS_1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
            (TLS_1_3, "TLS_AES_128_GCM_SHA256"),
        ):
            outcome = self.assert_succeeded(self.inbound(ini, version=version))
            self.assertEqual(outcome.server.get_cipher_name(), cipher)
            server = plain_server(ECDSA_PEER, version)
            outcome, _, _ = self.outbound(f"[outbound]\n{ini}", server)
            self.assertEqual(self.assert_succeeded(outcome).server.get_cipher_name(), cipher)
        client = plain_client(TLS_1_2, configure=ciphers("ECDHE-ECDSA-AES128-GCM-SHA256"))
        self.assert_failed(self.inbound(ini, client), "no shared cipher")

    def test_ciphers_of_the_document(self) -> None:
        """The example of the document is understood, though some of its ciphers are gone."""
        ini = (
            "ciphers=EECDH+AESGCM:EDH+aRSA+AESGCM:EECDH+AES256:EDH+aRSA+AES256:EECDH+AES128:"
            "EDH+aRSA+AES128:RSA+AES:RSA+3DES\n"
        )
        outcome = self.assert_succeeded(self.inbound(ini, version=TLS_1_2))
        self.assertIn("GCM", outcome.server.get_cipher_name() or "")
        self.assert_succeeded(self.inbound(ini, version=TLS_1_3))

    def test_suites_alone(self) -> None:
        """A list of TLS 1.3 suites alone leaves no older cipher open."""
        ini = "ciphers=TLS_AES_128_GCM_SHA256\n"
        self.assert_failed(self.inbound(ini, version=TLS_1_2), "version")
        outcome = self.assert_succeeded(self.inbound(ini))
        self.assertEqual(outcome.server.get_cipher_name(), "TLS_AES_128_GCM_SHA256")

    def test_unknown_ciphers(self) -> None:
        """A list in which nothing is known is an error that names the section."""
        self.assert_refused("ciphers=AES-NONE", "AES-NONE")
        self.assert_refused("ciphers=TLS_NONE", "TLS_NONE")

    def test_no_anonymous_ciphers(self) -> None:
        """ALL does not mean a cipher without a certificate, unless that is asked for by name."""
        anonymous = ciphers("ADH-AES256-GCM-SHA384:AECDH-AES256-SHA:@SECLEVEL=0")
        ini = "ciphers=ALL:@SECLEVEL=0\nminVersion=TLSv1\necdhCurve=auto\n"
        self.assert_failed(self.inbound(ini, plain_client(TLS_1_2, configure=anonymous)))
        ini = ini.replace("ALL", "ALL:aNULL")
        self.assert_succeeded(self.inbound(ini, plain_client(TLS_1_2, configure=anonymous)))

    def test_forced_never_anonymous(self) -> None:
        """A forced host cannot do without a certificate, even where tls.ini allows that."""
        ini = "[outbound]\nciphers=aNULL:@SECLEVEL=0\nca=ca.pem\n"

        def server() -> SSL.Connection:
            return plain_server(PEER, TLS_1_2, ciphers("ALL:aNULL:@SECLEVEL=0"))

        with self.assertRaises(ConfigError):  # nothing would be left
            ClientTLS(self.settings(ini).outbound)
        ini = ini.replace("aNULL", "ALL:aNULL") + "force_tls_hosts[]=example.org\n"
        outcome, _, summary = self.outbound(ini, server())
        self.assert_succeeded(outcome)
        assert summary is not None
        self.assertTrue(summary.verified)

    def test_honor_cipher_order(self) -> None:
        """By default our order counts, else the client's, in TLS 1.2 and 1.3."""
        ini = (
            "ciphers=ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
            "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256\n"
        )
        for version in VERSIONS:
            for extra, bits in (
                ("", 256),
                ("honorCipherOrder=true\n", 256),
                ("honorCipherOrder=no\n", 128),
            ):
                client = plain_client(version, configure=prefer_small)
                outcome = self.assert_succeeded(self.inbound(ini + extra, client))
                self.assertEqual(outcome.server.get_cipher_bits(), bits)

    def test_default_curve(self) -> None:
        """prime256v1, and nothing else, when unset: as documented."""
        for version in VERSIONS:
            outcome = self.assert_succeeded(self.inbound("", version=version))
            self.assertEqual(outcome.server.get_group_name(), "secp256r1")
            client = plain_client(version, configure=groups("X25519"))
            self.assert_failed(self.inbound("", client))
            outcome, _, _ = self.outbound("", plain_server(PEER, version))
            self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), "secp256r1")

    def test_curve(self) -> None:
        """Another curve, a list of them, and in [outbound] one of its own."""
        for version in VERSIONS:
            outcome = self.assert_succeeded(self.inbound("ecdhCurve=secp384r1\n", version=version))
            self.assertEqual(outcome.server.get_group_name(), "secp384r1")
            ini = "ecdhCurve=X25519:prime256v1\nkey=rsa.key\ncert=rsa.crt\n"
            for only, used in (("X25519", "x25519"), ("P-256", "secp256r1")):
                client = plain_client(version, configure=groups(only))
                outcome = self.assert_succeeded(self.inbound(ini, client))
                self.assertEqual(outcome.server.get_group_name(), used)
            outcome, _, _ = self.outbound(
                "[outbound]\necdhCurve=secp521r1\n", plain_server(PEER, version)
            )
            self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), "secp521r1")

    def test_automatic_curves(self) -> None:
        """auto has the modern groups: safe from quantum computers where the peer can do that."""
        outcome = self.assert_succeeded(self.inbound("ecdhCurve=auto\n"))
        self.assertEqual(outcome.server.get_group_name(), "X25519MLKEM768")
        outcome = self.assert_succeeded(self.inbound("ecdhCurve=auto\n", version=TLS_1_2))
        self.assertEqual(outcome.server.get_group_name(), "x25519")
        outcome, _, summary = self.outbound("ecdhCurve=auto\n", plain_server(PEER))
        self.assert_succeeded(outcome)
        assert summary is not None
        self.assertEqual(summary.group, "X25519MLKEM768")
        for only, used in (("X25519", "x25519"), ("P-256", "secp256r1"), ("P-384", "secp384r1")):
            outcome, _, _ = self.outbound(
                "ecdhCurve=auto\n", plain_server(PEER, configure=groups(only))
            )
            self.assertEqual(self.assert_succeeded(outcome).client.get_group_name(), used)

    def test_small_hello(self) -> None:
        """Our first packet fits where a large one would be lost, though all groups are offered."""
        tls = ClientTLS(self.settings("ecdhCurve=auto\n").outbound)
        creator = tls.connection_creator(outbound_decision(HOP, self.settings().outbound, None))
        client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
        client.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        self.assertLess(len(client.bio_read(1 << 16)), 600)

    def test_unknown_curve(self) -> None:
        """A curve that OpenSSL does not know is an error that names the section."""
        self.assert_refused("ecdhCurve=brainpool999", "brainpool999")
        self.assert_refused("ecdhCurve=auto:X25519", "auto:X25519")


class WhoTests(OptionsTestCase):
    """no_starttls_ports, [no_tls_hosts], force_tls_hosts, ca."""

    def test_no_starttls_ports(self) -> None:
        """STARTTLS is not offered there, and is elsewhere."""
        tls = self.server("no_starttls_ports[]=2525\n")
        self.assertFalse(offered(self, tls, peer_of(2525)))
        self.assertTrue(offered(self, tls, peer_of(25)))

    def test_no_tls_hosts(self) -> None:
        """The section is about clients: addresses and networks."""
        tls = self.server("[no_tls_hosts]\n192.168.1.3\n172.16.0.0/16\n2001:db8::/32\n")
        for peer in ("192.168.1.3", "172.16.2.1", "2001:db8::25"):
            self.assertFalse(offered(self, tls, peer_of(peer=peer)))
        self.assertTrue(offered(self, tls, peer_of(peer="192.168.1.4")))

    def test_forced_with_good_certificate(self) -> None:
        """Mail goes to a forced host whose certificate is right; the name is sent along."""
        for version in VERSIONS:
            for entry in ("192.0.2.7", "192.0.2.0/24", "mx.example.net", "example.org"):
                ini = f"[outbound]\nca=ca.pem\nforce_tls_hosts[]={entry}\n"
                outcome, decision, summary = self.outbound(ini, plain_server(PEER, version))
                self.assert_succeeded(outcome)
                self.assertTrue(decision.authenticated)
                assert summary is not None
                self.assertTrue(summary.verified)
                self.assertIsNone(summary.verify_error)
                self.assertEqual(outcome.server.get_servername(), b"mx.example.net")

    def test_forced_address(self) -> None:
        """A bare address is compared with the certificate's addresses; Haraka never can."""
        hop = NextHop("192.0.2.7", "example.org")
        ini = "[outbound]\nca=ca.pem\nforce_tls_hosts[]=192.0.2.7\n"
        good = plain_server(issued("192.0.2.7", "relay.example"))
        outcome, _, summary = self.outbound(ini, good, hop)
        self.assert_succeeded(outcome)
        assert summary is not None
        self.assertTrue(summary.verified)
        self.assertIsNone(outcome.server.get_servername())
        outcome, _, _ = self.outbound(ini, plain_server(issued("192.0.2.8")), hop)
        self.assert_failed(outcome, "certificate verify failed")

    def test_forced_with_wrong_certificate(self) -> None:
        """Untrusted, for another name, expired: nothing is sent, while others get their mail."""
        ini = "[outbound]\nca=ca.pem\n"
        for version in VERSIONS:
            for leaf in (issued("mx.example.net", by="Other Trust"), issued("else.example.net")):
                outcome, _, summary = self.outbound(ini, plain_server(leaf, version))
                self.assert_succeeded(outcome)
                assert summary is not None
                self.assertFalse(summary.verified)
                forced = ini + "force_tls_hosts[]=example.org\n"
                outcome, _, _ = self.outbound(forced, plain_server(leaf, version))
                self.assert_failed(outcome, "certificate verify failed")
                self.assertIsNotNone(outcome.server_error)
                with self.assertRaises(SSL.Error):
                    outcome.server.recv(100)

    def test_ca_for_next_hops(self) -> None:
        """ca of [outbound] stands instead of the system's; that of the top does not count."""
        force = "force_tls_hosts[]=example.org\n"
        for ini, good in (
            ("[outbound]\nca=ca.pem\n", True),
            ("[outbound]\nca=other_ca.pem\n", False),
            ("[outbound]\n", False),
            ("ca=ca.pem\n[outbound]\n", False),
        ):
            outcome, _, _ = self.outbound(ini + force)
            self.assertEqual(outcome.succeeded, good, ini)

    def test_ca_cannot_be_read(self) -> None:
        """Where ca names nothing usable, no forced host is trusted; it is told, others get mail."""
        for ini in ("[outbound]\nca=none.pem\n", "[outbound]\nca=rsa.key\n"):
            tls = ClientTLS(self.settings(ini).outbound)
            self.assertEqual(len(tls.problems), 1)
            self.assertIn("ca", tls.problems[0])
            self.assert_succeeded(self.outbound(ini)[0])
            self.assert_failed(self.outbound(f"{ini}force_tls_hosts[]=example.org\n")[0])

    def test_reject_unauthorized_outbound(self) -> None:
        """For outgoing mail: where TLS is used, then with a valid certificate alone."""
        ini = "rejectUnauthorized=true\n[outbound]\nca=ca.pem\n"
        self.assert_succeeded(self.outbound(ini)[0])
        untrusted = plain_server(issued("mx.example.net", by="Other Trust"))
        self.assert_failed(self.outbound(ini, untrusted)[0])
        untrusted = plain_server(issued("mx.example.net", by="Other Trust"))
        self.assert_succeeded(self.outbound(f"{ini}rejectUnauthorized=false\n", untrusted)[0])


class ClientCertificateTests(OptionsTestCase):
    """requestCert, rejectUnauthorized, requireAuthorized and the ca for clients."""

    CLIENTS = (
        (None, None, False),
        (issued("client.example"), None, True),
        (issued("client.example", by="Other Trust"), "certificate", False),
    )

    def client(self, leaf: trustme.LeafCert | None, version: int | None = None) -> SSL.Connection:
        """A client that shows *leaf*, if asked for a certificate."""
        return plain_client(version, configure=leaf.configure_cert if leaf else None)

    def shaken(
        self, ini: str, leaf: trustme.LeafCert | None, version: int, peer: Connection
    ) -> tuple[Outcome, TLSSummary | None]:
        tls = self.server(ini)
        outcome = to_us(tls, self.client(leaf, version), peer)
        summary = None
        if outcome.succeeded:
            summary = tls.summary(Transport(outcome.server))
        return outcome, summary

    def each(self) -> Iterator[tuple[int, Connection]]:
        """Each version, by STARTTLS and by TLS from the start."""
        for version in VERSIONS:
            for port, implicit in ((587, False), (465, True)):
                yield version, peer_of(port, implicit_tls=implicit)

    def test_request_cert(self) -> None:
        """Clients are asked by default; whoever shows none or a bad one is served, and recorded."""
        for version, peer in self.each():
            for leaf, problem, verified in self.CLIENTS:
                outcome, summary = self.shaken("ca=ca.pem\n", leaf, version, peer)
                self.assert_succeeded(outcome)
                assert summary is not None
                self.assertEqual(summary.verified, verified)
                self.assertEqual(summary.peer_names, ("client.example",) if leaf else ())
                self.assertEqual(len(summary.fingerprint), 64 if leaf else 0)
                if problem is None:
                    self.assertIsNone(summary.verify_error)
                else:
                    self.assertIn(problem, summary.verify_error or "")

    def test_not_requested(self) -> None:
        """requestCert=false asks nobody."""
        for version, peer in self.each():
            ini = "ca=ca.pem\nrequestCert=false\n"
            outcome, summary = self.shaken(ini, issued("client.example"), version, peer)
            self.assert_succeeded(outcome)
            assert summary is not None
            self.assertEqual((summary.verified, summary.fingerprint), (False, ""))

    def test_reject_unauthorized(self) -> None:
        """
        No certificate, or one that is not trusted: no service, by STARTTLS as little as on 465
        (Haraka takes any certificate after STARTTLS, #3451).
        """
        for version, peer in self.each():
            for leaf, _, verified in self.CLIENTS:
                ini = "ca=ca.pem\n[inbound]\nrejectUnauthorized=true\n"
                outcome, summary = self.shaken(ini, leaf, version, peer)
                self.assertEqual(outcome.succeeded, verified)
                if summary is not None:
                    self.assertTrue(summary.verified)

    def test_require_authorized(self) -> None:
        """The same on listed ports alone, semicolon of the document and all."""
        ini = "ca=ca.pem\nrequireAuthorized[]=465;\nrequireAuthorized[]=587;\n"
        for version in VERSIONS:
            for port, strict in ((25, False), (465, True), (587, True)):
                for leaf, _, verified in self.CLIENTS:
                    outcome, _ = self.shaken(ini, leaf, version, peer_of(port))
                    self.assertEqual(outcome.succeeded, verified or not strict)

    def test_required_without_request(self) -> None:
        """A port that requires a certificate asks for it, whatever requestCert says."""
        ini = "ca=ca.pem\nrequestCert=false\nrequireAuthorized[]=465\n"
        for version in VERSIONS:
            for leaf, _, verified in self.CLIENTS:
                outcome, _ = self.shaken(ini, leaf, version, peer_of(465))
                self.assertEqual(outcome.succeeded, verified)

    def test_expired(self) -> None:
        """A client whose certificate has expired is not let in where it is required."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        leaf = authority().issue_cert("client.example", not_after=yesterday)
        for version in VERSIONS:
            _, summary = self.shaken("ca=ca.pem\n", leaf, version, peer_of())
            assert summary is not None
            self.assertIn("expired", summary.verify_error or "")
            ini = "ca=ca.pem\nrejectUnauthorized=true\n"
            self.assertFalse(self.shaken(ini, leaf, version, peer_of())[0].succeeded)

    def test_authorities_are_named(self) -> None:
        """Clients are told whose certificates count, so that they can choose one."""
        outcome = self.inbound("ca=ca.pem\n")
        (name,) = outcome.client.get_client_ca_list()
        self.assertEqual(name.organizationName, "Harbour Trust")
        self.assertEqual(self.inbound("").client.get_client_ca_list(), [])

    def test_ca_of_inbound(self) -> None:
        """The clients' authorities may stand in [inbound]."""
        leaf = issued("client.example")
        ini = "rejectUnauthorized=true\nca=other_ca.pem\n"
        outcome, _ = self.shaken(ini, leaf, TLS_1_3, peer_of())
        self.assertFalse(outcome.succeeded)
        outcome, _ = self.shaken(f"{ini}[inbound]\nca=ca.pem\n", leaf, TLS_1_3, peer_of())
        self.assert_succeeded(outcome)

    def test_ca_cannot_be_read(self) -> None:
        """Where ca names nothing usable, no client is trusted; the others are served."""
        tls = ServerTLS(self.settings("ca=none.pem\n").inbound, "mx.example.com")
        self.assertTrue(tls.ready())
        self.assertEqual(tls.problems, ("ca: none.pem: there is no such file",))
        outcome = to_us(tls, self.client(issued("client.example")))
        self.assert_succeeded(outcome)
        self.assertFalse(tls.summary(Transport(outcome.server)).verified)


def prefer_small(context: SSL.Context) -> None:
    """A client that would rather have keys of 128 bits."""
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384")
