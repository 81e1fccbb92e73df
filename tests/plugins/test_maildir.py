"""Tests of the plugin queue/maildir."""

import errno
import mailbox
import os
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IQueueHook
from harakatls.plugins import maildir
from harakatls.plugins.maildir import MaildirDelivery, UnixLines, load
from harakatls.verdict import CONTINUE, Accept, TempFail, Verdict
from tests.plugins.support import (
    Message,
    connection_from,
    result_of,
    site_of,
    staged,
    transaction_for,
)


class MaildirTests(SynchronousTestCase):
    def setUp(self) -> None:
        site = site_of(self, {"host_list": "example.com\n"})
        self.directory = site.config.path.parent / "mail"
        self.plugin = load(site)

    def deliver(
        self,
        message: Message,
        *recipients: str,
        sender: str | None = "from@example.net",
        plugin: MaildirDelivery | None = None,
        body: str | None = None,
    ) -> Verdict:
        transaction = transaction_for(
            *(recipients or ("me@example.com",)), sender=sender, body=body
        )
        asked = (plugin or self.plugin).queue(connection_from(), transaction, staged(message))
        return result_of(self, asked)

    def files(self) -> list[Path]:
        return sorted((self.directory / "new").iterdir())

    def test_interface(self) -> None:
        """The hook chain can ask it."""
        verifyObject(IQueueHook, self.plugin)

    def test_delivered(self) -> None:
        """The message arrives whole, with LF line ends and the envelope on top."""
        verdict = self.deliver(Message(b"Subject: x\r\n\r\nHello\r\n..\r\n"))
        assert isinstance(verdict, Accept) and verdict.recipients is not None
        self.assertEqual([str(address) for address in verdict.recipients], ["me@example.com"])
        (file,) = self.files()
        self.assertEqual(
            file.read_bytes(),
            b"Return-Path: <from@example.net>\nDelivered-To: me@example.com\n"
            b"Subject: x\n\nHello\n..\n",
        )

    def test_readers(self) -> None:
        """What reads Maildirs finds the message; nothing is left in tmp."""
        self.deliver(Message())
        (message,) = mailbox.Maildir(self.directory, create=False)
        self.assertEqual(message["Subject"], "x")
        self.assertEqual(list((self.directory / "tmp").iterdir()), [])

    def test_private(self) -> None:
        """Nobody else on the machine can look into the mailbox."""
        self.deliver(Message())
        for directory in (self.directory, *self.directory.iterdir()):
            self.assertEqual(directory.stat().st_mode & 0o777, 0o700)

    def test_private_in_an_open_directory(self) -> None:
        """Nobody else can read the mail where the operator made directories that all may enter."""
        for name in ("", "tmp", "new", "cur"):
            (self.directory / name).mkdir()
            (self.directory / name).chmod(0o755)
        self.deliver(Message())
        self.deliver(Message(b"x" * 3 * maildir.CHUNK))
        self.assertEqual({file.stat().st_mode & 0o777 for file in self.files()}, {0o600})

    def test_bounce(self) -> None:
        """A bounce keeps its empty return path."""
        self.deliver(Message(), sender=None)
        self.assertTrue(self.files()[0].read_bytes().startswith(b"Return-Path: <>\n"))

    def test_only_our_own(self) -> None:
        """Recipients elsewhere are left to the queue; a message for none of us is not touched."""
        verdict = self.deliver(Message(), "a@example.org", "b@example.com", "c@EXAMPLE.com")
        assert isinstance(verdict, Accept) and verdict.recipients is not None
        taken = sorted(map(str, verdict.recipients))
        self.assertEqual(taken, ["b@example.com", "c@example.com"])
        self.assertIn(
            b"\nDelivered-To: b@example.com\nDelivered-To: c@example.com\nSubject",
            self.files()[0].read_bytes(),
        )
        message = Message()
        self.assertEqual(self.deliver(message, "a@example.org"), CONTINUE)
        self.assertEqual(message.opened, [])

    def test_each_a_file(self) -> None:
        """Messages of the same moment do not overwrite each other."""
        for number in range(20):
            self.deliver(Message(b"Subject: %d\r\n\r\n" % number))
        self.assertEqual(len(self.files()), 20)

    def test_existing_maildir(self) -> None:
        """A directory without the three others in it, as init makes it, becomes a Maildir."""
        self.directory.mkdir()
        self.deliver(Message())
        self.assertEqual(len(self.files()), 1)

    def test_large(self) -> None:
        """A large message arrives as it was sent, wherever its pieces are cut."""
        line = b"0123456789" * 7 + b"\r\n"
        content = b"Subject: large\r\n\r\n" + line * 9000
        for step in (1 << 20, 65537):
            self.deliver(Message(content, step))
        self.assertGreater(len(content), 2 * maildir.CHUNK)
        for file in self.files():
            self.assertTrue(file.read_bytes().endswith(content.replace(b"\r\n", b"\n")))
        self.assertEqual(list((self.directory / "tmp").iterdir()), [])

    def test_binary(self) -> None:
        """Of a BINARYMIME message every octet is kept (RFC 3030), whatever its size."""
        header = b"Subject: x\r\n\r\n"
        for content in (bytes(range(256)) + b"\r\n\n\r", b"\r\n\n\r\r\n" * (maildir.CHUNK // 4)):
            self.setUp()
            self.deliver(Message(header + content), body="BINARYMIME")
            (file,) = self.files()
            self.assertTrue(file.read_bytes().endswith(b"Subject: x\r\n\r\n" + content))

    def test_closed(self) -> None:
        """The stored message is let go of, so that it does not hold a file open for ever."""
        for content in (b"\r\n", b"x" * 3 * maildir.CHUNK):
            message = Message(content)
            self.deliver(message)
            self.assertTrue(message.opened[0].closed)

    def failing(self, number: int) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return fail

    def test_no_space(self) -> None:
        """A full disk, at any step, is answered with 452 and leaves no half message."""
        self.deliver(Message())
        for name in ("link", "fsync"):
            self.patch(os, name, self.failing(errno.ENOSPC))
            verdict = self.deliver(Message())
            assert isinstance(verdict, TempFail)
            self.assertTrue(str(verdict.reply).startswith("452 4.3.1 "))
            self.assertEqual(len(self.files()), 1)
            self.assertEqual(list((self.directory / "tmp").iterdir()), [])

    def test_not_writable(self) -> None:
        """A mailbox that cannot be written is the operator's problem: the sender comes back."""
        if os.geteuid() == 0:
            self.patch(os, "mkdir", self.failing(errno.EACCES))
        else:
            self.directory.parent.chmod(0o500)
            self.addCleanup(self.directory.parent.chmod, 0o700)
        verdict = self.deliver(Message())
        assert isinstance(verdict, TempFail)
        self.assertTrue(str(verdict.reply).startswith("451 4.3.0 "))

    def test_synced(self) -> None:
        """File and directory have been synced before the message counts as delivered."""
        if not Path("/proc/self/fd").is_dir():
            raise SkipTest("needs /proc")
        synced: list[str] = []
        fsync = os.fsync

        def remember(descriptor: int) -> None:
            synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
            fsync(descriptor)

        self.deliver(Message())
        self.patch(os, "fsync", remember)
        self.deliver(Message())
        new = max(self.files(), key=lambda path: path.stat().st_mtime_ns)
        self.assertEqual(synced, [new.name, "new"])


class SettingsTests(SynchronousTestCase):
    def test_path(self) -> None:
        """``path`` moves the Maildir; relative to the config directory, or absolute."""
        site = site_of(self, {"maildir.ini": "path=boxes/all\n"})
        self.assertEqual(load(site).directory, site.config.path / "boxes" / "all")
        elsewhere = Path(self.mktemp()).absolute()
        site = site_of(self, {"maildir.ini": f"path={elsewhere}\n"})
        self.assertEqual(load(site).directory, elsewhere)

    def test_no_directory(self) -> None:
        """A file at that place stops the start."""
        site = site_of(self, {"maildir.ini": "path=maildir.ini\n"})
        problem = self.assertRaises(ConfigError, load, site)
        self.assertIn("maildir.ini path: ", str(problem))
        self.assertIn("is not a directory", str(problem))


class UnixLinesTests(SynchronousTestCase):
    @given(
        strategies.lists(strategies.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n"])),
        strategies.integers(1, 4),
    )
    def test_any_split(self, pieces: list[bytes], step: int) -> None:
        """CRLF becomes LF wherever the pieces are cut; nothing else is changed."""
        content = b"".join(pieces)

        class Stingy:
            """Gives a few octets, whatever it is asked for."""

            def __init__(self) -> None:
                self.rest = content

            def seek(self, position: int) -> None:
                assert position == 0

            def read(self, length: int) -> bytes:
                chunk, self.rest = self.rest[:step], self.rest[step:]
                return chunk

        lines = UnixLines(Stingy())  # type: ignore[arg-type]
        read = list(iter(lines.readline, b""))
        self.assertEqual(b"".join(read), content.replace(b"\r\n", b"\n"))
