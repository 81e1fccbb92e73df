"""One key of an ini file is changed, and nothing else."""

import os
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.edit import replace_private, with_key
from harakatls.config.ini import Ini

BEFORE = """\
# users
[core]
; bob=no
bob=core

[users]

# Bob
bob = old
ann=x

# more
[other]
z=1
"""


class WithKeyTests(SynchronousTestCase):
    def test_change(self) -> None:
        """In its place; comments, other keys and other sections stay."""
        changed = with_key(BEFORE, "users", "bob", "new")
        self.assertEqual(changed, BEFORE.replace("bob = old", "bob=new"))
        removed = with_key(BEFORE, "users", "bob", None)
        self.assertEqual(removed, BEFORE.replace("bob = old\n", ""))
        self.assertEqual(with_key(BEFORE, "users", "eve", None), BEFORE)
        added = with_key(BEFORE, "users", "eve", "e=e")
        self.assertEqual(Ini.parse("f", added).section("users").text("eve"), "e=e")
        self.assertEqual(added.replace("eve=e=e\n", ""), BEFORE)

    def test_no_section(self) -> None:
        """It is put at the end; a last line without an end gets one."""
        self.assertEqual(with_key("", "users", "bob", "x"), "[users]\nbob=x\n")
        self.assertEqual(with_key("a=1", "users", "bob", "x"), "a=1\n\n[users]\nbob=x\n")
        self.assertEqual(with_key("[users]", "users", "bob", "x"), "[users]\nbob=x\n")
        self.assertEqual(with_key("a=1", "users", "bob", None), "a=1")

    def test_line_ends(self) -> None:
        """A file with CRLF keeps it in the new line as well."""
        found = with_key("[users]\r\nann=x\r\n", "users", "bob", "y")
        self.assertEqual(found, "[users]\r\nann=x\r\nbob=y\r\n")

    def test_twice(self) -> None:
        """One line is left of several."""
        found = with_key("[users]\nbob=1\nann=x\nbob=2\n", "users", "bob", "3")
        self.assertEqual(found, "[users]\nbob=3\nann=x\n")

    def test_several_lines(self) -> None:
        """A value that goes on is not for us to take apart."""
        self.assertRaises(ValueError, with_key, "[users]\nbob=1\\\n2\n", "users", "bob", "3")

    @given(
        st.lists(
            st.sampled_from(["[users]", "[x]", "bob=1", " bob = 2", "ann=3", ";bob", "", "#"])
        ),
        st.sampled_from(["\n", "\r\n"]),
        st.booleans(),
    )
    def test_others_stay(self, lines: list[str], end: str, last: bool) -> None:
        """Whatever the file is, bob is who he should be, and the others who they were."""
        text = end.join(lines) + (end if last else "")
        before, after = Ini.parse("f", text), Ini.parse("f", with_key(text, "users", "bob", "7"))
        self.assertEqual(after.section("users").text("bob"), "7")
        gone = Ini.parse("f", with_key(text, "users", "bob", None))
        self.assertNotIn("bob", gone.section("users"))
        for ini in (after, gone):
            self.assertEqual(ini.section("users").text("ann"), before.section("users").text("ann"))
            for key in ("bob", "ann"):
                self.assertEqual(ini.section("x").text(key), before.section("x").text(key))


class ReplaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = self.directory / "f.ini"

    def mode(self) -> int:
        return stat.S_IMODE(self.file.stat().st_mode)

    def test_private(self) -> None:
        """Nobody else may read it, but for a group that could before; no other file is left."""
        replace_private(self.file, "1\r\n")
        self.assertEqual((self.file.read_bytes(), self.mode()), (b"1\r\n", 0o600))
        for before, after in [(0o644, 0o640), (0o604, 0o600), (0o600, 0o600)]:
            self.file.chmod(before)
            replace_private(self.file, "2")
            self.assertEqual((self.file.read_text(), self.mode()), ("2", after))
        self.assertEqual(os.listdir(self.directory), ["f.ini"])

    def test_link(self) -> None:
        """What a link leads to is replaced, not the link."""
        target = self.directory / "target"
        target.write_text("1")
        self.file.symlink_to(target.absolute())
        replace_private(self.file, "2")
        self.assertTrue(self.file.is_symlink())
        self.assertEqual(target.read_text(), "2")

    def test_fails(self) -> None:
        """What was there stays, and nothing else is left."""
        self.file.write_text("1")

        def refuse(*_: object) -> None:
            raise OSError(28, "no space")

        self.patch(os, "fsync", refuse)
        self.assertRaises(OSError, replace_private, self.file, "2")
        self.assertEqual(self.file.read_text(), "1")
        self.assertEqual(os.listdir(self.directory), ["f.ini"])

    def test_owner(self) -> None:
        """The file stays that of the server's account, though root has changed it."""
        if os.geteuid() != 0:
            self.skipTest("only root gives files away")
        self.file.write_text("1")
        os.chown(self.file, 1234, 1235)
        replace_private(self.file, "2")
        found = self.file.stat()
        self.assertEqual((found.st_uid, found.st_gid), (1234, 1235))
