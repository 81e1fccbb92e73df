"""What senders are told, where Postfix is the next hop and the sender's server."""

from email import message_from_string
from email.message import Message
from typing import Any

from tests.interop.postfix import Postfix
from tests.interop.relaying import RECIPIENT, SENDER, RelayCase
from tests.support import wait_until


class ReportTests(RelayCase):
    postfix: Postfix

    def start(self, **settings: str) -> None:
        """@param settings: of Postfix."""
        self.postfix = Postfix(
            "dest.test", {"virtual_mailbox_domains": "dest.test client.test", **settings}
        )
        self.addCleanup(self.postfix.remove)
        self.postfix.start()
        hop = f"localhost:{self.postfix.port}"
        self.start_instance({"dest.test": hop, "client.test": hop})

    def send_with(self, *options: str) -> None:
        """With RET and ENVID. @param options: of RCPT."""
        text = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: told\r\n\r\nA line.\r\n"
        with self.client() as client:
            client.ehlo()
            self.assertTrue(client.has_extn("dsn"))
            client.sendmail(SENDER, [RECIPIENT], text, ["RET=HDRS", "ENVID=QQ+2B1"], options)

    def reports(self) -> list[Message]:
        """Those at the sender's server."""
        mail = self.postfix.directory / "mail/all/new"
        found = [message_from_string(path.read_text(errors="replace")) for path in mail.glob("*")]
        return [message for message in found if message.get_content_type() == "multipart/report"]

    def report(self) -> tuple[Message, Any, Any]:
        """The only one: itself, its fields about the message and about the recipient."""
        try:
            (report,) = wait_until(self.reports, "report", 30)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.instance.log()}\n{self.postfix.log()}") from None
        status = report.get_payload()[1].get_payload()  # type: ignore[index, union-attr]
        assert isinstance(status, list)
        return report, status[0], status[1]

    def test_postfix_tells_it(self) -> None:
        """Postfix offers DSN: the sender's wishes reach it, and the one report is Postfix's."""
        self.start()
        self.send_with("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;list+2B1@dest.test")
        _, message, recipient = self.report()
        self.assertIn("postfix", message["Reporting-MTA"])
        self.assertEqual(message["Original-Envelope-Id"], "QQ+1")
        self.assertEqual(recipient["Action"], "delivered")
        self.assertEqual(
            recipient["Original-Recipient"].replace("; ", ";"), "rfc822;list+1@dest.test"
        )

    def test_we_tell_it(self) -> None:
        """A Postfix that does not offer DSN will not tell: so we do."""
        self.start(smtpd_discard_ehlo_keywords="dsn")
        self.send_with("NOTIFY=SUCCESS", "ORCPT=rfc822;list+2B1@dest.test")
        report, message, recipient = self.report()
        self.assertEqual(message["Reporting-MTA"], "dns; mx.test")
        self.assertEqual(message["Original-Envelope-Id"], "QQ+1")
        self.assertEqual(recipient["Action"], "relayed")
        self.assertEqual(recipient["Original-Recipient"], "rfc822; list+1@dest.test")
        self.assertTrue(recipient["Diagnostic-Code"].startswith("smtp; 250 2.0.0"))
        self.assertEqual(report["Subject"], "success notice")

    def test_silence(self) -> None:
        """NOTIFY=NEVER is passed on: neither we nor Postfix tell of a failure."""
        refused = "check_recipient_access inline:{{recipient@dest.test=REJECT}}"
        self.start(smtpd_recipient_restrictions=refused)
        self.send_with("NOTIFY=NEVER")
        wait_until(lambda: "bounced" in self.instance.log(), "failure in our log", 20)
        self.assertEqual(self.reports(), [])
