"""msmtp, which stands in for sendmail on many machines, delivers to the running server."""

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.support import need
from tests.wire.clients import RECIPIENT, SENDER, DeliveryScenarios


class MsmtpTests(DeliveryScenarios, SynchronousTestCase):
    """It speaks TLS by GnuTLS, and checks our certificate and name."""

    def setUp(self) -> None:
        need("msmtp")
        super().setUp()

    def msmtp(
        self, implicit_tls: bool, trust: str, text: str
    ) -> "subprocess.CompletedProcess[str]":
        command = ["msmtp", "--host=127.0.0.1", f"--port={self.port(implicit_tls)}", "--tls=on"]
        command += [f"--tls-starttls={'off' if implicit_tls else 'on'}", "--timeout=20"]
        command += [f"--tls-trust-file={trust}", "--domain=client.test", f"--from={SENDER}"]
        return subprocess.run(
            [*command, RECIPIENT], input=text, capture_output=True, text=True, timeout=60
        )

    def send(self, subject: str, implicit_tls: bool) -> None:
        done = self.msmtp(implicit_tls, str(self.instance.authority), self.text(subject, "\n"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_trust(self) -> None:
        """A client that does not trust us gives no mail away, and the server goes on."""
        stranger = "/etc/ssl/certs/ca-certificates.crt"
        done = self.msmtp(False, stranger, self.text("not sent", "\n"))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("TLS", done.stderr)
        self.send("sent", implicit_tls=False)
        self.check("sent")
        self.assertEqual(self.instance.maildir_subjects("not sent"), 0)
