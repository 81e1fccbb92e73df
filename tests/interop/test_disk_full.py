"""A full disk: a file system of a few megabytes under the queue. Needs root, for mount."""

import os
import smtplib
import subprocess
import time
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until
from tests.wire.sink import Sink
from tests.wire.test_crash import message, relaying_to


class DiskFullTests(SynchronousTestCase):
    """The queue directory is a tmpfs that load fills."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            if os.environ.get("CI"):
                raise AssertionError("mount needs root")
            raise SkipTest("mount needs root")
        self.sink = Sink()
        self.addCleanup(lambda: self.sink.close())
        self.instance = Instance.make(domain="mx.test", files=relaying_to(self.sink.port))
        self.queue = self.instance.directory / "queue"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(self.queue)], check=True
        )
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.queue)], check=False)
        self.addCleanup(self.instance.remove)

    def send_until_refused(self, size: int) -> tuple[set[str], int]:
        """What was answered 250, and the code that ended it."""
        accepted: set[str] = set()
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=30) as client:
            for number in range(5000):
                identity = f"<{size}.{number}@load.test>"
                try:
                    client.sendmail("a@load.test", ["b@sink.test"], message(identity, size))
                except smtplib.SMTPResponseException as refusal:
                    return accepted, refusal.smtp_code
                accepted.add(identity)
        raise AssertionError("the disk did not get full")

    def test_full(self) -> None:
        """
        452 while there is no space; all that was answered 250 is delivered, by itself, when the
        next hop is back; then mail is taken again.
        """
        port = self.sink.port
        self.sink.close()
        self.instance.start()
        small, code = self.send_until_refused(20_000)
        self.assertEqual(code, 452)
        large, code = self.send_until_refused(600_000)
        self.assertEqual(code, 452)
        accepted = small | large
        self.assertGreater(len(accepted), 20)

        # A kill while the disk is full, too.
        self.instance.kill()
        self.instance.start()
        self.sink = Sink(port=port)
        wait_until(lambda: not accepted - set(self.sink.messages), "delivery of all", 90)
        deadline = time.monotonic() + 30
        while True:
            try:
                with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=30) as client:
                    body = message("<after@load.test>", 20_000)
                    client.sendmail("a@load.test", ["b@sink.test"], body)
                break
            except smtplib.SMTPResponseException:
                self.assertLess(time.monotonic(), deadline, "mail is still refused")
                time.sleep(0.5)
        wait_until(lambda: "<after@load.test>" in self.sink.messages, "the message after")
        self.assertNotIn("Traceback", self.instance.log())
