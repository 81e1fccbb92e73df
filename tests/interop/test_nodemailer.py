"""nodemailer, the mail client of most Node.js programs, delivers to the running server."""

import json
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import lacking, need
from tests.wire.clients import RECIPIENT, SENDER, DeliveryScenarios

HERE = Path(__file__).resolve().parent


class NodemailerTests(DeliveryScenarios, SynchronousTestCase):
    """It checks our certificate and name, as it does by default."""

    def setUp(self) -> None:
        need("node")
        if not (HERE / "node_modules/nodemailer").exists():
            lacking("nodemailer (make interop installs it)")
        super().setUp()

    def send(self, subject: str, implicit_tls: bool, requiretls: bool = False) -> None:
        task = {
            "host": "127.0.0.1",
            "port": self.port(implicit_tls),
            "secure": implicit_tls,
            "ca": str(self.instance.authority),
            "servername": "mx.test",
            "from": SENDER,
            "to": RECIPIENT,
            "raw": self.text(subject),
            "requiretls": requiretls,
        }
        done = subprocess.run(
            ["node", str(HERE / "nodemailer_send.js"), json.dumps(task)],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, "^250 ")

    def test_requiretls(self) -> None:
        """It says REQUIRETLS where it is offered, as it is within TLS (RFC 8689)."""
        for implicit_tls in (False, True):
            subject = f"REQUIRETLS {implicit_tls}"
            self.send(subject, implicit_tls, requiretls=True)
            received = self.check(subject).get_all("Received", [])[0]
            self.assertIn("(REQUIRETLS);", received)
