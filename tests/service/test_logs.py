"""Tests of the log's lines."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import given, strategies
from twisted.logger import ILogObserver, LogBeginner, LogEvent, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.connection import TLSSummary
from harakatls.mail.address import Address
from harakatls.service.logs import (
    LogSettings,
    drop_below,
    json_line,
    log_to,
    printable,
    twistd_stream,
)
from harakatls.smtp.reply import Reply


class LogTests(SynchronousTestCase):
    def logged(self, settings: LogSettings) -> tuple[Logger, StringIO]:
        """A logger of its own and what it writes."""
        stream = StringIO()
        observer = log_to(stream, settings)
        verifyObject(ILogObserver, observer)
        return Logger(namespace="harakatls.inbound.conversation", observer=observer), stream

    def line(self, text: str, json: bool = False, **fields: object) -> str:
        log, stream = self.logged(LogSettings(json=json, timestamps=False))
        log.info(text, **fields)
        return stream.getvalue()

    def parsed(self, text: str, **fields: object) -> Any:
        return json.loads(self.line(text, json=True, **fields))

    def test_text(self) -> None:
        """A line tells level, origin, what it is about, and the message."""
        self.assertEqual(
            self.line("connect from {peer}", id="C0FFEE", peer="192.0.2.1"),
            "[INFO] [inbound.conversation] [C0FFEE] connect from 192.0.2.1\n",
        )

    def test_id_once(self) -> None:
        """An id that the message tells is not told twice."""
        self.assertEqual(
            self.line("{id} discarded", id="C0FFEE.1"),
            "[INFO] [inbound.conversation] C0FFEE.1 discarded\n",
        )

    def test_time(self) -> None:
        """Lines begin with the time in UTC, to the millisecond."""
        log, stream = self.logged(LogSettings())
        log.observer({"log_time": 1767225600.2509, "log_level": LogLevel.warn, "log_format": "x"})
        self.assertEqual(stream.getvalue(), "2026-01-01T00:00:00.250Z [WARN] [-] x\n")

    def test_one_line_each(self) -> None:
        """Nothing a peer sends can feign a line of the log or upset a terminal."""
        line = self.line("helo {name}", id="x\ny", name="a\r\n[ERROR] b\x1b[2J\u2028\ud800é")
        self.assertEqual(
            line,
            "[INFO] [inbound.conversation] [x\\ny] helo a\\r\\n[ERROR] b\\x1b[2J\\u2028\\ud800é\n",
        )

    @given(strategies.text())
    def test_printable(self, text: str) -> None:
        """Any text stays on its line and can be written."""
        shown = printable(text)
        self.assertTrue(shown.isprintable())
        shown.encode("utf-8")

    def test_traceback(self) -> None:
        """A failure's traceback follows, indented, so that it is told from other lines."""
        log, stream = self.logged(LogSettings(timestamps=False))
        try:
            raise ValueError("odd")
        except ValueError:
            log.failure("while stopping")
        first, *rest = stream.getvalue().splitlines()
        self.assertEqual(first, "[CRITICAL] [inbound.conversation] while stopping")
        self.assertTrue(all(line.startswith("\t") for line in rest))
        self.assertIn("ValueError: odd", rest[-1])

    def test_wrong_format(self) -> None:
        """A message with a mistake in it is logged somehow, and never raises."""
        for text in ("{missing}", "{", "{0}", "{x.y}", "{a()}"):
            self.assertTrue(self.line(text, a=lambda: "called").endswith("\n"))
        self.assertIn("called", self.line("{a()}", a=lambda: "called"))

    def test_legacy_events(self) -> None:
        """What libraries log in the old way appears as well."""
        log, stream = self.logged(LogSettings(timestamps=False))
        log.observer({"log_format": "{log_text}", "log_text": "old", "log_namespace": "log_legacy"})
        self.assertEqual(stream.getvalue(), "[INFO] [log_legacy] old\n")

    def test_json(self) -> None:
        """A program gets every field under its name, and the message."""
        found = self.parsed("queued {queue_id}", queue_id="C0FFEE.1", recipients=3, fast=True)
        self.assertEqual(found.pop("message"), "queued C0FFEE.1")
        self.assertRegex(found.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            found,
            {
                "level": "info",
                "logger": "harakatls.inbound.conversation",
                "queue_id": "C0FFEE.1",
                "recipients": 3,
                "fast": True,
            },
        )

    def test_json_of_our_values(self) -> None:
        """Replies and addresses are written as in SMTP, records by their fields."""
        found = self.parsed(
            "x",
            reply=Reply.of(550, "5.1.1", "No such user"),
            sender=Address("a b", "example.com"),
            tls=TLSSummary("TLSv1.3", "C", 256, peer_names=("a.example",)),
            raw=b"\xff",
            names=frozenset({"b", "a"}),
            other=object,
        )
        self.assertEqual(found["reply"], "550 5.1.1 No such user")
        self.assertEqual(found["sender"], '"a b"@example.com')
        self.assertEqual(found["tls"]["protocol"], "TLSv1.3")
        self.assertEqual(found["tls"]["peer_names"], ["a.example"])
        self.assertEqual(found["raw"], "\\xff")
        self.assertEqual(found["names"], ["a", "b"])

    def test_json_fields_of_ours_win(self) -> None:
        """A field that is called like one of ours does not hide it."""
        found = self.parsed("hello", message="x", logger="y")
        self.assertEqual(found["message"], "hello")
        self.assertEqual(found["logger"], "harakatls.inbound.conversation")

    def test_json_traceback(self) -> None:
        """A failure's traceback is a field, so that the line stays one line."""
        line = json_line({"log_failure": Failure(ValueError("odd")), "log_time": 0.0})
        self.assertEqual(line.count("\n"), 1)
        self.assertIn("ValueError: odd", json.loads(line)["message"])
        self.assertIn("ValueError: odd", json.loads(line)["traceback"])

    def test_json_of_a_circle(self) -> None:
        """A value that JSON cannot hold does not lose the event."""
        circle: list[object] = []
        circle.append(circle)
        self.assertEqual(self.parsed("x", circle=circle)["message"], "x")

    def test_level(self) -> None:
        """What is below the level is not written; the level itself is."""
        log, stream = self.logged(LogSettings(level=LogLevel.warn, timestamps=False))
        log.info("quiet")
        log.observer({"log_format": "old"})
        log.warn("loud")
        log.error("louder")
        self.assertEqual(
            [line.split()[-1] for line in stream.getvalue().splitlines()], ["loud", "louder"]
        )

    def test_full_disk(self) -> None:
        """A log that cannot be written does not stop the mail."""

        class Full:
            def write(self, text: str) -> None:
                raise OSError(28, "No space left on device")

            def flush(self) -> None:
                raise AssertionError

        Logger(observer=log_to(Full(), LogSettings())).info("x")

    def test_ascii_stream(self) -> None:
        """A terminal without UTF-8 gets the line all the same."""

        class Ascii(StringIO):
            def write(self, text: str) -> int:
                text.encode("ascii")
                return super().write(text)

        stream = Ascii()
        Logger(observer=log_to(stream, LogSettings(timestamps=False))).info("é")
        self.assertTrue(stream.getvalue().endswith("\\xe9\n"))

    def test_under_twisted(self) -> None:
        """Twisted's publisher takes the observer."""
        stream = StringIO()
        publisher = LogPublisher()
        beginner = LogBeginner(publisher, StringIO(), object(), __import__("warnings"))
        beginner.beginLoggingTo([log_to(stream, LogSettings())], redirectStandardIO=False)
        Logger(observer=publisher).info("through")
        self.assertIn("through", stream.getvalue())


class DropBelowTests(SynchronousTestCase):
    def test_dropped(self) -> None:
        """Below the level nothing is even made; at it and above all is as before."""
        self.addCleanup(drop_below, LogLevel.debug)
        events: list[str] = []

        @implementer(ILogObserver)
        class Remember:
            def __call__(self, event: LogEvent) -> None:
                events.append(event["log_format"])

        log = Logger(observer=Remember())
        drop_below(LogLevel.warn)
        for name in ("debug", "info", "warn", "error", "critical"):
            getattr(log, name)(name, field=1)
        self.assertEqual(events, ["warn", "error", "critical"])
        drop_below(LogLevel.debug)
        log.info("again")
        self.assertEqual(events[-1], "again")


class LogSettingsTests(SynchronousTestCase):
    def settings(self, text: str) -> LogSettings:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "log.ini").write_text(text)
        return LogSettings.load(ConfigDirectory(directory))

    def test_defaults(self) -> None:
        """Without log.ini there is a line for each connection, message and delivery."""
        self.assertEqual(self.settings(""), LogSettings(LogLevel.info, False, True))

    def test_values(self) -> None:
        """Haraka's words for level and format are understood."""
        self.assertEqual(
            self.settings("[main]\nlevel=WARN\nformat=json\ntimestamps=false\n"),
            LogSettings(LogLevel.warn, True, False),
        )
        self.assertEqual(self.settings("level=protocol\n").level, LogLevel.debug)
        self.assertEqual(self.settings("level=emerg\n").level, LogLevel.critical)

    def test_mistakes(self) -> None:
        """A word that is no level stops the start and says what can be chosen."""
        problem = self.assertRaises(ConfigError, self.settings, "level=chatty\n")
        self.assertIn("log.ini level: 'chatty' is not one of data, protocol", str(problem))
        self.assertRaises(ConfigError, self.settings, "format=xml\n")


class TwistdStreamTests(SynchronousTestCase):
    def test_file(self) -> None:
        """--logfile is where lines go, as with any other server of twistd."""
        import signal

        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        name = str(Path(self.mktemp()).absolute())
        stream = twistd_stream({"logfile": name, "nodaemon": True})
        assert stream is not None
        stream.write("line é\n")
        stream.flush()
        self.assertEqual(Path(name).read_text("utf-8"), "line é\n")

    def test_left_to_twistd(self) -> None:
        """Syslog and an observer of the operator's stay twistd's business."""
        self.assertIs(twistd_stream({"syslog": True, "logfile": "x"}), None)
        self.assertIs(twistd_stream({"logger": object(), "logfile": "x"}), None)
        self.assertIs(twistd_stream({"logfile": "-", "nodaemon": False}), None)
