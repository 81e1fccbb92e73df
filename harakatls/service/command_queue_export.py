"""``harakatls queue export``: messages as files, with their envelopes beside them."""

import argparse
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.interfaces import SpoolDamaged
from harakatls.service.command_failure import CommandFailure, warn
from harakatls.service.command_queue_change import choose
from harakatls.service.progress import Progress
from harakatls.service.queue_filter import QueueFilter, QueueMisuse, add_filters
from harakatls.service.queue_view import facts, number
from harakatls.spool.codec import UndecodableMessage
from harakatls.spool.database import BODIES
from harakatls.spool.listing import Entry, entry, opened
from harakatls.spool.reading import body_blocks


class ExportFailed(CommandFailure):
    """A message could not be written; says why."""


def add_to(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verb and its options."""
    text = "Write messages to files; they stay in the queue."
    parser = verbs.add_parser("export", help=text, description=text)
    parser.add_argument("--config", "-c", metavar="DIR", default="./config")
    parser.add_argument("--all", action="store_true", help="all messages of the queue")
    parser.add_argument(
        "--output",
        "-o",
        metavar="PATH",
        default="-",
        help="a directory, for ID.eml and ID.json of each message; or a file, for one message. "
        "Without, one message goes to standard output",
    )
    add_filters(parser)
    parser.set_defaults(run=export_queue)


def export_queue(options: argparse.Namespace) -> int:
    """@return: the exit status: 1 if a message cannot be read."""
    chosen = QueueFilter.of(options)
    if chosen.is_empty and not options.all:
        raise QueueMisuse("name messages by id or filter, or say --all, for all to export")
    directory = queue_directory(ConfigDirectory(options.config))
    with opened(directory) as connection:
        numbers = choose(connection, chosen)
        if options.output != "-" and Path(options.output).is_dir():
            return _to_directory(connection, numbers, directory / BODIES, Path(options.output))
        if len(numbers) != 1:
            raise QueueMisuse(
                f"{number(len(numbers))} fit; only one can be written to "
                f"{'standard output' if options.output == '-' else options.output}, more to a "
                "directory that is there (--output)"
            )
        return _one(connection, numbers[0], directory / BODIES, options.output)


def _one(connection: sqlite3.Connection, row: int, bodies: Path, output: str) -> int:
    found = _entry(connection, row)
    if output == "-":
        try:
            for block in body_blocks(connection, row, bodies):
                sys.stdout.buffer.write(block)
        except SpoolDamaged as problem:
            raise ExportFailed(f"{found.id}: {problem}") from None
        return 0
    path = Path(output)
    _write(connection, found, bodies, path, path.with_name(f"{path.name}.json"))
    return 0


def _to_directory(connection: sqlite3.Connection, rows: Any, bodies: Path, directory: Path) -> int:
    written = status = 0
    with Progress(len(rows)) as progress:
        for row in rows:
            found = entry(connection, row)
            if found is not None:  # else it was delivered meanwhile
                name = found.id.replace("/", "_")
                try:
                    _write(
                        connection,
                        found,
                        bodies,
                        directory / f"{name}.eml",
                        directory / f"{name}.json",
                    )
                    written += 1
                except ExportFailed as problem:
                    warn(str(problem))
                    status = 1
            progress.done()
    print(f"{number(written)} written to {directory}")
    return status


def _entry(connection: sqlite3.Connection, row: int) -> Entry:
    found = entry(connection, row)
    if found is None:
        raise ExportFailed("it was delivered or returned meanwhile")
    return found


def _write(
    connection: sqlite3.Connection, found: Entry, bodies: Path, message: Path, envelope: Path
) -> None:
    try:
        with _new(message) as file:
            for block in body_blocks(connection, found.number, bodies):
                file.write(block)
        with _new(envelope) as file:
            file.write(json.dumps(_envelope(found), indent=1).encode() + b"\n")
    except SpoolDamaged as problem:
        raise ExportFailed(f"{found.id}: {problem}") from None
    except OSError as problem:
        raise ExportFailed(f"{problem.filename or message}: {problem.strerror}") from None


@contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """For its owner alone; never over another file, and whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _envelope(found: Entry) -> dict[str, Any]:
    known = facts(found)
    try:
        parameters = found.queued().envelope.parameters
    except UndecodableMessage:
        return known
    known["parameters"] = {
        "body": parameters.body,
        "smtputf8": parameters.smtputf8,
        "ret": parameters.ret,
        "envid": parameters.envid,
        "requiretls": parameters.requiretls,
    }
    return known
