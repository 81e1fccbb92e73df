"""A newcomer has installed harakatls, and copies the plugin out of docs/plugins.rst."""

import smtplib

from tests.interop.installed import InstalledTestCase, elsewhere
from tests.printed import printed
from tests.support import Instance, free_port, temporary_directory


class Installed(Instance):
    """A server that runs what was installed, and sees no checkout."""

    def environment(self) -> dict[str, str]:
        return elsewhere()


class PluginGuideTests(InstalledTestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = temporary_directory() / "instance"
        self.output(self.bin / "harakatls", "init", "--host", "new.test", directory)
        port, smtps_port = free_port(), free_port()
        settings = directory / "config/smtp.ini"
        text = settings.read_text()
        settings.write_text(text.replace("2525", str(port)).replace("2465", str(smtps_port)))
        authority = directory / "config/tls_cert.pem"
        self.instance = Installed(directory, port, smtps_port, authority)
        self.instance.twistd = self.twistd
        self.addCleanup(self.instance.remove)

    def test_as_printed(self) -> None:
        """Nothing but the files of the page: the plugin refuses, and marks, as the page says."""
        files = printed()
        self.assertIn("plugins/blocked_senders.py", files)
        for name, text in files.items():
            (self.instance.directory / name).write_text(text)
        listed = self.output(self.bin / "harakatls", "plugins", "--config", self.instance.config)
        self.assertRegex(listed, r"(?m)^mail +blocked_senders +30 s$")
        self.instance.start()
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.ehlo("client.test")
            refusal = client.mail("spammer@example.net")
            client.sendmail("you@example.org", ["me@new.test"], "Subject: marked\r\n\r\nHi\r\n")
        self.assertEqual(refusal, (550, b"5.7.1 You are not welcome here"))
        self.assertIn("\nX-Checked-By: new.test\n", self.instance.wait_for_mail("marked"))
        self.assertIn("spammer@example.net is blocked", self.instance.log())
