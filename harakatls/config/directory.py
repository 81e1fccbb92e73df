"""The config directory: the only place that reads the operator's files."""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from harakatls.config.errors import ConfigError, shown
from harakatls.config.hosts import HostList, host_address, host_name
from harakatls.config.ini import LINE_END, Ini

Stamp = tuple[int, ...]
"""What cannot stay the same when a file or a directory changes."""


def stamp(path: str | os.PathLike[str], unseen: Stamp | None = None) -> Stamp | None:
    """
    Links are followed, so that a link that leads elsewhere makes a difference.

    @param unseen: the answer where we may not look.
    @return: None where there is nothing.
    """
    try:
        found = os.stat(path)
    except PermissionError:
        return unseen
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class ConfigDirectory:
    """
    One reading of the config directory.

    An ini file or a list is read once, so that all readers see the same; to see changes, make a new
    L{ConfigDirectory}. A file that is missing is as good as an empty one; a file that is there but
    cannot be read (permissions, no regular file, not UTF-8) raises L{ConfigError}.

    Names of files are relative to the directory, or absolute. Nothing keeps them inside of the
    directory: the operator, who writes them, may name any file.

    @ivar path: the directory, absolute.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """@raise ConfigError: where there is no such directory, or it may not be entered."""
        self.path = Path(os.path.abspath(path))
        self._inis: dict[str, Ini] = {}
        self._texts: dict[str, str | None] = {}
        self._read: dict[Path, None] = {}
        self._missing: dict[Path, None] = {}
        self._watched: set[Path] = set()
        self._warnings: list[str] = []
        self._stamps: dict[Path, Stamp | None] = {}
        try:
            is_directory = stat.S_ISDIR(os.stat(self.path).st_mode)
        except (OSError, ValueError) as problem:
            raise _unreadable(str(self.path), problem) from None
        if not is_directory:
            raise ConfigError(str(self.path), None, None, "is not a directory")
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise ConfigError(str(self.path), None, None, "cannot be read: Permission denied")

    # -- files -------------------------------------------------------------------------------

    def ini(self, name: str) -> Ini:
        """The ini file of that name; empty where there is none. All readers share one L{Ini}."""
        if name not in self._inis:
            self._inis[name] = Ini.parse(name, self._text(name) or "")
        return self._inis[name]

    def lines(self, name: str) -> tuple[str, ...]:
        """
        A flat list: the lines, trimmed, without empty ones and those that begin with # or ;.

        @return: empty where there is no such file.
        """
        lines = (line.strip() for line in LINE_END.split(self._text(name) or ""))
        return tuple(line for line in lines if line and line[0] not in "#;")

    def value(self, name: str) -> str | None:
        """The first line of a flat list; None where there is none."""
        return next(iter(self.lines(name)), None)

    def hosts(self, name: str) -> HostList:
        """A flat list of hosts, one a line; here a comment may follow after a blank and #."""
        try:
            return HostList.parse(
                line.replace("\t#", " #").partition(" #")[0] for line in self.lines(name)
            )
        except ValueError as problem:
            raise ConfigError(name, None, None, str(problem)) from None

    def content(self, name: str) -> bytes | None:
        """A file as it is, read anew each time; None where there is none."""
        path = self.resolve(name)
        self._stamps.setdefault(path, stamp(path))
        try:
            content = _read_regular_file(path)
        except (FileNotFoundError, NotADirectoryError):
            self._missing[path] = None
            return None
        except (OSError, ValueError) as problem:
            raise _unreadable(name, problem) from None
        self._read[path] = None
        return content

    def tree(self, name: str) -> tuple[str, ...]:
        """
        The files in the directory *name* and below it, by names for L{content}, sorted.

        Links are followed, each directory once. What begins with a dot is passed over.

        @return: empty where there is no such directory.
        @raise ConfigError: where a directory cannot be read.
        """
        found: list[str] = []
        seen: set[str] = set()

        def stop(problem: OSError) -> None:
            raise _unreadable(os.path.relpath(problem.filename, self.path), problem) from None

        top = self.resolve(name)
        self._stamps.setdefault(top, stamp(top))
        if not self.exists(name):
            return ()
        for path, directories, files in os.walk(top, onerror=stop, followlinks=True):
            real = os.path.realpath(path)
            self._stamps.setdefault(Path(path), stamp(path))
            directories[:] = [] if real in seen else sorted(d for d in directories if d[0] != ".")
            if real not in seen:
                found.extend(os.path.relpath(os.path.join(path, f), self.path) for f in files)
            seen.add(real)
        return tuple(sorted(f for f in found if os.path.basename(f)[0] != "."))

    def exists(self, name: str) -> bool:
        """Whether there is a file or a directory of that name."""
        try:
            return self.resolve(name).exists()
        except (OSError, ValueError) as problem:
            raise _unreadable(name, problem) from None

    def resolve(self, name: str | os.PathLike[str]) -> Path:
        """The absolute path of *name*, which is relative to this directory if not absolute."""
        return Path(os.path.normpath(self.path / name))

    def _text(self, name: str) -> str | None:
        if name not in self._texts:
            content = self.content(name)
            self._texts[name] = None if content is None else _decoded(name, content)
        return self._texts[name]

    # -- what is told ------------------------------------------------------------------------

    @property
    def me(self) -> str:
        """
        Our own host name, from the file C{me}; where that is empty or missing, the system's.

        @return: lower case, A-labels; or an address literal such as C{[192.0.2.1]}.
        @raise ConfigError: where it is not fit for a greeting.
        """
        name = self.value("me")
        whose = ""
        if name is None:
            name = socket.gethostname() or "localhost"
            whose = "the system's host name "
        try:
            if name[:1] == "[" and name[-1:] == "]":
                host_address(name)
                return name
            return host_name(name)
        except ValueError:
            raise ConfigError(
                "me", None, None, f"{whose}{shown(name)} is not a name such as mail.example.com"
            ) from None

    @property
    def read(self) -> tuple[Path, ...]:
        """The files that were read so far, in order."""
        return tuple(self._read)

    @property
    def missing(self) -> tuple[Path, ...]:
        """The files that were asked for so far and were not there."""
        return tuple(self._missing)

    @property
    def stamps(self) -> Mapping[Path, Stamp | None]:
        """
        All files and directories that were asked for so far, with what L{stamp} said of each just
        before it was first read: once it says something else, they should be read anew.
        """
        return {path: seen for path, seen in self._stamps.items() if path not in self._watched}

    def watched(self, name: str) -> None:
        """Its reader sees its changes by itself: L{stamps} leaves it out."""
        self._watched.add(self.resolve(name))

    @property
    def warnings(self) -> tuple[str, ...]:
        """
        What an operator should look at, one line each: lines that were skipped, unknown keys and
        sections, settings without effect. So ask when everybody has read their settings.
        """
        from_inis = [line for ini in self._inis.values() for line in ini.warnings]
        return tuple(dict.fromkeys([*from_inis, *self._warnings]))

    def warn(self, file: str, problem: str) -> None:
        """Tell the operator about a *file* without refusing it."""
        self._warnings.append(f"{file}: {problem}")


def queue_directory(config: ConfigDirectory) -> Path:
    """
    Where the queue lives: what the file C{queue_dir} says, relative to the config directory;
    without it the directory C{queue} beside the config directory.
    """
    return config.resolve(config.value("queue_dir") or "../queue")


def _read_regular_file(path: Path) -> bytes:
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        return file.read()


def _open_without_waiting(path: str, flags: int) -> int:
    # A FIFO without a writer would hold the start for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        # utf-8-sig counts from behind the mark, so look for the place in what it was given.
        line = len(LINE_END.split(problem.object[: problem.start].decode("utf-8", "replace")))
        raise ConfigError(name, None, None, f"line {line} is not UTF-8 text") from None


def _unreadable(file: str, problem: Exception) -> ConfigError:
    reason = problem.strerror if isinstance(problem, OSError) else None
    return ConfigError(file, None, None, f"cannot be read: {reason or problem}")
