"""A server as a process of twistd, and mail for it."""

import smtplib
import ssl
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    TWISTD,
    Instance,
    environment,
)

TEXT = "Message-ID: <{0}@mx.test>\r\nSubject: {0}\r\n\r\nHello\r\n"
DIRECT_ROUTE = '[domains]\nany={{"nexthop":"127.0.0.1:{}"}}\n'


def send(instance: Instance, subject: str, to: str = "me@mx.test", starttls: bool = True) -> None:
    """One message, the certificate checked."""
    with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
        if starttls:
            client.starttls(context=ssl.create_default_context(cafile=str(instance.authority)))
        client.sendmail("you@example.org", [to], TEXT.format(subject))


def run_twistd(instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that ends by itself, since it cannot start."""
    return subprocess.run(
        [*TWISTD, "-n", "--pidfile=", *arguments, "harakatls", "--config", str(instance.config)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=instance.directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


def run_daemon(instance: Instance, pidfile: Path, log: Path) -> subprocess.CompletedProcess[str]:
    """A server in the background; what is returned is how it got there."""
    return subprocess.run(
        [
            *TWISTD,
            "--pidfile",
            str(pidfile),
            "--logfile",
            str(log),
            "harakatls",
            "--config",
            str(instance.config),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=instance.directory,
        env=environment(),
    )


class ServerTestCase(SynchronousTestCase):
    def instance(self, **files: str) -> Instance:
        """Files by name, with _ini for .ini."""
        named = {name.replace("_ini", ".ini"): text for name, text in files.items()}
        instance = Instance.make(files=named)
        self.addCleanup(instance.remove)
        return instance

    def sender(self, instance: Instance) -> smtplib.SMTP:
        """Who has said DATA."""
        client = smtplib.SMTP("127.0.0.1", instance.port, timeout=20)
        self.addCleanup(client.close)
        client.ehlo("client.test")
        client.mail("you@example.org")
        client.rcpt("me@mx.test")
        self.assertEqual(client.docmd("DATA")[0], 354)
        return client
