"""``harakatls queue flush|hold|release|requeue|remove``: what the operator does to messages."""

import argparse
import json
import sqlite3
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable

from attrs import frozen

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.service.logs import printable
from harakatls.service.progress import Progress
from harakatls.service.queue_filter import QueueFilter, QueueMisuse, add_filters
from harakatls.service.queue_view import number
from harakatls.spool.changes import (
    Change,
    Chosen,
    Flush,
    Hold,
    Release,
    Requeue,
    carry_out,
    remove_all,
)
from harakatls.spool.database import BODIES
from harakatls.spool.listing import entries, opened


@frozen
class _Verb:
    name: str
    text: str
    change: Callable[[float], Change] | None  # None for remove


_VERBS = (
    _Verb("flush", "Try messages now, instead of when their time comes.", Flush),
    _Verb("hold", "Keep messages from being tried until they are released.", lambda _: Hold()),
    _Verb("release", "Let messages be tried again that are on hold.", lambda _: Release()),
    _Verb(
        "requeue",
        "Try messages now, with the schedule of attempts from its start; those that were set "
        "aside as well.",
        Requeue,
    ),
    _Verb(
        "remove",
        "Remove messages for good, with --recipient for these recipients alone; no report is "
        "sent to anybody.",
        None,
    ),
)


def add_to(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verbs and their options."""
    for verb in _VERBS:
        parser = verbs.add_parser(
            verb.name,
            help=verb.text,
            description=f"{verb.text} The server may be running. An attempt that is under way is "
            "not broken off.",
        )
        parser.add_argument("--config", "-c", metavar="DIR", default="./config")
        parser.add_argument("--all", action="store_true", help="all messages of the queue")
        parser.add_argument("--json", action="store_true", help="the outcome as a JSON object")
        if verb.change is None:
            parser.add_argument("--yes", "-y", action="store_true", help="without being asked")
        add_filters(parser)
        parser.set_defaults(run=change_queue, verb=verb)


def change_queue(options: argparse.Namespace) -> None:
    """
    Choose first, then change: an id that is mistyped changes nothing.

    @raise QueueMisuse: what is to be changed is not clear.
    """
    verb: _Verb = options.verb
    chosen = QueueFilter.of(options)
    if chosen.is_empty and not options.all:
        raise QueueMisuse(f"name messages by id or filter, or say --all, for all to {verb.name}")
    if options.all and not chosen.is_empty:
        raise QueueMisuse("--all does not go together with ids and filters")
    directory = queue_directory(ConfigDirectory(options.config))
    with opened(directory, to_write=True) as connection:
        numbers = choose(connection, chosen)
        if verb.change is None and numbers and not options.yes:
            _ask(len(numbers), chosen)
        now = time.time()
        with Progress(len(numbers)) as progress:
            if verb.change is None:
                meant = Chosen(chosen.fits, chosen.names if chosen.recipient is not None else None)
                bodies = directory / BODIES
                outcomes = remove_all(connection, numbers, meant, bodies, now, progress.done)
            else:
                outcomes = carry_out(connection, numbers, verb.change(now), progress.done)
    _tell(outcomes, options.json)


def choose(connection: sqlite3.Connection, chosen: QueueFilter) -> "array[int]":
    """
    The numbers of the rows.

    @raise QueueMisuse: an id is that of no message.
    """
    numbers = array("q")
    with Progress(count(connection)) as progress:
        for entry in entries(connection):
            if chosen.fits(entry):
                numbers.append(entry.number)
            progress.done()
    must_be_known(chosen)
    return numbers


def must_be_known(chosen: QueueFilter) -> None:
    """@raise QueueMisuse: an id is that of no message."""
    unknown = chosen.unknown_ids()
    if unknown:
        raise QueueMisuse(f"there is no message {', '.join(unknown)} in the queue")


def count(connection: sqlite3.Connection) -> int:
    """Of all messages."""
    return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])


def _ask(messages: int, chosen: QueueFilter) -> None:
    what = number(messages)
    if chosen.recipient is not None:
        what = f"the recipients {chosen.recipient.text or '<>'} of {what}"
    question = f"Remove {printable(what)} for good? Nobody is told. [y/N] "
    if not sys.stdin.isatty():
        raise QueueMisuse(f"{printable(what)} would be removed for good; say --yes to do it")
    sys.stderr.write(question)
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise QueueMisuse("nothing was removed")


def _tell(outcomes: Counter[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(dict(outcomes)))
        return
    for outcome, messages in outcomes.most_common():
        print(printable(f"{number(messages)}: {outcome}"))
    if not outcomes:
        print("no message fits")
