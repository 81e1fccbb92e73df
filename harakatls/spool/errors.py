"""What may be wrong with a queue directory, and how failures of the disk are told."""

import errno
import sqlite3
from pathlib import Path

from harakatls.interfaces import SpoolDamaged, SpoolFull

_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class SpoolUnusable(Exception):
    """
    The queue directory cannot be used: in use, not writable, or damaged.

    The text is for the operator: what was found, where, and what to do.
    """


def file_failure(error: OSError, path: Path) -> SpoolFull | SpoolDamaged:
    """What a failure to write or read *path* means to who asked."""
    if error.errno in _NO_SPACE:
        return SpoolFull(f"{path}: {error.strerror}")
    return SpoolDamaged(f"{path}: {error.strerror or error}")


def is_full(error: sqlite3.Error) -> bool:
    """SQLite found no space (on the disk, or under its own limit)."""
    return _code(error) == sqlite3.SQLITE_FULL


def is_input_output(error: sqlite3.Error) -> bool:
    """The operating system failed SQLite; that may be a quota, too."""
    return _code(error) == sqlite3.SQLITE_IOERR


def is_malformed(error: sqlite3.Error) -> bool:
    """What is in the file is not what SQLite wrote."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_of_storage(error: BaseException) -> bool:
    """The database failed, not what was asked of it."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError
    )


def _code(error: sqlite3.Error) -> int:
    # The low octet of an extended code is the primary one.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
