"""The running server hands mail on to Postfix while its client waits, over TLS."""

import smtplib

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.postfix import Postfix
from tests.support import Certificates, Instance, need, temporary_directory

SENDER, RECIPIENT = "sender@client.test", "recipient@dest.test"
COLLEAGUE = "colleague@dest.test"
TEXT = "From: {0}\r\nTo: {1}\r\nSubject: {2}\r\n\r\nA line.\r\n.And a dot.\r\n"


class BackEndTests(SynchronousTestCase):
    """Postfix takes nothing in the clear, and knows no user "nobody"."""

    postfix: Postfix
    instance: Instance

    def start(self, plugin: str, trusted: bool = True, **settings: str) -> None:
        """
        @param trusted: we know who has issued the certificate of Postfix.
        @param settings: of Postfix.
        """
        need("postfix")
        certificates = Certificates()
        cert, key = certificates.write_pair(temporary_directory(), "localhost")
        self.postfix = Postfix(
            "dest.test",
            {
                "smtpd_tls_security_level": "encrypt",
                "smtpd_tls_chain_files": f"{key}, {cert}",
                "smtpd_recipient_restrictions": "check_recipient_access inline:{"
                "nobody@dest.test=REJECT}, permit_mynetworks, reject",
                **settings,
            },
        )
        self.addCleanup(self.postfix.remove)
        self.postfix.start()
        issuer = certificates if trusted else Certificates()
        authority = issuer.write_authority(temporary_directory() / "authority.pem")
        self.instance = Instance.make(
            "mx.test",
            files={
                "plugins": f"tls\nrcpt_to.in_host_list\nqueue/{plugin}\n",
                "host_list": "dest.test\nelsewhere.test\n",
                f"{plugin}.ini": f"host=localhost\nport={self.postfix.port}\nenable_tls=true\n",
                "tls.ini": f"[{plugin}]\nca={authority}\nforce_tls_hosts[]=localhost\n",
            },
        )
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def client(self) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=20)
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def send(self, subject: str, *recipients: str) -> dict[str, tuple[int, bytes]]:
        text = TEXT.format(SENDER, RECIPIENT, subject)
        return self.client().sendmail(SENDER, recipients, text)

    def check_taken(self, subject: str) -> None:
        mail = self.postfix.wait_for_mail(subject)
        self.assertIn("\n.And a dot.\n", mail)
        self.assertRegex(mail, r"\(using TLSv1\.3 with cipher")
        self.assertEqual(self.instance.queue_list().count("@"), 0)

    def test_forward(self) -> None:
        """Taken by Postfix before the client has its 250, on a verified connection."""
        self.start("smtp_forward")
        self.assertEqual(self.send("forwarded", RECIPIENT), {})
        self.check_taken("forwarded")

    def test_relayed(self) -> None:
        """A Postfix that tells senders nothing of success leaves that to us."""
        self.start("smtp_forward", smtpd_discard_ehlo_keywords="dsn")
        text = TEXT.format(COLLEAGUE, RECIPIENT, "tell me")
        self.client().sendmail(COLLEAGUE, [RECIPIENT], text, rcpt_options=["NOTIFY=SUCCESS"])
        report = self.postfix.wait_for_mail("success notice")
        self.assertIn(f"rfc822; {RECIPIENT}\nAction: relayed", report)
        self.assertRegex(report, r"Diagnostic-Code: smtp; 250 2\.0\.0 Ok: queued as")

    def test_postfix_reports_itself(self) -> None:
        """One that offers DSN is told what the sender wants; then we say nothing."""
        self.start("smtp_forward")
        text = TEXT.format(COLLEAGUE, RECIPIENT, "tell me")
        self.client().sendmail(COLLEAGUE, [RECIPIENT], text, rcpt_options=["NOTIFY=SUCCESS"])
        report = self.postfix.wait_for_mail("Successful Mail Delivery Report")
        self.assertIn("Action: delivered", report)
        self.assertNotIn("Action: relayed", report)

    def test_forward_refused(self) -> None:
        """Its no is the client's."""
        self.start("smtp_forward")
        with self.assertRaises(smtplib.SMTPDataError) as raised:
            self.send("refused", RECIPIENT, "nobody@dest.test")
        self.assertEqual(raised.exception.smtp_code, 550)
        self.assertIn(b"Access denied", raised.exception.smtp_error)

    def test_forward_to_a_stranger(self) -> None:
        """A certificate that is not right: nothing is sent, and the client is told to come back."""
        self.start("smtp_forward", trusted=False)
        with self.assertRaises(smtplib.SMTPDataError) as raised:
            self.send("not sent", RECIPIENT)
        self.assertEqual(raised.exception.smtp_code, 451)
        self.assertNotIn(b"localhost", raised.exception.smtp_error)
        self.assertIn("TLS is required", self.instance.log())
        self.assertNotIn("from=<sender@client.test>", self.postfix.log())

    def test_proxy(self) -> None:
        """Each recipient is asked about there; the message is for those that it knows."""
        self.start("smtp_proxy")
        refused = self.send("proxied", RECIPIENT, "nobody@dest.test")
        self.assertEqual(list(refused), ["nobody@dest.test"])
        self.assertEqual(refused["nobody@dest.test"][0], 554)
        self.check_taken("proxied")

    def test_proxy_without_back_end(self) -> None:
        """Gone in the middle: the client is told to come back, and nothing is in our queue."""
        self.start("smtp_proxy")
        client = self.client()
        client.mail(SENDER)
        self.assertEqual(client.rcpt(RECIPIENT)[0], 250)
        self.postfix.remove()
        code, _ = client.data(TEXT.format(SENDER, RECIPIENT, "lost?"))
        self.assertEqual(code, 451)
        self.assertEqual(client.mail(SENDER)[0], 451)
        self.assertEqual(self.instance.queue_list().count("@"), 0)

    def introduced(self, plugin: str, *recipients: str) -> None:
        """From another address of this machine, to a Postfix that lets us use XCLIENT."""
        self.start(
            plugin,
            smtpd_authorized_xclient_hosts="127.0.0.1",
            mynetworks="127.0.0.1/32",
            smtpd_relay_restrictions="permit_mynetworks, reject_unauth_destination",
            smtpd_recipient_restrictions="",
        )
        at = "127.0.0.1", self.instance.port, "client.test"
        client = smtplib.SMTP(*at, timeout=20, source_address=("127.0.0.9", 0))
        self.addCleanup(client.close)
        client.sendmail(SENDER, recipients, TEXT.format(SENDER, RECIPIENT, "introduced"))

    def test_introduced(self) -> None:
        """It sees the client in our place: in its Received field, and in who may relay."""
        for plugin in ("smtp_forward", "smtp_proxy"):
            self.introduced(plugin, RECIPIENT)
            mail = " ".join(self.postfix.wait_for_mail("introduced").split())
            self.assertRegex(mail, r"from client\.test \(\S+ \[127\.0\.0\.9\]\) \(using TLSv1\.3")
        with self.assertRaises(smtplib.SMTPDataError) as raised:
            self.introduced("smtp_forward", "somebody@elsewhere.test")
        self.assertIn(b"Relay access denied", raised.exception.smtp_error)
