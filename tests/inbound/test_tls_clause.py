"""What the Received field tells of TLS, whatever the client has written into its certificate."""

import re

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.inbound.tls_clause import tls_clause
from tests.inbound.support import SUMMARY

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SHOWN = evolve(SUMMARY, peer_names=("client.example", "*.b.example"), fingerprint=SHA256)
REFUSED = evolve(SHOWN, verify_error="self-signed certificate (18)")

FACTS = re.compile(
    r"tls (\S+) \("
    r"TLSv1\.3 X25519(?: sni=(?P<sni>[^ =]+))?"
    r'(?: cert=(?P<cert>verified|"(?:[^"()\\]|\\[()\\])*")'
    r"(?: names=(?P<names>[^ =]*(?:, [^ =]*)*(?: and \d+ more)?))?"
    r" sha256=(?P<sha256>[0-9a-f]{64}))?\)"
)


def unfolded(clause: str) -> str:
    """As the reader of a header field sees it."""
    return re.sub(r"\r\n(?=\t)", "", clause).replace("\t", " ").removeprefix(" ")


class ClauseTests(SynchronousTestCase):
    def test_no_certificate(self) -> None:
        """Of a client that has shown none there is nothing to tell, whatever else is known."""
        for secured in (SUMMARY, evolve(SUMMARY, verify_error="no", peer_names=("x.example",))):
            self.assertEqual(
                unfolded(tls_clause(secured)),
                "tls TLS_AES_256_GCM_SHA384 (TLSv1.3 X25519 sni=mx.example)",
            )

    def test_verified(self) -> None:
        """Who it was, for how sure, and which certificate, so that it can be found again."""
        self.assertEqual(
            tls_clause(evolve(SHOWN, verified=True)),
            "\r\n\ttls TLS_AES_256_GCM_SHA384 (TLSv1.3 X25519 sni=mx.example cert=verified"
            "\r\n\tnames=client.example, *.b.example"
            f"\r\n\tsha256={SHA256})",
        )

    def test_not_verified(self) -> None:
        """Why not; what would end the comment is quoted (RFC 5322 section 3.2.1)."""
        found = unfolded(tls_clause(REFUSED))
        self.assertIn(r' cert="self-signed certificate \(18\)" names=client.example, ', found)
        self.assertIn(' cert="not verified" ', unfolded(tls_clause(SHOWN)))
        odd = evolve(SHOWN, verify_error='a " b\r\nX: y \\ ' + "x" * 1000)
        reason = FACTS.fullmatch(unfolded(tls_clause(odd)))
        assert reason is not None
        self.assertTrue(reason["cert"].startswith("\"a ' b??X: y \\\\ xxx"))
        self.assertLess(len(reason["cert"]), 150)

    def test_no_names(self) -> None:
        """A certificate may have none."""
        found = unfolded(tls_clause(evolve(SHOWN, peer_names=())))
        self.assertIn(f'cert="not verified" sha256={SHA256})', found)

    def test_many_names(self) -> None:
        """A few are told, and how many there are besides."""
        names = tuple(f"{number}.example" for number in range(20))
        found = unfolded(tls_clause(evolve(SHOWN, peer_names=names)))
        self.assertIn(" names=0.example, 1.example, 2.example and 17 more sha256=", found)

    def test_long_names(self) -> None:
        """One that is cut shows it: nobody takes it for another's."""
        long = "mail.bank.example." + "x" * 300
        clause = tls_clause(evolve(SHOWN, peer_names=(long, "b.example")))
        self.assertIn(f"names={long[:57]}..., b.example", unfolded(clause))
        self.assertLess(max(map(len, clause.split("\r\n"))), 78)

    def test_names_that_would_be_facts(self) -> None:
        """What a client writes into a name is no fact, no comment, no clause and no field."""
        names = ("a cert=verified sha256=" + "0" * 64, ") by evil.example (", "x\r\nX-Spam: No; \\")
        found = unfolded(tls_clause(evolve(REFUSED, peer_names=names)))
        match = FACTS.fullmatch(found)
        assert match is not None, found
        self.assertEqual(match["sha256"], SHA256)
        self.assertIn("self-signed", match["cert"])
        self.assertEqual(found.count("="), 4)
        self.assertIn("names=a?cert?verified?sha256?0000", found)

    @given(
        st.lists(st.text(max_size=300), max_size=30),
        st.text(max_size=300) | st.none(),
        st.text(min_size=1, max_size=300) | st.none(),
        st.booleans(),
    )
    def test_anything(
        self, names: list[str], reason: str | None, server_name: str | None, verified: bool
    ) -> None:
        """Nothing breaks a line or the form, makes a line too long, or is other than ASCII."""
        secured: TLSSummary = evolve(
            SHOWN,
            peer_names=tuple(names),
            verify_error=reason,
            server_name=server_name,
            verified=verified,
        )
        clause = tls_clause(secured)
        first, *lines = clause.split("\r\n")
        self.assertEqual(first, "")
        for line in lines:
            self.assertRegex(line, r"^\t[!-~][ -~]*\Z")
            self.assertLessEqual(len(line), 998 - 1)
            if len(line) + 1 > 78:
                self.assertNotIn(" ", line)
        match = FACTS.fullmatch(unfolded(clause))
        assert match is not None, clause
        self.assertEqual(match["cert"] == "verified", verified)
        self.assertEqual(match["sha256"], SHA256)
        self.assertLess(len(clause), 1500)
