"""Changes one key of an ini file, and leaves its comments and all else as they are."""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harakatls.config.ini import header_name

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")  # with its end


def with_key(text: str, section: str, key: str, value: str | None) -> str:
    """
    *text* with C{key=value} in the place of the key, else at the end of its section, which comes
    last if it is not there.

    @param section: not C{main}, whose keys need no header.
    @param value: None removes the key.
    @raise ValueError: the key goes over several lines, so it is to be changed by hand.
    """
    lines = [line for line in _LINE.findall(text) if line]
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    new = [] if value is None else [f"{key}={value}{end}"]
    kept: list[str] = []
    place: int | None = None  # where the key was, else behind the last line of its section
    found = False
    here = False
    for line in lines:
        name = header_name(line)
        if name is not None:
            here = name == section
        if here and name is None and _key(line) == key:
            if line.rstrip().endswith("\\"):
                raise ValueError("goes over several lines; change it by hand")
            if not found:
                place, found = len(kept), True
            continue
        kept.append(line)
        if here and not found and (line.strip() or place is None):
            place = len(kept)
    if place is None and new:
        new = [*([end] if kept else []), f"[{section}]{end}", *new]
    place = len(kept) if place is None else place
    if place and new and not kept[place - 1].endswith(("\r", "\n")):
        kept[place - 1] += end
    return "".join([*kept[:place], *new, *kept[place:]])


def _key(line: str) -> str | None:
    if line.lstrip()[:1] in ("", ";", "#"):
        return None
    return line.partition("=")[0].strip().removesuffix("[]")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """
    Others who edit a file in *directory* by this wait meanwhile.

    @raise OSError: it is no directory.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_private(file: Path, text: str) -> None:
    """
    Put *text* in the place of what is in *file*, all at once, and wait until it is on the disk.

    The owner stays, or is that of the directory where the file is new. Nobody else may read it;
    but for the group, where it could before.

    @raise OSError: what was there still is.
    """
    file = Path(os.path.realpath(file))
    try:
        before = os.stat(file)
        group = before.st_mode & stat.S_IRGRP
    except FileNotFoundError:
        before = os.stat(file.parent)
        group = 0
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # 0600
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as unfinished:
            unfinished.write(text)
            unfinished.flush()
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR | group)
            os.fsync(descriptor)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
