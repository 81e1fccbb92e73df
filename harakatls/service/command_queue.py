"""``harakatls queue``: what waits for delivery, and what the operator can do about it."""

import argparse
import json
import time

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.config.errors import ConfigError
from harakatls.service import command_queue_change, command_queue_export
from harakatls.service.command_failure import warn
from harakatls.service.command_queue_change import count, must_be_known
from harakatls.service.logs import printable
from harakatls.service.progress import Progress
from harakatls.service.queue_advice import Rules
from harakatls.service.queue_filter import QueueFilter, QueueMisuse, add_filters
from harakatls.service.queue_show import Shown, shown_facts, shown_lines
from harakatls.service.queue_view import count_facts, count_lines, facts, lines, number
from harakatls.spool.database import BODIES
from harakatls.spool.listing import entries, opened
from harakatls.spool.reading import verify
from harakatls.spool.salvage import salvage
from harakatls.spool.statistics import counts, counts_by_domain


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command, its verbs and their options."""
    text = "Look at the queue, change it, or save what is left of it."
    parser = commands.add_parser("queue", help=text, description=text)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    listed = _verb(verbs, "list", "List messages in the order of their arrival.", list_queue)
    listed.add_argument("--limit", type=_limit, metavar="N", help="the first N alone")
    add_filters(listed)
    shown = _verb(
        verbs,
        "show",
        "Show all that is known of messages: every attempt, and what happens next.",
        show_queue,
    )
    shown.add_argument("--limit", type=_limit, metavar="N", help="the first N alone")
    add_filters(shown)
    told = _verb(verbs, "stat", "Count messages, by domain and by what happens next.", count_queue)
    told.add_argument(
        "--limit", type=_limit, metavar="N", default=20, help="so many domains; 20 without"
    )
    command_queue_change.add_to(verbs)
    command_queue_export.add_to(verbs)
    _verb(
        verbs,
        "verify",
        "Read all messages and compare their checksums; nothing is changed.",
        verify_queue,
    )
    text = "Save what can be read of a damaged queue; the server must be stopped."
    saved = verbs.add_parser("salvage", help=text, description=text)
    saved.add_argument("--config", "-c", metavar="DIR", default="./config")
    saved.set_defaults(run=salvage_queue)


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    run: object,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=f"{text} The server may be running.")
    parser.add_argument("--config", "-c", metavar="DIR", default="./config")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)
    return parser


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def list_queue(options: argparse.Namespace) -> None:
    """Printed as it is read, so that a long queue stands in no memory."""
    chosen = QueueFilter.of(options)
    messages = octets = 0
    more = False
    with opened(queue_directory(ConfigDirectory(options.config))) as connection:
        for entry in entries(connection):
            if not chosen.fits(entry):
                continue
            if messages == options.limit:
                more = True
                break
            print(json.dumps(facts(entry)) if options.json else "\n".join(lines(entry)))
            messages += 1
            octets += entry.size
    if not more:
        must_be_known(chosen)
    if not options.json:
        rest = "; there are more" if more else ""
        print(f"{number(messages)}, {octets} octets{rest}")


def show_queue(options: argparse.Namespace) -> None:
    """With what the configuration says now."""
    chosen = QueueFilter.of(options)
    if chosen.is_empty:
        raise QueueMisuse("name messages by id or filter, for all that is known of them")
    config = ConfigDirectory(options.config)
    directory = queue_directory(config)
    try:
        rules = Rules.load(config)
    except ConfigError as problem:
        warn(f"what happens next is told in part, since {problem}")
        rules = None
    messages = 0
    with opened(directory) as connection:
        for entry in entries(connection):
            if not chosen.fits(entry):
                continue
            shown = Shown.of(entry, rules, chosen.now)
            if options.json:
                print(json.dumps(shown_facts(shown)))
            else:
                print("\n".join(map(printable, shown_lines(shown))))
            messages += 1
            if messages == options.limit:
                return
    must_be_known(chosen)
    if not messages and not options.json:
        print("no message fits")


def count_queue(options: argparse.Namespace) -> None:
    """The database counts; it takes a moment whatever there is."""
    now = time.time()
    with opened(queue_directory(ConfigDirectory(options.config))) as connection:
        all_of_them = counts(connection, now)
        domains = counts_by_domain(connection, now, options.limit)
    if not options.json:
        print("\n".join(count_lines(all_of_them, domains, now)))
        return
    print(json.dumps(count_facts(all_of_them)))
    for domain, one in domains:
        print(json.dumps({"domain": domain, **count_facts(one)}))


def verify_queue(options: argparse.Namespace) -> int:
    """@return: the exit status: 1 if something is wrong."""
    directory = queue_directory(ConfigDirectory(options.config))
    flaws = 0
    with opened(directory) as connection:
        messages = count(connection)
        with Progress(messages) as progress:
            for flaw in verify(connection, directory / BODIES, progress.done):
                flaws += 1
                if options.json:
                    print(json.dumps({"about": flaw.about, "problem": flaw.problem}))
                else:
                    print(printable(f"{flaw.about}: {flaw.problem}"))
    if not options.json:
        print(f"{number(messages)} read, {flaws or 'no'} problems")
    return 1 if flaws else 0


def salvage_queue(options: argparse.Namespace) -> None:
    """Nothing is deleted, so that it can be tried without fear."""
    saved = salvage(queue_directory(ConfigDirectory(options.config)))
    print(f"{saved.messages} messages are in the queue again")
    print(f"{saved.lost} message bodies that belong to none are in the directory lost of the queue")
