"""Tests for harakatls.tls.hello."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.hello import (
    LONGEST_HELLO,
    MOST_RECORDS,
    ClientHello,
    HelloState,
    is_hello_enough,
    read_client_hello,
)
from tests.tls.peers import TLS_1_2, hello_of, plain_client

TLS12, TLS13 = 0x0303, 0x0304
X25519, P256, X25519MLKEM768 = 29, 23, 4588


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + len(content).to_bytes(2) + content


def server_name(name: bytes, kind: int = 0) -> bytes:
    entry = kind.to_bytes(1) + len(name).to_bytes(2) + name
    return extension(0, len(entry).to_bytes(2) + entry)


def made_hello(*extensions: bytes, version: int = TLS12) -> bytes:
    """A handshake message, without a record around it."""
    body = version.to_bytes(2) + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0"
    if extensions:
        joined = b"".join(extensions)
        body += len(joined).to_bytes(2) + joined
    return b"\1" + len(body).to_bytes(3) + body


def record(fragment: bytes) -> bytes:
    return b"\x16\3\1" + len(fragment).to_bytes(2) + fragment


HELLO = hello_of(plain_client(server_name="mx.example.com"))


class ReadingTests(SynchronousTestCase):
    """What is in a hello."""

    def test_openssl(self) -> None:
        """The hello of a real client is understood, post-quantum key share and all."""
        hello = read_client_hello(HELLO)
        assert isinstance(hello, ClientHello)
        self.assertEqual(hello.server_name, "mx.example.com")
        self.assertEqual(hello.versions, (TLS13, TLS12))
        self.assertIn(X25519, hello.groups)
        self.assertIn(X25519MLKEM768, hello.groups)

    def test_older_client(self) -> None:
        """A client of TLS 1.2 is understood, though it lists no versions."""
        hello = read_client_hello(hello_of(plain_client(TLS_1_2)))
        assert isinstance(hello, ClientHello)
        self.assertEqual(hello.versions, (TLS12,))
        self.assertIsNone(hello.server_name)
        self.assertIn(P256, hello.groups)

    def test_without_extensions(self) -> None:
        """A very old client is not taken for garbage."""
        self.assertEqual(
            read_client_hello(record(made_hello(version=0x0301))), ClientHello(versions=(0x0301,))
        )

    def test_more_follows(self) -> None:
        """Octets behind the hello do not disturb."""
        self.assertEqual(read_client_hello(HELLO + b"\x17more"), read_client_hello(HELLO))

    def test_spelling_of_the_name(self) -> None:
        """Capitals and the trailing dot that some send do not lead to the wrong certificate."""
        found = read_client_hello(record(made_hello(server_name(b"MX.Example.COM."))))
        self.assertEqual(found, ClientHello("mx.example.com", (TLS12,)))

    def test_no_host_name(self) -> None:
        """What cannot be the name of a host is no name: an address, a path, a NUL, nothing."""
        for name in (
            b"192.0.2.1",
            b"../../etc/passwd",
            b"a\0b",
            b"",
            b"a" * 300,
            b"xn--\xff",
            b".",
            b"a..b",
        ):
            with self.subTest(name=name):
                found = read_client_hello(record(made_hello(server_name(name))))
                self.assertEqual(found, ClientHello(None, (TLS12,)))

    def test_other_kind_of_name(self) -> None:
        """A name of a kind that nobody has defined is no host name."""
        found = read_client_hello(record(made_hello(server_name(b"mx.example.com", kind=7))))
        self.assertEqual(found, ClientHello(None, (TLS12,)))


class StateTests(SynchronousTestCase):
    """When to wait, and when not."""

    def test_every_beginning(self) -> None:
        """A hello in pieces is waited for, octet by octet, and is whole with its last one."""
        for end in range(len(HELLO)):
            self.assertIs(read_client_hello(HELLO[:end]), HelloState.NEED_MORE)
            self.assertFalse(is_hello_enough(HELLO[:end]))
        self.assertTrue(is_hello_enough(HELLO))

    def test_many_records(self) -> None:
        """A hello that is spread over records is put together again."""
        message = made_hello(server_name(b"mx.example.com"))
        spread = b"".join(record(message[at : at + 3]) for at in range(0, len(message), 3))
        self.assertEqual(read_client_hello(spread), ClientHello("mx.example.com", (TLS12,)))

    def test_too_many_records(self) -> None:
        """Nobody makes us put a hello together out of thousands of pieces."""
        spread = record(b"\1\0\x7f") + record(b"\xff") * (MOST_RECORDS - 1)
        self.assertIs(read_client_hello(spread[:-1]), HelloState.NEED_MORE)
        self.assertIs(read_client_hello(spread), HelloState.NOT_TLS)

    def test_too_long(self) -> None:
        """Nobody makes us keep more than 64 KiB while we wait."""
        claimed = record(b"\1" + (LONGEST_HELLO - 3).to_bytes(3) + bytes(10))
        self.assertIs(read_client_hello(claimed), HelloState.NOT_TLS)
        allowed = record(b"\1" + (LONGEST_HELLO - 4).to_bytes(3) + bytes(10))
        self.assertIs(read_client_hello(allowed), HelloState.NEED_MORE)

    def test_not_tls(self) -> None:
        """SMTP, HTTP and SSL 2.0 on a TLS port are not waited for."""
        for octets in (b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n", b"\x80\x2e\1\0\2", b"\0"):
            with self.subTest(octets=octets):
                self.assertIs(read_client_hello(octets), HelloState.NOT_TLS)
                self.assertTrue(is_hello_enough(octets))

    def test_malformed(self) -> None:
        """A hello whose lengths lie is no hello, and harms nobody."""
        good = made_hello(server_name(b"mx.example.com"))
        for wrong in (
            record(b"\2" + good[1:]),  # a ServerHello
            record(b""),
            b"\x16\3\1\xff\xff" + good,  # a record longer than records are
            record(good[:-1] + b""),
            record(made_hello() + b"")[:-2] + b"\xff\xff",
            record(b"\1\0\0\1\0"),
            record(made_hello(b"\0\0\0\xffx")),
            record(made_hello(b"\0")),
            record(made_hello(extension(10, b"\0\3abc"))),
            record(made_hello(extension(43, b"\5\3\4"))),
        ):
            with self.subTest(wrong=wrong):
                self.assertNotIsInstance(read_client_hello(wrong), ClientHello)

    @given(st.binary(max_size=400))
    def test_garbage(self, octets: bytes) -> None:
        """No octets at all make the server stumble."""
        self.assertIsInstance(read_client_hello(octets), ClientHello | HelloState)

    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """Nor does a hello in which something has been changed, cut out or put in."""
        octets = bytearray(HELLO)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(octets)))
            octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        found = read_client_hello(bytes(octets))
        self.assertIsInstance(found, ClientHello | HelloState)
        self.assertEqual(is_hello_enough(bytes(octets)), found is not HelloState.NEED_MORE)

    @given(
        st.lists(st.integers(1, 200), max_size=20),
        st.sampled_from([b"mx.example.com", b"a.b", b"192.0.2.1"]),
    )
    def test_any_split_into_records(self, lengths: list[int], name: bytes) -> None:
        """However a client divides its hello into records, we read the same."""
        message = made_hello(server_name(name), extension(10, b"\0\2\0\x1d"))
        whole = read_client_hello(record(message))
        octets, rest = b"", message
        for length in lengths:
            fragment, rest = rest[:length], rest[length:]
            octets += record(fragment) if fragment else b""
        self.assertEqual(read_client_hello(octets + record(rest) if rest else octets), whole)
