"""The queue as the operator sees it."""

import os
import subprocess
import sys

from twisted.internet.defer import Deferred

from harakatls.queued import QueuedMessage
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.requests import SetAside
from harakatls.spool.sqlite import broken, listing
from tests.contracts.spool import delivered, envelope
from tests.spool.support import SQLiteCase

LIST = """
import sys
from pathlib import Path
from harakatls.spool.sqlite import listing
for queued in listing(Path(sys.argv[1])):
    print(queued.id, queued.domain)
"""


class ListingTests(SQLiteCase):
    """`listing` and `broken`."""

    def listed(self) -> list[QueuedMessage]:
        return list(listing(self.directory))

    def test_beside_the_server(self) -> None:
        """Another process lists what waits and what is in hand, while the server runs."""
        self.queue("A.1", "a@one.example", "b@two.example")
        self.queue("B.1")
        self.claim(1)
        found = subprocess.run(
            [sys.executable, "-c", LIST, self.directory],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            check=True,
        )
        self.assertEqual(
            found.stdout.decode().splitlines(),
            ["A.1.1 one.example", "A.1.2 two.example", "B.1.1 one.example"],
        )
        self.settle(delivered(self.claim(1)[0]))

    def test_without_the_server(self) -> None:
        """The queue of a server that is not running can be listed, too."""
        self.queue("A.1")
        self.run_to_end(self.spool.close())
        self.assertEqual([queued.id for queued in self.listed()], ["A.1.1"])

    def test_in_slices(self) -> None:
        """A long list is read piece by piece: the server goes on, what it removes is left out."""
        for number in range(4):
            with self.held():
                for one in range(200):
                    staged = self.stage(f"{number}-{one}.1")
                    Deferred.fromCoroutine(staged.commit(envelope()))
        found = listing(self.directory)
        first = [next(found).id for _ in range(10)]
        self.assertEqual(first, [f"0-{number}.1.1" for number in range(10)])
        for queued in self.claim(1000):
            if queued.id.startswith("3-"):
                self.settle(delivered(queued))
        self.assertEqual(len(list(found)), 590)

    def test_closed_early(self) -> None:
        """Looking at the first few keeps nothing open."""
        self.queue("A.1")
        self.queue("B.1")
        found = listing(self.directory)
        next(found)
        del found
        self.settle(delivered(self.claim(1)[0]))
        self.assertEqual([queued.id for queued in self.listed()], ["B.1.1"])

    def test_broken(self) -> None:
        """What cannot be read is listed apart, with the reason, before and after it was met."""
        for name in ("A.1", "B.1", "C.1"):
            self.queue(name)
        one = self.claim(1)[0]
        self.run_to_end(self.spool.set_aside(one, "its body is gone"))
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET message = '{}' WHERE id = 'B.1.1'")
        expected = [
            SetAside("A.1.1", "its body is gone"),
            SetAside("B.1.1", "what is stored of it is not a queued message (KeyError)"),
        ]
        self.assertEqual(list(broken(self.directory)), expected)
        self.assertEqual([queued.id for queued in self.listed()], ["C.1.1"])
        self.claim()
        self.assertEqual(list(broken(self.directory)), expected)

    def test_no_queue(self) -> None:
        """The operator who names the wrong directory reads so, and nothing is made there."""
        nowhere = self.directory / "nowhere"
        error = self.assertRaises(SpoolUnusable, list, listing(nowhere))
        self.assertIn(f"there is no queue in {nowhere}", str(error))
        self.assertFalse(nowhere.exists())

    def test_damaged(self) -> None:
        """A damaged database is told as such."""
        self.run_to_end(self.spool.close())
        (self.directory / "queue.db").write_bytes(b"garbage" * 1000)
        error = self.assertRaises(SpoolUnusable, self.listed)
        self.assertIn("queue.db cannot be read: file is not a database", str(error))
