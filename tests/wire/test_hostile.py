"""Peers that break the protocol, by accident or to do harm, against the running server."""

import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance

SMUGGLING_ENDINGS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r"]


class Peer:
    """A client without manners: raw octets out, whole replies in."""

    def __init__(self, port: int, implicit_tls: bool = False) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if implicit_tls:
            self.secure()
        self._received = b""

    def secure(self) -> None:
        """The client's side of a TLS handshake, without checking the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket, server_hostname="mx.test")

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def reply(self) -> str:
        """The next whole reply; "" when the server has closed the connection."""
        while True:
            lines = self._received.split(b"\r\n")
            for number, line in enumerate(lines[:-1]):
                if line[3:4] != b"-":
                    self._received = b"\r\n".join(lines[number + 1 :])
                    return b"\n".join(lines[: number + 1]).decode()
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return ""
            if not more:
                return ""
            self._received += more

    def say(self, line: bytes) -> str:
        self.send(line + b"\r\n")
        return self.reply()

    def replies_until_silence(self, seconds: float = 1.0) -> list[str]:
        """All replies that come until the server has been silent for a while or has closed."""
        found = []
        self.socket.settimeout(seconds)
        try:
            while text := self.reply():
                found.append(text)
        except TimeoutError:
            pass
        self.socket.settimeout(20)
        return found

    def close(self) -> None:
        self.socket.close()


class HostileTests(SynchronousTestCase):
    """The server must still be well after each."""

    def setUp(self) -> None:
        self.instance = Instance.make(domain="mx.test")
        self.addCleanup(self.instance.remove)
        self.instance.start()
        # Runs first; trial's tearDown would come when the server is gone.
        self.addCleanup(self.check_that_the_server_is_well)

    def check_that_the_server_is_well(self) -> None:
        """After every piece of nonsense an ordinary client is served, and nothing blew up."""
        with self.peer() as peer:
            self.assertTrue(peer.say(b"EHLO good.test").startswith("250"))
            self.assertTrue(peer.say(b"QUIT").startswith("221"))
        self.assertNotIn("Traceback", self.instance.log())

    @contextmanager
    def peer(self, implicit_tls: bool = False) -> Iterator[Peer]:
        port = self.instance.smtps_port if implicit_tls else self.instance.port
        peer = Peer(port, implicit_tls)
        try:
            self.assertTrue(peer.reply().startswith("220 "))
            yield peer
        finally:
            peer.close()

    def begin_data(self, peer: Peer) -> None:
        self.assertTrue(peer.say(b"EHLO evil.test").startswith("250"))
        self.assertTrue(peer.say(b"MAIL FROM:<a@evil.test>").startswith("250"))
        self.assertTrue(peer.say(b"RCPT TO:<b@mx.test>").startswith("250"))
        self.assertTrue(peer.say(b"DATA").startswith("354"))

    def test_plaintext_behind_starttls(self) -> None:
        """What an attacker puts behind STARTTLS in the clear is never obeyed inside TLS."""
        with self.peer() as peer:
            peer.say(b"EHLO victim.test")
            peer.send(b"STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@evil.test>\r\n")
            self.assertTrue(peer.reply().startswith("220"))
            peer._received = b""
            try:
                peer.secure()
            except (ssl.SSLError, OSError):
                return  # the connection was ended: as good
            self.assertEqual(peer.replies_until_silence(0.5), [])
            self.assertTrue(peer.say(b"MAIL FROM:<a@victim.test>").startswith("503"))
            self.assertTrue(peer.say(b"RCPT TO:<b@mx.test>").startswith("503"))
            self.assertNotIn("STARTTLS", peer.say(b"EHLO victim.test"))
            self.assertTrue(peer.say(b"STARTTLS").startswith("503"))

    def test_starttls_with_arguments(self) -> None:
        """RFC 3207 section 4: STARTTLS takes no parameters."""
        with self.peer() as peer:
            peer.say(b"EHLO client.test")
            self.assertTrue(peer.say(b"STARTTLS now").startswith("501"))
            self.assertTrue(peer.say(b"NOOP").startswith("250"))

    def test_smuggling(self) -> None:
        """No sequence but CRLF.CRLF ends a message, so none smuggles a second one in."""
        for ending in SMUGGLING_ENDINGS:
            with self.peer() as peer:
                self.begin_data(peer)
                peer.send(b"Subject: one\r\n\r\nbody" + ending)
                peer.send(b"MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<b@mx.test>\r\n")
                self.assertEqual(peer.replies_until_silence(0.3), [], ending)
                peer.send(b"\r\n.\r\n")
                self.assertTrue(peer.reply().startswith("5"), ending)
                self.assertTrue(peer.say(b"RSET").startswith("250"), ending)

    def test_bare_line_feed_ends_no_command(self) -> None:
        """A command ends in CRLF; a bare LF in it is an error, not a second command."""
        with self.peer() as peer:
            peer.say(b"EHLO evil.test")
            peer.send(b"NOOP\nMAIL FROM:<a@evil.test>\r\n")
            self.assertEqual([r[:1] for r in peer.replies_until_silence(0.3)], ["5"])

    def test_endless_command(self) -> None:
        """A command line without an end costs an error or the connection, not memory."""
        with self.peer() as peer:
            before = self.instance.memory_kb()
            try:
                for _ in range(320):
                    peer.send(b"x" * 65536)
            except OSError:
                pass
            self.assertLess(self.instance.memory_kb() - before, 8_000)

    def test_endless_body_line(self) -> None:
        """A line of 20 MB in a message is taken (folded) or refused, without memory."""
        with self.peer() as peer:
            self.begin_data(peer)
            before = self.instance.memory_kb()
            for _ in range(320):
                peer.send(b"x" * 65536)
            peer.send(b"\r\n.\r\n")
            self.assertRegex(peer.reply(), r"^[2-5]")
            self.assertLess(self.instance.memory_kb() - before, 16_000)

    def test_many_commands(self) -> None:
        """100,000 commands in one connection: answered or cut off, in bounded time."""
        with self.peer() as peer:
            peer.say(b"EHLO busy.test")
            start = time.monotonic()
            answered = 0
            try:
                for _ in range(1000):
                    peer.send(b"NOOP\r\n" * 100)
                    for _ in range(100):
                        if not peer.reply():
                            raise ConnectionResetError
                        answered += 1
            except OSError:
                pass
            self.assertGreater(answered, 0)
            self.assertLess(time.monotonic() - start, 60)

    def test_too_many_errors(self) -> None:
        """A peer that only makes errors is sent away with 421."""
        with self.peer() as peer:
            last = ""
            for _ in range(500):
                try:
                    reply = peer.say(b"NONSENSE")
                except OSError:
                    break
                if not reply:
                    break
                last = reply
            self.assertTrue(last.startswith("421"), last)

    def test_garbage(self) -> None:
        """Random octets, before and after EHLO and in place of a TLS handshake."""
        randomness = random.Random(4)
        for prefix in (b"", b"EHLO x\r\n", b"EHLO x\r\nSTARTTLS\r\n"):
            for _ in range(10):
                with self.peer() as peer:
                    try:
                        peer.send(prefix)
                        peer.send(randomness.randbytes(randomness.randrange(1, 5000)) + b"\r\n")
                        peer.socket.shutdown(socket.SHUT_WR)
                        for reply in peer.replies_until_silence(0.2):
                            self.assertNotIn("Traceback", reply)
                    except OSError:
                        pass

    def test_tls_on_a_plain_port_and_text_on_a_tls_port(self) -> None:
        """Each mistake is told or cut off at once, not left hanging."""
        peer = Peer(self.instance.smtps_port)
        peer.send(b"EHLO plain.test\r\n")
        self.assertFalse(peer.reply().startswith("250"))
        peer.close()
        with self.peer() as peer, self.assertRaises((ssl.SSLError, OSError)):
            peer.secure()

    def test_reset_at_any_octet(self) -> None:
        """A connection reset after each octet of a session leaves the server well."""
        session = (
            b"EHLO reset.test\r\nMAIL FROM:<a@reset.test>\r\nRCPT TO:<b@mx.test>\r\n"
            b"DATA\r\nSubject: reset\r\n\r\nbody\r\n.\r\n"
        )
        for length in range(len(session) - 1):
            peer = Peer(self.instance.port)
            peer.send(session[:length])
            # SO_LINGER 0: RST instead of FIN.
            peer.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
            peer.close()
        self.assertEqual(self.instance.maildir_subjects("reset"), 0)

    def test_half_open_connections(self) -> None:
        """Silent connections, at every stage, do not keep others from being served."""
        silent = []
        try:
            for beginning in (b"", b"EHLO half.test\r\n", b"EHLO half.test\r\nSTARTTLS\r\n"):
                for _ in range(50):
                    peer = Peer(self.instance.port)
                    peer.send(beginning)
                    silent.append(peer)
            start = time.monotonic()
            with self.peer() as peer:
                self.begin_data(peer)
                self.assertTrue(peer.say(b"Subject: hello\r\n\r\nx\r\n.").startswith("250"))
            self.assertLess(time.monotonic() - start, 5)
        finally:
            for peer in silent:
                peer.close()

    def test_message_over_the_limit(self) -> None:
        """552 at MAIL where SIZE says it, and after the data where it does not."""
        with self.peer() as peer:
            peer.say(b"EHLO big.test")
            self.assertTrue(peer.say(b"MAIL FROM:<a@b.test> SIZE=99999999").startswith("552"))
            self.begin_data(peer)
            line = b"x" * 900 + b"\r\n"
            for _ in range(26214400 // (len(line) * 64) + 2):
                peer.send(line * 64)
            peer.send(b".\r\n")
            self.assertTrue(peer.reply().startswith("552"))
            self.assertTrue(peer.say(b"NOOP").startswith("250"))


class RefusedClientTests(SynchronousTestCase):
    """A port that asks for a client certificate, and clients that have none."""

    def test_client_that_speaks_too_early(self) -> None:
        """
        In TLS 1.3 a client may speak before it can know that we refuse it. It still reads why:
        what it said is not answered by a reset that overtakes the alert.
        """
        instance = Instance.make()
        self.addCleanup(instance.remove)
        required = f"requireAuthorized[]={instance.smtps_port}\n"
        (instance.config / "tls.ini").write_text(required)
        instance.start()
        for _ in range(10):
            peer = Peer(instance.smtps_port, implicit_tls=True)
            try:
                for _ in range(3):
                    peer.send(b"EHLO early.test\r\n")
                    time.sleep(0.002)
                refused = self.assertRaises(ssl.SSLError, peer.socket.recv, 1)
            finally:
                peer.close()
            self.assertIn("ALERT_CERTIFICATE_REQUIRED", str(refused))
