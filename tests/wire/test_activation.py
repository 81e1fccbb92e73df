"""A server whose sockets are there before it is, as systemd opens them."""

import os
import signal
import socket
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support import TWISTD, Instance, free_port, temporary_directory
from tests.wire.server_case import send

# What systemd does: it opens the sockets and becomes the server.
GIVE = """
import os, socket, sys
kept = []
for port in sys.argv[1].split(","):
    made = socket.create_server(("127.0.0.1", int(port)))
    kept.append(os.dup2(made.detach(), 600 + len(kept)))
for number, descriptor in enumerate(kept, 3):
    os.dup2(descriptor, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)))
os.environ["LISTEN_FDNAMES"] = sys.argv[2]
os.execv(sys.argv[3], sys.argv[3:])
"""


class ActivationTests(SynchronousTestCase):
    def instance(self, *ports: int, names: str = "") -> Instance:
        """With its sockets on *ports* open before; on its own ones if none are named."""
        instance = Instance.make()
        self.addCleanup(instance.remove)
        given = ports or (instance.smtps_port, instance.port)
        told = ",".join(map(str, given))
        instance.twistd = [sys.executable, "-c", GIVE, told, names, *TWISTD]
        return instance

    def test_served(self) -> None:
        """The sockets are taken over, also by TLS from the first octet on; systemd is told."""
        path = temporary_directory() / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(path))
            systemd.settimeout(20)
            self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": str(path)})
            instance = self.instance()
            instance.start()
            self.assertEqual(systemd.recv(100), b"READY=1")
            send(instance, "one")
            instance.wait_for_mail("one")
            with socket.create_connection(("127.0.0.1", instance.smtps_port), timeout=20):
                pass
            os.kill(instance.pid, signal.SIGTERM)
            self.assertEqual(systemd.recv(100), b"STOPPING=1")
            instance.stop()
        log = instance.log()
        self.assertIn(f"listening on 127.0.0.1:{instance.port} for SMTP\n", log)
        self.assertIn(f"listening on 127.0.0.1:{instance.smtps_port} for SMTP over TLS\n", log)
        self.assertNotIn("Traceback", log)

    def test_not_listed(self) -> None:
        """A socket on which nobody would listen keeps the server from starting."""
        port = free_port()
        instance = self.instance(port, names="extra.socket")
        problem = str(self.assertRaises(AssertionError, instance.start))
        self.assertIn(f"systemd gave the socket 127.0.0.1:{port} (extra.socket)", problem)
        self.assertNotIn("Traceback", problem)
