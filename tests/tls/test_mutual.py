"""
Certificates of ours for next hops: from mutual_tls and [mutual_auth_hosts] to the handshakes.

The numbers H.35 to H.39 are those of Haraka's own expectations.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.mail.route import NextHop
from harakatls.tls.certificates import CertificateStore, KeyPair, certificate_names
from harakatls.tls.client import ClientTLS
from harakatls.tls.policy import Decision, SecurityLevel, client_identity, outbound_decision
from harakatls.tls.settings import OutboundTLS, TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    TLS_1_2,
    VERSIONS,
    Outcome,
    chain_octets,
    from_us,
    issued,
    key_octets,
    plain_server,
    reasons,
    self_signed,
    shake_hands,
    with_chain,
)

PEER = issued("mx.example.net")
HOP = NextHop("192.0.2.7", "example.org", mx_name="mx.example.net")
OTHER = NextHop("192.0.2.8", "example.edu", mx_name="mx.example.edu")
SERVER = issued("mail.here.example")
DEFAULT = with_chain("client.here.example")
NAMED = issued("client-cert.example")
RSA = issued("rsa.here.example", kind="RSA")
EXPIRED = self_signed(
    "old.example", "old.example", not_after=datetime.now(UTC) - timedelta(hours=1)
)
OWN = "[outbound]\nkey=client.key\ncert=client.crt\n"
HOSTS = "[mutual_auth_hosts]\n"


def bundle(leaf: trustme.LeafCert) -> bytes:
    return key_octets(leaf) + chain_octets(leaf)


FILES = {
    "tls_key.pem": key_octets(SERVER),
    "tls_cert.pem": chain_octets(SERVER),
    "client.key": key_octets(DEFAULT),
    "client.crt": chain_octets(DEFAULT),
    "rsa.key": key_octets(RSA),
    "rsa.crt": chain_octets(RSA),
    "expired.key": EXPIRED[0],
    "expired.crt": EXPIRED[1],
    "tls/client-cert.pem": bundle(NAMED),
    "tls/old.pem": b"".join(EXPIRED),
}


Files = Mapping[str, bytes | None]
NO_DEFAULT: Files = {"tls_key.pem": None, "tls_cert.pem": None}


def wanting(required: bool) -> Callable[[SSL.Context], None]:
    """A server that wants a certificate, whoever issued it."""

    def configure(context: SSL.Context) -> None:
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0)
        context.set_verify(mode, lambda *_: True)

    return configure


class MutualTestCase(SynchronousTestCase):
    def settings(self, ini: str, files: Files | None = None) -> OutboundTLS:
        """@param files: in place of those that are there; None for none."""
        kept = {**FILES, **(files or {})}
        content = {name: octets for name, octets in kept.items() if octets is not None}
        self.config = write_config(self, {**content, "tls.ini": ini})
        return TLSSettings.load(self.config).outbound

    def client(
        self, ini: str, problems: Iterable[str] = (), files: Files | None = None
    ) -> ClientTLS:
        tls = ClientTLS(self.settings(ini, files))
        self.assertEqual(tls.problems, tuple(problems))
        return tls

    def decide(self, tls: ClientTLS, hop: NextHop = HOP) -> Decision:
        return tls.identified(hop, outbound_decision(hop, tls.settings, None))

    def handshake(
        self,
        tls: ClientTLS,
        hop: NextHop = HOP,
        version: int | None = None,
        required: bool = False,
    ) -> Outcome:
        server = plain_server(PEER, version, wanting(required))
        return from_us(tls, self.decide(tls, hop), server)

    def shown(self, tls: ClientTLS, hop: NextHop = HOP) -> list[str] | None:
        """The names in the certificate that a host gets to see; None for none."""
        names: list[list[str] | None] = []
        for version in VERSIONS:
            outcome = self.handshake(tls, hop, version)
            self.assertTrue(outcome.succeeded, outcome)
            certificate = outcome.server.get_peer_certificate(as_cryptography=True)
            names.append(None if certificate is None else names_of(certificate))
        self.assertEqual(names[0], names[1])
        return names[0]


def names_of(certificate: Certificate | None) -> list[str]:
    assert certificate is not None
    return list(certificate_names(certificate))


class RuleTests(MutualTestCase):
    """Who gets to see which certificate."""

    def test_nobody(self) -> None:
        """Without a rule nothing is shown: neither the server's, nor one in [outbound]."""
        for ini in ("", "key=tls_key.pem\ncert=tls_cert.pem\n", OWN, "mutual_tls=false\n"):
            self.assertIsNone(self.shown(self.client(ini)), ini)

    def test_everybody(self) -> None:
        """mutual_tls: the default certificate, which is that of [outbound] where it has one."""
        tls = self.client("mutual_tls=true\n" + OWN, [self.expired("tls/old.pem")])
        self.assertEqual(self.shown(tls), ["client.here.example"])
        self.assertEqual(self.shown(tls, OTHER), ["client.here.example"])
        tls = self.client("mutual_tls=true\n", [self.expired("tls/old.pem")])
        self.assertEqual(self.shown(tls), ["mail.here.example"])
        tls = self.client("[outbound]\nmutual_tls=true\n", [self.expired("tls/old.pem")])
        self.assertEqual(self.shown(tls), ["mail.here.example"])

    def expired(self, file: str) -> str:
        tls = ClientTLS(self.settings("mutual_tls=true\n"))
        (problem,) = tls.problems
        self.assertTrue(problem.startswith(f"{file}: the certificate expired at "), problem)
        return problem

    def test_chain(self) -> None:
        """Its intermediates go along: the server need not know them."""
        outcome = self.handshake(self.client(HOSTS + "mx.example.net\n" + OWN))
        chain = outcome.server.get_peer_cert_chain(as_cryptography=True)
        issuers = [issuer.subject for issuer in chain or ()]  # without its own, for a server
        shown = outcome.server.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        self.assertEqual(issuers, [shown.issuer])

    def test_named_like_the_host(self) -> None:
        """H.37: where config/tls has a certificate of the host's name, that one."""
        ini = "mutual_tls=true\n" + OWN
        problem = self.expired("tls/old.pem")
        files = {"tls/host.pem": bundle(issued("mx.example.edu"))}
        tls = ClientTLS(self.settings(ini, files))
        self.assertEqual(tls.problems, (problem,))
        self.assertEqual(self.shown(tls, OTHER), ["mx.example.edu"])
        self.assertEqual(self.shown(tls, HOP), ["client.here.example"])

    def test_listed(self) -> None:
        """H.35, H.36: a bare key for the default one, a name for one in config/tls."""
        for entry, expected in (
            ("mx.example.net", "client.here.example"),
            ("MX.Example.NET.", "client.here.example"),
            ("mx.example.net ; they insist", "client.here.example"),
            ("mx.example.net=", "client.here.example"),
            ("mx.example.net = client-cert.example", "client-cert.example"),
            ("mx.example.net=Client-Cert.example ; theirs", "client-cert.example"),
            ("mx.example.net=client-cert.example;", "client-cert.example"),
            ("example.org=client-cert.example", "client-cert.example"),
            ("*.example.net=client-cert.example", "client-cert.example"),
            ("192.0.2.7=client-cert.example", "client-cert.example"),
            ("192.0.2.6/31=client-cert.example", "client-cert.example"),
        ):
            with self.subTest(entry=entry):
                tls = self.client(f"{HOSTS}{entry}\n{OWN}")
                self.assertEqual(self.config.warnings, ())
                self.assertEqual(self.shown(tls), [expected])
                self.assertIsNone(self.shown(tls, OTHER))

    def test_narrowest(self) -> None:
        """A host counts before the wildcard and the network it is in, whatever their order."""
        lines = ("*.net=w", "192.0.2.0/24=n", "*.example.net=client-cert.example", "2001:db8::/32")
        for order in (lines, lines[::-1]):
            mutual = self.settings(HOSTS + "\n".join(order) + "\n").mutual
            rule = mutual.rule("mx.example.net")
            assert rule is not None
            self.assertEqual(rule.certificate, "client-cert.example")
            self.assertEqual([r.entry for r in mutual.rules][:2], ["192.0.2.0/24", "2001:db8::/32"])
        mutual = self.settings(HOSTS + "*.example.net=a\nmx.example.net=b\n").mutual
        self.assertEqual(getattr(mutual.rule("mx.example.net"), "certificate", None), "b")
        self.assertIsNone(mutual.rule("example.net"))

    def test_excluded(self) -> None:
        """H.36: the exclusions win over both; only TLS without a certificate is left."""
        for rule in ("mutual_tls=true\n", HOSTS + "mx.example.net=client-cert.example\n"):
            for entry in ("mx.example.net", "example.org ; no", "192.0.2.0/24", "*.net"):
                ini = f"{rule}[mutual_auth_hosts_exclude]\n{entry}\n"
                tls = ClientTLS(self.settings(ini))
                self.assertIsNone(self.shown(tls))
                decision = self.decide(tls)
                self.assertIn("mutual_auth_hosts_exclude lists ", decision.reasons[-1])
                self.assertEqual(decision.identity, ())

    def test_several_kinds(self) -> None:
        """Of key[] the server's taste decides in TLS 1.3; below, the first is shown."""
        ini = (
            HOSTS
            + "mx.example.net\n[outbound]\nkey[]=rsa.key\ncert[]=rsa.crt\nkey[]=client.key\n"
            + "cert[]=client.crt\n"
        )
        tls = self.client(ini)
        self.assertEqual(len(self.decide(tls).identity), 2)
        outcome = self.handshake(tls, version=TLS_1_2)
        certificate = outcome.server.get_peer_certificate(as_cryptography=True)
        self.assertEqual(names_of(certificate), ["rsa.here.example"])
        self.assertTrue(self.handshake(tls, required=True).succeeded)

    def test_not_without_tls(self) -> None:
        """Where TLS is not used there is nothing to say about certificates."""
        tls = self.client(HOSTS + "mx.example.net\n" + OWN + "no_tls_hosts[]=mx.example.net\n")
        decision = self.decide(tls)
        self.assertIs(decision.level, SecurityLevel.NONE)
        self.assertEqual(decision.reasons, ("no_tls_hosts lists mx.example.net",))


class ReasonTests(MutualTestCase):
    """The operator is told what was shown, and why."""

    def reason(self, ini: str, hop: NextHop = HOP) -> str:
        decision = self.decide(ClientTLS(self.settings(ini)), hop)
        self.assertIn("no rule for this host", decision.reasons[0])
        return " | ".join(decision.reasons[1:])

    def test_texts(self) -> None:
        """Each way there is one phrase behind that about the level."""
        for ini, hop, text in (
            ("", HOP, ""),
            (HOSTS + "mx.example.net\n", OTHER, ""),
            (
                HOSTS + "example.org\n" + OWN,
                HOP,
                "mutual_auth_hosts lists example.org: our default client certificate is shown if "
                "it asks for one",
            ),
            (
                "mutual_tls=true\n",
                HOP,
                "mutual_tls: our default client certificate is shown if it asks for one",
            ),
            (
                HOSTS + "192.0.2.0/24=client-cert.example\n",
                HOP,
                "mutual_auth_hosts lists 192.0.2.7: our certificate client-cert.example is shown "
                "if it asks for one",
            ),
            (
                HOSTS + "example.org=nobody\n",
                HOP,
                "mutual_auth_hosts lists example.org, but our certificate nobody is not there: "
                "none is shown",
            ),
            (
                HOSTS + "example.org=old.example\n",
                HOP,
                "mutual_auth_hosts lists example.org, but our certificate old.example is not valid "
                "now: none is shown",
            ),
            (
                HOSTS + "example.org\n[outbound]\nkey=none.key\n",
                HOP,
                "mutual_auth_hosts lists example.org, but our default client certificate cannot be "
                "used: none is shown",
            ),
        ):
            with self.subTest(ini=ini):
                self.assertEqual(self.reason(ini, hop), text)

    def test_expires_while_running(self) -> None:
        """A certificate is shown as long as it is valid, which no restart decides."""
        now = datetime.now(UTC)
        key, certificate = self_signed("c.example", "c.example", not_after=now + timedelta(hours=1))
        seconds = [now.timestamp()]
        settings = self.settings(
            HOSTS + "mx.example.net\n" + OWN, {"client.key": key, "client.crt": certificate}
        )
        tls = ClientTLS(settings, lambda: seconds[0])
        self.assertEqual(tls.problems, ())
        self.assertEqual(self.shown(tls), ["c.example"])
        seconds[0] += 3601
        self.assertIsNone(self.shown(tls))

    def test_pure(self) -> None:
        """H.38, H.39: the decision needs values alone, and changes none."""
        settings = self.settings(HOSTS + "mx.example.net=x.example\n")
        found = client_identity(HOP, settings.mutual, CertificateStore(), datetime.now(UTC))
        self.assertEqual(found.pairs, ())
        pair: KeyPair = self.client(HOSTS + "mx.example.net\n").certificates.default[0]
        store = CertificateStore((), {"x.example": (pair,)})
        found = client_identity(HOP, settings.mutual, store, datetime.now(UTC))
        self.assertEqual(found.pairs, (pair,))
        decision = Decision(SecurityLevel.MAY, ("because",))
        ClientTLS(settings).identified(HOP, decision)
        self.assertEqual(decision, Decision(SecurityLevel.MAY, ("because",)))


class MistakeTests(MutualTestCase):
    """What is wrong is named by file; mail goes on without the certificate."""

    def assert_without(self, ini: str, *problems: str, files: Files | None = None) -> None:
        tls = self.client(ini, problems, files)
        self.assertIsNone(self.shown(tls))
        for version in VERSIONS:
            outcome = self.handshake(tls, version=version, required=True)
            self.assertFalse(outcome.succeeded)

    def test_files(self) -> None:
        """Missing, empty, mismatched, interchanged, too few."""
        rule = HOSTS + "mx.example.net\n"
        self.assert_without(
            rule + OWN, "client.key: there is no such file", files={"client.key": None}
        )
        self.assert_without(
            rule + OWN, "client.crt: the file is empty", files={"client.crt": b" \n"}
        )
        self.assert_without(
            rule + OWN,
            "client.crt: no certificate in it belongs to the key in client.key",
            files={"client.key": key_octets(RSA)},
        )
        self.assert_without(
            rule + "[outbound]\nkey=client.crt\ncert=client.key\n",
            "client.crt and client.key: key and cert seem to be interchanged",
        )
        self.assert_without(
            rule,
            "tls_key.pem: there is no such file",
            "tls_cert.pem: there is no such file",
            files=NO_DEFAULT,
        )
        tls = ClientTLS(self.settings(rule + "[outbound]\nkey=expired.key\ncert=expired.crt\n"))
        (problem,) = tls.problems
        self.assertIn("expired.crt with expired.key: the certificate expired at ", problem)
        self.assertIsNone(self.shown(tls))

    def test_name_without_certificate(self) -> None:
        """A name for which there is nothing in config/tls."""
        self.assert_without(
            HOSTS + "mx.example.net=nobody.example\n",
            "tls.ini [mutual_auth_hosts] mx.example.net: there is no certificate nobody.example in "
            "config/tls that could be used",
        )

    def test_others_files(self) -> None:
        """Of files that no rule speaks of, the server's side tells; nothing is told twice."""
        self.client(HOSTS + "mx.example.net=client-cert.example\n", files=NO_DEFAULT)

    def test_values(self) -> None:
        """No host, no name, one host with two certificates."""
        for ini, words in (
            (HOSTS + "192.0.2.999\n", "[mutual_auth_hosts] 192.0.2.999: '192.0.2.999' is not an"),
            (HOSTS + "a.example=b c\n", "a.example: 'b c' is not the name of a certificate"),
            (HOSTS + "a.example=x\nA.example=y\n", "a.example is there twice, with different"),
            ("[mutual_auth_hosts_exclude]\n10.0.0.0/99\n", "'10.0.0.0/99' is not an address"),
            ("mutual_tls=ture\n", "'ture' is neither true nor false"),
        ):
            with self.subTest(ini=ini), self.assertRaises(ConfigError) as caught:
                self.settings(ini)
            self.assertIn(words, str(caught.exception))

    def test_without_effect(self) -> None:
        """What changes nothing is told."""
        for ini, words in (
            (OWN, "[outbound] key: has no effect: no certificate is shown without mutual_tls"),
            ("[mutual_auth_hosts_exclude]\na.example\n", "has no effect: neither mutual_tls"),
            ("[inbound]\nmutual_tls=true\n", "[inbound] mutual_tls: has no effect in harakatls"),
        ):
            self.settings(ini)
            self.assertIn(words, " ".join(self.config.warnings))
        self.settings("mutual_tls=true\n" + OWN + "[mutual_auth_hosts_exclude]\na.example\n")
        self.assertEqual(self.config.warnings, ())

    def test_refused_by_openssl(self) -> None:
        """A key that OpenSSL finds too small is told at load, not in the middle of a delivery."""
        weak = rsa.generate_private_key(65537, 1024)
        key, certificate = self_signed("weak.example", "weak.example", key=weak)
        self.assert_without(
            HOSTS + "mx.example.net\n" + OWN,
            "client.crt with client.key: OpenSSL refuses it: ee key too small",
            files={"client.key": key, "client.crt": certificate},
        )


class RefusalTests(MutualTestCase):
    """A server that demands what we do not show."""

    def test_told(self) -> None:
        """In TLS 1.2 by what the server had asked, in TLS 1.3 by its alert after our handshake."""
        tls = self.client("")
        for version in VERSIONS:
            server = plain_server(PEER, version, wanting(True))
            creator = tls.connection_creator(self.decide(tls))
            client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
            client.set_connect_state()
            server.set_accept_state()
            outcome = shake_hands(client, server)
            self.assertFalse(outcome.succeeded)
            self.assertIn("peer did not return a certificate", reasons(outcome.server_error))
            if version == TLS_1_2:
                self.assertIn("asked for a certificate of ours", creator.remark or "")
            else:
                self.assertIn("certificate required", reasons(outcome.client_error))
        self.assertIsNone(tls.connection_creator(self.decide(tls)).remark)
