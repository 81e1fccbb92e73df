"""Saving what can be read of a damaged queue."""

import os
import subprocess
import sys

from twisted.internet.defer import Deferred

from harakatls.interfaces import SpoolDamaged
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.requests import SetAside
from harakatls.spool.salvage import Salvaged, salvage
from harakatls.spool.sqlite import broken, listing
from tests.contracts.spool import LARGE, envelope
from tests.spool.support import SQLiteCase

COUNT = 300


class SalvageTests(SQLiteCase):
    """`salvage`."""

    def fill(self) -> bytes:
        """@return: the database, of a queue that was closed."""
        with self.held():
            for number in range(COUNT):
                staged = self.stage(f"{number}.1", b"%d" % number * 500)
                Deferred.fromCoroutine(staged.commit(envelope()))
        self.queue("large.1", body=LARGE)
        self.run_to_end(self.spool.close())
        return (self.directory / "queue.db").read_bytes()

    def salvaged(self) -> list[str]:
        """@return: what is delivered then, each with its own body."""
        self.spool = self.open()
        found = []
        for queued in self.claim(1000):
            name = queued.id.split(".")[0]
            body = LARGE if name == "large" else name.encode() * 500
            self.assertEqual(self.read(self.spool.open_body(queued)), body)
            found.append(name)
        return found

    def test_whole(self) -> None:
        """Of a queue that is whole nothing is lost."""
        self.fill()
        self.assertEqual(salvage(self.directory), Salvaged(COUNT + 1, 0))
        self.assertEqual(self.salvaged(), [*map(str, range(COUNT)), "large"])
        self.assertTrue((self.directory / "queue.db.damaged").exists())
        self.assertFalse((self.directory / "lost").exists())

    def test_claimed(self) -> None:
        """What was in hand is free."""
        self.queue("0.1", body=b"0" * 500)
        self.queue("1.1", body=b"1" * 500)
        self.claim(1)
        assert self.spool._lock is not None
        self.spool._lock.release()
        self.spool._lock = None
        self.assertEqual(salvage(self.directory), Salvaged(2, 0))
        self.assertEqual(self.salvaged(), ["0", "1"])

    def test_damaged(self) -> None:
        """Wherever the damage is, the rest is saved, and never a message with another's body."""
        whole = self.fill()
        pages = len(whole) // 4096
        path = self.directory / "queue.db"
        saved = []
        for page in range(3, pages, 17):
            hurt = whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :]
            path.write_bytes(hurt)
            for lost in (self.directory / "lost").glob("*large*"):
                lost.rename(self.directory / "body" / "large.1.eml")
            result = salvage(self.directory)
            listed = [queued.id for queued in listing(self.directory)]
            self.assertEqual(len(listed) + len(list(broken(self.directory))), result.messages)
            saved.append(self.delivered_whole())
        self.assertGreater(min(saved), COUNT // 2)
        self.assertGreater(max(saved), COUNT - 30)

    def delivered_whole(self) -> int:
        """@return: how many messages can be delivered; the others say that they cannot."""
        self.spool = self.open()
        whole = 0
        for queued in self.claim(1000):
            name = queued.id.split(".")[0]
            try:
                body = self.read(self.spool.open_body(queued))
            except SpoolDamaged:
                continue
            self.assertEqual(body, LARGE if name == "large" else name.encode() * 500)
            whole += 1
        self.run_to_end(self.spool.close())
        return whole

    def test_lost_messages(self) -> None:
        """Bodies of which the message is lost are kept."""
        self.fill()
        with self.by_hand() as connection:
            connection.execute("DELETE FROM message WHERE id IN ('7.1.1', 'large.1.1')")
            connection.execute("UPDATE message SET message = x'ff' WHERE id = '8.1.1'")
        self.assertEqual(salvage(self.directory), Salvaged(COUNT - 1, 2))
        found = {path.read_bytes() for path in (self.directory / "lost").iterdir()}
        self.assertEqual(found, {b"7" * 500, LARGE})
        self.assertEqual(len(self.salvaged()), COUNT - 2)
        [one] = broken(self.directory)
        self.assertIsInstance(one, SetAside)
        self.assertEqual(one.id, "8.1.1")

    def test_nothing_to_save(self) -> None:
        """Of a file that is no database nothing can be saved, and nothing is touched."""
        self.fill()
        path = self.directory / "queue.db"
        path.write_bytes(b"garbage" * 1000)
        error = self.assertRaises(SpoolUnusable, salvage, self.directory)
        self.assertIn("file is not a database", str(error))
        self.assertEqual(path.read_bytes(), b"garbage" * 1000)
        self.assertTrue((self.directory / "body" / "large.1.eml").exists())

    def test_running_server(self) -> None:
        """The queue of a running server is left alone."""
        self.assertRaises(SpoolUnusable, salvage, self.directory)

    def test_command(self) -> None:
        """The command that the error names can be run as it is printed."""
        self.fill()
        for arguments, code, words in (
            ([str(self.directory)], 0, f"{COUNT + 1} messages are in the queue again"),
            ([f"{self.directory}/nowhere"], 1, "cannot be used"),
            ([], 1, "usage: "),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "harakatls.spool.salvage", *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.assertEqual(done.returncode, code, done.stdout)
            self.assertIn(words, done.stdout.decode())
