"""Who hears of it when mail cannot be delivered."""

import smtplib
from email import message_from_string, policy

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance
from tests.wire.sink import Sink


class ReportTests(SynchronousTestCase):
    def test_a_sender_at_home(self) -> None:
        """Who has a mailbox here finds the report in it, though no MX in the world leads here."""
        sink = Sink()
        self.addCleanup(sink.close)
        sink.answer("RCPT", "550 5.1.1 No such user here")
        route = f'[domains]\nthere.test={{"nexthop":"127.0.0.1:{sink.port}"}}\n'
        instance = Instance.make(
            files={"relay_acl_allow": "127.0.0.1\n", "relay_dest_domains.ini": route}
        )
        self.addCleanup(instance.remove)
        instance.start()
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.sendmail("me@mx.test", ["you@there.test"], "Subject: lost\r\n\r\nHello\r\n")
        text = instance.wait_for_mail("failure notice")
        self.assertTrue(text.startswith("Return-Path: <>\nDelivered-To: me@mx.test\n"), text)
        report = message_from_string(text, policy=policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertIn("550 5.1.1 No such user here", text)
        self.assertIn("Subject: lost", text)
        self.assertEqual(instance.queue_list().strip(), "0 messages, 0 octets")
        self.assertNotIn("double bounce", instance.log())
