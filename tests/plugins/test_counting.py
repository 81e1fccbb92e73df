"""Tests of rcpt_to.max_count, max_unrecognized_commands and record_envelope_addresses."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Recipient
from harakatls.plugins import max_count, max_unrecognized, record_envelope
from harakatls.verdict import ACCEPT, Accept
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, RCPT, Talk, queued
from tests.plugins.support import site_of

XYZZY = b"XYZZY 1\r\n"


class MaxCountTests(SynchronousTestCase):
    def test_attempts_are_counted(self) -> None:
        """Good and bad ones alike; the one beyond the limit ends the connection."""
        plugin = max_count.load(site_of(self, {"rcpt_to.max_count": "3\n"}))
        talk = Talk(plugin)
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT, RCPT, RCPT), ["250", "250"] + ["550"] * 3)
        self.assertEqual(talk.say(RCPT), "550 5.7.1 Too many recipient attempts\r\n")
        self.assertEqual(talk.channel.closed, "linger")

    def test_of_one_message(self) -> None:
        """The next message has its own."""
        talk = Talk(max_count.load(site_of(self, {"rcpt_to.max_count": "2"})), Everything())
        talk.codes(EHLO)
        for _ in range(5):
            self.assertEqual(talk.codes(MAIL, RCPT, RCPT, b"RSET\r\n")[0], "250")
        self.assertIsNone(talk.channel.closed)

    def test_default(self) -> None:
        """Without the file 40 recipients may be named, as in Haraka."""
        self.assertEqual(max_count.load(site_of(self, {})).most, 40)

    def test_no_number(self) -> None:
        """A mistake keeps the server from starting, and says where it is."""
        for text in ("many", "0", "-1", "1.5"):
            for file, load in (
                ("rcpt_to.max_count", max_count.load),
                ("max_unrecognized_commands", max_unrecognized.load),
            ):
                make: Any = load
                problem = self.assertRaises(ConfigError, make, site_of(self, {file: text}))
                self.assertTrue(str(problem).startswith(f"{file}: "), problem)
                self.assertIn(text, str(problem))


class MaxUnrecognizedTests(SynchronousTestCase):
    def test_one_too_many(self) -> None:
        """Ten are borne, as in Haraka."""
        talk = Talk(max_unrecognized.load(site_of(self, {})))
        self.assertEqual(talk.codes(EHLO, *[XYZZY] * 10)[1:], ["500"] * 10)
        self.assertEqual(talk.say(XYZZY), "521 5.5.1 Too many unrecognized commands\r\n")
        self.assertEqual(talk.channel.closed, "linger")

    def test_known_to_a_plugin(self) -> None:
        """A command that a plugin before it answers is known."""
        site = site_of(self, {"max_unrecognized_commands": "1"})
        talk = Talk(Everything(unrecognized=ACCEPT), max_unrecognized.load(site))
        self.assertEqual(talk.codes(EHLO, *[XYZZY] * 10), ["250"] * 11)


class RecordEnvelopeTests(SynchronousTestCase):
    def header(self, mail: bytes, *rcpts: bytes, **answers: Any) -> str:
        talk = Talk(record_envelope.load(site_of(self, {})), Everything(rcpt=ACCEPT, **answers))
        talk.codes(EHLO, mail, *rcpts, DATA, MESSAGE, END)
        ((_, _, octets),) = queued(talk.spool)
        return octets.partition(b"Received:")[0].decode()

    def test_addresses(self) -> None:
        """The sender and all who were accepted."""
        self.assertEqual(
            self.header(MAIL, RCPT, b"RCPT TO:<cid@a.example>\r\n"),
            "X-Envelope-From: alice@sender.example\r\n"
            "X-Envelope-To: bob@a.example\r\n"
            "X-Envelope-To: cid@a.example\r\n",
        )

    def test_null_sender(self) -> None:
        """A report has no sender, and says so."""
        self.assertIn("X-Envelope-From: <>\r\n", self.header(b"MAIL FROM:<>\r\n", RCPT))

    def test_odd_addresses(self) -> None:
        """No address begins another field."""
        header = self.header(b'MAIL FROM:<"a\\,b X-Evil: 1"@sender.example>\r\n', RCPT)
        self.assertEqual(len(header.splitlines()), 2, header)

    def test_those_who_get_it(self) -> None:
        """Where an alias stands for others, these are written."""
        talk = Talk(
            record_envelope.load(site_of(self, {})),
            Everything(rcpt=Accept(becomes=(Recipient(parse_address("dan@a.example")),))),
        )
        talk.codes(EHLO, MAIL, RCPT, DATA, MESSAGE, END)
        ((_, _, octets),) = queued(talk.spool)
        self.assertIn(b"\r\nX-Envelope-To: dan@a.example\r\n", octets)
