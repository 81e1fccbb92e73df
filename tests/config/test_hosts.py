"""Tests for harakatls.config.hosts."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList, host_address, host_name


def hosts(*texts: str) -> HostList:
    return HostList.parse(texts)


class AddressTests(SynchronousTestCase):
    def test_single_address(self) -> None:
        """A listed address matches itself alone."""
        listed = hosts("192.0.2.1", "2001:DB8::0:1")
        self.assertIn("192.0.2.1", listed)
        self.assertIn("2001:db8::1", listed)
        self.assertIn("2001:0DB8:0:0:0:0:0:1", listed)
        self.assertNotIn("192.0.2.2", listed)
        self.assertNotIn("2001:db8::2", listed)

    def test_ipv4_mapped_is_ipv4(self) -> None:
        """A client that reaches a dual-stack listener over IPv4 is found in an IPv4 list."""
        for listed in (
            hosts("192.0.2.1"),
            hosts("192.0.2.0/24"),
            hosts("::ffff:192.0.2.1"),
            hosts("::ffff:192.0.2.0/120"),
        ):
            self.assertIn("192.0.2.1", listed)
            self.assertIn("::ffff:192.0.2.1", listed)
            self.assertIn("::FFFF:C000:0201", listed)
            self.assertNotIn("192.0.3.1", listed)

    def test_network(self) -> None:
        """A network matches all its addresses, whatever stands right of the mask."""
        listed = hosts("172.16.0.0/16", "192.168.31.1/24", "10.0.0.0/255.0.0.0", "2001:db8::/33")
        for inside in ("172.16.255.255", "192.168.31.200", "10.9.8.7", "2001:db8:7fff::1"):
            self.assertIn(inside, listed)
        for outside in ("172.17.0.0", "192.168.32.1", "11.0.0.1", "2001:db8:8000::"):
            self.assertNotIn(outside, listed)

    def test_mask_zero_is_everything_of_the_family(self) -> None:
        """0.0.0.0/0 means all of IPv4, and only that."""
        self.assertIn("203.0.113.9", hosts("0.0.0.0/0"))
        self.assertIn("::ffff:203.0.113.9", hosts("0.0.0.0/0"))
        self.assertNotIn("2001:db8::1", hosts("0.0.0.0/0"))
        self.assertIn("2001:db8::1", hosts("::/0"))
        self.assertNotIn("203.0.113.9", hosts("::/0"))
        self.assertNotIn("example.com", hosts("::/0", "0.0.0.0/0"))

    def test_address_literal_and_zone(self) -> None:
        """The domain of user@[192.0.2.1] and a link-local peer are compared by their address."""
        self.assertIn("[192.0.2.1]", hosts("192.0.2.0/24"))
        self.assertIn("[IPv6:2001:db8::1]", hosts("2001:db8::/32"))
        self.assertIn("fe80::1%eth0", hosts("fe80::/10"))

    @given(st.ip_addresses(v=4), st.integers(0, 32), st.integers(0, 31))
    def test_agrees_with_the_library_on_ipv4(
        self, base: IPv4Address, bits: int, flipped: int
    ) -> None:
        """The fast look-up gives the answer of the plain one."""
        asked = IPv4Address(int(base) ^ (1 << flipped))
        network = IPv4Network((base, bits), strict=False)
        self.assertEqual(str(asked) in hosts(f"{base}/{bits}"), asked in network)

    @given(st.ip_addresses(v=6), st.integers(97, 128), st.integers(0, 127))
    def test_agrees_with_the_library_on_ipv6(
        self, base: IPv6Address, bits: int, flipped: int
    ) -> None:
        """The fast look-up gives the answer of the plain one."""
        asked = IPv6Address(int(base) ^ (1 << flipped))
        network = IPv6Network((base, bits), strict=False)
        self.assertEqual(str(asked) in hosts(f"{base}/{bits}"), asked in network)


class NameTests(SynchronousTestCase):
    def test_name_in_any_spelling(self) -> None:
        """Case, a trailing dot and the U-label form make no difference, on either side."""
        self.assertIn("MX.Example.ORG.", hosts("mx.example.org"))
        self.assertIn("mx.example.org", hosts("MX.EXAMPLE.ORG."))
        self.assertIn("xn--bcher-kva.example", hosts("Bücher.example"))
        self.assertIn("bücher.example", hosts("xn--bcher-kva.example"))

    def test_name_that_ends_in_a_digit(self) -> None:
        """mail.dc1 is a name: a host that is to be reached with TLS alone is not passed over."""
        hosts = HostList.parse(["mx1", "mail.dc1", "*.dc2"])
        for name in ("mx1", "MX1.", "mail.dc1", "mail.dc1.", "a.b.dc2"):
            self.assertIn(name, hosts)
        for name in ("mx2", "1", "mx1.1", "dc2", "dc1"):
            self.assertNotIn(name, hosts)

    def test_name_is_not_its_subdomains(self) -> None:
        """A name without a wildcard means one host."""
        self.assertNotIn("mx.example.com", hosts("example.com"))
        self.assertNotIn("notexample.com", hosts("example.com"))

    def test_wildcard_matches_below_at_any_depth(self) -> None:
        """*.example.com is every name below example.com, and not example.com."""
        listed = hosts("*.Example.com")
        self.assertIn("mx.example.com", listed)
        self.assertIn("a.b.c.example.com.", listed)
        self.assertNotIn("example.com", listed)
        self.assertNotIn("notexample.com", listed)
        self.assertNotIn("com", listed)

    def test_address_is_no_name(self) -> None:
        """A list of names says nothing about addresses."""
        self.assertNotIn("192.0.2.1", hosts("example.com", "*.example.com"))


class ParseTests(SynchronousTestCase):
    def test_blanks_semicolons_and_empty_ones(self) -> None:
        """What commonly stands behind an entry does not spoil it."""
        self.assertEqual(
            hosts(" 192.0.2.1; ", "", "example.com ;").entries,
            hosts("192.0.2.1", "example.com").entries,
        )

    def test_truth(self) -> None:
        """An empty list is false, so that whoever asks can skip the question."""
        self.assertFalse(HostList())
        self.assertFalse(hosts("", " "))
        self.assertTrue(hosts("example.com"))
        self.assertTrue(hosts("10.0.0.0/8"))

    def test_mistakes_are_refused(self) -> None:
        """A mistyped entry is told at the start, not silently without effect."""
        for wrong in (
            "300.1.1.1",
            "10.0.0",
            "10/8/8",
            "10.0.0.0/33",
            "192.0.2.1:25",
            "mx.example.org:25",
            "*",
            "mx.*.example.org",
            "*example.org",
            "-a.example",
            "a..example",
            "two words",
            "a" * 64 + ".example",
            "a." * 130 + "example",
            "::1::",
            "example.com/24",
            "\ud800",
            ".",
        ):
            with self.assertRaises(ValueError) as caught:
                hosts("example.com", wrong)
            self.assertIn("is not an address, a network", str(caught.exception))

    def test_equality_is_by_entries(self) -> None:
        """Two readings of the same file give settings that are equal."""
        self.assertEqual(hosts("EXAMPLE.com", "192.0.2.9/24"), hosts("example.com", "192.0.2.0/24"))
        self.assertNotEqual(hosts("example.com"), hosts("example.org"))

    @given(st.text())
    def test_any_question_has_an_answer(self, text: str) -> None:
        """Whatever a peer calls itself, asking never fails."""
        listed = hosts("192.0.2.0/24", "2001:db8::/32", "example.com", "*.example.org")
        self.assertIsInstance(text in listed, bool)
        self.assertIsInstance("[" + text + "]" in listed, bool)
        self.assertIsInstance(text + ":1" in listed, bool)

    def test_other_types_are_in_no_list(self) -> None:
        """None, for a host that is not known, is in no list."""
        self.assertNotIn(None, hosts("0.0.0.0/0"))
        self.assertNotIn(b"example.com", hosts("example.com"))

    @given(st.lists(st.text(max_size=20), max_size=4))
    def test_any_text_parses_or_is_refused(self, texts: list[str]) -> None:
        """No entry can raise anything but the error that says what is wrong with it."""
        try:
            listed = HostList.parse(texts)
        except ValueError as problem:
            self.assertIn("is not an address, a network", str(problem))
        else:
            self.assertEqual(HostList.parse(listed.entries), listed)


class SpellingTests(SynchronousTestCase):
    def test_host_name(self) -> None:
        """Names are compared in one spelling."""
        self.assertEqual(host_name("MAIL.Example.COM."), "mail.example.com")
        self.assertEqual(host_name("_dmarc.example.com"), "_dmarc.example.com")
        self.assertEqual(host_name("localhost"), "localhost")
        for wrong in ("", ".", "a b", "1.2.3.4", "a..", "a..b", "x\n"):
            self.assertRaises(ValueError, host_name, wrong)

    def test_host_address(self) -> None:
        """Addresses are compared as one value."""
        self.assertEqual(host_address("::ffff:192.0.2.1"), IPv4Address("192.0.2.1"))
        self.assertEqual(host_address("[IPv6:::1]"), IPv6Address("::1"))
        self.assertRaises(ValueError, host_address, "example.com")
