"""The Received field."""

import email
import re
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, Endpoint, Hello, Transaction
from harakatls.inbound.trace import TraceFields, with_protocol
from harakatls.mail.address import Address
from harakatls.mail.envelope import MailParameters
from harakatls.testing.values import connection, envelope, transaction
from tests.inbound.support import SUMMARY

NOW = 1_763_870_460.0


def received(peer: Connection, mail: Transaction | None = None) -> str:
    trace = TraceFields("mx.example", show_version=False)
    return trace.received(peer, mail or transaction(), NOW).decode()


def value(field: str) -> str:
    """As a mail reader sees it: unfolded."""
    parsed = email.message_from_string(field + "\r\nbody")
    assert list(parsed) == ["Received"], field
    return " ".join(parsed["Received"].split())


class ReceivedTests(SynchronousTestCase):
    def test_layout(self) -> None:
        """Who, by whom, how, under which id, from which sender, when (RFC 5321 section 4.4)."""
        field = received(connection())
        self.assertTrue(field.endswith("\r\n"))
        self.assertEqual(field.count("\r\n"), field.count("\r\n\t") + 1)
        self.assertRegex(
            value(field),
            r"^from client\.example \(\[192\.0\.2\.10\]\) by mx\.example \(harakatls\) "
            rf"with ESMTP id {transaction().id} \(envelope-from <alice@sender\.example>\); "
            r"\w{3}, \d\d Nov 2025 \d\d:\d\d:\d\d [+-]\d{4}$",
        )

    def test_tls(self) -> None:
        """The tls clause (RFC 8314) names the cipher; a comment version, group and server name."""
        field = value(received(connection(secured=SUMMARY)))
        self.assertIn(" with ESMTPS id ", field)
        self.assertIn(" tls TLS_AES_256_GCM_SHA384 (TLSv1.3 X25519 sni=mx.example);", field)
        bare = connection(secured=evolve(SUMMARY, server_name=None, group=None))
        self.assertIn("(TLSv1.3);", value(received(bare)))
        older = evolve(SUMMARY, protocol="TLSv1.2", cipher="ECDHE-RSA-AES256-GCM-SHA384")
        self.assertIn(
            " tls TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 (TLSv1.2 X25519 sni=mx.example);",
            value(received(connection(secured=older))),
        )

    def test_requiretls(self) -> None:
        """Who reads the trace sees which hosts knew that TLS is required (RFC 8689)."""
        mail = transaction(envelope=evolve(envelope(), parameters=MailParameters(requiretls=True)))
        field = value(received(connection(secured=SUMMARY), mail))
        self.assertIn(" sni=mx.example) (REQUIRETLS); ", field)
        self.assertNotIn("REQUIRETLS", received(connection(secured=SUMMARY)))

    def test_protocols(self) -> None:
        """RFC 3848 and RFC 6531 name each way of transmission."""
        helo = Hello("client.example", extended=False)
        cases: list[tuple[dict[str, Any], str]] = [
            ({"hello": helo}, "SMTP"),
            ({"hello": helo, "secured": SUMMARY}, "SMTP"),
            ({"hello": None}, "SMTP"),
            ({}, "ESMTP"),
            ({"secured": SUMMARY}, "ESMTPS"),
            ({"authenticated_as": "alice"}, "ESMTPA"),
            ({"secured": SUMMARY, "authenticated_as": "alice"}, "ESMTPSA"),
        ]
        for changes, expected in cases:
            peer = connection(**changes)
            self.assertEqual(with_protocol(peer), expected)
            self.assertIn(f" with {expected} id ", value(received(peer)))
        utf8 = evolve(envelope(), parameters=MailParameters(smtputf8=True))
        cases = [({}, "UTF8SMTP"), ({"secured": SUMMARY}, "UTF8SMTPS")]
        for changes, expected in cases:
            field = received(connection(**changes), transaction(envelope=utf8))
            self.assertIn(f" with {expected} id ", value(field))

    def test_addresses_of_peers(self) -> None:
        """RFC 5321 section 4.1.3: an IPv6 literal is marked as one."""
        peer = connection(peer=Endpoint("2001:db8::1", 1))
        self.assertIn("([IPv6:2001:db8::1])", received(peer))

    def test_name_of_peer(self) -> None:
        """What the peer calls itself, then what the DNS calls it (RFC 5321 section 4.4)."""
        for host, literal in (("192.0.2.10", "192.0.2.10"), ("2001:db8::1", "IPv6:2001:db8::1")):
            peer = connection(peer=Endpoint(host, 1), peer_name="host.example")
            begin = f"from client.example (host.example [{literal}]) by mx.example "
            self.assertTrue(value(received(peer)).startswith(begin), received(peer))

    def test_null_reverse_path(self) -> None:
        """A bounce has no sender."""
        field = received(connection(), transaction(envelope=envelope(sender=None)))
        self.assertIn("(envelope-from <>)", field)

    def test_unicode_sender(self) -> None:
        """With SMTPUTF8 a header field may hold UTF-8 (RFC 6532)."""
        path = Address("jörg", "sender.example")
        field = received(connection(), transaction(envelope=evolve(envelope(), reverse_path=path)))
        self.assertIn("(envelope-from <jörg@sender.example>)", field)

    def test_sender_that_would_end_the_comment(self) -> None:
        """Whatever a quoted local part holds, it stays within the comment."""
        path = Address(") by evil.example (\\", "sender.example")
        field = received(connection(), transaction(envelope=evolve(envelope(), reverse_path=path)))
        comment = re.search(r"\(envelope-from ((?:[^()\\]|\\.)*)\)", field)
        assert comment is not None
        self.assertEqual(re.sub(r"\\(.)", r"\1", comment[1]), f"<{path}>")

    @given(st.text(max_size=300))
    def test_helo_of_any_kind(self, name: str) -> None:
        """No HELO name can end its line, start a field, or bring in anything but ASCII."""
        field = received(connection(hello=Hello(name, True)))
        self.assertTrue(field.isascii())
        self.assertRegex(value(field), r"^from \S{1,255} \(\[192\.0\.2\.10\]\) by mx\.example ")

    def test_facts_change(self) -> None:
        """What EHLO and STARTTLS change shows in the next message's field."""
        trace = TraceFields("mx.example", show_version=False)
        first = trace.received(connection(), transaction(), NOW)
        second = trace.received(connection(secured=SUMMARY), transaction(), NOW)
        self.assertNotIn(b"\ttls ", first)
        self.assertIn(b"\ttls ", second)
        self.assertIn(b"ESMTPS", second)
