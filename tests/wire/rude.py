"""Next hops without manners, on loopback: threads and sockets."""

import socket
import time
from collections.abc import Callable

from tests.wire.thread_server import ThreadServer

Act = Callable[[socket.socket], None]
MEGABYTE = 1 << 20
POURED = 10 * MEGABYTE  # octets of a flood, if they are taken
PATIENCE = 60.0  # seconds until a server gives up itself
STEPS = ("connect", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "body", "end")
REPLIES = {
    "connect": b"220 rude.test\r\n",
    "EHLO": b"250-rude.test\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
    "STARTTLS": b"454 4.7.0 not now\r\n",
    "DATA": b"354 go\r\n",
    "QUIT": b"221 bye\r\n",
}


def pour(words: bytes) -> Act:
    """Over and over, for ten megabytes."""
    chunk = words * (1 + 65536 // len(words))

    def act(connection: socket.socket) -> None:
        for _ in range(POURED // len(chunk) + 1):
            connection.sendall(chunk)
        hang(connection)

    return act


def drip(words: bytes) -> Act:
    """One octet at a time."""

    def act(connection: socket.socket) -> None:
        for n in range(int(PATIENCE / 0.1)):
            connection.sendall(words[n % len(words) :][:1])
            time.sleep(0.1)

    return act


def say(words: bytes) -> Act:
    """Once, and then nothing."""

    def act(connection: socket.socket) -> None:
        connection.sendall(words)
        hang(connection)

    return act


def hang(connection: socket.socket) -> None:
    """Say nothing, and read nothing, until the other end is gone."""
    connection.settimeout(PATIENCE)
    while connection.recv(65536):
        pass


def stare(connection: socket.socket) -> None:
    """Read nothing at all."""
    time.sleep(PATIENCE)


def leave(connection: socket.socket) -> None:
    """Close."""


class RudeServer(ThreadServer):
    """
    Behaves up to one step.

    @ivar heard: the lines that came before TLS, of all connections.
    """

    def __init__(self, step: str, act: Act) -> None:
        self._step, self._act = step, act
        self.heard: list[bytes] = []
        super().__init__(patience=PATIENCE)

    def talk(self, connection: socket.socket) -> None:
        """Up to the step."""
        if self._does("connect", connection):
            return
        stream = connection.makefile("rb")
        while line := stream.readline(2000):
            self.heard.append(line)
            verb = line.split(b":")[0].split(b" ")[0].strip().decode("latin-1").upper()
            if self._does(verb, connection):
                return
            if verb != "DATA":
                continue
            if self._step == "body":
                self._act(connection)
                return
            while stream.readline(2000) not in (b".\r\n", b""):
                pass
            if self._does("end", connection):
                return

    def _does(self, step: str, connection: socket.socket) -> bool:
        """@return: it is over."""
        if step == self._step:
            self._act(connection)
            return True
        connection.sendall(REPLIES.get(step, b"250 ok\r\n"))
        return False
