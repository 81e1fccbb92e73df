"""Plugins that do what no plugin should: mail waits for it, but nothing else comes of it."""

import asyncio
import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harakatls.interfaces import IMailHook
from harakatls.verdict import ACCEPT, CONTINUE, Accept
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, RCPT, Talk, queued

LATER = "450 4.7.1 sender <alice@sender.example> denied\r\n"


def _raises(problem: BaseException) -> Any:
    async def at_once(*_: Any) -> Any:
        raise problem

    async def later(*_: Any) -> Any:
        await succeed(None)
        raise problem

    return at_once, later


async def _changes_connection(connection: Any, *_: Any) -> Any:
    connection.relaying = True
    return CONTINUE


async def _changes_envelope(_connection: Any, transaction: Any) -> Any:
    transaction.envelope.reverse_path = None
    return CONTINUE


async def _changes_recipients(_connection: Any, transaction: Any) -> Any:
    transaction.envelope.recipients.append("root")
    return CONTINUE


async def _recurses(*arguments: Any) -> Any:
    return await _recurses(*arguments)


async def _awaits_nonsense(*_: Any) -> Any:
    return await 3  # type: ignore[misc]


async def _yields_nonsense(*_: Any) -> Any:
    class Odd:
        def __await__(self) -> Any:
            yield "not a Deferred"

    await Odd()
    raise KeyError("after nonsense")


async def _yields_nonsense_for_ever(*_: Any) -> Any:
    class Odd:
        def __await__(self) -> Any:
            while True:
                yield

    await Odd()


async def _cancels_what_it_waits_for(*_: Any) -> Any:
    waits: Deferred[Any] = Deferred()
    waits.cancel()
    return await waits


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class _UnprintableAnswer:
    def __repr__(self) -> str:
        raise ValueError("no words")


async def _answers_unprintable(*_: Any) -> Any:
    return _UnprintableAnswer()


async def _is_a_verdict_of_a_kind(*_: Any) -> Any:
    class Mine(Accept):
        pass

    return Mine()


BAD = {
    "changes the connection": _changes_connection,
    "changes the envelope": _changes_envelope,
    "adds a recipient": _changes_recipients,
    "recurses": _recurses,
    "awaits nonsense": _awaits_nonsense,
    "yields nonsense": _yields_nonsense,
    "yields nonsense for ever": _yields_nonsense_for_ever,
    "cancels what it waits for": _cancels_what_it_waits_for,
    "answers what has no words": _answers_unprintable,
    "makes up a verdict": _is_a_verdict_of_a_kind,
    **{
        f"raises {type(problem).__name__} {when}": method
        for problem in (
            ValueError("x"),
            SystemExit(1),
            KeyboardInterrupt(),
            GeneratorExit(),
            StopIteration(3),
            MemoryError(),
            CancelledError(),
            asyncio.CancelledError(),
            _Unprintable(),
            BaseException("of no kind"),
        )
        for when, method in zip(("at once", "later"), _raises(problem), strict=True)
    },
}


@implementer(IMailHook)
class Bad:
    """At MAIL, as long as it is told to."""

    def __init__(self, method: Any) -> None:
        self.method = method

    async def mail(self, connection: Any, transaction: Any) -> Any:
        return CONTINUE if self.method is None else await self.method(connection, transaction)


class BadPluginTests(SynchronousTestCase):
    def tearDown(self) -> None:
        gc.collect()
        self.flushLoggedErrors()

    def test_counts_as_a_failure(self) -> None:
        """Whatever it does: the client is to come back, and the conversation goes on."""
        for name, method in BAD.items():
            plugin = Bad(method)
            talk = Talk(plugin, Everything(rcpt=ACCEPT))
            talk.say(EHLO)
            self.assertEqual(talk.say(MAIL), LATER, name)
            plugin.method = None
            codes = talk.codes(MAIL, RCPT, DATA, MESSAGE, END)
            self.assertEqual(codes, ["250", "250", "354", "250"], name)
            ((_, recipients, _),) = queued(talk.spool)
            self.assertEqual(recipients, ["bob@a.example"], name)
            talk.conversation.leave()
            self.assertEqual(talk.over, [None], name)

    def test_at_every_step(self) -> None:
        """Not even a plugin that raises everywhere keeps a connection from ending in order."""
        for problem in (ValueError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()):
            stages = [name for name in dir(Everything) if not name.startswith("_")]
            plugin = Everything()

            async def answer(*_: Any, problem: BaseException = problem) -> Any:
                raise problem

            self.patch(plugin, "_answer", answer)
            talk = Talk(plugin)
            for octets in (EHLO, MAIL, b"NOOP\r\n", b"VRFY x\r\n", b"XYZZY\r\n", b"RSET\r\n"):
                self.assertNotEqual(talk.say(octets), "", (problem, octets))
            talk.conversation.leave()
            self.assertEqual(talk.over, [None], (problem, stages))

    def test_leaves_failures_behind(self) -> None:
        """A Deferred that fails without anybody's notice is logged, and that is all."""

        async def careless(*_: Any) -> Any:
            fail(OSError("nobody looks"))
            return CONTINUE

        talk = Talk(Bad(careless), Everything(rcpt=ACCEPT))
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT), ["250"] * 3)
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_answers_twice(self) -> None:
        """What comes too late is not waited for any more."""
        waits: Deferred[Any] = Deferred(lambda _: None)  # cannot be cancelled

        async def stubborn(*_: Any) -> Any:
            return await waits

        talk = Talk(Bad(stubborn), Everything(rcpt=ACCEPT), timeouts=(5.0,))
        talk.say(EHLO, MAIL)
        talk.clock.advance(6)
        talk.heard()
        waits.callback(ACCEPT) if not waits.called else None
        self.assertEqual(talk.codes(b"NOOP\r\n"), ["250"])

    def test_frozen(self) -> None:
        """What one plugin is given no other plugin can change: but for the notes."""
        seen: list[Any] = []

        class Watching(Everything):
            async def mail(self, connection: Any, transaction: Any) -> Any:
                seen.append((connection, transaction))
                return CONTINUE

        watching = Watching(rcpt=ACCEPT)
        Talk(watching).say(EHLO, MAIL)
        for value in (*seen[0], seen[0][1].envelope, seen[0][0].peer):
            for name in value.__slots__ if hasattr(value, "__slots__") else vars(value):
                if not name.startswith("__"):
                    with self.assertRaises(AttributeError):
                        setattr(value, name, None)
