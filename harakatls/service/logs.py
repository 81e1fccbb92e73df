"""What becomes of log events: lines of text, or of JSON (log.ini)."""

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import attrs
from attrs import frozen
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory

Level = Any  # a constant of LogLevel; that library has no types

# Haraka's names, from the chattiest to the gravest, and the level each stands for here.
LEVELS: Mapping[str, Level] = {
    "data": LogLevel.debug,
    "protocol": LogLevel.debug,
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "notice": LogLevel.warn,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
    "crit": LogLevel.critical,
    "alert": LogLevel.critical,
    "emerg": LogLevel.critical,
}
FORMATS = ("default", "logfmt", "text", "json")
_ORDER = tuple(LogLevel.iterconstants())
_SEVERITY = {level: number for number, level in enumerate(_ORDER)}
_EMITTERS = {level: getattr(Logger, level.name) for level in _ORDER}
_IDS = ("id", "transaction", "connection", "queue_id")  # fields that say what a line is about


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Add it to the end."""

    def flush(self) -> object:
        """Hand it to the operating system."""


@frozen
class LogSettings:
    """
    @ivar level: events below it are dropped.
    @ivar json: one JSON object a line, not text.
    @ivar timestamps: text lines begin with the time.
    """

    level: Level = LogLevel.info
    json: bool = False
    timestamps: bool = True

    @classmethod
    def load(cls, config: ConfigDirectory) -> "LogSettings":
        """From log.ini."""
        main = config.ini("log.ini").main
        return cls(
            level=LEVELS[main.choice("level", tuple(LEVELS), "info")],
            json=main.choice("format", FORMATS, "default") == "json",
            timestamps=main.boolean("timestamps", True),
        )


def log_to(stream: Stream, settings: LogSettings) -> ILogObserver:
    """An observer that writes events of the level of *settings* and above to *stream*."""
    to_line = json_line if settings.json else TextLines(settings.timestamps).line
    return LineObserver(stream, _SEVERITY[settings.level], to_line)


def drop_below(level: Level) -> None:
    """
    Make logging below *level* cost a call and nothing else, for all of this process.

    A filter among the observers would do the same, but an event that it drops has cost 5
    microseconds by then; at several events for a message that is felt.
    """
    for known, emitter in _EMITTERS.items():
        dropped = _SEVERITY[known] < _SEVERITY[level]
        setattr(Logger, known.name, _drop if dropped else emitter)


def _drop(self: Logger, format: str | None = None, **fields: object) -> None:  # noqa: A002
    """In place of `Logger.debug` and its like."""


@implementer(ILogObserver)
@frozen
class LineObserver:
    """Writes one line for each event. A log that cannot be written never stops the mail."""

    stream: Stream
    severity: int
    to_line: Callable[[LogEvent], str]

    def __call__(self, event: LogEvent) -> None:
        """Events without a level are those of twisted.python.log: info."""
        if _SEVERITY.get(event.get("log_level", LogLevel.info), 1) < self.severity:
            return
        line = self.to_line(event)
        try:
            try:
                self.stream.write(line)
            except UnicodeEncodeError:
                self.stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
            self.stream.flush()
        except (OSError, ValueError):  # no space; closed
            pass


# ------------------------------------------------------------------------------------- text


class TextLines:
    """``2026-03-01T12:00:00.250Z [INFO] [inbound.conversation] [id] message``."""

    def __init__(self, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._second = 0
        self._prefix = ""

    def line(self, event: LogEvent) -> str:
        """With its line end; a traceback follows on lines of its own, indented."""
        level = event.get("log_level", LogLevel.info).name.upper()
        message = printable(message_of(event))
        about = _about(event)
        named = f"[{about}] " if about and about not in message else ""
        line = f"{self._time(event)}[{level}] [{_origin(event)}] {named}{message}\n"
        failure = event.get("log_failure")
        return line + _indented(failure) if isinstance(failure, Failure) else line

    def _time(self, event: LogEvent) -> str:
        if not self._timestamps:
            return ""
        now = event.get("log_time", 0.0)
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int(now % 1 * 1000):03d}Z "


def message_of(event: LogEvent) -> str:
    """The format with its fields put in; for a failure without one, the exception."""
    text = event.get("log_format")
    if isinstance(text, str):
        if "(" not in text:  # what Twisted can do beyond str.format: {name()}
            try:
                return text.format_map(event)
            except Exception:  # noqa: S110  # formatEvent says what is wrong with it
                pass
        return formatEvent(event)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        return f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
    return formatEvent(event)


def printable(text: str) -> str:
    """
    The text on one line, with nothing that could upset a terminal or feign another line.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _about(event: LogEvent) -> str:
    for key in _IDS:
        value = event.get(key)
        if isinstance(value, str):
            return printable(value)
    return ""


def _origin(event: LogEvent) -> str:
    return str(event.get("log_namespace", "-")).removeprefix("harakatls.")


def _indented(failure: Failure) -> str:
    lines = failure.getTraceback().rstrip("\n").split("\n")
    return "".join(f"\t{printable(line)}\n" for line in lines)


# ------------------------------------------------------------------------------------- JSON


def json_line(event: LogEvent) -> str:
    """One JSON object with its line end: time, level, logger, message and all fields."""
    seconds = event.get("log_time", 0.0)
    fields: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        + f".{int(seconds % 1 * 1e6):06d}Z",
        "level": event.get("log_level", LogLevel.info).name,
        "logger": str(event.get("log_namespace", "-")),
        "message": message_of(event),
    }
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        fields["traceback"] = failure.getTraceback()
    for key, value in event.items():
        if not key.startswith("log_") and key not in _LEGACY:
            fields.setdefault(key, value)
    try:
        return json.dumps(fields, default=_plain, ensure_ascii=True) + "\n"
    except (TypeError, ValueError, RecursionError):
        plain = {key: str(value) for key, value in fields.items()}
        return json.dumps(plain, ensure_ascii=True) + "\n"


# What twisted.python.log adds to its events; the message says it all.
_LEGACY = frozenset({"format", "isError", "system", "time", "failure", "why", "message"})


def _plain(value: object) -> object:
    """Values that know how to be written do so; other records become objects."""
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and attrs.has(kind):
        return {a.name: getattr(value, a.name) for a in attrs.fields(kind) if a.repr}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


# ---------------------------------------------------------------------------------- twistd


def twistd_stream(twistd: Mapping[str, Any]) -> Stream | None:
    """
    Where twistd would log to by its own options.

    @return: None where it was told to use syslog or an observer of the operator's.
    @raise OSError: the file cannot be opened.
    """
    name = twistd.get("logfile")
    if twistd.get("syslog") or twistd.get("logger"):
        return None
    if twistd.get("nodaemon") and name in (None, "", "-"):
        return sys.stdout
    if name == "-":
        return None  # twistd says that a daemon cannot
    file: Any = LogFile.fromFullPath(name or "twistd.log")  # type: ignore[no-untyped-call]
    if signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, None):
        signal.signal(signal.SIGUSR1, lambda *_: _rotate_soon(file))
    return cast(Stream, file)


def _rotate_soon(file: Any) -> None:
    from twisted.internet import reactor  # not before twistd has chosen one

    reactor.callFromThread(file.rotate)  # type: ignore[attr-defined]
