"""The durable queue as the server uses it: with its thread, and the reactor's."""

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from harakatls.spool.sqlite import SQLiteSpool, open_spool
from tests.contracts.spool import LARGE, delivered, envelope
from tests.spool.support import new_directory

SENDERS, MESSAGES = 20, 15


async def in_thread(*call: Any) -> Any:
    """As the service does it."""
    return await deferToThread(*call)


class ThreadTests(TestCase):
    """With the reactor."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = new_directory(self.addCleanup)
        self.spool = self.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.spool.close()))

    def open(self) -> SQLiteSpool:
        spoken_to: Any = reactor
        return open_spool(self.directory, spoken_to, spoken_to.callFromThread, in_thread, reserve=0)

    async def send(self, sender: int) -> None:
        for number in range(MESSAGES):
            staged = await self.spool.stage(f"{sender}-{number}.1")
            await staged.write(f"{sender}-{number}".encode())
            if number == 7:
                for start in range(0, len(LARGE), 50_000):
                    await staged.write(LARGE[start : start + 50_000])
            await staged.commit(envelope("a@one.example", "b@two.example"))

    async def deliver(self, wanted: int) -> list[tuple[str, bytes]]:
        added: Deferred[None] = Deferred()

        def told(_: object) -> None:
            if not added.called:
                added.callback(None)

        self.spool.when_added(told)
        found: list[tuple[str, bytes]] = []
        while len(found) < wanted:
            added = Deferred()
            claimed = await self.spool.claim(1e11, 7)
            for queued in claimed:
                body = self.spool.open_body(queued)
                pieces = []
                while piece := await body.read(100_000):
                    pieces.append(piece)
                body.close()
                found.append((queued.id, b"".join(pieces)))
            await gatherResults(
                [Deferred.fromCoroutine(self.spool.settle(delivered(q))) for q in claimed]
            )
            if not claimed:
                await added
        return found

    async def test_many_at_once(self) -> None:
        """Whatever many senders hand in is delivered once, whole, while more comes in."""
        groups: list[int] = []
        real = self.spool.writer._finished

        def finished(group: list[Any]) -> None:
            groups.append(len(group))
            real(group)

        self.patch(self.spool.writer, "_finished", finished)
        wanted = SENDERS * MESSAGES * 2
        delivering = Deferred.fromCoroutine(self.deliver(wanted))
        await gatherResults([Deferred.fromCoroutine(self.send(n)) for n in range(SENDERS)])
        found = await delivering
        self.assertEqual(len(found), wanted)
        expected = {
            f"{sender}-{number}.1.{part}": f"{sender}-{number}".encode()
            + (LARGE if number == 7 else b"")
            for sender in range(SENDERS)
            for number in range(MESSAGES)
            for part in (1, 2)
        }
        self.assertEqual(dict(found), expected)
        self.assertEqual(list((self.directory / "body").iterdir()), [])
        self.assertGreater(max(groups), 1)
        self.assertIsNone(await self.spool.next_due())

    async def test_answers_come_in_the_reactors_thread(self) -> None:
        """No hook and no protocol is ever called in the thread of the writer."""
        threads: list[int] = []
        told: Deferred[None] = Deferred()

        def added(_: object) -> None:
            threads.append(threading.get_ident())
            told.callback(None)

        self.spool.when_added(added)
        staged = await self.spool.stage("A.1")
        await staged.commit(envelope())
        threads.append(threading.get_ident())
        await told
        self.assertEqual(threads, [threading.get_ident()] * 2)

    async def test_closing_finishes_what_was_begun(self) -> None:
        """A message that is being committed while the server stops is committed, and answered."""
        staged = [await self.spool.stage(f"{number}.1") for number in range(30)]
        commits = [Deferred.fromCoroutine(one.commit(envelope())) for one in staged]
        await self.spool.close()
        self.assertEqual(len(await gatherResults(commits)), 30)
        self.assertEqual([t.name for t in threading.enumerate() if "queue" in t.name], [])
        self.spool = self.open()
        self.assertEqual(len(await self.spool.claim(1e11, 100)), 30)
