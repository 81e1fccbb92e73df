"""The running server delivers into the mailboxes of Dovecot, over LMTP."""

from email import message_from_string
from email.message import Message

from tests.interop.dovecot import Dovecot
from tests.interop.relaying import RelayCase
from tests.support import wait_until

SENDER = "sender@store.test"
ANN, BEN, NOBODY = "ann@store.test", "ben@store.test", "nobody@store.test"


class LMTPTests(RelayCase):
    dovecot: Dovecot

    def start(self, settings: str = "", **files: str) -> None:
        """
        @param settings: of Dovecot.
        @param files: of ours, in place of the route; C{_ini} stands for C{.ini}.
        """
        self.dovecot = Dovecot(SENDER, ANN, BEN, settings=settings)
        self.addCleanup(self.dovecot.remove)
        self.dovecot.start()
        routes = {} if files else {"store.test": f"lmtp://127.0.0.1:{self.dovecot.port}"}
        own = {name.replace("_ini", ".ini"): text for name, text in files.items()}
        place = {"port": self.dovecot.port, "socket": self.dovecot.socket}
        self.start_instance(routes, {name: text.format(**place) for name, text in own.items()})

    def send_to(
        self, subject: str, *recipients: str, notify: str = "FAILURE", lines: int = 1
    ) -> None:
        text = f"From: {SENDER}\r\nSubject: {subject}\r\n\r\n" + ".A line.\r\n" * lines
        with self.client() as client:
            client.sendmail(SENDER, recipients, text, rcpt_options=[f"NOTIFY={notify}"])

    def mail_of(self, user: str) -> Message:
        """The one message of *user*."""
        try:
            (text,) = wait_until(lambda: self.dovecot.mailbox(user), f"mail for {user}", 30)
        except AssertionError as error:
            logs = f"{self.instance.log()}\n{self.dovecot.log()}"
            raise AssertionError(f"{error}:\n{logs}") from None
        return message_from_string(text)

    def test_each_recipient(self) -> None:
        """Two have the message; the sender hears of the one that does not exist, and no other."""
        self.start()
        self.send_to("to three", ANN, NOBODY, BEN)
        for user in ("ann", "ben"):
            self.assertEqual(self.mail_of(user)["Subject"], "to three")
        report = self.mail_of("sender")
        self.assertEqual(report.get_content_type(), "multipart/report")
        groups = report.get_payload()[1].get_payload()  # type: ignore[index, union-attr]
        assert isinstance(groups, list)
        (told,) = groups[1:]
        assert isinstance(told, Message)
        self.assertEqual(told["Final-Recipient"], f"rfc822; {NOBODY}")
        self.assertRegex(str(told["Diagnostic-Code"]), r"smtp; 550 5\.1\.1 .*User doesn't exist")

    def test_plugin(self) -> None:
        """queue/lmtp has mail for our own domain delivered, from strangers and from our own."""
        self.start(
            plugins="tls\nrcpt_to.in_host_list\nqueue/lmtp\n",
            host_list="store.test\n",
            lmtp_ini="port={port}\n",
        )
        self.send_to("by the plugin", ANN, NOBODY)
        self.assertEqual(self.mail_of("ann")["Subject"], "by the plugin")
        report = self.mail_of("sender")
        self.assertEqual(report.get_content_type(), "multipart/report")

    def test_a_unix_socket(self) -> None:
        """The plugin hands mail to Dovecot without any port; each recipient has an answer there."""
        self.start(
            plugins="tls\nrcpt_to.in_host_list\nqueue/lmtp\n",
            host_list="store.test\n",
            lmtp_ini="path={socket}\n",
        )
        self.send_to("by the socket", ANN, NOBODY, notify="SUCCESS,FAILURE")
        self.assertEqual(self.mail_of("ann")["Subject"], "by the socket")
        report = self.mail_of("sender").as_string()
        for told in (f"rfc822; {ANN}\nAction: delivered", f"rfc822; {NOBODY}\nAction: failed"):
            self.assertIn(told, report)
        self.assertIn(f"host={self.dovecot.socket} ", self.instance.log())
        self.assertIn("lmtp(", self.dovecot.log())

    def test_a_route_to_a_unix_socket(self) -> None:
        """As a next hop in relay_dest_domains.ini."""
        self.start(
            relay_dest_domains_ini='[domains]\nstore.test={{"action":"accept",'
            '"nexthop":"lmtp://{socket}"}}\n'
        )
        self.send_to("by the route", BEN)
        self.assertEqual(self.mail_of("ben")["Subject"], "by the route")

    def test_delivered(self) -> None:
        """Dovecot sends no reports of success, so we say that the mail is in the mailbox."""
        self.start()
        self.send_to("tell me", ANN, notify="SUCCESS")
        self.assertEqual(self.mail_of("ann")["Subject"], "tell me")
        self.assertIn("Action: delivered", self.mail_of("sender").as_string())

    def test_an_answer_for_each(self) -> None:
        """One mailbox that is full holds up no other: its owner's copy is tried again alone."""
        self.start("mail_plugins = quota\nplugin {\n  quota = maildir:User quota\n}\n" + _QUOTAS)
        users = self.dovecot.directory / "users"
        users.write_text(
            users.read_text().replace(
                f"{BEN}:{{PLAIN}}x::::::", f"{BEN}:{{PLAIN}}x::::::userdb_quota_rule=*:bytes=10"
            )
        )
        self.send_to("large", ANN, BEN, lines=3000)
        self.assertEqual(self.mail_of("ann")["Subject"], "large")
        log = wait_until(
            lambda: self.instance.log() if "bounced" in self.instance.log() else "", "bounce", 30
        )
        self.assertIn("delivered", log)
        self.assertEqual(self.dovecot.mailbox("ben"), [])
        self.assertEqual(len(self.dovecot.mailbox("ann")), 1)


_QUOTAS = """\
protocol lmtp {
  mail_plugins = quota
}
"""
