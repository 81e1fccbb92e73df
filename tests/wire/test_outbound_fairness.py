"""A next hop that takes every connection and says nothing, beside one that is fast."""

import smtplib
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until
from tests.wire.rude import RudeServer, hang
from tests.wire.sink import Sink

AT_ONCE = 8  # deliveries; more than one destination may have, fewer than wait for the silent one
TO_ONE = 5
WAITING, MAIL = 40, 30  # messages
PATIENCE = 45  # seconds of ours until a greeting: as long as the whole test may take


class FairnessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.silent = RudeServer("connect", hang)
        self.addCleanup(self.silent.close)
        self.fast = Sink()
        self.addCleanup(self.fast.close)

    def start(self, to_one: int) -> None:
        """@param to_one: deliveries at once to one destination."""
        self.instance = Instance.make(
            files={
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": "[domains]\n"
                f'silent.test={{"nexthop":"127.0.0.1:{self.silent.port}"}}\n'
                f'fast.test={{"nexthop":"127.0.0.1:{self.fast.port}"}}\n',
                "outbound.ini": f"concurrency_max={AT_ONCE}\npool_concurrency_max={to_one}\n"
                f"local_mx_ok=true\ngreeting_timeout={PATIENCE}\n",
            }
        )
        self.addCleanup(self.instance.remove)
        self.addCleanup(self.instance.kill)  # in order it would wait for the silent one
        self.instance.start()

    def send(self, domain: str, number: int) -> None:
        """So many messages, from nobody, so that there is no report."""
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            for n in range(number):
                text = f"Message-ID: <{domain}.{n}@mx.test>\r\n\r\nHello\r\n"
                client.sendmail("", [f"x@{domain}"], text)

    def test_a_silent_destination(self) -> None:
        """
        More mail waits for it than there may be deliveries at once. Mail for the other one goes
        out long before any of that has been given up, and none of it is lost.
        """
        self.start(TO_ONE)
        self.send("silent.test", WAITING)
        began = time.monotonic()
        self.send("fast.test", MAIL)
        wait_until(lambda: self.fast.messages.total() == MAIL, "fast mail", seconds=PATIENCE)
        self.assertLess(time.monotonic() - began, PATIENCE / 3)
        self.assertEqual(set(self.fast.messages.values()), {1})
        log = self.instance.log()
        self.assertNotIn("deferred", log)
        self.assertNotIn("Traceback", log)
        queue = self.instance.queue_list()
        self.assertEqual(queue.count("<x@silent.test>"), WAITING)
        self.assertNotIn("fast.test", queue)
