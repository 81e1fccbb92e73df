"""Tests of the console script as a whole."""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from harakatls.service.command import COMMANDS

LOADED = """
import sys
from harakatls.service.command import main
try:
    main({arguments!r})
except SystemExit:
    pass
print(*sorted(name for name in sys.modules if name.startswith("harakatls.service.command_")))
"""


class CommandTests(SynchronousTestCase):
    def loaded(self, *arguments: str) -> str:
        """The modules that the command has loaded, behind what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", LOADED.format(arguments=list(arguments))],
            capture_output=True,
            check=True,
            timeout=60,
            text=True,
        )
        return done.stdout

    def test_help(self) -> None:
        """Whoever asks for help reads of all commands."""
        text = self.loaded("--help")
        for name in COMMANDS:
            self.assertIn(f"\n    {name} ", text)

    def test_one_command(self) -> None:
        """A list of the queue does not wait for what other commands need."""
        modules = self.loaded("queue", "--help").splitlines()[-1].split()
        self.assertIn("harakatls.service.command_queue", modules)
        for name in ("plugins", "tls", "nogo"):
            self.assertNotIn(f"harakatls.service.command_{name}", modules)
