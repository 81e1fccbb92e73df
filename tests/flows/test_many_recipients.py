"""Ten thousand recipients of one message."""

import time
import tracemalloc
from collections import Counter
from email import message_from_bytes
from typing import Any

from harakatls.mail.envelope import RECIPIENTS
from harakatls.testing.peers import HANG_UP, Answer, ObligingPeer
from harakatls.testing.values import envelope
from tests.flows.test_spool_to_peer import HOME, MX1, MX2, FlowTestCase

MANY = 10_000
SOME = 2_000  # where each needs a connection of its own
DOMAIN = "recipient.example"
NAMES = [f"user{n}@{DOMAIN}" for n in range(MANY)]
SECONDS = 60.0  # of one test; more than linear time takes much longer


class ManyRecipientsTests(FlowTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.home = ObligingPeer()
        self.network.serve(HOME, self.home)
        self._began = time.monotonic()

    def tearDown(self) -> None:
        self.assertLess(time.monotonic() - self._began, SECONDS)

    def became(self) -> Counter[str]:
        """How many recipients were delivered, delayed and failed."""
        return Counter(entry.split(" ")[0] for entry in self.diary.entries if DOMAIN in entry)

    def asked(self, *peers: ObligingPeer) -> list[str]:
        """The addresses given in RCPT."""
        return [
            line[9:-1] for peer in peers for line in peer.commands if line.startswith("RCPT TO:<")
        ]

    def assert_batches(self, *peers: ObligingPeer) -> None:
        """No transaction with more than a hundred (RFC 5321 section 4.5.3.1.8)."""
        for peer in peers:
            batch = 0
            for line in peer.commands:
                batch = batch + 1 if line.startswith("RCPT") else 0
                self.assertLessEqual(batch, RECIPIENTS)

    def test_one_domain(self) -> None:
        """In batches over one connection, each recipient once; half of them unknown: one report."""
        peer = ObligingPeer("PIPELINING", "8BITMIME")
        peer._answers["RCPT"] = ["250 Ok", "550 5.1.1 No such user"] * (MANY // 2)
        self.network.serve(MX1, peer)
        self.start()
        self.accept(envelope(recipients=NAMES))
        self.assertEqual(self.asked(peer), NAMES)
        self.assert_batches(peer)
        self.assertEqual(len(peer.messages), MANY // RECIPIENTS)
        self.assertEqual(self.became(), {"delivered": MANY // 2, "failed": MANY // 2})
        self.assertEqual(len(self.network.attempts), 2)  # with that of the report
        (report,) = self.home.messages
        parts: Any = message_from_bytes(report).get_payload()
        self.assertEqual(len(parts[1].get_payload()) - 1, MANY // 2)
        self.assertLess(len(parts[0].get_payload()), 20_000)
        self.assertLess(len(report), 3_000_000)
        self.assertAllIsDone()

    def test_a_break_in_the_middle(self) -> None:
        """Who was delivered is not sent to again, whoever was not is, at the next host."""
        first = ObligingPeer("PIPELINING", "8BITMIME")
        taken = 40
        ends: list[Answer] = ["250 2.0.0 Kept"] * taken
        first._answers["end"] = [*ends, HANG_UP]
        second = ObligingPeer("PIPELINING", "8BITMIME")
        self.network.serve(MX1, first)
        self.network.serve(MX2, second)
        self.start(temp_fail_intervals=(60.0,))
        self.accept(envelope(recipients=NAMES))
        # The host may have the forty-first: nobody else is asked at first.
        done = taken * RECIPIENTS
        self.assertEqual(self.became(), {"delivered": done, "delayed": MANY - done})
        self.assertEqual(second.commands, [])
        (row,) = self.spool._rows.values()
        self.assertEqual(len(row.queued.pending), MANY - done)
        self.diary.entries.clear()
        self.pass_time(60.1)
        self.assertEqual(self.became(), {"delivered": MANY - done})
        self.assertEqual(self.asked(second), NAMES[done:])
        self.assert_batches(first, second)
        self.assertAllIsDone()

    def test_each_is_one_too_many(self) -> None:
        """A server that takes one recipient at a time gets them one at a time, and has them all."""
        peer = ObligingPeer("PIPELINING", "8BITMIME")
        some = NAMES[:500]
        peer._answers["RCPT"] = [
            answer
            for left in range(len(some), 0, -1)
            for answer in ["250 Ok"] + ["452 4.5.3 Too many"] * (min(left, RECIPIENTS) - 1)
        ]
        self.network.serve(MX1, peer)
        self.start()
        self.accept(envelope(recipients=some))
        self.assertEqual(self.became(), {"delivered": len(some)})
        self.assertEqual(len(peer.messages), len(some))
        self.assertAllIsDone()

    def test_all_delayed_to_the_end(self) -> None:
        """Ten thousand delays are one report, when nobody tries any more."""
        for _ in range(2):
            self.network.serve(MX1, ObligingPeer("PIPELINING", RCPT="450 4.2.1 Later"))
            self.network.serve(MX2, ObligingPeer("PIPELINING", RCPT="450 4.2.1 Later"))
        self.start(temp_fail_intervals=(60.0,))
        self.accept(envelope(recipients=NAMES))
        self.assertEqual(self.became(), {"delayed": MANY})
        self.pass_time(60.1)
        self.assertEqual(self.became(), {"delayed": MANY, "failed": MANY})
        self.assertEqual(len(self.home.messages), 1)
        self.assertAllIsDone()

    def test_many_domains(self) -> None:
        """Not more connections than are allowed, and all are served."""
        domains = [f"d{n}.example" for n in range(SOME)]
        exchangers: Any = self.resolver.exchangers
        exchangers.update({domain: [(10, "mx1.example")] for domain in domains})
        peers = [ObligingPeer("8BITMIME") for _ in range(SOME)]
        self.network.serve(MX1, *peers)
        most, connect = 0, self.network.connect

        def counted(*arguments: Any) -> Any:
            nonlocal most
            most = max(most, sum(transport.connected for transport in self.network.transports))
            return connect(*arguments)

        self.network.connect = counted  # type: ignore[assignment, method-assign]
        self.start(concurrency_max=50, pool_timeout=0.0)
        self.accept(envelope(recipients=[f"bob@{domain}" for domain in domains]))
        for _ in range(200):  # seconds; that all lead to one host turns out by and by
            self.pass_time(1.0)
        self.assertEqual(sum(len(peer.messages) for peer in peers), SOME)
        self.assertLessEqual(most, 50)
        self.assertAllIsDone()

    def test_memory(self) -> None:
        """What ten thousand recipients cost, beside the message itself, is some megabytes."""
        peer = ObligingPeer("PIPELINING", "8BITMIME", RCPT="550 5.1.1 No such user")
        self.network.serve(MX1, peer)
        self.start()
        mail = envelope(recipients=NAMES)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.accept(mail)
        self.assertLess(tracemalloc.get_traced_memory()[1], 60 << 20)
        self.assertEqual(len(self.home.messages), 1)
