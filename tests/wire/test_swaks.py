"""swaks, the tester of mail administrators, delivers to the running server."""

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.support import need
from tests.wire.clients import BODY_LINES, RECIPIENT, SENDER, DeliveryScenarios


class SwaksTests(DeliveryScenarios, SynchronousTestCase):
    """With its own checks of the certificate."""

    def setUp(self) -> None:
        need("swaks", "perl")
        ssleay = ["perl", "-MNet::SSLeay", "-e", "1"]
        if subprocess.run(ssleay, capture_output=True).returncode:
            need("perl module Net::SSLeay")
        super().setUp()

    def swaks(self, implicit_tls: bool, *args: str) -> "subprocess.CompletedProcess[str]":
        command = ["swaks", "--server", "127.0.0.1", "--port", str(self.port(implicit_tls))]
        command += ["--tls-on-connect" if implicit_tls else "--tls", "--tls-verify"]
        command += ["--tls-ca-path", str(self.instance.authority), "--tls-sni", "mx.test"]
        command += ["--ehlo", "client.test", "--timeout", "20", "--from", SENDER, *args]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def send(self, subject: str, implicit_tls: bool) -> None:
        body = "\n".join(BODY_LINES)
        done = self.swaks(
            implicit_tls,
            *("--to", RECIPIENT, "--header", f"Subject: {subject}", "--body", body),
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_refused_recipient(self) -> None:
        """swaks is told with 550 that we do not relay (its exit status 24: no recipient)."""
        done = self.swaks(False, "--to", "someone@elsewhere.test")
        self.assertEqual(done.returncode, 24, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"550[ -]5\.7\.1 ")
