"""Tests of the plugin process_title."""

import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.plugins.process_title import ProcessTitle, load
from harakatls.verdict import ACCEPT
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, QUIT, RCPT, Talk
from tests.plugins.support import site_of


class ProcessTitleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.titles: list[str] = []
        self.plugin = ProcessTitle(self.clock, self.titles.append)

    def talk(self) -> Talk:
        return Talk(self.plugin, Everything(rcpt=ACCEPT))

    def test_counts(self) -> None:
        """Connections, recipients and messages: in all, now, on average, at most."""
        one, two = self.talk(), self.talk()
        one.codes(EHLO, MAIL, RCPT, RCPT, DATA, MESSAGE, END, MAIL, RCPT, DATA, MESSAGE, END)
        self.clock.advance(1)
        one.codes(QUIT)
        one.conversation.leave()
        self.clock.advance(1)
        self.assertEqual(
            self.titles,
            [
                "harakatls cn=2 cc=2 cps=2/2/2 rcpts=3/1.5 rps=3/3/3 msgs=2/1 mps=2/2/2",
                "harakatls cn=2 cc=1 cps=0/1/2 rcpts=3/1.5 rps=0/1.5/3 msgs=2/1 mps=0/1/2",
            ],
        )
        two.conversation.leave()

    def test_quiet(self) -> None:
        """Nothing ticks when there is nothing to tell; the next peer sets it going again."""
        talk = self.talk()
        talk.conversation.leave()
        self.clock.pump([1] * 10)
        self.assertEqual(self.titles[-1].split()[2], "cc=0")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        before = len(self.titles)
        self.talk()
        self.clock.advance(1)
        self.assertEqual(self.titles[before:][0].split()[1:3], ["cn=2", "cc=1"])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_gone_before_it_was_counted(self) -> None:
        """A handshake that fails was no connection that had been told of."""
        talk = Talk(self.plugin, begin=False)
        talk.conversation.leave()
        self.clock.advance(1)
        self.assertIn("cn=0 cc=0", self.plugin.title())

    def test_without_the_package(self) -> None:
        """The operator learns what to install."""
        self.patch(sys, "modules", {**sys.modules, "setproctitle": None})
        problem = self.assertRaises(ConfigError, load, site_of(self, {}))
        self.assertIn("pip install harakatls[title]", str(problem))

    def test_in_the_process_list(self) -> None:
        """With the package it is what ps shows."""
        try:
            import setproctitle
        except ImportError:
            self.skipTest("setproctitle is not installed")
        before = setproctitle.getproctitle()
        self.addCleanup(setproctitle.setproctitle, before)
        plugin: Any = load(site_of(self, {}))
        plugin._set_title(plugin.title())
        shown = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode()
        self.assertEqual(shown, plugin.title())
