"""What a newcomer does: make an instance, start it, send it a message, look into the Maildir."""

import smtplib
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    Instance,
    free_port,
    run_harakatls,
    temporary_directory,
)


class FirstRunTests(SynchronousTestCase):
    """With nothing but what `harakatls init` wrote, save for the ports."""

    instance: Instance

    def setUp(self) -> None:
        directory = temporary_directory() / "instance"
        done = run_harakatls("init", "--host", "new.test", directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.port, self.smtps_port = free_port(), free_port()
        settings = directory / "config/smtp.ini"
        text = settings.read_text()
        self.assertIn("listen=127.0.0.1:2525,127.0.0.1:2465\n", text)
        text = text.replace("2525", str(self.port)).replace("2465", str(self.smtps_port))
        settings.write_text(text)
        authority = directory / "config/tls_cert.pem"
        self.instance = Instance(directory, self.port, self.smtps_port, authority)
        self.addCleanup(self.instance.remove)

    def test_message_arrives(self) -> None:
        """A message to our own domain, over either port, is a file in the Maildir."""
        self.instance.start()
        lax = ssl.create_default_context()  # the certificate is nobody's but ours
        lax.check_hostname, lax.verify_mode = False, ssl.CERT_NONE
        text = "Subject: {}\r\n\r\nIt works.\r\n"
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
            client.starttls(context=lax)
            client.sendmail("you@example.org", ["me@new.test"], text.format("one"))
        with smtplib.SMTP_SSL("127.0.0.1", self.smtps_port, timeout=20, context=lax) as client:
            client.sendmail("you@example.org", ["me@new.test"], text.format("two"))
        for subject in ("one", "two"):
            self.assertIn("It works.", self.instance.wait_for_mail(subject))

    def test_no_open_relay(self) -> None:
        """Even a client on this machine cannot send to the world through it."""
        self.instance.start()
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
            client.ehlo("localhost")
            client.mail("you@example.org")
            code, text = client.rcpt("someone@elsewhere.test")
        self.assertEqual(code, 550, text)

    def test_plugins_are_listed(self) -> None:
        """The operator sees which plugin is asked at which hook."""
        done = run_harakatls("plugins", "--config", self.instance.config)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("tls", "relay", "rcpt_to.in_host_list", "queue/maildir"):
            self.assertIn(name, done.stdout)

    def test_second_init_keeps_the_first(self) -> None:
        """A second init by mistake changes nothing, and says so in one line."""
        key = (self.instance.config / "tls_key.pem").read_bytes()
        done = run_harakatls("init", self.instance.directory)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertEqual((self.instance.config / "tls_key.pem").read_bytes(), key)
