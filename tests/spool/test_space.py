"""The reserve of the disk."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.interfaces import SpoolFull
from harakatls.spool.space import RESERVE, FreeSpace


class FreeSpaceTests(SynchronousTestCase):
    """`FreeSpace`, with a disk of blocks of 1,000 octets."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk: dict[str, Any] = {
            "f_frsize": 1000,
            "f_blocks": 10**9,
            "f_bavail": 10**8,
            "f_files": 100,
            "f_favail": 50,
        }
        self.looked = 0
        self.patch(os, "statvfs", self._statvfs)
        self.space = FreeSpace(Path("queue"), self.clock.seconds)

    def _statvfs(self, path: Path) -> SimpleNamespace:
        self.looked += 1
        return SimpleNamespace(**self.disk)

    def test_refuses_below_the_reserve(self) -> None:
        """Before the disk is full, mail is refused; when there is space again, it is taken."""
        self.space.check()
        self.disk["f_bavail"] = RESERVE // 1000
        self.clock.advance(1)
        error = self.assertRaises(SpoolFull, self.space.check)
        self.assertIn("queue: 33554000 octets are free", str(error))
        self.disk["f_bavail"] += 1
        self.space.check()

    def test_fits(self) -> None:
        """What was begun may still take half of the reserve, counted as it is written: twice."""
        self.disk["f_bavail"] = RESERVE // 2000 + 10
        self.assertTrue(self.space.fits(4000))
        self.assertFalse(self.space.fits(6000))

    def test_small_disk(self) -> None:
        """On a small file system the reserve is a twentieth, so that it can be used at all."""
        self.disk.update(f_blocks=10_000, f_bavail=500)
        self.space.check()
        self.disk.update(f_bavail=499)
        self.clock.advance(1)
        self.assertRaises(SpoolFull, self.space.check)

    def test_own_reserve(self) -> None:
        """The reserve can be chosen."""
        space = FreeSpace(Path("queue"), self.clock.seconds, 10**11 + 1)
        self.assertRaises(SpoolFull, space.check)

    def test_looks_now_and_then(self) -> None:
        """Ten thousand messages a second do not ask the disk ten thousand times."""
        for _ in range(100):
            self.space.check()
        self.assertEqual(self.looked, 1)
        self.clock.advance(0.2)
        self.space.check()
        self.assertEqual(self.looked, 2)

    def test_time_that_goes_back(self) -> None:
        """A clock that was set back does not keep a full disk from being seen."""
        self.clock.advance(1000)
        self.space.check()
        self.disk["f_bavail"] = 0
        self.clock.rightNow = 10.0
        self.assertRaises(SpoolFull, self.space.check)

    def test_no_more_files(self) -> None:
        """A file system without inodes is full."""
        self.disk["f_favail"] = 0
        self.assertRaises(SpoolFull, self.space.check)

    def test_file_systems_that_count_no_files(self) -> None:
        """A file system that knows no number of files (btrfs) is not taken for a full one."""
        self.disk.update(f_files=0, f_favail=0)
        self.space.check()

    def test_disk_that_does_not_answer(self) -> None:
        """What is wrong with the directory is told by writing to it, not guessed."""

        def fails(path: Path) -> None:
            raise PermissionError

        self.patch(os, "statvfs", fails)
        self.space.check()
        self.assertTrue(self.space.fits(1))
        self.assertEqual(self.space.reserve(), RESERVE)
