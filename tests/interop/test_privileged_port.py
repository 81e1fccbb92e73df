"""A port below 1024 that has no certificate when the server starts. Needs root, to bind it."""

import os
import pwd
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Certificates, Instance, wait_until

ACCOUNT = "nobody"


def privileged_port() -> int:
    """One of 127.0.0.1 that root alone may bind, and nobody listens on."""
    first_for_all = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    for port in range(first_for_all - 1, 0, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SkipTest("no port is left that needs root")


class PrivilegedPortTests(SynchronousTestCase):
    def setUp(self) -> None:
        if os.geteuid() != 0:
            if os.environ.get("CI"):
                raise AssertionError("ports below 1024 need root")
            raise SkipTest("ports below 1024 need root")
        probe = [sys.executable, "-c", "import mailbox, twisted"]
        try:
            subprocess.run(probe, user=ACCOUNT, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            if os.environ.get("CI"):
                raise
            raise SkipTest(f"{ACCOUNT} cannot read {sys.executable}'s modules") from None
        self.port = privileged_port()
        self.certificates = Certificates()
        self.instance = Instance.make(certificates=self.certificates)
        self.addCleanup(self.instance.remove)
        settings = self.instance.config / "smtp.ini"
        settings.write_text(
            f"listen=127.0.0.1:{self.instance.port},127.0.0.1:{self.port}\n"
            f"smtps_port={self.port}\nuser={ACCOUNT}\n"
        )
        self.instance.smtps_port = self.port

    def hand_over(self) -> None:
        """All files belong to the account."""
        entry = pwd.getpwnam(ACCOUNT)
        for path in (self.instance.directory, *self.instance.directory.rglob("*")):
            shutil.chown(path, entry.pw_uid, entry.pw_gid)

    def test_opens_without_rights(self) -> None:
        """The server is root no more when the certificate comes, and opens the port then."""
        for name in ("tls_cert.pem", "tls_key.pem"):
            (self.instance.config / name).unlink()
        self.hand_over()
        self.instance.start()
        status = Path(f"/proc/{self.instance.pid}/status").read_text()
        self.assertIn(f"Uid:\t{pwd.getpwnam(ACCOUNT).pw_uid}\t", status)
        address = ("127.0.0.1", self.port)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address, timeout=10)
        self.certificates.write_pair(self.instance.config, "mx.test", "127.0.0.1")
        self.hand_over()
        os.kill(self.instance.pid, signal.SIGHUP)
        told = f"listening on 127.0.0.1:{self.port} for SMTP over TLS"
        wait_until(lambda: told in self.instance.log(), "open port")
        trust = ssl.create_default_context(cafile=str(self.instance.authority))
        with smtplib.SMTP_SSL("127.0.0.1", self.port, timeout=20, context=trust) as client:
            self.assertEqual(client.noop()[0], 250)
