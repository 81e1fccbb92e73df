"""The server is killed while a host that has served it before takes one more message."""

import smtplib
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from harakatls.spool.listing import listing
from tests.support import Instance, wait_until
from tests.wire.sink import Sink
from tests.wire.test_crash import message, relaying_to

HELD = "<held@load.test>"
EARLIER = ["<1@load.test>", "<2@load.test>", "<3@load.test>"]


class HoldingSink(Sink):
    """
    Has taken one message, and does not say so until it may.

    @ivar may_say: it may.
    """

    def __init__(self) -> None:
        self.may_say = threading.Event()
        super().__init__()

    def _take(self, stream: Any, sender: Any, recipients: Any, secured: Any, say: Any) -> None:
        def say_later(line: str) -> None:
            if HELD in self.messages:
                self.may_say.wait(30)
            say(line)

        super()._take(stream, sender, recipients, secured, say_later)


class KilledInReuseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sink = HoldingSink()
        self.addCleanup(self.sink.close)
        self.addCleanup(self.sink.may_say.set)
        files = relaying_to(self.sink.port)
        self.instance = Instance.make(domain="mx.test", files=files)
        self.addCleanup(self.instance.remove)

    def waiting(self) -> int:
        """How many messages the queue holds."""
        return len(list(listing(self.instance.directory / "queue")))

    def send(self, identity: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=10) as client:
            client.sendmail("a@load.test", ["b@sink.test"], message(identity, 100))

    def test_what_was_recorded_is_not_sent_again(self) -> None:
        """Twice comes the one message whose last reply was not heard, and no other one."""
        self.instance.start()
        for identity in EARLIER:
            self.send(identity)
            wait_until(lambda: not self.waiting(), "delivered and recorded")
        self.send(HELD)
        wait_until(lambda: HELD in self.sink.messages, "taken")
        self.assertEqual((len(self.sink.connections), self.waiting()), (1, 1))
        self.instance.kill()
        self.sink.may_say.set()
        self.instance.start()
        wait_until(lambda: not self.waiting(), "delivered once more")
        self.assertEqual(self.sink.messages, {HELD: 2, **dict.fromkeys(EARLIER, 1)})
