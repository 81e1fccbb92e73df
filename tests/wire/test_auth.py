"""Python's own client logs in to the running server, whose users `harakatls passwd` has written."""

import smtplib
import ssl
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.support import DEFAULT_PLUGINS, HARAKATLS, Instance, environment, wait_until

PASSWORD = "correct horse, battery staple"
MESSAGE = "From: joe@mx.test\r\nSubject: m\r\n\r\nHello\r\n"


def set_password(instance: Instance, user: str, *options: str) -> None:
    """As an operator does."""
    subprocess.run(
        [*HARAKATLS, "passwd", "--config", str(instance.config), *options, user],
        input=f"{PASSWORD}\n",
        text=True,
        check=True,
        timeout=60,
        env=environment(),
        capture_output=True,
    )


class SmtplibTests(SynchronousTestCase):
    def setUp(self) -> None:
        plugins = DEFAULT_PLUGINS.replace("relay\n", "relay\nauth/flat_file\n")
        self.instance = Instance.make("mx.test", files={"plugins": plugins})
        self.addCleanup(self.instance.remove)
        set_password(self.instance, "joe@mx.test")
        self.instance.start()

    def client(self) -> smtplib.SMTP:
        trust = ssl.create_default_context(cafile=str(self.instance.authority))
        client = smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=20)
        self.addCleanup(client.close)
        client.starttls(context=trust)
        client.ehlo()
        return client

    def test_users(self) -> None:
        """Logins open the way out; users come and go without a restart; the log is discreet."""
        client = self.client()
        offered = client.esmtp_features["auth"].split()
        self.assertEqual(offered, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"])
        self.assertEqual(client.mail("joe@mx.test")[0], 250)
        self.assertEqual(client.rcpt("x@elsewhere.test")[0], 550)
        client.rset()
        client.user, client.password = "joe@mx.test", PASSWORD
        for name in ("PLAIN", "LOGIN"):
            other = self.client()
            other.user, other.password = "joe@mx.test", PASSWORD
            method = {"PLAIN": other.auth_plain, "LOGIN": other.auth_login}[name]
            self.assertEqual(other.auth(name, method)[0], 235)
            self.assertEqual(other.mail("joe@mx.test")[0], 250)
            self.assertEqual(other.rcpt("x@elsewhere.test")[0], 250)
            self.assertEqual(other.mail("joe@elsewhere.test")[0], 503)
            other.rset()
            self.assertEqual(other.mail("joe@elsewhere.test")[0], 550)  # constrain_sender
        set_password(self.instance, "joe@mx.test", "--remove")
        set_password(self.instance, "ann@mx.test", "--kind", "plain")
        other = self.client()
        other.user, other.password = "ann@mx.test", PASSWORD
        self.assertEqual(other.auth("CRAM-MD5", other.auth_cram_md5)[0], 235)
        other.sendmail("ann@mx.test", ["recipient@mx.test"], MESSAGE)
        received = " ".join(self.instance.wait_for_mail("m").split())
        self.assertIn("with ESMTPSA id", received)
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.auth("PLAIN", client.auth_plain)
        log = self.instance.log()
        self.assertIn("logged in as 'ann@mx.test' by CRAM-MD5", log)
        self.assertIn("failed to log in as 'joe@mx.test' by PLAIN", log)
        self.assertNotIn(PASSWORD, log)

    def test_disconnects(self) -> None:
        """Whoever breaks off while he waits for his no leaves nothing behind."""
        client = self.client()
        client.putcmd("AUTH", "PLAIN AGpvZUBteC50ZXN0AGd1ZXNz")
        assert client.sock is not None
        client.sock.close()
        line = "errors=0"
        wait_until(lambda: line in self.instance.log().rpartition("failed to log in")[2], "its end")
