"""``harakatls passwd``, from the command line to the file and back."""

import fcntl
import getpass
import io
import os
import stat
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.edit import with_key
from harakatls.service import command_passwd
from harakatls.service.command import main
from harakatls.users.file import FILE, UsersFile

USER = "bob@example.com"


class PasswdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.config = Path(self.mktemp())
        self.config.mkdir()
        (self.config / "plugins").write_text("auth/flat_file\n")

    def passwd(self, *arguments: str, said: str = "sesame\n") -> tuple[int, str, str]:
        """@return: the status, and what was written."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdin", io.StringIO(said))
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["passwd", "--config", str(self.config), *arguments])
        return status, out.getvalue(), err.getvalue()

    def users(self) -> UsersFile:
        return UsersFile.load(ConfigDirectory(self.config))

    def test_kinds(self) -> None:
        """What was given is what logs in, by what was asked for."""
        for kind in ("scram", "argon2", "plain"):
            status, out, err = self.passwd("--kind", kind, USER)
            self.assertEqual((status, err), (0, ""))
            stored = self.users().users[USER]
            self.assertEqual(stored.kind, kind)
            self.assertTrue(stored.fits("sesame"))
            self.assertFalse(stored.fits("Sesame"))
            self.assertEqual(out, f"{USER} can log in by {', '.join(sorted(stored.mechanisms))}\n")
        self.assertEqual(stat.S_IMODE((self.config / FILE).stat().st_mode), 0o600)

    def test_usual_kind(self) -> None:
        """One line does for all mechanisms but CRAM-MD5, and does not hold the password."""
        self.passwd(USER)
        self.assertEqual(self.users().users[USER].kind, "scram")
        self.assertNotIn("sesame", (self.config / FILE).read_text())

    def test_file_stays(self) -> None:
        """Comments and others stay as they are; a user is removed by name."""
        file = self.config / FILE
        file.write_text("# mine\n[users]\nann=x\n# end\n")
        self.passwd("--kind", "plain", USER)
        self.assertEqual(file.read_text(), f"# mine\n[users]\nann=x\n# end\n{USER}=sesame\n")
        status, out, _ = self.passwd("--remove", USER)
        self.assertEqual((status, out), (0, f"{USER} is removed from {FILE}\n"))
        self.assertEqual(file.read_text(), "# mine\n[users]\nann=x\n# end\n")
        status, _, err = self.passwd("--remove", USER)
        self.assertEqual((status, err), (1, f"harakatls: {FILE} has no user {USER}\n"))

    def test_two_at_a_time(self) -> None:
        """One waits for the other, so that none writes what it has read before the other wrote."""

        def is_alone(*arguments: Any) -> str:
            descriptor = os.open(self.config, os.O_RDONLY)
            try:
                flags = fcntl.LOCK_EX | fcntl.LOCK_NB
                self.assertRaises(BlockingIOError, fcntl.flock, descriptor, flags)
            finally:
                os.close(descriptor)
            return with_key(*arguments)

        self.patch(command_passwd, "with_key", is_alone)
        for user in ("ann", "bob"):
            self.assertEqual(self.passwd(user)[0], 0)
        self.assertEqual(set(self.users().users), {"ann", "bob"})

    def test_refused(self) -> None:
        """What could not be read back is not written; the password is not repeated."""
        for arguments, said, told in [
            (("bob smith",), "x\n", "cannot be the name of a user"),
            (("bob=",), "x\n", "cannot be the name of a user"),
            (("bob[]",), "x\n", "cannot be the name of a user"),
            ((USER,), "\n", "no password"),
            ((USER,), "", "no password"),
            ((USER,), "se\asame\n", "SASLprep"),
            (("--kind", "plain", USER), " sesame\n", "must not begin"),
            (("--kind", "plain", USER), "se ;same\n", "must not begin"),
            (("--kind", "plain", USER), "sesame\\\n", "must not begin"),
            (("--kind", "plain", USER), "$argon2sesame\n", "begins like one"),
        ]:
            status, out, err = self.passwd(*arguments, said=said)
            self.assertEqual((status, out), (1, ""), said)
            self.assertIn(told, err)
            self.assertNotIn("sesame", err)
        self.assertFalse((self.config / FILE).exists())

    def test_asked_twice(self) -> None:
        """At a terminal; two different ones change nothing."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for answers, status in [(["sesame", "sesame"], 0), (["sesame", "simsim"], 1)]:
            given = iter(answers)
            self.patch(getpass, "getpass", lambda _, given=given: next(given))
            self.patch(sys, "stdin", Terminal())
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                done = main(["passwd", "--config", str(self.config), USER])
            self.assertEqual(done, status)
        self.assertTrue(self.users().users[USER].fits("sesame"))

    def test_plugin_is_not_listed(self) -> None:
        """The operator is told why it will not do yet."""
        (self.config / "plugins").write_text("tls\n")
        status, _, err = self.passwd(USER)
        self.assertEqual(status, 0)
        self.assertIn("config/plugins does not list auth/flat_file", err)
