"""No message that was answered with 250 is lost: the server is killed at random moments."""

import random
import smtplib
import threading
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until
from tests.wire.sink import Sink

AT_ONCE = 10  # deliveries
SMALL, LARGE = 2_000, 400_000  # octets: kept in the database, kept in a file


class Load:
    """Clients that send until told to stop and remember what was answered 250."""

    def __init__(self, port: int, clients: int, seed: int) -> None:
        self.accepted: set[str] = set()
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send, args=(f"{seed}.{n}",), daemon=True)
            for n in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> set[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"
        return self.accepted

    def _send(self, name: str) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=10) as client:
                    client.ehlo("load.test")
                    while not self._stop.is_set():
                        number += 1
                        identity = f"<{name}.{number}@load.test>"
                        body = message(identity, size_of(number))
                        client.sendmail("a@load.test", ["b@sink.test"], body)
                        with self._lock:
                            self.accepted.add(identity)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)


def size_of(number: int) -> int:
    """Every fifth message is large."""
    return LARGE if number % 5 == 0 else SMALL


def message(identity: str, size: int) -> bytes:
    """A message of about *size* octets."""
    lines = (size // 72) * ("." * 70 + "\r\n")
    return f"From: a@load.test\r\nMessage-ID: {identity}\r\n\r\n{lines}".encode()


def relaying_to(port: int) -> dict[str, str]:
    """The config files of a server that takes mail for sink.test and hands it to *port*."""
    return {
        "host_list": "sink.test\n",
        "plugins": "tls\nrcpt_to.in_host_list\nrelay\n",
        "relay.ini": "[relay]\nforce_routing=true\ndest_domains=true\n",
        "relay_dest_domains.ini": "[domains]\n"
        f'sink.test={{"action":"accept","nexthop":"127.0.0.1:{port}"}}\n',
        "outbound.ini": "temp_fail_intervals=5s*200\nconnect_timeout=5\ndead_host_retry=2\n"
        f"concurrency_max={AT_ONCE}\n",
    }


class CrashTests(SynchronousTestCase):
    """Each with a server of its own that delivers to a sink."""

    def setUp(self) -> None:
        self.sink = Sink()
        self.addCleanup(lambda: self.sink.close())
        self.instance = Instance.make(domain="mx.test", files=relaying_to(self.sink.port))
        self.addCleanup(self.instance.remove)

    def wait_for(self, accepted: set[str], seconds: float) -> set[str]:
        """What of *accepted* is missing at the sink when all is there, or time is out."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            missing = accepted - set(self.sink.messages)
            if not missing:
                return missing
            time.sleep(0.2)
        return accepted - set(self.sink.messages)

    def test_killed_under_load(self) -> None:
        """
        A crash at any moment, again and again: whatever was answered 250 arrives, whole; and twice
        at most what was in hand just then (under way, and as much again that was being recorded),
        on connections that have served many.
        """
        randomness = random.Random()
        accepted: set[str] = set()
        kills = 5
        for seed in range(kills):
            self.instance.start()
            load = Load(self.instance.port, 6, seed)
            time.sleep(randomness.uniform(0.2, 1.5))
            self.instance.kill()
            accepted |= load.stop()
        self.assertGreater(len(accepted), 50)
        self.instance.start()
        self.assertEqual(self.wait_for(accepted, 60), set())
        for identity in accepted:
            sent = message(identity, size_of(int(identity[1:].split("@")[0].rpartition(".")[2])))
            self.assertTrue(self.sink.bodies[identity].endswith(sent), identity)
        twice = sum(self.sink.messages.values()) - len(self.sink.messages)
        self.assertLessEqual(twice, kills * 2 * AT_ONCE)
        self.assertLess(len(self.sink.connections), len(accepted) / 2)
        self.assertNotIn("Traceback", self.instance.log())

    def test_sink_down_for_a_while(self) -> None:
        """Mail waits for a next hop that is down, over a restart, and arrives when it is back."""
        port = self.sink.port
        self.sink.close()
        self.instance.start()
        load = Load(self.instance.port, 4, 0)
        time.sleep(1)
        accepted = load.stop()
        self.assertTrue(accepted)
        self.instance.stop()
        told = len(self.instance.log())
        self.instance.start()
        wait_until(lambda: "no connection" in self.instance.log()[told:], "attempt after it")
        self.sink = Sink(port=port)
        self.assertEqual(self.wait_for(accepted, 60), set())

    def test_sink_that_fails_in_mid_message(self) -> None:
        """A next hop that answers 4yz after the data gets the message again, later."""
        self.sink.answer(".", "451 4.3.0 not now")
        self.instance.start()
        load = Load(self.instance.port, 2, 0)
        time.sleep(0.5)
        accepted = load.stop()
        time.sleep(1)
        self.assertEqual(dict(self.sink.messages), {})
        del self.sink.replies["."]
        self.assertEqual(self.wait_for(accepted, 60), set())
