"""A mail server of somebody else's: loopback only, its own directories, ended with the test."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support import free_port, need, temporary_directory, wait_until


class MailServer:
    """
    One instance, which is started in the foreground.

    @cvar program: its command, and its name.
    @ivar said: the file with what it writes to its standard output and error.
    """

    program: str
    said: Path

    def __init__(self) -> None:
        need(self.program)
        self.port = free_port()
        self.directory = temporary_directory()
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        """That keep it in the foreground, with a configuration of its own."""
        raise NotImplementedError

    def start(self) -> None:
        """@raise AssertionError: it did not greet in time; with what it said."""
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        with open(self.said, "ab") as said:
            self._process = subprocess.Popen(
                [self.program, *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path},
            )
        try:
            wait_until(self._greets, f"greeting of {self.program}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log()}") from None

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                return peer.recv(1000).startswith(b"220")
        except OSError:
            return False

    def remove(self) -> None:
        """End all its processes and delete its directories."""
        if self._process is not None:
            self.end(self._process)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """And wait for it."""
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """All that it has said so far."""
        return self.said.read_text(errors="replace") if self.said.exists() else ""
