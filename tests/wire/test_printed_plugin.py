"""The plugin that docs/plugins.rst prints, as a reader would use it."""

import smtplib

from tests.printed import printed
from tests.support import (
    run_harakatls,
)
from tests.wire.server_case import ServerTestCase, run_twistd, send


class PrintedPluginTests(ServerTestCase):
    """The plugin in docs/plugins.rst, word for word."""

    def test_as_printed(self) -> None:
        """Who copies the page's files into an instance gets what the page says."""
        blocks = printed()
        self.assertEqual(
            list(blocks),
            ["plugins/blocked_senders.py", "config/plugins", "config/blocked_senders"],
        )
        instance = self.instance()
        for name, text in blocks.items():
            (instance.directory / name).write_text(text)
        instance.start()
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.ehlo("client.test")
            refusal = client.mail("spammer@example.net")
        self.assertEqual(refusal, (550, b"5.7.1 You are not welcome here"))
        send(instance, "marked")
        self.assertIn("\nX-Checked-By: mx.test\n", instance.wait_for_mail("marked"))
        self.assertIn("spammer@example.net is blocked", instance.log())
        listed = run_harakatls("plugins", "--config", instance.config).stdout
        self.assertRegex(listed, r"(?m)^mail +blocked_senders +30 s$")

    def test_mistake(self) -> None:
        """The printed plugin tells the operator's mistakes as the shipped ones do."""
        instance = self.instance()
        for name, text in printed().items():
            (instance.directory / name).write_text(text)
        (instance.config / "blocked_senders").write_text("nobody\n")
        done = run_twistd(instance)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "harakatls: blocked_senders: 'nobody' has no domain\n")
