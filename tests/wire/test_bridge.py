"""Clients who log in as another server knows them, and whose mail goes there with their login."""

import smtplib
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance

USER, PASSWORD = "joe@back.test", "correct horse battery"


class BridgeTests(SynchronousTestCase):
    def start(self, plugins: str, domain: str = "mx.test", **files: str) -> Instance:
        named = {name.replace("_ini", ".ini"): text for name, text in files.items()}
        instance = Instance.make(domain, {"plugins": plugins, **named})
        self.addCleanup(instance.remove)
        instance.start()
        return instance

    def send(self, instance: Instance, password: str, to: str) -> None:
        context = ssl.create_default_context(cafile=str(instance.authority))
        with smtplib.SMTP("localhost", instance.port, timeout=20) as client:
            client.starttls(context=context)
            client.login(USER, password)
            client.sendmail(USER, [to], f"Subject: {to}\r\n\r\nHello\r\n")

    def test_whole_way(self) -> None:
        """The server behind knows the user; its answers are the client's, and nothing is kept."""
        back = self.start(
            "tls\nauth/flat_file\nrcpt_to.in_host_list\nqueue/maildir\n",
            "back.test",
            auth_flat_file_ini=f"[users]\n{USER}={PASSWORD}\n",
        )
        front = self.start(
            "tls\nauth/auth_bridge\nqueue/smtp_bridge\n",
            smtp_bridge_ini=f"host=127.0.0.1\nport={back.port}\n",
        )
        with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
            self.send(front, "guess", USER)
        self.assertEqual(refused.exception.smtp_code, 535)
        self.send(front, PASSWORD, USER)
        mail = back.wait_for_mail(USER)
        self.assertIn("ESMTPSA", mail)
        for text in (front.log(), back.log()):
            self.assertNotIn(PASSWORD, text)
        files = [file for file in (front.directory / "queue").rglob("*") if file.is_file()]
        kept = b"".join(file.read_bytes() for file in files)
        self.assertNotIn(PASSWORD.encode(), kept)
