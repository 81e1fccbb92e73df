"""Clients that stall, flood, cut off or resume what they must not, against a running server."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from OpenSSL import SSL

from tests.support import need, wait_until
from tests.tls.peers import TLS_1_2, TLS_1_3, client_context
from tests.tls.records import RecordWriter
from tests.wire.hostile_tls import LIMIT, SOON, Client, HostileTLSTestCase


class StalledTests(HostileTLSTestCase):
    def stalled(self, starttls: bool) -> Iterator[Client]:
        """Clients that have fallen silent, each after another flight or in the middle of one."""
        for version in (TLS_1_2, TLS_1_3):
            context = client_context(version)
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
        context = client_context(TLS_1_2)
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
