"""Python's own client delivers to the running server."""

import smtplib
import ssl
from email.message import EmailMessage

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clients import RECIPIENT, SENDER, DeliveryScenarios


class SmtplibTests(DeliveryScenarios, SynchronousTestCase):
    """It checks our certificate, as a careful client does."""

    def connect(self, implicit_tls: bool) -> smtplib.SMTP:
        trust = ssl.create_default_context(cafile=str(self.instance.authority))
        port = self.port(implicit_tls)
        if implicit_tls:
            return smtplib.SMTP_SSL("127.0.0.1", port, "client.test", timeout=20, context=trust)
        client = smtplib.SMTP("127.0.0.1", port, "client.test", timeout=20)
        client.starttls(context=trust)
        return client

    def send(self, subject: str, implicit_tls: bool) -> None:
        with self.connect(implicit_tls) as client:
            refused = client.sendmail(SENDER, [RECIPIENT], self.text(subject))
        self.assertEqual(refused, {})

    def test_without_tls(self) -> None:
        """A client without TLS is served as well, and the trace does not claim TLS."""
        with smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=20) as client:
            client.sendmail(SENDER, [RECIPIENT], self.text("in the clear"))
        self.check("in the clear", tls=False)

    def test_starttls_is_offered_once(self) -> None:
        """A client is not invited to secure a connection that is secured."""
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.ehlo()
            self.assertTrue(client.has_extn("starttls"))
        with self.connect(implicit_tls=True) as client:
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))
        with self.connect(implicit_tls=False) as client:
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))

    def test_several_messages(self) -> None:
        """A client may send one message after the other over one connection."""
        subjects = [f"number {number}" for number in range(5)]
        with self.connect(implicit_tls=False) as client:
            for subject in subjects:
                client.sendmail(SENDER, [RECIPIENT], self.text(subject))
        for subject in subjects:
            self.check(subject)

    def test_no_open_relay(self) -> None:
        """Mail for other people's domains is refused, and the rest of the message is taken."""
        other = "someone@elsewhere.test"
        with self.connect(implicit_tls=False) as client:
            refused = client.sendmail(SENDER, [other, RECIPIENT], self.text("not relayed"))
        self.assertEqual(list(refused), [other])
        self.assertEqual(refused[other][0], 550)
        self.check("not relayed")

    def test_utf8(self) -> None:
        """Addresses and header fields in any script arrive as they were sent (RFC 6531)."""
        message = EmailMessage()
        message["From"] = "δοκιμή@client.test"
        message["To"] = "почта@mx.test"
        message["Subject"] = "grüße"
        message.set_content("Ærlig talt.\n", cte="8bit")
        with self.connect(implicit_tls=False) as client:
            client.send_message(message)  # adds SMTPUTF8 and BODY=8BITMIME by itself
        text = self.instance.wait_for_mail("grüße")
        self.assertIn("почта@mx.test", text)
        self.assertIn("Ærlig talt.", text)
        self.assertIn("with UTF8SMTPS id", " ".join(text.split()))

    def test_message_over_the_limit(self) -> None:
        """A message above the announced SIZE is refused at once and costs nothing."""
        with self.connect(implicit_tls=False) as client:
            client.ehlo()
            limit = int(client.esmtp_features["size"])
            code, text = client.mail(SENDER, [f"SIZE={limit + 1}"])
            self.assertEqual(code, 552, text)
            self.assertEqual(client.noop()[0], 250)
