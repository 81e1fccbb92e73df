"""Addresses and paths."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import (
    DOMAIN_OCTETS,
    PATH_OCTETS,
    Address,
    AddressError,
    parse_address,
    parse_forward_path,
    parse_reverse_path,
    to_a_label,
)

ATEXT = "abcxyzABCXYZ0189!#$%&'*+/=?^_`{|}~-"
atoms = st.text(alphabet=ATEXT, min_size=1, max_size=12)
labels = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\Z")
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)
# What may stand in a quoted local part: any text but controls and the line ends of Unicode.
local_parts = st.text(
    alphabet=st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=0, max_size=30
)


class ParseTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """An everyday address is understood, whatever the case of its domain."""
        self.assertEqual(
            parse_address("Joe.User+tag@EXAMPLE.org"), Address("Joe.User+tag", "example.org")
        )

    def test_local_part_keeps_its_case(self) -> None:
        """Mail for Joe at a host that knows joe and Joe goes to Joe."""
        self.assertNotEqual(parse_address("Joe@a.example"), parse_address("joe@a.example"))

    def test_quoted(self) -> None:
        """A mailbox is the same with and without quotes; it is sent with them only if it must."""
        for text, local in (
            ('"joe"@a.example', "joe"),
            (r'"jo\e"@a.example', "joe"),
            ('"joe user"@a.example', "joe user"),
            ('"a@b"@a.example', "a@b"),
            (r'"a\"b\\c"@a.example', 'a"b\\c'),
            ('""@a.example', ""),
            ('"a>b"@a.example', "a>b"),
            ('"a..b"@a.example', "a..b"),
        ):
            address = parse_address(text)
            self.assertEqual(address, Address(local, "a.example"), text)
            self.assertEqual(parse_address(str(address)), address, text)
        self.assertEqual(str(parse_address('"joe"@a.example')), "joe@a.example")

    def test_wrong(self) -> None:
        """What is no address is refused when it is given, not when it cannot be delivered."""
        for text in (
            "",
            "joe",
            "@a.example",
            "joe@",
            "joe@@a.example",
            "joe@a@b",
            ".joe@a.example",
            "joe.@a.example",
            "jo..e@a.example",
            "joe user@a.example",
            'joe"user@a.example',
            '"joe@a.example',
            '"jo"e"@a.example',
            '"joe\\"@a.example',
            "joe@a..example",
            "joe@.example",
            "joe@example.",
            "joe@-a.example",
            "joe@a-.example",
            "joe@exa mple",
            "joe@exa\nmple",
            "joe\n@a.example",
            "joe@a.example\n",
            "joe\x00@a.example",
            '"joe\r\nDATA"@a.example',
            "joe@" + "a" * 64 + ".example",
            "(joe)@a.example",
            "joe@[192.0.2.1",
            "joe@192.0.2.1]",
            "joe@[192.0.2.256]",
            "joe@[192.0.2.01]",
            "joe@[IPv6:]",
            "joe@[IPv6:fe80::1%eth0]",
            "joe@[IPv6:fe80::1%\r\nX]",
            "joe@[2001:db8::1]",
            "joe@[x400:abc]",
            "jo\x85e@a.example",
            "jo\u2028e@a.example",
            '"jo\u2029e"@a.example',
            "jo\ud800e@a.example",
            "joe@b\ud800cher.example",
            "joe@\u2028.example",
            "joe@b\xfccher..example",
            "joe@" + "\xfc" * 80 + ".example",
        ):
            self.assertRaises(AddressError, parse_address, text)

    def test_reason_is_ascii_and_short(self) -> None:
        """The reply that refuses an address is a legal reply, whatever the address was."""
        for text in (
            "\xfc" * 300,
            "a" * 300,
            "a b" * 80,
            "x\r\ny@z",
            "\xfc b@c.example",
            "a@\xfc..b",
        ):
            reason = str(self.assertRaises(AddressError, parse_address, text))
            self.assertTrue(reason.isascii() and reason.isprintable(), reason)
            self.assertLess(len(reason), 400)

    def test_literals(self) -> None:
        """Mail to an IP address in brackets is understood, and one address is one mailbox."""
        for text, domain in (
            ("joe@[192.0.2.1]", "[192.0.2.1]"),
            ("joe@[IPv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
            ("joe@[ipv6:2001:db8:0:0::1]", "[IPv6:2001:db8::1]"),
        ):
            self.assertEqual(parse_address(text), Address("joe", domain))

    def test_international_domain(self) -> None:
        """A domain in any script is the same as its A-label, so that host lists and DNS find it."""
        for text in (
            "joe@B\xfccher.example",
            "joe@xn--bcher-kva.example",
            "joe@XN--BCHER-KVA.Example",
        ):
            self.assertEqual(parse_address(text), Address("joe", "xn--bcher-kva.example"), text)
        self.assertEqual(
            to_a_label("\u30c9\u30e1\u30a4\u30f3\u3002example"), "xn--eckwd4c7c.example"
        )

    def test_international_local_part(self) -> None:
        """An address in any script is told from one that needs no SMTPUTF8."""
        address = parse_address("j\xf6rg@a.example")
        self.assertEqual(address, Address("j\xf6rg", "a.example"))
        self.assertFalse(address.is_ascii)
        self.assertEqual(str(address), "j\xf6rg@a.example")
        self.assertTrue(parse_address("joe@b\xfccher.example").is_ascii)

    def test_long(self) -> None:
        """Long local parts, as forwarders and lists make them, are taken; endless ones not."""
        local = "a" * (PATH_OCTETS - len("@a.example"))
        self.assertEqual(parse_address(f"{local}@a.example").local_part, local)
        self.assertRaises(AddressError, parse_address, f"{local}a@a.example")
        self.assertRaises(AddressError, parse_address, "\xf6" * 130 + "@a.example")
        self.assertRaises(AddressError, to_a_label, ".".join(["a" * 50] * 6))
        self.assertEqual(len(to_a_label(".".join(["a" * 63] * 4))), DOMAIN_OCTETS)

    @given(st.lists(atoms, min_size=1, max_size=3).map(".".join), domains)
    def test_dot_string_is_kept(self, local: str, domain: str) -> None:
        """An address is passed on as it was written."""
        self.assertEqual(str(parse_address(f"{local}@{domain}")), f"{local}@{domain}")

    @given(local_parts, domains)
    def test_round_trip(self, local: str, domain: str) -> None:
        """What we write as an address we, and the next host, read as the same."""
        address = Address(local, domain)
        if len(str(address).encode()) <= PATH_OCTETS:
            self.assertEqual(parse_address(str(address)), address)
            self.assertEqual(parse_forward_path(f"<{address}>"), address)

    @given(st.text(max_size=40) | st.text(alphabet='ab."\\@<>[]: \xfc-', max_size=20))
    def test_anything(self, text: str) -> None:
        """No text breaks the server, and what is taken can be said again to the next host."""
        for parse in (parse_address, parse_reverse_path, parse_forward_path):
            try:
                address = parse(text)
            except AddressError:
                continue
            if address is not None:
                written = str(address)
                self.assertNotRegex(written, r"[\x00-\x1f\x7f]")
                self.assertEqual(parse_forward_path(f"<{written}>"), address)


class PathTests(SynchronousTestCase):
    def test_null_reverse_path(self) -> None:
        """Bounces are accepted."""
        self.assertIsNone(parse_reverse_path("<>"))

    def test_null_forward_path(self) -> None:
        """Nobody is no recipient."""
        self.assertRaises(AddressError, parse_forward_path, "<>")

    def test_postmaster(self) -> None:
        """Postmaster is reached without a domain, in any case (RFC 5321 section 4.5.1)."""
        for text in ("<postmaster>", "<Postmaster>", "<POSTMASTER>"):
            self.assertEqual(parse_forward_path(text), Address("postmaster", ""))
        self.assertEqual(str(Address("postmaster", "")), "postmaster")
        self.assertRaises(AddressError, parse_reverse_path, "<postmaster>")
        self.assertRaises(AddressError, parse_forward_path, "<webmaster>")

    def test_source_route(self) -> None:
        """Mail with an ancient source route goes to its mailbox, not through the route."""
        for text in ("<@a.example:joe@b.example>", "<@a.example,@c.example:joe@b.example>"):
            self.assertEqual(parse_forward_path(text), Address("joe", "b.example"))
        for text in ("<@a.example>", "<@a.example:>", "<@:joe@b.example>", "<@a:@b:joe@c>"):
            self.assertRaises(AddressError, parse_forward_path, text)

    def test_brackets(self) -> None:
        """A path without its brackets, or with more, is not guessed at."""
        for text in (
            "",
            "<",
            ">",
            "joe@a.example",
            "<joe@a.example",
            "joe@a.example>",
            "<<joe@a>>",
        ):
            self.assertRaises(AddressError, parse_forward_path, text)
