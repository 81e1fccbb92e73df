"""``harakatls queue`` beside a running server that delivers, or cannot."""

import json
import os
import signal
import smtplib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    Certificates,
    Instance,
    run_harakatls,
    temporary_directory,
    wait_until,
)
from tests.wire.sink import Sink

RELAYED = "x@elsewhere.test"
ROUTE = '[domains]\nany={{"nexthop":"127.0.0.1:{}"}}\n'
FORCED = "[outbound]\nca=trusted.pem\nforce_tls_hosts[]=127.0.0.1\n"


class QueueCommandTests(SynchronousTestCase):
    def start(self, sink: Sink, **files: str) -> Instance:
        """A server that gives all mail to *sink*, and tries again after an hour."""
        self.sink = sink
        self.addCleanup(sink.close)
        self.instance = instance = Instance.make(
            files={
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": ROUTE.format(sink.port),
                "outbound.ini": "temp_fail_intervals=1h,1d\nlocal_mx_ok=true\n",
                **{name.replace("_ini", ".ini"): text for name, text in files.items()},
            }
        )
        self.addCleanup(instance.remove)
        instance.start()
        return instance

    def send(self, subject: str) -> None:
        text = f"Message-ID: <{subject}@mx.test>\r\nSubject: {subject}\r\n\r\nHello\r\n"
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.sendmail("you@example.org", [RELAYED], text)

    def queue(self, verb: str, *arguments: str) -> str:
        done = run_harakatls("queue", verb, "--config", self.instance.config, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def listed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.queue("list", "--json").splitlines()]

    def delayed(self) -> None:
        """Wait until the first attempt was made."""
        wait_until(
            lambda: [m for m in self.listed() if m["attempts"] and m["state"] == "waiting"],
            "first attempt",
        )

    def delivered(self, subject: str) -> None:
        name = f"<{subject}@mx.test>"
        # The schedule would take an hour.
        try:
            wait_until(lambda: self.sink.messages[name], subject, 10.0)
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.instance.log()}") from None

    def test_tls_holds_it_back(self) -> None:
        """The operator reads why and what would change it, changes it, and the mail goes."""
        certificates = Certificates()
        pair = certificates.write_pair(temporary_directory(), "other.test")
        trusted = certificates.write_authority(temporary_directory() / "trusted.pem").read_text()
        instance = self.start(Sink(*pair), tls_ini=FORCED, **{"trusted.pem": trusted})
        self.send("held")
        self.delayed()
        shown = self.queue("show", "*")
        self.assertIn(f"TLS holds it back: [127.0.0.1]:{self.sink.port}\n", shown)
        self.assertIn("certificate is for other.test, not 127.0.0.1", shown)
        self.assertIn("because   force_tls_hosts lists 127.0.0.1\n", shown)
        self.assertIn("goes if   the host shows a valid certificate for 127.0.0.1", shown)
        self.assertFalse(self.sink.messages)
        (instance.config / "tls.ini").write_text("[outbound]\nca=trusted.pem\n")
        wait_until(lambda: "go by what has changed" in instance.log(), "new settings")
        self.assertIn("configuration has changed since", self.queue("show", "*"))
        self.assertEqual(self.queue("flush", "--all"), "1 message: to be tried now\n")
        self.delivered("held")
        wait_until(lambda: not self.listed(), "empty queue")

    def test_hangup_flushes_what_is_not_held(self) -> None:
        """SIGHUP has delayed mail tried now; what the operator holds stays until released."""
        sink = Sink()
        sink.answer("RCPT", "450 4.2.1 come back later")
        instance = self.start(sink)
        for subject in ("goes", "stays"):
            self.send(subject)
            wait_until(lambda: all(m["attempts"] for m in self.listed()), "first attempt")
        _, stays = [m["id"] for m in self.listed()]
        self.assertEqual(self.queue("hold", stays), "1 message: held\n")
        sink.answer("RCPT", "250 2.1.5 ok")
        os.kill(instance.pid, signal.SIGHUP)
        self.delivered("goes")
        wait_until(lambda: [m["id"] for m in self.listed()] == [stays], "one message left")
        self.assertEqual(self.listed()[0]["state"], "held")
        self.assertFalse(sink.messages["<stays@mx.test>"])
        self.assertEqual(self.queue("release", stays), "1 message: released\n")
        self.queue("flush", stays)
        self.delivered("stays")
        self.assertIn("no problems", self.queue("verify"))

    def test_removed_beside_the_server(self) -> None:
        """What was removed does not come back, not even with a restart."""
        sink = Sink()
        sink.answer("RCPT", "450 4.2.1 come back later")
        instance = self.start(sink)
        self.send("gone")
        self.delayed()
        self.assertEqual(self.queue("remove", "--yes", "--recipient", RELAYED)[:10], "1 message:")
        self.assertEqual(self.listed(), [])
        instance.stop()
        instance.start()
        self.assertEqual(self.listed(), [])
        self.assertIn("0 messages", self.queue("stat"))
