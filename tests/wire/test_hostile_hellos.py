"""First octets that are no hello, come in pieces, or ask for odd names, to a running server."""

import contextlib
import random
import socket
import struct
import time
from functools import partial

from OpenSSL import SSL

from tests.support import wait_until
from tests.wire.hostile_tls import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    LIMIT,
    SOON,
    HostileTLSTestCase,
    record,
)

GARBAGE = {
    "nothing that is TLS": random.Random(7).randbytes(5000),
    "zeros": bytes(20_000),
    "commands": b"MAIL FROM:<evil@evil.test>\r\nRCPT TO:<b@mx.test>\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: mx.test\r\n\r\n",
    "SSL 2.0": b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(37),
    "a record of 64 KiB": record(b"\x01\x00\xff\xff" + bytes(65531), length=65535),
    "a hello of 16 MiB": record(b"\x01\xff\xff\xff" + bytes(16380)) + record(bytes(16384)) * 20,
    "a hello of no octets": record(b"\x01\x00\x00\x00"),
    "another message": record(b"\x0b\x00\x00\x04" + bytes(4)),
    "empty records": record(b"") * 5000,
    "tiny records": b"".join(record(bytes([octet])) for octet in b"\x01\x00\xf0\x00" * 500),
    "alerts": record(b"\x01\x00", ALERT) * 1000,
    "data before the handshake": record(b"MAIL FROM:<a@b.test>\r\n", APPLICATION_DATA),
    "change of ciphers": record(b"\x01", 20) * 1000,
    "lengths that lie": record(b"\x01\x00\x00\x50\x03\x03" + bytes(32) + b"\xff" * 46),
}


class GarbageTests(HostileTLSTestCase):
    def test_in_place_of_a_handshake(self) -> None:
        """Garbage is answered by an alert or by the end, and told in one line."""
        for starttls in (True, False):
            for number, (what, octets) in enumerate(GARBAGE.items()):
                before = self.failures()
                with self.client(starttls) as client:
                    began = time.monotonic()
                    with contextlib.suppress(ConnectionError):
                        client.socket.sendall(octets)
                    answer = client.listen()
                    self.assertIn(answer[:1], (b"", bytes([ALERT])), (what, answer[:100]))
                    # A hello that could still become one is waited for as long as any handshake.
                    limit = LIMIT + SOON if what == "tiny records" else SOON
                    self.assertLess(time.monotonic() - began, limit, what)
                wait_until(partial(self.has_failed, before + 1), f"line about {what}", 5)
                if not number % 5:
                    self.check_others()
        self.check_others()

    def test_damaged_handshakes(self) -> None:
        """Nor does a hello harm anybody in which something has been changed."""
        randomness = random.Random(11)
        for number in range(60):
            with self.client(bool(number % 2)) as client:
                octets = bytearray(client.flight())
                for _ in range(randomness.randrange(1, 8)):
                    octets[randomness.randrange(len(octets))] = randomness.randrange(256)
                client.socket.sendall(octets)
                client.socket.shutdown(socket.SHUT_WR)
                while client.listen():
                    pass
        self.check_others()

    def test_after_the_handshake(self) -> None:
        """Garbage inside of a good connection ends that one."""
        for octets in (b"MAIL FROM:<evil@evil.test>\r\n", bytes(1000), record(b"x" * 100, 23)):
            with self.client() as client:
                client.shake()
                self.assertTrue(client.say(b"EHLO a.test\r\n").startswith(b"250"))
                client.socket.sendall(octets)
                with self.assertRaises((SSL.Error, EOFError)):
                    if not client.say(b""):
                        raise EOFError
        self.check_others()


class PiecesTests(HostileTLSTestCase):
    def test_octet_by_octet(self) -> None:
        """A hello in pieces of one octet is no reason to refuse anybody."""
        for starttls in (True, False):
            with self.client(starttls) as client:
                client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for octet in client.flight():
                    client.socket.sendall(bytes([octet]))
                client.tls.bio_write(client.listen())
                client.shake()
                if not starttls:
                    self.assertTrue(client.say(b"").startswith(b"220"))
                self.assertTrue(client.say(b"EHLO a.test\r\n").startswith(b"250"))

    def test_tiny_records(self) -> None:
        """A hello in many records, of one octet each, is understood or refused at once."""
        for size in (1, 7, 100):
            with self.client() as client:
                hello = client.flight()[5:]
                pieces = (hello[at : at + size] for at in range(0, len(hello), size))
                began = time.monotonic()
                client.socket.sendall(b"".join(map(record, pieces)))
                answer = client.listen()
                self.assertIn(answer[:1], (bytes([HANDSHAKE]), bytes([ALERT]), b""))
                self.assertLess(time.monotonic() - began, SOON)
                if answer[:1] == bytes([HANDSHAKE]):
                    client.tls.bio_write(answer)
                    client.shake()
                    self.assertTrue(client.say(b"EHLO a.test\r\n").startswith(b"250"))


def with_server_name(hello: bytes, name: bytes) -> bytes:
    """The hello of a client that asked for x.test, asking for *name* instead; one record."""
    asked = b"x.test"
    at = hello.index(b"\0\0\0\x0b\0\x09\0\0\x06" + asked)
    more = len(name) - len(asked)
    entry = b"\0" + struct.pack("!H", len(name)) + name
    listed = struct.pack("!H", len(entry)) + entry
    octets = bytearray(hello)
    octets[at : at + 15] = b"\0\0" + struct.pack("!H", len(listed)) + listed

    def longer(place: int, size: int) -> None:
        length = int.from_bytes(octets[place : place + size]) + more
        octets[place : place + size] = length.to_bytes(size)

    session = 43
    suites = session + 1 + octets[session]
    methods = suites + 2 + int.from_bytes(octets[suites : suites + 2])
    longer(methods + 1 + octets[methods], 2)  # of the extensions
    longer(6, 3)  # of the message
    longer(3, 2)  # of the record
    return bytes(octets)


SERVER_NAMES = (
    *(b"", b"a\0b.test", b"\0", b"x" * 10_000, b"mx.test\r\n[ERROR] feigned", b"../../etc/passwd"),
    *("bücher.test".encode(), "bücher.test".encode("latin-1"), b"\xff" * 255, b"192.0.2.1"),
    *(b"[2001:db8::1]", b".", b"..", b"mx.test.", b"MX.TEST", b"%s%n{id}", b"a" * 64 + b".test"),
)


class ServerNameTests(HostileTLSTestCase):
    def test_in_a_hello(self) -> None:
        """Whatever name is asked for: an answer of TLS, and nothing of it in a log."""
        for name in SERVER_NAMES:
            with self.client() as client:
                client.tls.set_tlsext_host_name(b"x.test")
                client.socket.sendall(with_server_name(client.flight(), name))
                answer = client.listen()
                self.assertIn(answer[0], (HANDSHAKE, ALERT), name)
                if name in (b"mx.test.", b"MX.TEST", b"192.0.2.1", b"a" * 64 + b".test"):
                    self.assertEqual(answer[0], HANDSHAKE, name)
        self.check_others()
        self.assertNotIn("feigned", self.instance.log())

    def test_served(self) -> None:
        """Names that OpenSSL lets a client send get the default certificate, and mail goes on."""
        for name in SERVER_NAMES:
            if name and b"\0" not in name and len(name) < 256:
                with self.client() as client:
                    client.tls.set_tlsext_host_name(name)
                    client.shake()
                    self.assertTrue(client.say(b"EHLO a.test\r\n").startswith(b"250"), name)
