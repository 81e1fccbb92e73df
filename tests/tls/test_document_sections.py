"""
The TLS document's Inbound Specific Configuration: what [inbound] and [outbound] say counts for that
direction alone, and more than what stands above them; what they do not say is shared.
"""

from collections.abc import Callable

from OpenSSL import SSL

from tests.tls.documented import (
    FILES,
    GOOD_CLIENT,
    SMTP,
    SMTPS,
    WAYS,
    Documented,
    DocumentTestCase,
)
from tests.tls.next_hops import UNTRUSTED, NextHopTestCase, SecuringPeer, Sent
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS

Seen = tuple[object, ...]


def prefer_small(context: SSL.Context) -> None:
    """A client with an order of its own, and a certificate."""
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    GOOD_CLIENT.configure_cert(context)


def with_tls_1_2(server: Documented, port: int) -> Seen:
    """What there is to see with a client of TLS 1.2 that has a certificate."""
    visit = server.visit(port, TLS_1_2, configure=prefer_small)
    if visit.secured is None:
        return visit.offered, repr(visit.error)
    secured = visit.secured
    return (
        visit.serial,
        secured.cipher,
        secured.group,
        secured.fingerprint,
        secured.verified,
    )


def without_certificate(server: Documented, port: int) -> Seen:
    """Whether a client without one is served."""
    visit = server.visit(port, TLS_1_3)
    return visit.offered, visit.succeeded


INBOUND: tuple[tuple[str, str, Callable[[Documented, int], Seen]], ...] = (
    ("key=rsa.key\ncert=rsa.crt", "key=tls_key.pem\ncert=tls_cert.pem", with_tls_1_2),
    ("ciphers=ECDHE+CHACHA20", "ciphers=ECDHE+AESGCM", with_tls_1_2),
    ("minVersion=TLSv1.3", "minVersion=TLSv1.2", with_tls_1_2),
    ("honorCipherOrder=false", "honorCipherOrder=true", with_tls_1_2),
    ("ecdhCurve=secp384r1", "ecdhCurve=prime256v1", with_tls_1_2),
    ("requestCert=false", "requestCert=true", with_tls_1_2),
    ("ca=ca.pem", "ca=rsa.crt", with_tls_1_2),
    ("rejectUnauthorized=true", "rejectUnauthorized=false", without_certificate),
    (
        "requireAuthorized[]=25\nrequireAuthorized[]=465",
        "requireAuthorized[]=1",
        without_certificate,
    ),
)
"""What makes a difference, what is as good as the default, and how to see it."""


class InboundSectionTests(DocumentTestCase):
    """What holds for mail that comes in."""

    def seen(self, ini: str, see: Callable[[Documented, int], Seen], port: int) -> Seen:
        return see(Documented.make(self, ini), port)

    def test_shared(self) -> None:
        """The options above all sections count."""
        for option, _, see in INBOUND:
            for port in WAYS.values():
                self.assertNotEqual(
                    self.seen(f"{option}\n", see, port), self.seen("", see, port), option
                )

    def test_own(self) -> None:
        """So do those under [inbound], in the same way."""
        for option, _, see in INBOUND:
            for port in WAYS.values():
                shared = self.seen(f"{option}\n", see, port)
                self.assertEqual(self.seen(f"[inbound]\n{option}\n", see, port), shared, option)

    def test_own_wins(self) -> None:
        """Those under [inbound] count more."""
        for option, usual, see in INBOUND:
            for port in WAYS.values():
                both = self.seen(f"{option}\n[inbound]\n{usual}\n", see, port)
                self.assertEqual(both, self.seen(f"{usual}\n", see, port), option)
                self.assertNotEqual(both, self.seen(f"{option}\n", see, port), option)

    def test_of_others(self) -> None:
        """Those under [outbound] do not count."""
        for option, _, see in INBOUND:
            for port in WAYS.values():
                others = self.seen(f"[outbound]\n{option}\n", see, port)
                self.assertEqual(others, self.seen("", see, port), option)

    def test_ports(self) -> None:
        """no_starttls_ports may stand there as well."""
        server = self.server("[inbound]\nno_starttls_ports[]=25\n")
        self.assertFalse(server.visit(SMTP).offered)
        self.assert_served(server.visit(SMTPS))


OUTBOUND = (
    ("ciphers=ECDHE+AES128", "ciphers=ECDHE+AESGCM"),
    ("minVersion=TLSv1.3", "minVersion=TLSv1.2"),
    ("ecdhCurve=secp384r1", "ecdhCurve=prime256v1"),
    ("rejectUnauthorized=true", "rejectUnauthorized=false"),
    ("force_tls_hosts[]=recipient.example", "force_tls_hosts[]=other.example"),
)


class SectionTestCase(NextHopTestCase):
    def seen(self, ini: str) -> Seen:
        """With a server of TLS 1.2 whose certificate is not trusted."""
        sent = self.send(ini, SecuringPeer(UNTRUSTED, TLS_1_2))
        secured = sent.secured
        if secured is None:
            return sent.delivered, self.problem(sent)
        return sent.delivered, secured.protocol, secured.cipher, secured.group

    def problem(self, sent: Sent) -> str:
        """Why it was not delivered."""
        return str(sent.outcome.reply)


class OutboundSectionTests(SectionTestCase):
    """What holds for mail that goes out."""

    def test_shared(self) -> None:
        """By default the options are shared with outbound mail."""
        usual = self.seen("")
        self.assertEqual(usual[:2], (True, "TLSv1.2"))
        for option, _ in OUTBOUND:
            self.assertNotEqual(self.seen(f"{option}\n"), usual, option)

    def test_own(self) -> None:
        """So those under [outbound] count in the same way."""
        for option, _ in OUTBOUND:
            self.assertEqual(self.seen(f"[outbound]\n{option}\n"), self.seen(f"{option}\n"), option)

    def test_own_wins(self) -> None:
        """Those under [outbound] count more."""
        for option, usual in OUTBOUND:
            both = self.seen(f"{option}\n[outbound]\n{usual}\n")
            self.assertEqual(both, self.seen(f"{usual}\n"), option)
            self.assertNotEqual(both, self.seen(f"{option}\n"), option)

    def test_of_others(self) -> None:
        """Those under [inbound] do not count."""
        usual = self.seen("")
        for option, _ in OUTBOUND[:-1]:
            self.assertEqual(self.seen(f"[inbound]\n{option}\n"), usual, option)

    def test_certificate(self) -> None:
        """The server's key and certificate are for the server: nobody else gets to see them."""

        def ask(context: SSL.Context) -> None:
            context.set_verify(SSL.VERIFY_PEER, lambda *_: True)

        files = {name: FILES[name] for name in ("rsa.key", "rsa.crt")}
        for version in VERSIONS:
            peer = SecuringPeer(version=version, configure=ask)
            self.assert_delivered(self.send("key=rsa.key\ncert=rsa.crt\n", peer, files))
            self.assertIsNone(peer.server.get_peer_certificate())


class PluginSectionTests(SectionTestCase):
    """Plugins that queue by SMTP have sections of their own, with queue/ before the name or not."""

    is_odd = True  # it is told that these plugins are not there yet

    SECTIONS = (
        ("smtp_forward", "smtp_forward"),
        ("smtp_proxy", "smtp_proxy"),
        ("queue/smtp_forward", "smtp_forward"),
        ("queue/smtp_proxy", "smtp_proxy"),
    )

    def test_shared(self) -> None:
        """By default the options are shared with these as well."""
        for plugin in ("smtp_forward", "smtp_proxy"):
            self.plugin = plugin
            usual = self.seen("")
            self.assertEqual(usual[:2], (True, "TLSv1.2"))
            for option, _ in OUTBOUND:
                self.assertNotEqual(self.seen(f"{option}\n"), usual, option)

    def test_own(self) -> None:
        """What stands in their section counts, and more than what stands above."""
        for section, plugin in self.SECTIONS:
            self.plugin = plugin
            for option, usual in OUTBOUND:
                shared = self.seen(f"{option}\n")
                self.assertEqual(self.seen(f"[{section}]\n{option}\n"), shared, option)
                both = self.seen(f"{option}\n[{section}]\n{usual}\n")
                self.assertEqual(both, self.seen(f"{usual}\n"), option)

    def test_of_others(self) -> None:
        """What stands in [outbound], or in another plugin's, does not."""
        for section, plugin in (
            ("smtp_forward", "smtp_proxy"),
            ("smtp_proxy", "smtp_forward"),
            ("outbound", "smtp_forward"),
            ("smtp_forward", None),
        ):
            self.plugin = plugin
            usual = self.seen("")
            for option, _ in OUTBOUND:
                self.assertEqual(self.seen(f"[{section}]\n{option}\n"), usual, option)
