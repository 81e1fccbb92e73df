"""harakatls as `pip install` puts it into an empty virtual environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import REPOSITORY, temporary_directory


class InstalledTestCase(SynchronousTestCase):
    """
    Dependencies are taken from the environment of the tests; ours is not.

    @ivar bin: the programs of the new environment; @ivar twistd: the command that runs its twistd.
    """

    bin: Path
    twistd: tuple[str, ...]

    def setUp(self) -> None:
        home = temporary_directory()
        source = home / "source"
        unwanted = shutil.ignore_patterns(
            ".*",
            "build",
            "*.egg-info",
            "node_modules",
            "instance",
            "work",
            "__pycache__",
            "_trial*",
        )
        shutil.copytree(REPOSITORY, source, symlinks=True, ignore=unwanted)
        self.run_program(sys.executable, "-m", "venv", "--without-pip", str(home / "venv"))
        self.bin = home / "venv/bin"
        target = self.output(
            self.bin / "python", "-c", "import site; print(*site.getsitepackages())"
        )
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
        self.run_program(*pip, self.bin / "python", "install", "-qq", "--no-deps", source)
        # Only the folder itself goes on the path, so the link to our checkout in it does not count.
        ours = self.output(sys.executable, "-c", "import site; print(*site.getsitepackages())")
        (Path(target) / "dependencies.pth").write_text(f"{ours}\n")

        self.twistd = (
            str(self.bin / "python"),
            "-c",
            "from twisted.scripts.twistd import run; run()",
        )

    def run_program(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=temporary_directory(),
            env=elsewhere(),
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def output(self, *command: str | Path) -> str:
        return self.run_program(*command).stdout.strip()


def elsewhere() -> dict[str, str]:
    """The environment of somebody who has no checkout."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
