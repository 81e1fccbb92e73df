"""A Dovecot of our own, for LMTP: loopback only, its own directories, ended with the test."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.support import free_port, need, temporary_directory, wait_until

SETTINGS = """\
protocols = lmtp
listen = 127.0.0.1
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
ssl = no
mail_location = maildir:{directory}/mail/%n
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
mail_uid = nobody
mail_gid = nogroup
service lmtp {{
  user = nobody
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
"""


class Dovecot:
    """One instance, with a Maildir for each of `users`, named without their domain."""

    def __init__(self, *users: str, settings: str = "") -> None:
        """
        @param users: addresses.
        @param settings: more of dovecot.conf.
        """
        need("dovecot")
        self.port = free_port()
        self.directory = temporary_directory()
        self.directory.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "users").write_text(
            "".join(f"{user}:{{PLAIN}}x::::::\n" for user in users)
        )
        mail = self.directory / "mail"
        mail.mkdir()
        shutil.chown(mail, "nobody")
        text = SETTINGS.format(directory=self.directory, port=self.port) + settings
        (self.directory / "dovecot.conf").write_text(text)

    def start(self) -> None:
        """@raise AssertionError: it did not greet in time; with what it said."""
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        with open(self.directory / "stderr", "wb") as errors:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self.directory / "dovecot.conf")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PATH": path},
            )
        try:
            wait_until(self._greets, "greeting of Dovecot")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log()}") from None

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                return peer.recv(1000).startswith(b"220")
        except OSError:
            return False

    def remove(self) -> None:
        """End it and delete its directories."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """All that it has said so far."""
        files = (self.directory / "stderr", self.directory / "log")
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def mailbox(self, user: str) -> list[str]:
        """The messages of *user*, without domain."""
        files = Path(self.directory / "mail" / user).glob("new/*")
        return [file.read_text(errors="replace") for file in files]
