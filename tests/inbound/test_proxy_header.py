"""The PROXY header in both versions: what is read, what is refused, wherever it is cut."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Endpoint
from harakatls.inbound.proxy_header import (
    LONGEST_BLOCK,
    LONGEST_LINE,
    SIGNATURE,
    BadHeader,
    ProxyHeader,
    crc32c,
    read_proxy_header,
)
from tests.inbound.proxy_case import FOUR, block

SIX = bytes.fromhex("20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02") + struct.pack(
    "!HH", 40000, 465
)
CLIENT, PROXY_PORT = Endpoint("192.0.2.1", 40000), Endpoint("198.51.100.7", 25)


def extra(kind: int, value: bytes) -> bytes:
    """A TLV."""
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(rest: bytes, wrong: int = 0) -> bytes:
    """A header of version 2 for TCP4, with *rest* behind its checksum."""
    zeroed = block(0x21, 0x11, FOUR + extra(3, bytes(4)) + rest)
    checksum = struct.pack("!I", crc32c(zeroed) ^ wrong)
    return block(0x21, 0x11, FOUR + extra(3, checksum) + rest)


class HeaderTestCase(SynchronousTestCase):
    def read(self, header: bytes) -> ProxyHeader:
        """With each of its beginnings, which are no header yet, and with octets behind it."""
        for end in range(len(header)):
            self.assertIsNone(read_proxy_header(header[:end]), header[:end])
        found = read_proxy_header(header + b"EHLO x\r\nPROXY ")
        assert found is not None
        self.assertEqual(found.length, len(header))
        return found

    def refused(self, *headers: bytes) -> None:
        for header in headers:
            with self.assertRaises(BadHeader, msg=repr(header)):
                read_proxy_header(header)


class LineTests(HeaderTestCase):
    def test_addresses(self) -> None:
        """Both sides' addresses and ports, of IPv4 and of IPv6."""
        header = self.read(b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 25\r\n")
        self.assertEqual((header.peer, header.local), (CLIENT, PROXY_PORT))
        header = self.read(b"PROXY TCP6 2001:DB8:0::1 2001:db8::2 0 65535\r\n")
        self.assertEqual(header.peer, Endpoint("2001:db8::1", 0))
        self.assertEqual(header.local, Endpoint("2001:db8::2", 65535))

    def test_mapped(self) -> None:
        """IPv4 in the clothes of IPv6 is IPv4, as for those who connect by themselves."""
        header = self.read(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 40000 25\r\n")
        self.assertEqual((header.peer, header.local), (CLIENT, PROXY_PORT))

    def test_unknown(self) -> None:
        """Where the proxy does not know, what it says behind that is to be ignored."""
        for rest in (b"", b" ffff::1 ffff::2 65535 65535", b" nonsense\t", b"  "):
            header = self.read(b"PROXY UNKNOWN" + rest + b"\r\n")
            self.assertEqual((header.peer, header.local), (None, None))

    def test_longest(self) -> None:
        """The longest line of the specification is read, a longer one is not waited for."""
        address = ":".join(["ffff"] * 8)
        longest = f"PROXY UNKNOWN {address} {address} 65535 65535\r\n".encode()
        self.assertEqual(len(longest), LONGEST_LINE)  # the specification's own "worst case"
        self.read(longest)
        self.read(b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n")
        self.assertIsNone(read_proxy_header(b"PROXY UNKNOWN " + b"x" * 92))
        self.refused(b"PROXY UNKNOWN " + b"x" * 93, b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n")

    def test_malformed(self) -> None:
        """Nothing is guessed: one space, decimal ports, whole addresses, CRLF."""
        good = "PROXY TCP4 192.0.2.1 198.51.100.7 40000 25"
        self.refused(
            *(
                line.encode("latin-1") + b"\r\n"
                for line in (
                    "PROXY TCP4",
                    "PROXY ",
                    "PROXY tcp4 192.0.2.1 198.51.100.7 40000 25",
                    "PROXY UDP4 192.0.2.1 198.51.100.7 40000 25",
                    "PROXY UNKNOWNX",
                    good.replace(" 25", ""),
                    good + " 1",
                    good + " ",
                    good.replace(" 40000", "  40000"),
                    good.replace(" 40000", "\t40000"),
                    good.replace("TCP4", "TCP6"),
                    good.replace("192.0.2.1", "192.0.2"),
                    good.replace("192.0.2.1", "192.0.2.01"),
                    good.replace("192.0.2.1", "192.0.2.256"),
                    good.replace("192.0.2.1", "client.example"),
                    good.replace("192.0.2.1", "::1"),
                    good.replace("40000", "65536"),
                    good.replace("40000", "040000"),
                    good.replace("40000", "-1"),
                    good.replace("40000", "+1"),
                    good.replace("40000", "4e3"),
                    good.replace("40000", "\xb2"),
                    "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2",
                    "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2",
                )
            ),
            good.encode() + b"\n",
            good.encode() + b"\r\r\n",
            b"PROXY UNKNOWN \xff\r\n",
        )

    def test_something_else(self) -> None:
        """What is no header is known as soon as that is certain."""
        for start in (
            b"E",
            b"EHLO x\r\n",
            b"proxy ",
            b"PROXYX",
            b"\x16\x03\x01",
            b"\r\n\r\nQ",
            b" ",
        ):
            self.refused(start)


class BlockTests(HeaderTestCase):
    def test_addresses(self) -> None:
        """Both sides' addresses and ports, of IPv4 and of IPv6."""
        header = self.read(block(0x21, 0x11, FOUR))
        self.assertEqual((header.peer, header.local), (CLIENT, PROXY_PORT))
        header = self.read(block(0x21, 0x21, SIX))
        self.assertEqual(header.peer, Endpoint("2001:db8::1", 40000))
        self.assertEqual(header.local, Endpoint("2001:db8::2", 465))

    def test_mapped(self) -> None:
        """IPv4 in the clothes of IPv6 is IPv4."""
        prefix = bytes(10) + b"\xff\xff"
        header = self.read(block(0x21, 0x21, prefix + FOUR[:4] + prefix + FOUR[4:8] + FOUR[8:]))
        self.assertEqual((header.peer, header.local), (CLIENT, PROXY_PORT))

    def test_no_addresses(self) -> None:
        """A health check, and what is neither TCP over IPv4 nor over IPv6."""
        for header in (
            block(0x20, 0x00, b""),
            block(0x20, 0x11, FOUR),
            block(0x20, 0x11, b"x"),
            block(0x20, 0x77, b"whatever"),
            block(0x21, 0x00, b""),
            block(0x21, 0x12, bytes(12)),
            block(0x21, 0x22, bytes(36)),
            block(0x21, 0x31, bytes(216)),
            block(0x21, 0x32, bytes(216)),
        ):
            found = self.read(header)
            self.assertEqual((found.peer, found.local), (None, None), header)

    def test_extras(self) -> None:
        """What else a proxy tells is passed over."""
        self.read(block(0x21, 0x11, FOUR + extra(2, b"mx.example") + extra(0xEE, b"")))
        self.read(block(0x21, 0x00, extra(4, bytes(100))))

    def test_checksum(self) -> None:
        """A checksum is looked at if there is one, wherever it stands."""
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)  # RFC 3720 appendix B.4 and others
        self.read(with_checksum(b""))
        self.read(with_checksum(extra(2, b"mx.example")))
        self.refused(
            with_checksum(b"", wrong=1),
            with_checksum(extra(2, b"mx"), wrong=1 << 31),
            block(0x21, 0x11, FOUR + extra(3, bytes(3))),
        )

    def test_malformed(self) -> None:
        """What nobody has given a meaning, and lengths that lie."""
        self.refused(
            block(0x11, 0x11, FOUR),
            block(0x22, 0x11, FOUR),
            block(0x21, 0x13, FOUR),
            block(0x21, 0x41, FOUR),
            block(0x21, 0x11, FOUR[:-1]),
            block(0x21, 0x21, FOUR),
            block(0x21, 0x31, bytes(215)),
            block(0x21, 0x11, FOUR + b"\x02"),
            block(0x21, 0x11, FOUR + b"\x02\x00\x02x"),
        )

    def test_longest(self) -> None:
        """So much is read and no more, which is known before it is there."""
        self.read(block(0x21, 0x11, FOUR + extra(4, bytes(LONGEST_BLOCK - 15))))
        self.refused(block(0x21, 0x11, b"", length=LONGEST_BLOCK + 1))
        self.refused(block(0x20, 0x00, b"", length=0xFFFF))


class AnyOctetsTests(SynchronousTestCase):
    @given(st.sampled_from([b"", b"PROXY TCP4 ", SIGNATURE + b"\x21\x11\x00"]), st.binary())
    def test_no_other_exception(self, start: bytes, rest: bytes) -> None:
        """Whatever comes, it is a header, the beginning of one, or refused."""
        try:
            header = read_proxy_header(start + rest)
        except BadHeader:
            return
        if header is not None:
            self.assertLessEqual(header.length, len(start + rest))
