"""Tests for harakatls.config.directory."""

import errno
import os
import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory, queue_directory, stamp
from harakatls.config.errors import ConfigError
from tests.config.files import write_config


class ReadTests(SynchronousTestCase):
    def test_ini_is_shared(self) -> None:
        """All readers of one file see the same, and share who has read what."""
        config = write_config(self, {"tls.ini": "a=1\n[s]\nb=2\n"})
        self.assertIs(config.ini("tls.ini"), config.ini("tls.ini"))
        self.assertEqual(config.ini("tls.ini").main.text("a"), "1")

    def test_missing_file_is_empty(self) -> None:
        """No file is needed to start."""
        config = write_config(self)
        self.assertEqual(config.ini("no.ini").sections(), ())
        self.assertEqual(config.lines("no"), ())
        self.assertIsNone(config.value("no"))
        self.assertIsNone(config.content("no"))
        self.assertFalse(config.hosts("no"))
        self.assertFalse(config.exists("no"))
        self.assertIsNone(config.content("no/such/thing"))
        self.assertIn(config.resolve("no.ini"), config.missing)
        self.assertEqual(config.read, ())

    def test_below_a_file_is_missing(self) -> None:
        """plugins.timeout may be asked for as plugins/x.timeout while plugins is a file."""
        config = write_config(self, {"plugins": "tls"})
        self.assertIsNone(config.value("plugins/x.timeout"))
        self.assertFalse(config.exists("plugins/x.timeout"))

    def test_lines(self) -> None:
        """A flat list without comments and empty lines, trimmed, numbers as they stand."""
        config = write_config(self, {"list": "\ufeff one \r\n\r\n# two\n ; three\n007\rlast"})
        self.assertEqual(config.lines("list"), ("one", "007", "last"))
        self.assertEqual(config.value("list"), "one")

    def test_hosts(self) -> None:
        """relay_acl_allow may say behind each entry whose it is."""
        config = write_config(self, {"acl": "10.0.0.0/8 # office\n2001:db8::/32\t# lab\n"})
        self.assertIn("10.1.1.1", config.hosts("acl"))
        self.assertIn("2001:db8::5", config.hosts("acl"))
        config = write_config(self, {"acl": "10.0.0.0/8\nfoo bar\n"})
        with self.assertRaises(ConfigError) as caught:
            config.hosts("acl")
        self.assertTrue(str(caught.exception).startswith("acl: 'foo bar' is not"))

    def test_content_is_raw(self) -> None:
        """Keys and certificates are read octet by octet."""
        config = write_config(self, {"key.pem": b"\xff\x00\r\n"})
        self.assertEqual(config.content("key.pem"), b"\xff\x00\r\n")

    def test_resolve(self) -> None:
        """Relative paths belong to the directory, wherever the server was started."""
        config = write_config(self, {"tls_key.pem": ""})
        self.assertTrue(config.path.is_absolute())
        self.assertEqual(config.resolve("tls_key.pem"), config.path / "tls_key.pem")
        self.assertEqual(config.resolve("/etc/ssl/a.pem"), Path("/etc/ssl/a.pem"))
        self.assertEqual(config.resolve("../queue"), config.path.parent / "queue")
        self.assertTrue(config.exists("tls_key.pem"))

    def test_what_was_read(self) -> None:
        """A reload knows which files to look at, there or not."""
        config = write_config(self, {"a.ini": "", "list": "x"})
        config.ini("a.ini")
        config.lines("list")
        config.value("list")
        config.content("gone.pem")
        self.assertEqual(config.read, (config.path / "a.ini", config.path / "list"))
        self.assertEqual(config.missing, (config.path / "gone.pem",))

    def test_warnings_of_all_files(self) -> None:
        """One place tells everything an operator should see, each once."""
        config = write_config(self, {"a.ini": "x y\nkey=1\n", "b.ini": "[s]\nz=1\n"})
        config.ini("a.ini").main.text("key")
        config.ini("b.ini")
        config.warn("old", "has no effect")
        config.warn("old", "has no effect")
        self.assertEqual(
            config.warnings,
            (
                "a.ini line 1: 'x' is neither key=value, key[]=value nor [section]",
                "b.ini [s]: unknown section",
                "old: has no effect",
            ),
        )


class UnreadableTests(SynchronousTestCase):
    def assert_unreadable(self, config: ConfigDirectory, name: str, *words: str) -> None:
        for read in (config.ini, config.lines, config.value):
            with self.assertRaises(ConfigError) as caught:
                read(name)
            self.assertEqual(caught.exception.file, name)
            for word in words:
                self.assertIn(word, str(caught.exception))

    def test_not_utf8(self) -> None:
        """A file in another encoding is told with the line, not as a traceback."""
        config = write_config(self, {"a.ini": b"a=1\r\nb=\xe9\r\n", "b.ini": b"\xef\xbb\xbf\n\xff"})
        self.assert_unreadable(config, "a.ini", "line 2 is not UTF-8")
        self.assert_unreadable(config, "b.ini", "line 2 is not UTF-8")

    def test_directory_in_place_of_a_file(self) -> None:
        """A directory is no file, and leaves no file open."""
        config = write_config(self, {"a.ini/x": ""})
        before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        self.assert_unreadable(config, "a.ini", "Is a directory")
        after = os.listdir("/proc/self/fd") if before else []
        self.assertEqual(len(before), len(after))

    def test_fifo_does_not_block(self) -> None:
        """A named pipe in the directory cannot hold the start for ever."""
        config = write_config(self)
        os.mkfifo(config.path / "a.ini")
        self.assert_unreadable(config, "a.ini", "not a regular file")

    def test_no_permission(self) -> None:
        """A file of somebody else's is told."""
        config = write_config(self, {"a.ini": "a=1"})

        def refuse(path: str, flags: int) -> int:  # root, who may run this, may read anything
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        self.patch(os, "open", refuse)
        self.assert_unreadable(config, "a.ini", "Permission denied")

    def test_link_in_a_circle(self) -> None:
        """Whatever the system refuses is told in its words."""
        config = write_config(self)
        (config.path / "a.ini").symlink_to("a.ini")
        self.assert_unreadable(config, "a.ini", "symbolic links")

    def test_impossible_name(self) -> None:
        """A name that no file can have, as from key=\\0, is an error for the operator."""
        config = write_config(self)
        self.assert_unreadable(config, "a\0b", "cannot be read")
        self.assertRaises(ConfigError, config.content, "x" * 5000)

    def test_no_such_directory(self) -> None:
        """A wrong --config is told at once."""
        with self.assertRaises(ConfigError) as caught:
            ConfigDirectory("/nonexistent/config")
        self.assertEqual(
            str(caught.exception), "/nonexistent/config: cannot be read: No such file or directory"
        )
        file = write_config(self, {"file": ""}).resolve("file")
        with self.assertRaises(ConfigError) as caught:
            ConfigDirectory(file)
        self.assertIn("is not a directory", str(caught.exception))

    @given(st.binary() | st.text("=[]\\; #\r\nab1", max_size=60).map(str.encode))
    def test_any_content(self, content: bytes) -> None:
        """No content of a file raises anything but ConfigError."""
        config = write_config(self, {"a": content})
        for read in (config.ini, config.lines, config.value, config.hosts):
            try:
                read("a")
            except ConfigError as error:
                self.assertEqual(error.file, "a")
        self.assertEqual(config.content("a"), content)


class MeTests(SynchronousTestCase):
    def test_from_the_file(self) -> None:
        """The first line of me is our name, in the one spelling."""
        self.assertEqual(write_config(self, {"me": "Mail.Example.COM.\n"}).me, "mail.example.com")
        self.assertEqual(
            write_config(self, {"me": "# x\nbücher.example"}).me, "xn--bcher-kva.example"
        )
        self.assertEqual(write_config(self, {"me": "[192.0.2.1]"}).me, "[192.0.2.1]")

    def test_from_the_system(self) -> None:
        """Without a name in me, the system's is used."""
        self.patch(socket, "gethostname", lambda: "Host.Example.NET")
        self.assertEqual(write_config(self).me, "host.example.net")
        self.assertEqual(write_config(self, {"me": "\n# nothing\n"}).me, "host.example.net")

    def test_unfit_names(self) -> None:
        """What would break the greeting stops the start."""
        for wrong in ("two words", "a\x1bb", "192.0.2.1", "[example.com]", "-x", "mx:25"):
            with self.assertRaises(ConfigError) as caught:
                _ = write_config(self, {"me": wrong}).me
            self.assertTrue(str(caught.exception).startswith(f"me: {wrong!r} is not a name"))

    def test_unfit_system_name(self) -> None:
        """If it is the system's name that is unfit, the operator learns so."""
        self.patch(socket, "gethostname", lambda: "my pc")
        with self.assertRaises(ConfigError) as caught:
            _ = write_config(self).me
        self.assertIn("the system's host name 'my pc'", str(caught.exception))


class StampTests(SynchronousTestCase):
    """By stamps it is noticed that a file should be read anew."""

    def test_all_that_was_asked_for(self) -> None:
        """Files, missing ones and unreadable ones among them, and each directory of a tree."""
        config = write_config(self, {"a": "1", "d/e/f": "2"})
        (config.path / "g").mkdir()
        config.lines("a")
        config.content("missing")
        self.assertRaises(ConfigError, config.content, "g")
        config.tree("d")
        config.tree("no")
        names = ("a", "missing", "g", "d", "d/e", "no")
        self.assertEqual(set(config.stamps), {config.path / name for name in names})
        self.assertIsNone(config.stamps[config.path / "missing"])
        self.assertEqual(config.stamps[config.path / "a"], stamp(config.path / "a"))

    def test_changes(self) -> None:
        """Another content, another file, another target of a link, a new entry: all are seen."""
        path = write_config(self, {"a": "1", "b": "1"}).path
        (path / "link").symlink_to("a")
        for name, change in (
            ("a", lambda: (path / "a").write_text("12")),
            ("a", lambda: os.replace(path / "b", path / "a")),
            ("link", lambda: (path / "a").unlink()),
            ("c", lambda: (path / "c").mkdir()),
            ("c", lambda: (path / "c" / "d").write_text("")),
            ("a", lambda: (path / "a").symlink_to("c")),
        ):
            before = stamp(path / name)
            self.assertEqual(stamp(path / name), before)
            change()
            self.assertNotEqual(stamp(path / name), before)

    def test_not_allowed(self) -> None:
        """What we may not look at is taken for unchanged, since nobody could read it either."""

        def refuse(path: object) -> None:
            raise PermissionError

        self.patch(os, "stat", refuse)
        self.assertEqual(stamp("a", (1, 2)), (1, 2))


class QueueDirectoryTests(SynchronousTestCase):
    def test_default(self) -> None:
        """Without queue_dir the queue is beside the config directory."""
        config = write_config(self)
        self.assertEqual(queue_directory(config), config.path.parent / "queue")

    def test_given(self) -> None:
        """queue_dir is absolute or relative to the config directory."""
        self.assertEqual(
            queue_directory(write_config(self, {"queue_dir": "# x\n/var/spool/harakatls\n"})),
            Path("/var/spool/harakatls"),
        )
        config = write_config(self, {"queue_dir": "../spool"})
        self.assertEqual(queue_directory(config), config.path.parent / "spool")
