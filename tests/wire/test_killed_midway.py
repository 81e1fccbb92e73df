"""The server is killed while it splits messages by recipient and writes reports."""

import random
import re
import smtplib
import threading
import time
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until
from tests.wire.sink import Sink

KILLS = 5
CLIENTS = 4
AT_ONCE = 10  # deliveries
SENDER = "you@load.test"
KINDS = ("known", "unknown", "later", "also-known")
RECIPIENTS = [f"{kind}@d{number}.test" for number in range(3) for kind in KINDS]
FAILING = [address for address in RECIPIENTS if address.startswith("unknown@")]
IDENTITY = re.compile(rb"^References: (<[^>]+>)", re.MULTILINE)
FINAL = re.compile(rb"^Final-Recipient: rfc822; (\S+)", re.MULTILINE)


class PickySink(Sink):
    """
    Knows some recipients, others not, and some later.

    @ivar busy: it is not later yet.
    """

    busy = True

    def recipient(self, address: str) -> str:
        """As `Sink.recipient`."""
        kind = address.partition("@")[0]
        if kind == "unknown":
            return "550 5.1.1 unknown"
        if kind == "later" and self.busy:
            return "450 4.2.1 later"
        return "250 2.1.5 ok"

    def reported(self) -> Counter[tuple[str, str]]:
        """How often the sender was told of each (Message-ID, recipient)."""
        told: Counter[tuple[str, str]] = Counter()
        for (name, address), times in list(self.taken.items()):
            if address == SENDER:
                report = self.bodies[name]
                (about,) = IDENTITY.findall(report)
                for failed in FINAL.findall(report):
                    told[about.decode(), failed.decode()] += times
        return told


class KilledMidwayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sink = PickySink()
        self.addCleanup(self.sink.close)
        self.instance = Instance.make(
            domain="mx.test",
            files={
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": "[domains]\n"
                f'any={{"nexthop":"127.0.0.1:{self.sink.port}"}}\n',
                "outbound.ini": "temp_fail_intervals=5s*200\nconnect_timeout=5\n"
                f"local_mx_ok=true\nconcurrency_max={AT_ONCE}\n",
            },
        )
        self.addCleanup(self.instance.remove)
        self.accepted: set[str] = set()
        self.lock = threading.Lock()

    def send(self, name: str, stop: threading.Event) -> None:
        """Messages for all recipients, until told to stop or the server is gone."""
        number = 0
        try:
            with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=10) as client:
                while not stop.is_set():
                    number += 1
                    identity = f"<{name}.{number}@load.test>"
                    text = f"From: {SENDER}\r\nMessage-ID: {identity}\r\n\r\nHello\r\n"
                    client.sendmail(SENDER, RECIPIENTS, text)
                    with self.lock:
                        self.accepted.add(identity)
                    time.sleep(0.05)
        except (OSError, smtplib.SMTPException):
            pass

    def killed_under_load(self, number: int, seconds: float) -> None:
        """Start, load, kill."""
        self.instance.start()
        stop = threading.Event()
        clients = [
            threading.Thread(target=self.send, args=(f"{number}.{n}", stop), daemon=True)
            for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        time.sleep(seconds)
        self.instance.kill()
        stop.set()
        for client in clients:
            client.join(30)
            self.assertFalse(client.is_alive())

    def test_every_recipient_is_accounted_for(self) -> None:
        """
        Whoever is known has each message, and of whoever is not the sender is told; what was in
        hand at a kill may come twice, and nothing else does.
        """
        randomness = random.Random()
        for number in range(KILLS):
            self.killed_under_load(number, randomness.uniform(0.3, 1.5))
        self.assertGreater(len(self.accepted), 20)
        self.sink.busy = False
        self.instance.start()
        known = [address for address in RECIPIENTS if address not in FAILING]
        expected = {(name, address) for name in self.accepted for address in known}
        untold = {(name, address) for name in self.accepted for address in FAILING}

        def all_done() -> bool:
            return expected <= set(self.sink.taken) and untold <= set(self.sink.reported())

        wait_until(all_done, f"mail for all: {self.instance.log()[-2000:]}", seconds=90)
        twice = sum(times - 1 for times in self.sink.taken.values())
        self.assertLessEqual(twice, KILLS * 2 * AT_ONCE * len(KINDS))
        told_twice = sum(times - 1 for times in self.sink.reported().values())
        self.assertLessEqual(told_twice, KILLS * 2 * AT_ONCE)
        self.assertFalse(any(address in FAILING for _, address in self.sink.taken))
        self.assertNotIn("Traceback", self.instance.log())
