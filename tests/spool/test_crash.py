"""SIGKILL at random moments."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock

from harakatls.interfaces import ISpool
from tests.contracts import spool as contract
from tests.spool.crashing import content, recipients
from tests.spool.support import new_directory, open_here

ROUNDS = 5


def queued_as(message_id: str) -> set[str]:
    """The rows of a message."""
    return {f"{message_id}.{n + 1}" for n in range(len(recipients(message_id).recipients))}


class CrashTests(contract.SpoolCase):
    """A process that fills and empties a queue is killed, again and again."""

    directory: Path

    def make_spool(self, clock: Clock, full: bool = False) -> ISpool:
        self.directory = new_directory(self.addCleanup)
        spool = open_here(self.directory, clock)
        self.run_to_end(spool.close())
        return spool

    def crash(self, run: int, lines: int) -> list[str]:
        """@return: what was said until the process was killed, after that many lines."""
        with subprocess.Popen(
            [sys.executable, "-m", "tests.spool.crashing", str(run), self.directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            said = [process.stdout.readline() for _ in range(lines)]
            process.kill()
            said += process.stdout.readlines()
            self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.returncode, -signal.SIGKILL)
        return [line.decode().rstrip("\n") for line in said]

    def test_nothing_is_lost(self) -> None:
        """Whatever was answered for is there after a crash, whole; and nothing is there in half."""
        seed = random.randrange(10**9)
        chance = random.Random(seed)
        expected: set[str] = set()
        seen = reported = 0
        for run in range(ROUNDS):
            given_up: dict[str, str] = {}  # with the report about each
            touched = set[str]()
            for line in self.crash(run, chance.randrange(1, 300)):
                verb, message_id, *report = line.split(" ")
                if verb == "C":
                    expected |= queued_as(message_id)
                else:
                    expected.discard(message_id)
                    touched.add(message_id)
                    given_up.update((message_id, one) for one in report)
            spool = open_here(self.directory, self.clock)
            claimed = self.run_to_end(spool.claim(1e11, 10**6))
            found = {queued.id for queued in claimed}
            self.assertEqual(expected - found, set(), f"seed {seed}, run {run}")
            self.assertEqual(len(found), len(claimed))
            for message_id, report_id in given_up.items():
                # Either the message or the report, and that for all of its recipients.
                reports = queued_as(report_id)
                is_there = bool(reports & (found | touched))
                self.assertEqual(is_there, message_id not in found, f"seed {seed}, {message_id}")
                if is_there:
                    self.assertEqual(reports - touched - found, set(), f"seed {seed}, run {run}")
            reported += len(given_up)
            large = set()
            for queued in claimed:
                message_id = queued.id.rpartition(".")[0]
                body = content(message_id)
                self.assertEqual(self.read(spool.open_body(queued)), body, queued.id)
                self.assertEqual(queued.size, len(body))
                self.assertIn(queued.pending[0], recipients(message_id).recipients)
                if len(body) > 262_144:
                    large.add(f"{message_id}.eml")
            self.assertEqual({path.name for path in (self.directory / "body").iterdir()}, large)
            self.run_to_end(spool.close())
            # What was committed but not yet said when the process died is ours, too.
            expected = found
            seen += len(found)
        self.assertGreater(seen, 100, f"seed {seed}")
        self.assertGreater(reported, 5, f"seed {seed}")
