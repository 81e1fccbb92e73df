"""A real redis-server on loopback, and the little of its protocol that tests need."""

import signal
import socket
import subprocess

from tests.support import free_port, temporary_directory, wait_until


class RedisServer:
    """Keeps nothing on disk; stopped, it is empty when it is started again."""

    def __init__(self, password: str | None = None) -> None:
        self.port = free_port()
        self._password = password
        self._directory = temporary_directory()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """It answers when this returns."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        if self._password is not None:
            options += ["--requirepass", self._password]
        self._process = subprocess.Popen(
            ["redis-server", *options, "--appendonly", "no", "--dir", str(self._directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, "answer of redis-server")

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == "PONG"
        except OSError:
            return False

    def stop(self) -> None:
        """May be called twice."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """It stays there, and takes connections, but answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str | int) -> str | int | None:
        """One command whose answer is a line, a number or a text."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            stream = connection.makefile("rwb")
            if self._password is not None:
                self._say(stream, "AUTH", self._password)
                assert stream.readline() == b"+OK\r\n"
            self._say(stream, *words)
            line = stream.readline().decode().rstrip("\r\n")
            if line.startswith("$"):
                size = int(line[1:])
                return None if size < 0 else str(stream.read(size).decode())
            if line.startswith(":"):
                return int(line[1:])
            assert line.startswith("+"), line
            return line[1:]

    def _say(self, stream, *words: str | int) -> None:  # type: ignore[no-untyped-def]
        texts = [str(word).encode() for word in words]
        stream.write(b"*%d\r\n" % len(texts))
        stream.write(b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts))
        stream.flush()

    def keys(self) -> int:
        """How many there are."""
        count = self.ask("DBSIZE")
        assert isinstance(count, int)
        return count
