"""The command STATUS of a running server, whose queue holds a message that cannot be delivered."""

import json
import smtplib
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import DEFAULT_PLUGINS, Instance, free_port

LIMIT = 10.0  # seconds


class StatusTests(SynchronousTestCase):
    def ask(self, client: smtplib.SMTP, words: str) -> Any:
        code, answer = client.docmd("STATUS", words)
        self.assertEqual(code, 211, answer)
        return json.loads(answer.replace(b"\n", b""))

    def test_queue(self) -> None:
        """A program on this machine sees the message, pushes it, and throws it away."""
        instance = Instance.make(
            files={
                "plugins": f"status\n{DEFAULT_PLUGINS}",
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": "[domains]\naway.test={"
                f'"action":"accept","nexthop":"127.0.0.1:{free_port()}"}}\n',
            }
        )
        self.addCleanup(instance.remove)
        instance.start()
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.ehlo("client.test")
            self.assertTrue(client.has_extn("STATUS"))
            self.assertEqual(self.ask(client, "QUEUE LIST"), [])
            them = [f"user{n}@away.test" for n in range(40)]
            client.sendmail("me@mx.test", them, "Subject: stays\r\n\r\nHi\r\n")
            deadline = time.monotonic() + LIMIT
            while self.ask(client, "QUEUE STATS") != "0/0/1":
                self.assertLess(time.monotonic(), deadline, instance.log())
                time.sleep(0.05)
            (shown,) = self.ask(client, "QUEUE LIST")
            self.assertEqual(shown["to"], [f"<{address}>" for address in them])
            self.assertEqual(self.ask(client, f"QUEUE PUSH {shown['file']}"), "OK")
            self.assertEqual(self.ask(client, f"QUEUE DISCARD {shown['file']}"), "OK")
            while self.ask(client, "QUEUE LIST"):
                self.assertLess(time.monotonic(), deadline, instance.log())
                time.sleep(0.05)
            self.assertEqual(client.docmd("STATUS", "QUEUE PUSH nothing")[0], 500)
            self.assertEqual(client.docmd("STATUS", "POOL LIST")[0], 500)
