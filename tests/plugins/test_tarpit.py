"""Tests of the plugin tarpit."""

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import providedBy

from harakatls.config.errors import ConfigError
from harakatls.config.timeouts import plugin_timeout
from harakatls.hooks.stages import STAGES
from harakatls.interfaces import IMailHook, IQuitHook, Site
from harakatls.plugins.tarpit import load
from harakatls.verdict import ACCEPT
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, QUIT, RCPT, Talk, queued
from tests.plugins.support import config_of, site_of

STEPS = (
    EHLO,
    MAIL,
    RCPT,
    DATA,
    MESSAGE + END,
    b"NOOP\r\n",
    b"VRFY x\r\n",
    b"XYZZY\r\n",
    b"RSET\r\n",
)


class Marking(Everything):
    """Marks every connection, or every transaction."""

    def __init__(self, seconds: object, transaction: bool = False) -> None:
        super().__init__()
        self.seconds = seconds
        self.transaction = transaction

    async def connect(self, connection: Any) -> Any:
        if not self.transaction:
            connection.notes["tarpit"] = self.seconds
        return await super().connect(connection)

    async def mail(self, connection: Any, transaction: Any) -> Any:
        if self.transaction:
            transaction.notes["tarpit"] = self.seconds
        return await super().mail(connection, transaction)


class TarpitTests(SynchronousTestCase):
    def talk(self, marking: Marking, text: str = "", limit: float = 0.0, **files: str) -> Talk:
        """The clock of the plugin is that of the conversation."""
        self.clock = Clock()
        site = evolve(site_of(self, {"tarpit.ini": text, **files}), clock=self.clock)
        plugins = marking, load(site), Everything(rcpt=ACCEPT)
        return Talk(*plugins, timeouts=(30.0, limit), clock=self.clock)

    def waited(self, talk: Talk, *octets: bytes) -> float:
        """Seconds until all is answered."""
        answer = talk.say(*octets)
        seconds = 0.0
        while not answer and seconds < 100:
            self.clock.advance(0.5)
            seconds += 0.5
            answer = talk.heard()
        return seconds

    def test_each_step(self) -> None:
        """A marked peer waits at each; an accepted recipient at two, and a message as well."""
        talk = self.talk(Marking(2))
        self.assertEqual(self.waited(talk), 2)
        waited = [self.waited(talk, step) for step in STEPS]
        self.assertEqual(waited, [2, 2, 4, 2, 4, 2, 2, 2, 2])
        self.assertEqual(self.waited(talk, QUIT), 2)
        self.assertEqual(talk.channel.closed, "close")

    def test_who_leaves(self) -> None:
        """Nothing waits for one who has gone, and a message that he never heard of is not taken."""
        for step in range(len(STEPS)):
            talk = self.talk(Marking(60))
            for said in STEPS[:step]:
                self.waited(talk, said)
                self.clock.advance(200)
            talk.say(STEPS[step])
            self.clock.advance(61)  # of two hooks the second
            self.assertEqual((talk.over, queued(talk.spool)[1:]), ([], []))
            talk.conversation.leave()
            self.assertEqual(self.clock.getDelayedCalls(), [], STEPS[step])
            self.assertEqual(talk.over, [None])
            if STEPS[step] == MESSAGE + END:
                self.assertEqual(queued(talk.spool), [])

    def test_unmarked(self) -> None:
        """A client that nobody has marked never waits."""
        talk = self.talk(Marking(None))
        self.assertEqual([self.waited(talk, step) for step in STEPS], [0.0] * len(STEPS))

    def test_transaction(self) -> None:
        """A marked transaction waits until it is over."""
        talk = self.talk(Marking(2, transaction=True))
        waited = [self.waited(talk, step) for step in STEPS]
        self.assertEqual(waited, [0, 2, 4, 2, 4, 0, 0, 0, 0])

    def test_chosen_hooks(self) -> None:
        """Only there, and only these are hooked."""
        talk = self.talk(Marking(2), "hooks_to_delay=mail, quit;helo\n")
        waited = [self.waited(talk, step) for step in STEPS]
        self.assertEqual(waited, [0, 2, 0, 0, 0, 0, 0, 0, 0])
        self.assertEqual(self.waited(talk, QUIT), 2)
        site = site_of(self, {"tarpit.ini": "hooks_to_delay=mail quit\n"})
        self.assertEqual(set(providedBy(load(site))), {IMailHook, IQuitHook})

    def test_ehlo_and_helo(self) -> None:
        """One hook here, two in Haraka."""
        talk = self.talk(Marking(2), "hooks_to_delay=helo\n")
        self.assertEqual(self.waited(talk, EHLO), 0)
        self.assertEqual(self.waited(talk, b"HELO client.example\r\n"), 2)

    def test_no_time_to_wait(self) -> None:
        """What other plugins write harms nobody."""
        odd: tuple[object, ...] = ("2", -1, float("nan"), float("inf"), [])
        for seconds in odd:
            talk = self.talk(Marking(seconds))
            self.assertEqual([self.waited(talk, step) for step in STEPS], [0.0] * len(STEPS))

    def test_longer_than_it_may(self) -> None:
        """With a time limit it waits less, rather than to refuse."""
        talk = self.talk(Marking(20), limit=10.0, **{"tarpit.timeout": "10"})
        self.assertEqual(self.waited(talk), 9)
        self.assertEqual(self.waited(talk, EHLO), 9)
        talk.say(MAIL)
        self.clock.advance(60)
        for step in (RCPT, DATA):
            talk.say(step)
            self.clock.advance(20)
        self.assertEqual(self.waited(talk, MESSAGE + END), 9)

    def test_peer_leaves(self) -> None:
        """Nothing is left of who does not want to wait."""
        talk = self.talk(Marking(20))
        talk.conversation.leave()
        self.assertEqual(talk.over, [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_timeout(self) -> None:
        """It may take as long as it takes, whatever the limit of others, unless it has its own."""
        config = config_of(self, {"plugin_timeout": "30"})
        self.assertEqual(plugin_timeout(config, "tarpit"), 0)
        config = config_of(self, {"plugin_timeout": "30", "tarpit.timeout": "90"})
        self.assertEqual(plugin_timeout(config, "tarpit"), 90)

    def test_unknown_hook(self) -> None:
        """A mistake is told with what is known."""
        site: Site = site_of(self, {"tarpit.ini": "hooks_to_delay=mail,rctp\n"})
        problem = str(self.assertRaises(ConfigError, load, site))
        self.assertTrue(problem.startswith("tarpit.ini hooks_to_delay: 'rctp' is"), problem)
        self.assertIn("rcpt_ok", problem)

    def test_every_hook_is_one(self) -> None:
        """The default is all of them, each under the name of its stage."""
        plugin = load(site_of(self, {}))
        stages = [stage for stage, interface in STAGES if interface.providedBy(plugin)]
        self.assertEqual(len(stages), 12)  # "queue" is waited for before
