"""Tests of the plugin status, on a queue on the disk."""

import json
import re
from typing import Any

from attrs import evolve

from harakatls.connection import Endpoint
from harakatls.interfaces import Site
from harakatls.plugins import status
from harakatls.queued import Trial
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Accept, Reject
from tests.plugins.support import connection_from, result_of, site_of
from tests.service.queue_case import QueueCase

FAR = 9e9  # seconds since the epoch
HERE = connection_from("127.0.0.1")


def read(reply: Reply) -> Any:
    """As a client does: without code and hyphen, joined."""
    lines = reply.wire.decode().splitlines()
    assert all(line.startswith("211") for line in lines)
    return json.loads("".join(line[4:] for line in lines))


class StatusCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        site: Site = site_of(self, {})
        self.plugin = evolve(status.load(site), queue=self.directory)

    def ask(self, argument: str, connection: Any = HERE) -> Any:
        return result_of(self, self.plugin.unrecognized(connection, None, "STATUS", argument))

    def found(self, argument: str) -> Any:
        verdict = self.ask(argument)
        self.assertIsInstance(verdict, Accept, argument)
        assert verdict.reply is not None
        return read(verdict.reply)

    def refused(self, argument: str) -> str:
        verdict = self.ask(argument)
        self.assertIsInstance(verdict, Reject, argument)
        return str(verdict.reply)


class StatusTests(StatusCase):
    def test_empty(self) -> None:
        """An empty queue is told as such, not as a failure."""
        self.assertEqual(self.found("QUEUE LIST"), [])
        self.assertEqual(self.found("queue stats"), "0/0/0")
        self.assertEqual(self.found("QUEUE INSPECT"), {"delivery_queue": [], "temp_fail_queue": []})

    def test_not_a_command(self) -> None:
        """What is no command is answered with 500 and what is wrong with it."""
        for argument, words in (
            ("", "unknown STATUS command"),
            ("WHAT", "unknown STATUS command"),
            ("QUEUE", "unknown QUEUE command"),
            ("QUEUE LIST ALL", "unknown QUEUE command"),
            ("QUEUE PUSH", "unknown QUEUE command"),
            ("QUEUE DISCARD no-such-message", "there is no message no-such-message"),
            ("QUEUE DISCARD \x00", "no message has such a name"),
        ):
            answer = self.refused(argument)
            self.assertTrue(answer.startswith("500 5.5.4 "), answer)
            self.assertIn(words, answer)

    def test_others(self) -> None:
        """Nobody from elsewhere is told anything, nor that there is such a command."""
        for host in ("192.0.2.1", "::", "10.0.0.1", "2001:db8::1", "/run/socket"):
            peer = evolve(HERE, peer=Endpoint(host, 40000))
            verdict = self.ask("QUEUE LIST", peer)
            self.assertEqual(verdict, Reject(Reply.of(500, "5.7.1", "STATUS not allowed remotely")))
            offered = result_of(self, self.plugin.capabilities(peer, Capabilities()))
            self.assertNotIn("STATUS", offered)

    def test_told_address(self) -> None:
        """Who only is told to be on this machine may be on that of the proxy, or nowhere."""
        here, far = Endpoint("127.0.0.1", 40001), Endpoint("192.0.2.1", 40000)
        for told, is_here in (
            (evolve(HERE, proxied_by=far), False),
            (evolve(HERE, xclient_by=far), False),
            (evolve(HERE, proxied_by=HERE.peer), False),
            (evolve(HERE, peer=far, proxied_by=here), False),
            (evolve(HERE, peer=far, xclient_by=here), False),
            (evolve(HERE, proxied_by=here), True),
            (evolve(HERE, xclient_by=here), True),
        ):
            offered = result_of(self, self.plugin.capabilities(told, Capabilities()))
            self.assertEqual("STATUS" in offered, is_here, told)

    def test_offered(self) -> None:
        """On this machine EHLO tells of it."""
        for host in ("127.0.0.1", "127.1.2.3", "::1"):
            peer = evolve(HERE, peer=Endpoint(host, 40000))
            self.assertIn("STATUS", result_of(self, self.plugin.capabilities(peer, Capabilities())))

    def test_other_commands(self) -> None:
        """Other commands that nobody knows are left to other plugins."""
        asked = self.plugin.unrecognized(HERE, None, "XYZZY", "QUEUE LIST")
        self.assertIs(result_of(self, asked), CONTINUE)

    def test_no_queue(self) -> None:
        """What is wrong with the queue is for the log."""
        self.plugin = evolve(self.plugin, queue=self.directory / "none")
        self.assertEqual(self.refused("QUEUE STATS"), "500 5.3.0 The queue cannot be read")
        self.flushLoggedErrors()

    def test_in_lines(self) -> None:
        """A long answer is in lines that can be joined, whatever is in them."""
        for text in ("a" * 5000, " " * 700, 'x "\\\r\n\t ü€😀 ' * 300, ""):
            reply = status.in_lines({"text": text})
            self.assertEqual(read(reply), {"text": text})
            self.assertLessEqual(max(map(len, reply.wire.split(b"\r\n"))), 510)
            self.assertTrue(re.fullmatch(rb"(211-[!-~]+\r\n)*211 [!-~]+\r\n", reply.wire))


class QueueTests(StatusCase):
    """With messages in it."""

    def setUp(self) -> None:
        super().setUp()
        self.add("TX.1", "ann@a.example", "bob@a.example")
        self.add("TX.2", "cid@b.example", sender=None)

    def later(self) -> None:
        """An attempt at the first has come to nothing."""
        (queued,) = self.claim(limit=1)
        self.delay(queued, Trial("192.0.2.1", "no"), FAR)

    def test_list(self) -> None:
        """Haraka's keys; who sent it, and to whom it still has to go."""
        first, second = self.found("QUEUE LIST")
        self.assertEqual(
            {key: value for key, value in first.items() if key != "queue_time"},
            {
                "file": "TX.1.1",
                "uuid": "TX.1.1",
                "domain": "a.example",
                "from": "<from@sender.example>",
                "to": ["<ann@a.example>", "<bob@a.example>"],
            },
        )
        self.assertEqual((second["from"], second["domain"]), ("<>", "b.example"))
        self.assertIsInstance(first["queue_time"], int)

    def test_waiting(self) -> None:
        """What waits for another attempt is told from what is due."""
        self.assertEqual(self.found("QUEUE STATS"), "0/2/0")
        self.later()
        self.assertEqual(self.found("QUEUE STATS"), "0/1/1")
        inspected = self.found("QUEUE INSPECT")
        self.assertEqual(inspected["delivery_queue"], [{"id": "TX.2.1"}])
        self.assertEqual(
            inspected["temp_fail_queue"], [{"id": "TX.1.1", "fire_time": round(FAR * 1000)}]
        )

    def test_push(self) -> None:
        """A message that is pushed is due at once."""
        self.later()
        self.assertEqual(self.found("QUEUE PUSH TX.1.1"), "OK")
        self.assertEqual(self.found("QUEUE STATS"), "0/2/0")

    def test_discard(self) -> None:
        """It is gone, and the others are there."""
        self.assertEqual(self.found("QUEUE DISCARD TX.1.1"), "OK")
        self.assertEqual([shown["file"] for shown in self.found("QUEUE LIST")], ["TX.2.1"])
        self.assertIn("there is no message TX.1.1", self.refused("QUEUE DISCARD TX.1.1"))

    def test_too_many(self) -> None:
        """An answer without end is none."""
        self.patch(status, "MOST", 1)
        for question in ("QUEUE LIST", "QUEUE INSPECT"):
            self.assertIn("2 messages are too many", self.refused(question))
