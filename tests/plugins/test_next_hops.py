"""Next hops as operators write them."""

from ipaddress import ip_address
from typing import Any

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import Credentials, NextHop
from harakatls.plugins.next_hops import parse_next_hop, parse_next_hops

JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(
            strategies.sampled_from(
                ["exchange", "path", "using_lmtp", "port", "auth_user", "auth_pass", "bind", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def place(hop: NextHop) -> tuple[str, int, str]:
    """Where it is."""
    return hop.host, hop.port, hop.protocol


class TextTests(SynchronousTestCase):
    def test_spellings(self) -> None:
        """Names, addresses and ports as operators write them."""
        for text, expected in (
            ("mx.example", ("mx.example", 25, "smtp")),
            ("MX.example.:2525", ("mx.example", 2525, "smtp")),
            ("192.0.2.1:2525", ("192.0.2.1", 2525, "smtp")),
            ("[2001:DB8::1]", ("2001:db8::1", 25, "smtp")),
            ("[2001:db8::1]:465", ("2001:db8::1", 465, "smtp")),
            ("2001:db8::1", ("2001:db8::1", 25, "smtp")),
            ("smtp://mx.example", ("mx.example", 25, "smtp")),
            ("LMTP://127.0.0.1", ("127.0.0.1", 24, "lmtp")),
            ("lmtp://[::1]:2424", ("::1", 2424, "lmtp")),
            ("smtp://bob:pw@[2001:db8::1]:587", ("2001:db8::1", 587, "smtp")),
        ):
            self.assertEqual(place(parse_next_hop(text)), expected)

    def test_sockets(self) -> None:
        """A Unix socket is a next hop for LMTP, and for nothing else."""
        for value in (
            "lmtp:///run/store@home/lmtp",
            {"path": "/run/store@home/lmtp", "using_lmtp": True},
        ):
            (hop,) = parse_next_hops(value, "a.example")
            self.assertTrue(hop.is_socket)
            self.assertEqual((hop.host, hop.protocol), ("/run/store@home/lmtp", "lmtp"))
            self.assertEqual((hop.domain, hop.source, hop.mx_name), ("a.example", "route", None))
        for text, told in (
            ("smtp:///run/x", "Unix socket; these are for lmtp:// alone"),
            ("lmtp:///", "is not the absolute path"),
            ("lmtp:///a\nb", "is not the absolute path"),
            (f"lmtp:///{'ü' * 54}", "longer than the 107 octets"),
        ):
            self.assertIn(told, str(self.assertRaises(ValueError, parse_next_hop, text)))

    def test_names(self) -> None:
        """A name is kept for SNI and the certificate; an address has none."""
        self.assertEqual(parse_next_hop("mx.example").mx_name, "mx.example")
        self.assertIs(parse_next_hop("192.0.2.1").mx_name, None)
        self.assertEqual(parse_next_hop("192.0.2.1", "a.example").domain, "a.example")
        self.assertEqual(parse_next_hop("192.0.2.1").source, "route")

    def test_logins(self) -> None:
        """As in any URL; an @ in a password may stand for itself."""
        for text, user, password in (
            ("smtp://bob:pw@mx.example", "bob", "pw"),
            ("smtp://bob%40a.example:p%3Aw%25@mx.example", "bob@a.example", "p:w%"),
            ("smtp://bob@a.example:pw@mx.example", "bob@a.example", "pw"),
            ("bob:p:w@mx.example:587", "bob", "p:w"),
        ):
            self.assertEqual(parse_next_hop(text).credentials, Credentials(user, password))

    def test_garbage(self) -> None:
        """What is no next hop is refused with ValueError."""
        for text in (
            "",
            ":",
            "a:b",
            "a:70000",
            "[::1",
            "[::1]25",
            "a/b",
            "smtp://",
            "://a",
            "smtp:a:25",
            "http://a",
            "lmtp://smtp://a",
            "a:25:3",
            "smtp://bob@a",
            "smtp://bob:@a",
            "smtp://:pw@a",
            "smtp://bob:pw@",
            "smtp://bob:%00@a",
            None,
        ):
            self.assertRaises(ValueError, parse_next_hop, text)

    def test_passwords(self) -> None:
        """No mistake in a next hop shows its password, wherever the mistake is."""
        for value in (
            "smtp:///bob:s3cret@a.example",
            "smtp://bob:s3cret@a b",
            "bob:s3://cret@a.example",
            "lmtp:///bob:s3cret@a\0",
            ["smtp://bob:s3cret@a.example", ["smtp://bob:s3cret@a.example"]],
            {"exchange": "smtp://bob:s3cret@a.example"},
            {"path": "bob:s3cret@run", "using_lmtp": True},
        ):
            problem = self.assertRaises(ValueError, parse_next_hops, value)
            self.assertNotIn("s3", str(problem))

    @given(strategies.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the text is, the answer is a hop or ValueError."""
        try:
            hop = parse_next_hop(text)
        except ValueError:
            return
        self.assertTrue(hop.host)
        self.assertTrue(0 < hop.port < 65536)

    @given(strategies.ip_addresses(), strategies.integers(1, 65535))
    def test_any_address(self, address: Any, port: int) -> None:
        """Every address with every port is understood."""
        text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        hop = parse_next_hop(text)
        self.assertEqual(hop.port, port)
        mapped = getattr(address, "ipv4_mapped", None)
        self.assertEqual(ip_address(hop.host), mapped or address)


class ObjectTests(SynchronousTestCase):
    def test_all_keys(self) -> None:
        """As Haraka's plugins give them."""
        (hop,) = parse_next_hops(
            {
                "exchange": "MX.example",
                "port": "2525",
                "priority": 5,
                "bind": "192.0.2.7",
                "bind_helo": "out.example",
                "auth_user": "bob",
                "auth_pass": "pw",
                "auth_type": "plain",
                "auth_without_tls": True,
                "from_dns": "mx.example",
            },
            "a.example",
        )
        self.assertEqual(
            hop,
            NextHop(
                "mx.example",
                "a.example",
                2525,
                5,
                "mx.example",
                "route",
                "smtp",
                Credentials("bob", "pw", "PLAIN", True),
                "192.0.2.7",
                "out.example",
            ),
        )

    def test_lmtp(self) -> None:
        """On its own port."""
        (hop,) = parse_next_hops({"exchange": "127.0.0.1", "using_lmtp": True})
        self.assertEqual(place(hop), ("127.0.0.1", 24, "lmtp"))

    def test_mistakes(self) -> None:
        """Each is told in words that name the key."""
        for value, told in (
            ({}, "has no exchange"),
            ({"exchange": 5}, "exchange is not a text"),
            ({"exchange": "a b"}, "exchange 'a b' is neither"),
            ({"exchange": "h", "port": 0}, "port is not a number from 1 to 65535"),
            ({"exchange": "h", "port": True}, "port is not a number"),
            ({"exchange": "h", "priority": -1}, "priority is not a number"),
            ({"exchange": "h", "using_lmtp": "yes"}, "using_lmtp is neither true nor false"),
            ({"exchange": "h", "bind": "lo"}, "bind 'lo' is not an IP address"),
            ({"exchange": "h", "bind_helo": "a b"}, "bind_helo 'a b' is not a host name"),
            ({"exchange": "h", "auth_user": "b"}, "one of auth_user and auth_pass without"),
            ({"exchange": "h", "auth_type": "plain"}, "but no auth_user and auth_pass"),
            (
                {"exchange": "h", "auth_user": "b", "auth_pass": "p", "auth_type": "GSSAPI"},
                "auth_type 'GSSAPI' is none of SCRAM-SHA-256, CRAM-MD5, PLAIN, LOGIN",
            ),
            ({"path": "/run/lmtp"}, "these are for LMTP; write using_lmtp"),
            ({"path": "/run/x", "using_lmtp": True, "port": 24}, "has a path and port"),
            ({"path": "run", "using_lmtp": True}, "'run' is not the absolute path of a Unix"),
            ({"path": "/a\0b", "using_lmtp": True}, "is not the absolute path of a Unix"),
            ([], "0 is not a number of next hops"),
            (["h"] * 17, "17 is not a number of next hops"),
        ):
            problem = self.assertRaises(ValueError, parse_next_hops, value)
            self.assertIn(told, str(problem))

    @given(JSON)
    def test_anything(self, value: object) -> None:
        """Whatever JSON holds: next hops, or ValueError."""
        try:
            hops = parse_next_hops(value)
        except ValueError:
            return
        self.assertTrue(hops)
