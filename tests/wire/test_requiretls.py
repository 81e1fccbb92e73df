"""A message with REQUIRETLS (RFC 8689) by way of two of our servers, and to one that lacks it."""

import os
import re
import signal
import smtplib
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Certificates, Instance, temporary_directory, wait_until
from tests.wire.sink import Sink

SENDER = "joe@back.test"
TEXT = "From: {0}\r\nSubject: {1}\r\nMessage-ID: <{1}@x.test>\r\n\r\nThe secret.\r\n"


class RequireTLSTests(SynchronousTestCase):
    def setUp(self) -> None:
        certificates = Certificates()
        directory = temporary_directory()
        self.last = Instance.make("back.test", certificates=certificates)
        self.addCleanup(self.last.remove)
        self.sink = Sink(*certificates.write_pair(directory, "127.0.0.1"))
        self.addCleanup(self.sink.close)
        self.relay = Instance.make(
            "relay.test",
            {
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": "[domains]\n"
                f'back.test={{"nexthop":"127.0.0.1:{self.last.port}"}}\n'
                f'sink.test={{"nexthop":"127.0.0.1:{self.sink.port}"}}\n',
                "outbound.ini": "temp_fail_intervals=5s*9\n",
                "tls.ini": f"[outbound]\nca={self.last.authority}\n"
                "[requiretls_hosts]\n127.0.0.1=enforce\n",
            },
            certificates=certificates,
        )
        self.addCleanup(self.relay.remove)
        self.relay.start()

    def send(self, recipient: str, subject: str) -> None:
        context = ssl.create_default_context(cafile=str(self.relay.authority))
        with smtplib.SMTP("127.0.0.1", self.relay.port, timeout=20) as client:
            client.ehlo()
            self.assertNotIn("requiretls", client.esmtp_features)
            self.assertEqual(client.docmd("MAIL", f"FROM:<{SENDER}> REQUIRETLS")[0], 523)
            client.starttls(context=context)
            client.ehlo()
            self.assertIn("requiretls", client.esmtp_features)
            text = TEXT.format(SENDER, subject)
            client.sendmail(SENDER, [recipient], text, ["REQUIRETLS", "RET=FULL"])

    def test_on_its_way(self) -> None:
        """
        It waits through a restart, goes on with REQUIRETLS to the next server, and comes back
        without its content from one that does not know it.
        """
        self.send("ann@back.test", "kept")
        log = self.relay.log
        wait_until(lambda: "deferred" in log(), f"a first attempt: {log()}")
        self.relay.stop()
        self.last.start()
        self.relay.start()
        os.kill(self.relay.pid, signal.SIGHUP)  # so that it is tried now
        received = self.last.wait_for_mail("kept")
        self.assertEqual(received.count("(REQUIRETLS);"), 2, received)
        delivered = re.compile(r"delivered .* verified=True .*REQUIRETLS: TLS with a valid")
        wait_until(lambda: delivered.search(log()), f"its line: {log()}")
        self.send("ann@sink.test", "returned")
        report = self.last.wait_for_mail("failure notice")
        self.assertIn("Status: 5.7.30", report)
        self.assertIn("Subject: returned", report)
        self.assertNotIn("The secret.", report)
        top = report.partition("\n\n")[0]
        self.assertNotIn("REQUIRETLS", top)
        self.assertEqual(sum(self.sink.messages.values()), 0)
        self.assertRegex(
            log(), r"bounced .* response=550 5\.7\.30 REQUIRETLS is required, but \S+ does not"
        )
