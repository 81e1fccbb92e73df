"""A disk that is really full: a file system in memory, of a few megabytes."""

import json
import os
import shutil
import subprocess
import sys
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.spool.support import new_directory

OURSELVES = ["unshare", "--mount", "--map-root-user"]
MOUNT = 'mount -t tmpfs -o size=6m none "$0" && exec "$@"'


class SmallDiskTests(SynchronousTestCase):
    """Needs a namespace of its own, which not every system gives to everybody."""

    def test_fills_and_empties(self) -> None:
        """
        On a full disk mail is refused, but what is there goes out whole, and makes room again.
        """
        directory = new_directory(self.addCleanup)
        directory.mkdir()
        shell = [*OURSELVES, "sh", "-c", MOUNT, str(directory)]
        if (
            shutil.which("unshare") is None
            or subprocess.run(
                [*shell, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ).returncode
        ):
            raise SkipTest("a file system of its own cannot be mounted here")
        done = subprocess.run(
            [*shell, sys.executable, "-m", "tests.spool.filling", str(directory)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
        )
        self.assertEqual((done.returncode, done.stderr.decode()), (0, ""))
        accepted, emptied, left = json.loads(done.stdout)
        self.assertEqual(emptied, 2 * sum(accepted))
        self.assertEqual(left, [])
        small, small_again, large, large_again, _, _, at_last = accepted
        self.assertGreater(small, 50)
        self.assertGreater(small_again, 0.9 * small)
        self.assertGreater(large, 5)
        self.assertGreater(large_again, 0.9 * large)
        self.assertGreater(at_last, 0.5 * large)
