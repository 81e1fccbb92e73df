"""Clients that mean harm, or cannot do TLS, against a running server."""

import contextlib
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, need, wait_until
from tests.tls.peers import CN, TLS_1_2, TLS_1_3, VERSIONS
from tests.tls.records import RecordWriter

LIMIT = 3  # seconds for a handshake, in tls.timeout
SOON = 5.0  # seconds in which another client has to be served
TLS_FAILED = ": TLS handshake failed: "
HANDSHAKE, ALERT, APPLICATION_DATA = 22, 21, 23


class Client:
    """
    TLS by hand: what OpenSSL wants to send is ours to send, to cut, or to keep.

    @ivar heard: the octets that the server has sent for which there was no use yet.
    """

    def __init__(self, port: int, starttls: bool, context: SSL.Context | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.context = context or SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.tls = SSL.Connection(self.context, None)
        self.tls.set_connect_state()
        if starttls:
            for line in (b"", b"EHLO hostile.test\r\n", b"STARTTLS\r\n"):
                self.socket.sendall(line)
                reply = self.socket.recv(4096)
                assert reply.startswith(b"2"), reply

    def flight(self) -> bytes:
        """What OpenSSL has to say now in the handshake."""
        with contextlib.suppress(SSL.WantReadError):
            self.tls.do_handshake()
        return self.pending()

    def pending(self) -> bytes:
        octets = b""
        with contextlib.suppress(SSL.WantReadError):
            while True:
                octets += self.tls.bio_read(1 << 16)
        return octets

    def listen(self) -> bytes:
        """What the server sends next; b"" where it has closed."""
        try:
            return self.socket.recv(1 << 16)
        except ConnectionError:
            return b""

    def shake(self) -> None:
        """All of the handshake. @raise SSL.Error, EOFError: there is none."""
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                self.socket.sendall(self.pending())
                octets = self.listen()
                if not octets:
                    raise EOFError("the server has closed") from None
                self.tls.bio_write(octets)
            else:
                self.socket.sendall(self.pending())
                return

    def say(self, octets: bytes) -> bytes:
        """@return: the reply, or b"" where there is none any more."""
        if octets:
            self.tls.send(octets)
            self.socket.sendall(self.pending())
        while True:
            try:
                return self.tls.recv(1 << 16)
            except SSL.WantReadError:
                octets = self.listen()
                if not octets:
                    return b""
                self.tls.bio_write(octets)

    def close(self) -> None:
        self.socket.close()


class HostileTLSTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.instance = Instance.make(files={"tls.timeout": f"{LIMIT}\n"})
        self.addCleanup(self.instance.remove)
        self.instance.start()
        self.addCleanup(self.check_the_log)

    def check_the_log(self) -> None:
        """Each line is one, can be read, and none is a traceback."""
        log = self.instance.log()
        self.assertNotIn("Traceback", log)
        for line in log.splitlines():
            self.assertTrue(line.isprintable() and line.isascii(), line[:500])
            self.assertLess(len(line), 2000)
            self.assertRegex(line, r"^\S+Z \[(INFO|WARN|ERROR)\] \[")

    @contextmanager
    def client(self, starttls: bool = True, context: SSL.Context | None = None) -> Iterator[Client]:
        port = self.instance.port if starttls else self.instance.smtps_port
        client = Client(port, starttls, context)
        try:
            yield client
        finally:
            client.close()

    def check_others(self) -> None:
        """Somebody else is served, and at once."""
        began = time.monotonic()
        with self.client() as client:
            client.shake()
            self.assertTrue(client.say(b"EHLO good.test\r\n").startswith(b"250"))
            self.assertTrue(client.say(b"QUIT\r\n").startswith(b"221"))
        self.assertLess(time.monotonic() - began, SOON)

    def failures(self) -> int:
        return self.instance.log().count(TLS_FAILED)

    def has_failed(self, times: int) -> bool:
        return self.failures() == times


def record(content: bytes, kind: int = HANDSHAKE, length: int | None = None) -> bytes:
    """One record in the clear, its length perhaps a lie."""
    count = len(content) if length is None else length
    return struct.pack("!BHH", kind, 0x0301, count) + content


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


def client_certificate(
    names: tuple[str, ...] = (), organization: str = "o"
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Of its own, with names that any client may choose."""
    key = ec.generate_private_key(ec.SECP256R1())
    of = x509.NameOID.ORGANIZATION_NAME
    subject = x509.Name(
        [x509.NameAttribute(CN, "c"), x509.NameAttribute(of, organization, _validate=False)]
    )
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(
        now + timedelta(days=1)
    )
    if names:
        entries = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(entries), False)
    return builder.sign(key, SHA256()), key


INJECTION = "a\r\nReceived: from bank.example (192.0.2.1)\r\n\tby feigned"


class ClientCertificateTests(HostileTLSTestCase):
    def context(
        self, version: int, names: tuple[str, ...] = (), organization: str = "o", chain: int = 0
    ) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(version)
        certificate, key = client_certificate(names, organization)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        for _ in range(chain):
            context.add_extra_chain_cert(certificate)
        return context

    def deliver(self, client: Client, subject: str) -> str:
        """@return: the message as it was stored."""
        client.shake()
        body = b"Subject: " + subject.encode() + b"\r\n\r\nx\r\n."
        for line in (b"EHLO a.test", b"MAIL FROM:<a@a.test>", b"RCPT TO:<b@mx.test>", b"DATA"):
            self.assertRegex(client.say(line + b"\r\n"), rb"^[23]")
        self.assertTrue(client.say(body + b"\r\n").startswith(b"250"))
        return self.instance.wait_for_mail(subject)

    def test_names(self) -> None:
        """Names of 10 kB, or with a NUL or a line end in them, are in no log and no header."""
        cases: tuple[tuple[tuple[str, ...], str], ...] = (
            (("n" * 10_000,), "o"),
            (("a\0b.test",), "a\0b"),
            ((INJECTION,), INJECTION),
            (("\x1b[2Jfeigned",), "\x1b[2Jfeigned"),
            (tuple(f"{n}.test" for n in range(2000)), "o" * 10_000),
        )
        for number, (names, organization) in enumerate(cases):
            for version, told in VERSIONS.items():
                with self.client(context=self.context(version, names, organization)) as client:
                    stored = self.deliver(client, f"{number} {told}")
                self.assertNotIn("feigned", stored)
                self.assertEqual(stored.count("Received: "), 1)
                self.assertLess(max(map(len, stored.splitlines())), 200)
        self.assertNotIn("feigned", self.instance.log())

    def test_too_much(self) -> None:
        """A megabyte of certificates is refused without being kept, and others notice nothing."""
        much = tuple(str(n) + "n" * 10_000 for n in range(100))
        self.check_others()
        before = self.instance.memory_kb()
        for version in VERSIONS:
            for starttls in (True, False):
                for context in (
                    self.context(version, much),
                    self.context(version, ("n" * 10_000,), chain=100),
                ):
                    with self.client(starttls, context) as client:
                        with self.assertRaises((SSL.Error, EOFError, ConnectionError)):
                            client.shake()
                            if not client.say(b"EHLO a.test\r\n"):
                                raise EOFError
                        self.check_others()
        self.assertLess(self.instance.memory_kb() - before, 16_000)
        self.assertIn("excessive message size", self.instance.log())

    def test_long_chain(self) -> None:
        """A chain of a hundred that fits into what a client may send costs it no mail."""
        for version, told in VERSIONS.items():
            with self.client(context=self.context(version, chain=100)) as client:
                self.deliver(client, told)


class StalledTests(HostileTLSTestCase):
    def stalled(self, starttls: bool) -> Iterator[Client]:
        """Clients that have fallen silent, each after another flight or in the middle of one."""
        for version in (TLS_1_2, TLS_1_3):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            port = self.instance.port if starttls else self.instance.smtps_port
            for stage in ("nothing", "half a hello", "hello", "heard", "half an end"):
                client = Client(port, starttls, context)
                yield client
                if stage == "nothing":
                    continue
                hello = client.flight()
                client.socket.sendall(
                    hello if stage != "half a hello" else hello[: len(hello) // 2]
                )
                if stage in ("heard", "half an end"):
                    rest = self.answer_of(client)
                    client.socket.sendall(rest[:-20] if stage == "half an end" else b"")

    def answer_of(self, client: Client) -> bytes:
        """What the client would say to the server's first flight, which is heard to its end."""
        while True:
            client.tls.bio_write(client.listen())
            octets = client.flight()
            if octets:
                return octets

    def test_stalled(self) -> None:
        """Whoever falls silent in a handshake is cut off in time, and nobody waits for him."""
        self.check_others()
        clients: list[Client] = []
        try:
            for _ in range(6):
                for starttls in (True, False):
                    clients.extend(self.stalled(starttls))
            began = time.monotonic()
            before = self.instance.memory_kb()
            self.check_others()
            for client in clients:
                client.socket.settimeout(2 * LIMIT)
                while client.listen():
                    pass
            self.assertLess(time.monotonic() - began, LIMIT + SOON)
            told = f"it took longer than {LIMIT} seconds"
            wait_until(lambda: self.instance.log().count(told) == len(clients), "line for each")
            self.assertLess(self.instance.memory_kb() - before, 8_000)
        finally:
            for client in clients:
                client.close()

    def test_in_no_hurry(self) -> None:
        """The limit is for the whole handshake: an octet now and then does not extend it."""
        with self.client() as client:
            began = time.monotonic()
            hello = client.flight()
            with contextlib.suppress(ConnectionError):
                for octet in hello:
                    client.socket.sendall(bytes([octet]))
                    time.sleep(0.05)
                    if time.monotonic() - began > LIMIT + SOON:
                        break
            self.assertEqual(client.listen(), b"")
            self.assertLess(time.monotonic() - began, LIMIT + SOON)


class FloodTests(HostileTLSTestCase):
    def test_renegotiation(self) -> None:
        """Nobody makes the server shake hands again and again on one connection."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(TLS_1_2)
        for _ in range(10):
            with self.client(context=context) as client:
                client.shake()
                self.assertTrue(client.tls.renegotiate())
                refused = self.assertRaises(SSL.Error, client.shake)
                self.assertIn("no renegotiation", repr(refused))
        self.check_others()

    def test_key_updates(self) -> None:
        """Who asks for new keys without end, and hears no answer, is not listened to any more."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        by_hand = RecordWriter(context)
        with self.client(context=context) as client:
            client.shake()
            updates = b"".join(by_hand.key_update() for _ in range(5000))
            before = self.instance.memory_kb()
            client.socket.settimeout(1)
            with contextlib.suppress(TimeoutError, ConnectionError):
                client.socket.sendall(updates)
            self.check_others()
            self.assertLess(self.instance.memory_kb() - before, 4_000)

    def test_unread_replies(self) -> None:
        """So is who sends commands and reads nothing, inside of TLS as well."""
        with self.client() as client:
            client.shake()
            client.say(b"EHLO a.test\r\n")
            client.socket.settimeout(2)
            before = self.instance.memory_kb()
            sent = 0
            with contextlib.suppress(TimeoutError, ConnectionError):
                while sent < 50_000_000:
                    client.tls.send(b"NOOP\r\n" * 2000)
                    octets = client.pending()
                    client.socket.sendall(octets)
                    sent += len(octets)
            self.assertLess(sent, 50_000_000)
            self.check_others()
            self.assertLess(self.instance.memory_kb() - before, 8_000)

    def test_many_at_once(self) -> None:
        """A crowd of handshakes that all fail does not keep others out."""
        stop = threading.Event()

        def attack() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError, AssertionError), self.client(False) as client:
                    client.socket.sendall(client.flight())
                    client.listen()

        threads = [threading.Thread(target=attack) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                self.check_others()
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class EndTests(HostileTLSTestCase):
    def begin_data(self, client: Client) -> None:
        client.shake()
        for line in (b"EHLO a.test", b"MAIL FROM:<a@a.test>", b"RCPT TO:<b@mx.test>", b"DATA"):
            self.assertRegex(client.say(line + b"\r\n"), rb"^[23]")

    def ends(self) -> Iterator[tuple[str, Callable[[Client], None]]]:
        def close_notify(client: Client) -> None:
            client.tls.shutdown()
            client.socket.sendall(client.pending())

        yield "close_notify", close_notify
        yield "FIN alone", lambda client: client.socket.shutdown(socket.SHUT_WR)
        yield "a feigned end in the clear", lambda client: client.socket.sendall(b"\r\n.\r\n")

    def test_in_the_middle_of_a_message(self) -> None:
        """A message that is cut off is none, however it is cut off (truncation attack)."""
        for what, end in self.ends():
            with self.client() as client:
                self.begin_data(client)
                client.tls.send(b"Subject: cut off\r\n\r\nPay 1000\r\n")
                client.socket.sendall(client.pending())
                end(client)
                began = time.monotonic()
                while client.listen():
                    pass
                self.assertLess(time.monotonic() - began, SOON, what)
        self.check_others()
        self.assertEqual(self.instance.maildir_subjects("cut off"), 0)

    def test_behind_a_message(self) -> None:
        """A client that says all it has and then good-bye still reads the answer."""
        with self.client() as client:
            self.begin_data(client)
            client.tls.send(b"Subject: whole\r\n\r\nx\r\n.\r\n")
            client.tls.shutdown()
            client.socket.sendall(client.pending())
            self.assertTrue(client.say(b"").startswith(b"250"))
        self.instance.wait_for_mail("whole")

    def test_without_good_bye(self) -> None:
        """Who closes without close_notify, as many do, is no failure of TLS."""
        with self.client() as client:
            client.shake()
            client.say(b"EHLO a.test\r\n")
        wait_until(lambda: "the peer " in self.instance.log(), "line")
        self.assertEqual(self.failures(), 0)


class SessionTests(HostileTLSTestCase):
    def test_ticket_at_a_stricter_port(self) -> None:
        """A session that began without a certificate is none where one is required."""
        instance = self.instance
        instance.stop()
        (instance.config / "tls.ini").write_text(f"requireAuthorized[]={instance.smtps_port}\n")
        instance.start()
        trust = ssl.create_default_context(cafile=str(instance.authority))
        with socket.create_connection(("127.0.0.1", instance.port), timeout=20) as plain:
            for line in (b"", b"EHLO a.test\r\n", b"STARTTLS\r\n"):
                plain.sendall(line)
                plain.recv(4096)
            with trust.wrap_socket(plain, server_hostname="mx.test") as peer:
                peer.sendall(b"EHLO a.test\r\n")
                peer.recv(4096)
                session = peer.session
        assert session is not None
        with (
            socket.create_connection(("127.0.0.1", instance.smtps_port), timeout=20) as plain,
            self.assertRaises(ssl.SSLError) as refused,
            trust.wrap_socket(plain, server_hostname="mx.test", session=session) as peer,
        ):
            peer.recv(100)
        self.assertIn("CERTIFICATE_REQUIRED", str(refused.exception))

    def test_early_data(self) -> None:
        """Data before the handshake (0-RTT), which could be sent twice, is never asked for."""
        need("openssl")
        instance = self.instance
        kept, early = instance.directory / "session", instance.directory / "early"
        early.write_bytes(b"EHLO a.test\r\nMAIL FROM:<early@a.test>\r\n")
        where = ["openssl", "s_client", "-connect", f"127.0.0.1:{instance.port}", "-tls1_3"]
        where += ["-starttls", "smtp", "-servername", "mx.test", "-CAfile", str(instance.authority)]

        def run(*more: str | Path) -> str:
            done = subprocess.run(
                [*where, *map(str, more)], input=b"QUIT\r\n", capture_output=True, timeout=20
            )
            return (done.stdout + done.stderr).decode(errors="replace")

        first = run("-sess_out", kept, "-ign_eof")
        self.assertIn("Max Early Data: 0", first)
        second = run("-sess_in", kept, "-early_data", early, "-ign_eof")
        self.assertIn("Early data was not sent", second)
        self.assertNotIn("250 2.1.0", second)
