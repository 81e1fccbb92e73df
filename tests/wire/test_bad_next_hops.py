"""Next hops that stall, pour, drip and lie, against the running server."""

import re
import smtplib
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, wait_until
from tests.wire.rude import STEPS, Act, RudeServer, drip, hang, leave, pour, say, stare
from tests.wire.sink import Sink

SECONDS = 3  # for each answer
SIZE = 2_000_000  # octets: more than the sockets between us take
ACTS: dict[str, Act] = {
    "hang": hang,
    "stare": stare,
    "leave": leave,
    "pour-line": pour(b"2"),
    "pour-lines": pour(b"250-and\r\n"),
    "pour-yes": pour(b"250 ok\r\n"),
    "pour-nul": pour(b"\0"),
    "pour-lf": pour(b"\n"),
    "drip": drip(b"250-and\r\n"),
}
HANDSHAKES: dict[str, Act] = {
    "plain": say(b"220 go\r\n250-rude.test\r\n250 8BITMIME\r\n"),
    "later-plain": say(b"220 go\r\n"),
    "no": say(b"554 5.7.1 never\r\n"),
    "yes": say(b"250 go\r\n"),
    "record": say(b"220 go\r\n\x16\x03\x03"),
    "pour": pour(b"220 go\r\n\x16\x03\x03\xff\xff"),
    "leave": leave,
    "hang": hang,
}


class BadNextHopsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers: dict[str, RudeServer] = {}
        self.sink = Sink()
        self.addCleanup(self.sink.close)

    def serve(self, name: str, step: str, act: Act) -> None:
        """For the domain *name*.test."""
        self.servers[name] = RudeServer(step, act)
        self.addCleanup(self.servers[name].close)

    def start(self, tls_ini: str = "") -> None:
        """A server that relays to all of them."""
        ports = {name: server.port for name, server in self.servers.items()}
        routes = "".join(
            f'{name}.test={{"nexthop":"127.0.0.1:{port}"}}\n'
            for name, port in {**ports, "good": self.sink.port}.items()
        )
        limits = ("greeting", "command", "data", "end_of_data", "handshake")
        self.instance = Instance.make(
            files={
                "tls.ini": tls_ini,
                "databytes": "10000000\n",
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": f"[domains]\n{routes}",
                "outbound.ini": "temp_fail_intervals=1h*9\nlocal_mx_ok=true\nconcurrency_max=200\n"
                + "".join(f"{limit}_timeout={SECONDS}\n" for limit in limits),
            }
        )
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def send(self, domain: str, size: int = 100) -> None:
        """One message, from nobody, so that there is no report."""
        text = f"Message-ID: <{domain}@mx.test>\r\n\r\n" + "x" * 70 + "\r\n"
        text += ("x" * 70 + "\r\n") * (size // 72)
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.sendmail("", [f"x@{domain}.test"], text)

    def good_mail_gets_through(self, number: int) -> None:
        """At once, whatever else is under way."""
        before = self.sink.messages.total()
        began = time.monotonic()
        for _ in range(number):
            self.send("good")
        wait_until(lambda: self.sink.messages.total() == before + number, "good mail")
        self.assertLess(time.monotonic() - began, 2 * SECONDS)

    def settled(self, names: set[str]) -> dict[str, str]:
        """When each has been tried: the line of the log about it, by name."""
        pattern = re.compile(r"(?:deferred|bounced|delivered) .*? domain=([\w-]+)\.test .*")

        def all_told() -> dict[str, str] | None:
            lines = pattern.finditer(self.instance.log())
            told = {match[1]: match[0] for match in lines if match[1] in names}
            return told if set(told) == names else None

        found = wait_until(all_told, f"outcomes: {self.instance.log()[-3000:]}", seconds=60)
        assert found is not None
        return found

    def test_at_every_step(self) -> None:
        """
        All at once, with large messages: each is left in its time, memory is bounded, no mail is
        lost, and mail for others goes out meanwhile.
        """
        for step in STEPS:
            for name, act in ACTS.items():
                self.serve(f"{step.lower()}-{name}", step, act)
        self.start()
        self.good_mail_gets_through(5)
        before = self.instance.memory_kb()
        for name in self.servers:
            self.send(name, SIZE if "body" in name or "stare" in name else 100)
        self.good_mail_gets_through(20)
        told = self.settled(set(self.servers))
        # Who pours a yes has said yes where the message had been sent whole.
        self.assertEqual(
            {name for name, line in told.items() if not line.startswith("deferred")},
            {name for name in told if name == "end-pour-yes"},
        )
        self.assertLess(self.instance.peak_memory_kb() - before, 60_000)
        log = self.instance.log()
        self.assertNotIn("Traceback", log)
        self.assertLess(max(map(len, log.splitlines())), 3000)
        queue = self.instance.queue_list()
        for name, line in told.items():
            self.assertEqual(f"<x@{name}.test>" in queue, line.startswith("deferred"), name)
        self.good_mail_gets_through(5)

    def test_a_forced_host(self) -> None:
        """However it goes about STARTTLS, it is not told who writes to whom."""
        for name, act in HANDSHAKES.items():
            self.serve(f"starttls-{name}", "STARTTLS", act)
        self.serve("ehlo-pour", "EHLO", pour(b"250-STARTTLS\r\n"))
        self.serve("none", "never", leave)
        self.start("[outbound]\nforce_tls_hosts[]=127.0.0.1\n")
        for name in self.servers:
            self.send(name)
        told = self.settled(set(self.servers))
        for name, server in self.servers.items():
            self.assertTrue(told[name].startswith("deferred"), told[name])
            verbs = {line.split(b" ")[0].strip() for line in server.heard}
            self.assertLessEqual(verbs, {b"EHLO", b"HELO", b"STARTTLS", b"QUIT"}, name)
        self.assertNotIn("Traceback", self.instance.log())
