"""Tests of the plugin block_me."""

from pathlib import Path
from time import process_time

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.plugins.block_me import LOOKED_AT, load, named_in
from harakatls.verdict import ACCEPT
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, END, Talk, queued
from tests.plugins.support import site_of

FILES = {"block_me.recipient": "Spam@our.example\n", "block_me.senders": "joe@our.example\n"}
FORWARDED = b"""Subject: Fwd: Buy\r
\r
Look at this!\r
-----Original Message-----\r
From: Best Price <Sales@spam.example>\r
To: Joe\r
"""
ATTACHED = b"""Subject: Fwd\r
Content-Type: multipart/mixed; boundary=x\r
\r
--x\r
Content-Type: text/plain\r
\r
see there\r
--x\r
Content-Type: message/rfc822\r
\r
From: sales@spam.example\r
Subject: Buy\r
\r
Buy\r
--x--\r
"""
ENCODED = b"""Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: base64\r
\r
RnJvbTogQnV5IDxzYWxlc0BzcGFtLmV4YW1wbGU+Cg==\r
"""
SPAM = b"MAIL FROM:<sales@SPAM.example>\r\n"
TO_JOE = b"RCPT TO:<joe@our.example>\r\n"
RSET = b"RSET\r\n"


class NamedTests(SynchronousTestCase):
    def test_costly(self) -> None:
        """A spammer who makes his message to be long looked at is looked at once."""
        header = b"Subject: Fwd\r\n\r\n"
        began = process_time()
        for text in (b"From:", b"From:<", b"From: "):
            self.assertIsNone(named_in(header + text * (LOOKED_AT // len(text))))
        self.assertLess(process_time() - began, 1)

    def test_nested(self) -> None:
        """Nor does he keep it from being looked at."""
        for inner in (b"(" * 5000, b"<" * 5000, b'"' * 5000, b"@," * 5000):
            hostile = ATTACHED.replace(b"From: sales@spam.example", b"From: " + inner)
            self.assertIsNone(named_in(hostile))
        deep = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
            for n in range(3000)
        )
        self.assertIsNone(named_in(deep))


class BlockMeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = site_of(self, {**FILES, "mail_from.blocklist": "old@spam.example\n"})
        self.file = Path(self.site.config.resolve("mail_from.blocklist"))
        self.plugin = load(self.site)

    def talk(self, relaying: bool = True) -> Talk:
        talk = Talk(self.plugin, Everything(relaying=relaying, rcpt=ACCEPT))
        talk.say(EHLO)
        return talk

    def forward(
        self, text: bytes = FORWARDED, sender: str = "joe", to: str = "spam", **how: bool
    ) -> tuple[Talk, str]:
        talk = self.talk(**how)
        answer = talk.say(
            f"MAIL FROM:<{sender}@our.example>\r\nRCPT TO:<{to}@our.example>\r\n".encode(),
            DATA,
            text,
            END,
        )
        return talk, answer.splitlines()[-1]

    def is_blocked(self, mail: bytes = SPAM) -> bool:
        return self.talk(relaying=False).codes(mail) == ["550"]

    def test_unfinished_line(self) -> None:
        """A list whose last line has no end is still a list afterwards."""
        self.file.write_text("# by hand\nold@spam.example")
        self.forward()
        self.assertEqual(self.file.read_text(), "# by hand\nold@spam.example\nSales@spam.example\n")

    def test_looks_like_a_comment(self) -> None:
        """An address that begins as comments do is blocked after a restart as well."""
        self.forward(FORWARDED.replace(b"Sales@", b"#sales@"))
        config = ConfigDirectory(self.site.config.path)
        talk = Talk(load(evolve(self.site, config=config)))
        self.assertEqual(talk.codes(EHLO, b"MAIL FROM:<#sales@spam.example>\r\n")[-1], "550")

    def test_forwarded(self) -> None:
        """The sender is refused from now on, and after a restart; the forward goes nowhere."""
        self.assertFalse(self.is_blocked())
        talk, answer = self.forward()
        self.assertTrue(answer.startswith("250 2.0.0 Message Queued"), answer)
        self.assertEqual(queued(talk.spool), [])
        self.assertTrue(self.is_blocked())
        self.assertEqual(self.file.read_text(), "old@spam.example\nSales@spam.example\n")
        self.plugin = load(evolve(self.site, config=ConfigDirectory(self.file.parent)))
        self.assertTrue(self.is_blocked())
        self.assertTrue(self.is_blocked(b"MAIL FROM:<old@spam.example>\r\n"))

    def test_twice(self) -> None:
        """Who is blocked twice is in the file once."""
        self.forward()
        self.forward()
        self.assertEqual(len(self.file.read_text().splitlines()), 2)

    def test_ways_to_forward(self) -> None:
        """As text, attached, or encoded."""
        for octets in (FORWARDED, ATTACHED, ENCODED):
            self.assertEqual(str(named_in(octets)).lower(), "sales@spam.example")

    def test_nobody_named(self) -> None:
        """Such a message goes on like any other: its own From is not meant."""
        own = b"From: Joe <joe@our.example>\r\n"
        for text in (b"\r\nSpam!\r\n", own + b"\r\nFrom: me\r\n", b"\r\nFrom: <no address>\r\n"):
            talk, _ = self.forward(text)
            self.assertEqual(len(queued(talk.spool)), 1)
        self.assertEqual(len(self.file.read_text().splitlines()), 1)

    def test_hostile_text(self) -> None:
        """Nothing gets into the file but an address."""
        for text in (
            b"\r\nFrom: <a@b.example\r\nc@d.example>\r\n",
            b"\r\nFrom: <a@b.example\x00>\r\n",
            b"\r\nFrom: <#a b@c.example>\r\n",
            b"Content-Type: multipart/mixed\r\n\r\n",
            b"Content-Type: message/rfc822\r\n\r\n",
            b"Content-Type: text/plain; charset=none\r\n\r\n\xff\xfe\r\n",
            b"Content-Transfer-Encoding: base64\r\n\r\n====\r\n",
            b"\r\n" + b"From:" * 20000,
        ):
            self.assertIsNone(named_in(text), text[:60])

    def test_who_may(self) -> None:
        """A stranger, or a user who is not listed, blocks nobody."""
        _, answer = self.forward(sender="ann")
        self.assertEqual(answer, "550 5.7.1 You are not allowed to block mail, ann@our.example")
        talk, _ = self.forward(relaying=False)
        self.assertEqual(len(queued(talk.spool)), 1)
        talk, _ = self.forward(to="other")
        self.assertEqual(len(queued(talk.spool)), 1)
        self.assertFalse(self.is_blocked())

    def test_our_own_are_not_refused(self) -> None:
        """Who may relay is no stranger, whatever is in the file."""
        self.forward()
        self.assertEqual(self.talk().codes(SPAM, TO_JOE, RSET), ["250"] * 3)

    def test_not_written(self) -> None:
        """A file that cannot be written: the user tries again, and nobody is half blocked."""

        def no(*_: object) -> "Deferred[object]":
            return fail(PermissionError(13, "Permission denied"))

        calls = iter((self.site.call_in_thread, no))
        self.plugin = load(evolve(self.site, call_in_thread=lambda f, *a: next(calls)(f, *a)))
        _, answer = self.forward()
        self.assertEqual(answer[:9], "451 4.3.0")
        self.assertFalse(self.is_blocked())

    def test_mistakes(self) -> None:
        """Each is named with its file."""
        for file, text in (
            ("block_me.recipient", "spam"),
            ("block_me.recipient", ""),
            ("block_me.senders", "joe"),
            ("mail_from.blocklist", "nobody@"),
        ):
            problem = self.assertRaises(ConfigError, load, site_of(self, {**FILES, file: text}))
            self.assertTrue(str(problem).startswith(f"{file}: "), problem)
