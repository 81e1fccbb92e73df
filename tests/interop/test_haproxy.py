"""HAProxy in front of the running server: both versions of its header, and its health checks."""

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.haproxy import SOURCE, HAProxy
from tests.support import Instance, need, wait_until
from tests.wire.clients import RECIPIENT, SENDER

CLIENT = "127.0.0.3"
HEADERS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2_crc": "send-proxy-v2 proxy-v2-options crc32c,unique-id",
}


class HAProxyTests(SynchronousTestCase):
    def setUp(self) -> None:
        need("swaks", "haproxy")
        files = {"connection.ini": f"[haproxy]\nhosts[]={SOURCE}\n"}
        self.instance = Instance.make("mx.test", files)
        self.addCleanup(self.instance.remove)
        self.instance.start()
        ports = {"starttls": self.instance.port, "implicit": self.instance.smtps_port}
        self.proxy = HAProxy(
            {
                f"{version}_{tls}": (port, header, tls == "implicit")
                for version, header in HEADERS.items()
                for tls, port in ports.items()
            }
        )
        self.addCleanup(self.proxy.remove)
        self.proxy.start()

    def swaks(
        self, port: int, implicit_tls: bool, *args: str
    ) -> "subprocess.CompletedProcess[str]":
        command = ["swaks", "--server", "127.0.0.1", "--port", str(port), "--to", RECIPIENT]
        command += ["--tls-on-connect" if implicit_tls else "--tls", "--local-interface", CLIENT]
        command += ["--ehlo", "client.test", "--timeout", "20", "--from", SENDER, *args]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def test_messages(self) -> None:
        """The client's address is in the Received field and in the log, over each way."""
        for name, port in self.proxy.ports.items():
            done = self.swaks(port, name.endswith("implicit"), "--header", f"Subject: {name}")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            received = " ".join(self.instance.wait_for_mail(name).split())
            self.assertIn(f"from client.test ([{CLIENT}])", received)
            self.assertNotIn(SOURCE, received)
        log = self.instance.log()
        lines = [line for line in log.splitlines() if f" {CLIENT}:" in line and "messages=" in line]
        self.assertEqual(len(lines), len(self.proxy.ports), log)
        for line in lines:
            self.assertIn(f" proxy={SOURCE}:", line)

    def test_health_checks(self) -> None:
        """They find the server well, and the log tells that it was the proxy itself."""
        expected = dict.fromkeys(self.proxy.ports, "L7OK")
        wait_until(lambda: self.proxy.checks() == expected, f"{self.proxy.checks()} all L7OK")
        wait_until(
            lambda: any(
                f" {SOURCE}:" in line and f" proxy={SOURCE}:" in line
                for line in self.instance.log().splitlines()
            ),
            "line of a health check in the log",
        )

    def test_not_listed(self) -> None:
        """From an address that is not listed the header is refused, with words in the log."""
        stranger = HAProxy({"stranger": (self.instance.port, "send-proxy source 127.0.0.4", False)})
        self.addCleanup(stranger.remove)
        stranger.start()
        done = self.swaks(stranger.port, False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("421 4.7.0 PROXY not allowed from 127.0.0.4", done.stdout)
        self.assertIn("[haproxy] hosts has no such peer", self.instance.log())
