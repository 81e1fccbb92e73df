"""What a stop promises: to those who are there, to those who come, and to whoever asked for it."""

import os
import signal
import socket
import time

from tests.support import Instance, wait_until
from tests.wire.server_case import ServerTestCase

MESSAGE = b"Subject: under way\r\n\r\nHello.\r\n"


class StoppingTests(ServerTestCase):
    def server(self, smtp_ini: str = "") -> Instance:
        instance = Instance.make("mx.test")
        with (instance.config / "smtp.ini").open("a") as file:
            file.write(smtp_ini)
        self.addCleanup(instance.remove)
        instance.start()
        return instance

    def told_to_stop(self, instance: Instance) -> None:
        os.kill(instance.pid, signal.SIGTERM)
        wait_until(lambda: "stopping" in instance.log(), "stop")

    def test_under_way(self) -> None:
        """A message under way comes in; nobody else does; then the server ends."""
        instance = self.server()
        sender = self.sender(instance)
        self.told_to_stop(instance)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", instance.port), timeout=5)
        sender.send(MESSAGE + b".\r\n")
        self.assertEqual(sender.getreply()[0], 250)
        self.assertEqual(sender.getreply()[0], 421)
        began = time.monotonic()
        instance.stop()
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(instance.maildir_subjects("under way"), 1)
        self.assertNotIn("Traceback", instance.log())

    def test_too_long(self) -> None:
        """What does not come to its end is broken off; all is over in force_shutdown_timeout."""
        instance = self.server("force_shutdown_timeout=1\n")
        sender = self.sender(instance)
        sender.send(MESSAGE)
        began = time.monotonic()
        self.told_to_stop(instance)
        instance.stop()
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual(instance.mail(), [])
        self.assertNotIn("Traceback", instance.log())
