"""The lock of the queue directory."""

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.lock import QueueLock
from tests.spool.support import new_directory

HOLD = """
import sys
from pathlib import Path
from harakatls.spool.lock import QueueLock
lock = QueueLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


class QueueLockTests(SynchronousTestCase):
    """`QueueLock`."""

    def setUp(self) -> None:
        self.directory = new_directory(self.addCleanup)
        self.directory.mkdir()

    def test_two_servers(self) -> None:
        """A second server on one queue is told which process holds it."""
        lock = QueueLock.acquire(self.directory)
        self.addCleanup(lock.release)
        error = self.assertRaises(SpoolUnusable, QueueLock.acquire, self.directory)
        self.assertIn(f"process {os.getpid()}", str(error))
        self.assertIn(str(self.directory), str(error))

    def test_released(self) -> None:
        """After a server has stopped, the next one starts."""
        lock = QueueLock.acquire(self.directory)
        lock.release()
        lock.release()
        again = QueueLock.acquire(self.directory)
        again.release()

    def test_killed_server(self) -> None:
        """A server that was killed leaves nothing that keeps the next one from starting."""
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, self.directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as other:
            assert other.stdout is not None
            self.assertEqual(other.stdout.readline(), b"held\n")
            error = self.assertRaises(SpoolUnusable, QueueLock.acquire, self.directory)
            self.assertIn(f"process {other.pid}", str(error))
            other.kill()
            other.wait()
        QueueLock.acquire(self.directory).release()

    def test_shared_with_a_child(self) -> None:
        """The queue stays locked until the last worker of an instance has ended."""
        lock = QueueLock.acquire(self.directory)
        ready, stay = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(stay[1])
            os.write(ready[1], b"x")
            os.read(stay[0], 1)
            os._exit(0)
        os.close(stay[0])
        os.read(ready[0], 1)
        lock.release()
        try:
            self.assertRaises(SpoolUnusable, QueueLock.acquire, self.directory)
        finally:
            os.close(stay[1])
            os.waitpid(child, 0)
            for end in ready:
                os.close(end)
        QueueLock.acquire(self.directory).release()

    def test_holder_not_known(self) -> None:
        """A lock file without a number in it is not mistaken for a free queue."""
        lock = QueueLock.acquire(self.directory)
        self.addCleanup(lock.release)
        lock.path.write_bytes(b"\xff\xfe")
        error = self.assertRaises(SpoolUnusable, QueueLock.acquire, self.directory)
        self.assertIn("not known", str(error))

    def test_unusable_directory(self) -> None:
        """The operator reads which path cannot be used, and why."""
        lock = self.directory / "lock"
        lock.mkdir()
        error = self.assertRaises(SpoolUnusable, QueueLock.acquire, self.directory)
        self.assertIn(f"{lock}: Is a directory", str(error))
