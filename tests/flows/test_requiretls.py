"""REQUIRETLS (RFC 8689) with real handshakes: from the queue to a host that has it, or back."""

from email import message_from_bytes
from typing import Any

import trustme
from attrs import evolve

from harakatls.mail.envelope import Envelope, MailParameters
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import envelope
from tests.flows.test_spool_to_peer import HOME, MX1, MX2
from tests.flows.test_tls_to_peer import GOOD, PLAIN, TLSFlowTestCase, served
from tests.flows.tls_network import SecurePeer
from tests.tls.peers import issued

EVIL = issued("evil.example")
WITH = "250-peer.example\n250-8BITMIME\n250-STARTTLS\n250 REQUIRETLS"


def tagged() -> Envelope:
    return evolve(envelope(), parameters=MailParameters(ret="FULL", requiretls=True))


def peer(leaf: trustme.LeafCert, ehlo: str = WITH) -> SecurePeer:
    return SecurePeer(served(leaf), EHLO=ehlo)


class RequireTLSFlowTests(TLSFlowTestCase):
    def sent(self, *peers: SecurePeer) -> str:
        """The message comes in and goes to mx1 and mx2. @return: the parameters of MAIL there."""
        self.home = ObligingPeer()
        self.network.serve(HOME, self.home)
        for host, each in zip((MX1, MX2), peers, strict=False):
            self.network.serve(host, each)
        self.begin(PLAIN)
        self.accept(tagged())
        said = [line.line for each in peers for line in each.said if line.line.startswith("MAIL")]
        return "; ".join(line.partition(">")[2].strip() for line in said)

    def report(self) -> tuple[str, str]:
        """The words for people, and the header of the report."""
        (octets,) = self.home.messages
        parsed = message_from_bytes(octets)
        parts: Any = parsed.get_payload()
        self.assertEqual(parts[2].get_content_type(), "text/rfc822-headers")
        return " ".join(parts[0].get_payload(decode=True).decode().split()), str(parsed)

    def test_the_next_host(self) -> None:
        """The first one's certificate is for another name; the second has all that is needed."""
        first, second = peer(EVIL), peer(issued("mx2.example"))
        self.assertEqual(self.sent(first, second), "REQUIRETLS")
        self.assertEqual((len(first.messages), len(second.messages)), (0, 1))
        self.assertEqual([said.line for said in first.said if said.secured], [])
        self.assertAllIsDone()

    def test_no_host(self) -> None:
        """It comes back at once, with the reason at each host, and without its content."""
        without = WITH.replace("REQUIRETLS", "SIZE 100000")
        for peers, status, words in (
            (
                (peer(EVIL), peer(EVIL)),
                "5.7.10",
                "certificate is for evil.example, not mx2.example",
            ),
            ((peer(GOOD, without), peer(EVIL)), "5.7.10", "mx1.example does not offer it"),
            ((peer(EVIL), peer(issued("mx2.example"), without)), "5.7.30", "not mx1.example"),
        ):
            self.setUp()
            self.assertEqual(self.sent(*peers), "")
            people, whole = self.report()
            self.assertIn(words, people)
            self.assertIn("(REQUIRETLS: TLS with a valid certificate, and REQUIRETLS", people)
            self.assertIn(f"Status: {status}\n", whole)
            self.assertNotIn("Hello Bob", whole)
            self.assertAllIsDone()
