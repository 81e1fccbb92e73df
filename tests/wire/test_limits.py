"""A thousand connections at once, and a system that gives no more of them."""

import os
import resource
import selectors
import socket
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until

CONNECTIONS = 1000
ROOM = 900
SECONDS = 30.0  # that all of them may take; it takes less than one

_TICKS = os.sysconf("SC_CLK_TCK")


def first_words(port: int, count: int) -> tuple[list[socket.socket], list[bytes]]:
    """
    Connect so many times at once, and wait for what each is told first.

    @return: the sockets, and the first line that each has got; b"" where it was closed without.
    """
    peers: list[socket.socket] = []
    words: list[bytes] = []
    deadline = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            peer = socket.socket()
            peers.append(peer)
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", port))
            selector.register(peer, selectors.EVENT_READ)
        while len(words) < count and time.monotonic() < deadline:
            for key, _ in selector.select(1.0):
                peer = key.fileobj  # type: ignore[assignment]
                try:
                    words.append(peer.recv(1000))
                except ConnectionError:
                    words.append(b"")
                selector.unregister(peer)
    return peers, words


class LimitTests(SynchronousTestCase):
    def server(self, connection_ini: str = "") -> Instance:
        instance = Instance.make("mx.test", {"connection.ini": connection_ini})
        self.addCleanup(instance.remove)
        instance.start()
        return instance

    def connect(self, instance: Instance, count: int) -> list[bytes]:
        peers, words = first_words(instance.port, count)
        for peer in peers:
            self.addCleanup(peer.close)
        self.peers = peers
        return words

    def closed(self, instance: Instance) -> None:
        for peer in self.peers:
            peer.close()
        wait_until(instance._greets, "room for a new connection")

    def test_thousand(self) -> None:
        """Those for whom there is room are greeted, the others are told; then all may come back."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < CONNECTIONS + 100:
            self.skipTest(f"only {soft} files may be open")
        instance = self.server(f"[max]\nconnections={ROOM}\n")
        words = self.connect(instance, CONNECTIONS)
        greeted = sum(word.startswith(b"220 ") for word in words)
        told = sum(word.startswith(b"421 4.3.2 ") for word in words)
        self.assertEqual((greeted, told), (ROOM, CONNECTIONS - ROOM))
        self.closed(instance)
        self.assertEqual(instance.log().count("turned away"), 1)
        self.assertNotIn("Traceback", instance.log())

    def test_no_descriptors(self) -> None:
        """Where the system gives no more, the server neither stops nor turns round in circles."""
        instance = self.server()
        files = len(list(Path(f"/proc/{instance.pid}/fd").iterdir()))
        resource.prlimit(instance.pid, resource.RLIMIT_NOFILE, (files + 20, files + 20))
        words = self.connect(instance, 60)
        greeted = sum(word.startswith(b"220 ") for word in words)
        self.assertEqual(len(words), 60)
        self.assertLessEqual(greeted, 25)
        self.assertGreaterEqual(greeted, 10)
        before = self.cpu_seconds(instance)
        time.sleep(0.5)
        self.assertLess(self.cpu_seconds(instance) - before, 0.2)
        self.closed(instance)

    def cpu_seconds(self, instance: Instance) -> float:
        fields = Path(f"/proc/{instance.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
