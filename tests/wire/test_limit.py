"""The plugin limit with a real Redis: several servers count together, and none waits for it."""

import smtplib
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, need, wait_until
from tests.wire.redis_server import RedisServer

PLUGINS = "limit\nrcpt_to.in_host_list\nqueue/maildir\n"
LIMITS = """tarpit_delay=0
[redis]
port={}
[concurrency]
enabled=true
max=2
[rate_rcpt]
enabled=true
default=3/1h
"""
AT_ONCE = 3.0  # seconds for what takes none, on a busy machine


class LimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        need("redis-server")
        self.redis = RedisServer()
        self.addCleanup(self.redis.stop)
        self.redis.start()

    def start(self) -> Instance:
        instance = Instance.make(
            files={"plugins": PLUGINS, "limit.ini": LIMITS.format(self.redis.port)}
        )
        self.addCleanup(instance.remove)
        instance.start()
        return instance

    def client(self, instance: Instance) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", instance.port, timeout=20)
        self.addCleanup(client.close)
        return client

    def answer(self, instance: Instance, name: str) -> int:
        """To RCPT, for one more message to *name*."""
        begin = time.monotonic()
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.ehlo("client.test")
            client.mail("you@example.org")
            code, _ = client.rcpt(f"{name}@mx.test")
        self.assertLess(time.monotonic() - begin, AT_ONCE)
        return code

    def test_servers_count_together(self) -> None:
        """What one server has let through counts at the other; without Redis each is alone."""
        first, second = self.start(), self.start()
        codes = [self.answer(one, "bob") for one in (first, second, first, second, first)]
        self.assertEqual(codes, [250, 250, 250, 450, 450])
        self.assertEqual(self.answer(second, "amy"), 250)

        key = "connections|127.0.0.1"
        wait_until(lambda: self.redis.ask("ZCARD", key) == 0, "all to have left")
        for one in (first, second):
            self.client(one).ehlo("client.test")
        with self.assertRaises(smtplib.SMTPConnectError) as refused:
            self.client(first)
        self.assertEqual(refused.exception.smtp_code, 421)

        self.redis.stop()
        self.assertEqual([self.answer(second, "eve") for _ in range(4)], [250, 250, 250, 450])
        wait_until(lambda: "limits are counted here alone" in second.log(), "a line in the log")
