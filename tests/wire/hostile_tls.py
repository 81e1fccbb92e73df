"""A client that speaks TLS by hand, and a running server for it to harm."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance

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
