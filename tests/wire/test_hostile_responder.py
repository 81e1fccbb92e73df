"""Responders of OCSP on the wire, each hostile in its own way, and a server that asks them all."""

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Mapping

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.responder import TIME_LIMIT
from tests.support import Instance, free_port, wait_until
from tests.tls.peers import key_pem
from tests.tls.responding import DAY, NOW, REVOKED, UNKNOWN, Holder, certify, key_of, respond, root
from tests.wire.hostile_tls import Client

Play = Callable[[socket.socket, Holder], None]
OK = b"HTTP/1.1 200 OK\r\n"
MEGABYTES = 10


def with_length(body: bytes, *headers: bytes) -> bytes:
    lines = (*headers, b"Content-Length: %d" % len(body), b"", b"")
    return OK + b"\r\n".join(lines) + body


def says(response: Callable[[Holder], bytes]) -> Play:
    return lambda peer, holder: peer.sendall(with_length(response(holder)))


def slowly(peer: socket.socket, holder: Holder) -> None:
    """A good response, an octet a second."""
    for octet in with_length(respond(holder)):
        peer.sendall(bytes([octet]))
        time.sleep(1)


def much(peer: socket.socket, holder: Holder) -> None:
    peer.sendall(OK + b"Content-Length: %d\r\n\r\n" % (MEGABYTES << 20))
    for _ in range(MEGABYTES):
        peer.sendall(bytes(1 << 20))


def headers(peer: socket.socket, holder: Holder) -> None:
    peer.sendall(OK)
    for _ in range(MEGABYTES << 10):
        peer.sendall(b"X-More: " + b"x" * 1014 + b"\r\n")


def elsewhere(place: str) -> Play:
    def redirect(peer: socket.socket, _: Holder) -> None:
        peer.sendall(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\n\r\n".encode())

    return redirect


def bomb(peer: socket.socket, _: Holder) -> None:
    peer.sendall(with_length(gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip"))


HOSTILE: Mapping[str, Play] = {
    "slow": slowly,
    "silent": lambda peer, _: time.sleep(TIME_LIMIT + 5),
    "much": much,
    "headers": headers,
    "bomb": bomb,
    "circle": elsewhere("/circle"),
    "file": elsewhere("file:///etc/passwd"),
    "garbage": lambda peer, _: peer.sendall(bytes(range(256)) * 100),
    "closed": lambda peer, _: None,
    "other": says(lambda _: respond(certify("o.test", key_of("EC"), root()))),
    "signer": says(lambda holder: respond(holder, root(name="Elsewhere"))),
    "expired": says(lambda holder: respond(holder, end=NOW - DAY / 24)),
    "future": says(lambda holder: respond(holder, begin=NOW + DAY)),
    "unknown": says(lambda holder: respond(holder, status=UNKNOWN)),
}
"""By the first label of the certificate's name, which is the path of the URL as well."""

FRIENDLY: Mapping[str, Play] = {
    "good": says(respond),
    "revoked": says(lambda holder: respond(holder, status=REVOKED)),
}


class HostileResponderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = free_port()
        self.plays = {**HOSTILE, **FRIENDLY}
        self.holders = {
            name: certify(f"{name}.test", key_of("EC", name), root(), url=self.url(name))
            for name in self.plays
        }
        self.sent: dict[str, int] = {}
        self.asked: list[str] = []
        bundles = {
            f"tls/{name}.pem": (key_pem(holder.key) + holder.pem + root().pem).decode()
            for name, holder in self.holders.items()
        }
        self.instance = Instance.make("mx.test", {"tls.ini": "requestOCSP=true\n", **bundles})
        self.addCleanup(self.instance.remove)
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self.addCleanup(self.listener.close)
        threading.Thread(target=self.listen, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def listen(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(TIME_LIMIT * 2)
            request = peer.recv(4096)
            name = request.split(b"/")[1].split(b" ")[0].decode()
            self.asked.append(name)
            self.plays[name](peer, self.holders[name])
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass

    def staple(self, name: str) -> bytes:
        """What a client gets to see that asks for this name."""
        seen: list[bytes] = []
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)

        def see(_: SSL.Connection, staple: bytes, __: object) -> bool:
            seen.append(staple)
            return True

        context.set_ocsp_client_callback(see)
        began = time.monotonic()
        client = Client(self.instance.port, True, context)
        try:
            client.tls.set_tlsext_host_name(f"{name}.test".encode())
            client.tls.request_ocsp()
            client.shake()
            self.assertTrue(client.say(b"EHLO a.test\r\n").startswith(b"250"))
            shown = client.tls.get_peer_certificate(as_cryptography=True)
        finally:
            client.close()
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(shown, self.holders[name].certificate)
        return seen[-1] if seen else b""

    def test_all(self) -> None:
        """
        Not one of them gets a staple shown that is not true, or keeps a client or another
        responder waiting; each is told once; and what they send is not taken into memory.
        """
        self.instance.start()
        before = self.instance.memory_kb()
        wait_until(lambda: self.staple("good"), "staple that is good")
        wait_until(lambda: self.staple("revoked"), "staple of what is revoked")

        def untold() -> list[str]:
            log = self.instance.log()
            return [name for name in HOSTILE if log.count(f"{name}.pem: there is no OCSP") != 1]

        deadline = time.monotonic() + 2 * TIME_LIMIT + 10
        while untold():
            self.assertLess(time.monotonic(), deadline, untold())
            for name in HOSTILE:
                self.assertEqual(self.staple(name), b"", name)
            time.sleep(0.5)
        log = self.instance.log()
        for name, reason in {
            "slow": f"no answer from {self.url('slow')} in 30 seconds",
            "silent": f"no answer from {self.url('silent')} in 30 seconds",
            "much": "more than 65536 octets",
            "circle": "HTTP status 302",
            "file": "HTTP status 302",
            "other": "about another certificate",
            "signer": "nobody has signed it who may",
            "expired": "out of date",
            "future": "of the future",
        }.items():
            (line,) = [line for line in log.splitlines() if f"{name}.pem: there is no" in line]
            self.assertIn(reason, line)
        self.assertIn("revoked.pem: the certificate has been REVOKED", log)
        self.assertNotIn("Traceback", log)
        self.assertLess(self.instance.memory_kb() - before, 16_000)
        self.assertLessEqual(self.asked.count("circle"), 2)  # by GET and by POST
        self.assertTrue(self.staple("good"))
