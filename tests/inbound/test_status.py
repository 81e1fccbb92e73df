"""Enhanced status codes (RFC 2034): where they have to be, and where they must not be."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

import harakatls.inbound
import harakatls.plugins
import harakatls.smtp
from harakatls.inbound import replies
from harakatls.inbound.replies import reply_to
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import Accept, Disconnect, Reject, TempFail
from tests.inbound.support import EHLO, MAIL, RCPT, Talk

# Said in place of the greeting.
GREETINGS = frozenset({"PROXY_TIMEOUT", "PROXY_INVALID", "STOPPING_BEFORE_GREETING"})


def constants() -> Iterator[tuple[str, Reply]]:
    """All replies that are written down, by name."""
    for package in (harakatls.inbound, harakatls.plugins, harakatls.smtp):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, value in vars(import_module(found.name)).items():
                if isinstance(value, Reply):
                    yield name, value


class StatusTests(SynchronousTestCase):
    def assert_complete(self, reply: Reply, where: str) -> None:
        if reply.code // 100 == 3:
            self.assertIsNone(reply.enhanced, where)
        else:
            assert reply.enhanced is not None, where
            self.assertEqual(reply.enhanced.severity, reply.code // 100, where)

    def test_constants(self) -> None:
        """Every reply that is written down has one, of the class of its code."""
        found = dict(constants())
        self.assertGreater(len(found), 50)
        for name, reply in found.items():
            if name in GREETINGS:
                self.assertIsNone(reply.enhanced)
            else:
                self.assert_complete(reply, name)

    def test_texts_of_verdicts(self) -> None:
        """So has what follows from a verdict, but in the greeting and in answer to EHLO."""
        for (stage, kind), (code, status, text) in replies._TEXTS.items():
            if stage in ("connect", "hello"):
                self.assertIsNone(status)
            else:
                self.assert_complete(Reply.of(code, status, text), f"{stage} {kind.__name__}")

    def test_replies_of_plugins(self) -> None:
        """What a plugin leaves out is put in, and what does not fit its code is set right."""
        for stage, verdict, expected in (
            ("mail", Reject(Reply.of(553, None, "No")), "553 5.7.1 No"),
            ("rcpt", TempFail(Reply.of(451, None, "Later")), "451 4.7.1 Later"),
            ("rcpt", Reject(Reply.of(550, "4.1.1", "Who?")), "550 5.1.1 Who?"),
            ("rcpt", Accept(Reply.of(251, None, "Forwarded")), "251 2.1.5 Forwarded"),
            ("data", Disconnect(Reply.of(554, None, "Go")), "554 5.7.0 Go"),
            ("data", Accept(Reply.of(354, "2.0.0", "Send")), "354 Send"),
            ("queue", Accept(Reply.of(250, None, "Mine")), "250 2.0.0 Mine (7)"),
            ("connect", Reject(Reply.of(554, None, "No")), "554 No"),
            ("connect", Reject(Reply.of(554, "5.7.1", "No")), "554 5.7.1 No"),
            ("hello", TempFail(Reply.of(450, None, "No")), "450 No"),
            ("mail", Reject(Reply.of(553, "5.1.8", "As it is")), "553 5.1.8 As it is"),
        ):
            self.assertEqual(str(reply_to(stage, verdict, "7")), expected)


class HelpTests(SynchronousTestCase):
    def commands(self, talk: Talk) -> list[str]:
        return talk.say(b"HELP\r\n").splitlines()[0].split()[1:]

    def test_what_is_offered(self) -> None:
        """HELP names what may be said in this session, and no more."""
        talk = Talk()
        usual = ["HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "HELP", "QUIT"]
        self.assertEqual(self.commands(talk), usual)
        talk.say(EHLO)
        self.assertEqual(set(self.commands(talk)), {*usual, "BDAT"})
        talk.say(MAIL, RCPT)
        self.assertEqual(set(self.commands(talk)), {*usual, "BDAT"})
        talk.say(b"RSET\r\nHELO a\r\n")
        self.assertEqual(self.commands(talk), usual)

    def test_starttls(self) -> None:
        """As long as it is offered."""
        for offered in ("STARTTLS", "AUTH", "XCLIENT"):
            reply = replies.commands(Capabilities.of(offered))
            self.assertIn(offered, reply.lines[0].split())
