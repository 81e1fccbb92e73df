"""Tests for harakatls.service.groups."""

from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.service.groups import GroupFiles
from harakatls.tls.dhparams import FFDHE2048, read_group
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config


class GroupFilesTests(SynchronousTestCase):
    """What becomes of dhparams.pem at the start."""

    def make(self, config: ConfigDirectory, groups: GroupFiles) -> list[dict[str, Any]]:
        """@return: what was logged."""
        with capturedLogs() as events:
            self.successResultOf(groups.make(TLSSettings.load(config)))
        return list(events)

    def test_missing(self) -> None:
        """It is made, in a thread, and told; next time there is nothing to do."""
        config = write_config(self)
        called: list[object] = []

        def call_in_thread(function: Any, *args: Any) -> Deferred[Any]:
            called.append(function)
            return maybeDeferred(function, *args)

        (event,) = self.make(config, GroupFiles(call_in_thread))
        self.assertIs(event["log_level"], LogLevel.info)
        self.assertEqual(event["file"], "dhparams.pem")
        content = (config.path / "dhparams.pem").read_bytes()
        self.assertEqual(read_group(content), FFDHE2048)
        self.assertEqual(self.make(config, GroupFiles(call_in_thread)), [])
        self.assertEqual(len(called), 1)

    def test_each_name(self) -> None:
        """So are those that sections of certificates name."""
        config = write_config(self, {"tls.ini": "[a.example]\ndhparam=a.pem\n"})
        self.make(config, GroupFiles(maybeDeferred))
        for name in ("dhparams.pem", "a.pem"):
            self.assertTrue((config.path / name).exists())

    def test_wrong_file(self) -> None:
        """What an operator has put there is never written over."""
        config = write_config(self, {"dhparams.pem": "garbage"})
        self.assertEqual(self.make(config, GroupFiles(maybeDeferred)), [])
        self.assertEqual((config.path / "dhparams.pem").read_bytes(), b"garbage")

    def test_read_only(self) -> None:
        """Where it cannot be written, one line says so, and that it does no harm."""

        def refused(*_: object) -> Deferred[Any]:
            return fail(PermissionError(13, "Permission denied"))

        groups = GroupFiles(refused)
        config = write_config(self)
        (event,) = self.make(config, groups)
        self.assertIs(event["log_level"], LogLevel.warn)
        self.assertEqual(event["reason"], "Permission denied")
        self.assertEqual(self.make(config, groups), [])

    def test_nobody_waits(self) -> None:
        """A slow disk delays nothing: the answer is not waited for."""
        slow: Deferred[Any] = Deferred()
        made = GroupFiles(lambda *_: slow).make(TLSSettings.load(write_config(self)))
        self.assertNoResult(made)
        slow.callback(True)
        self.successResultOf(made)
