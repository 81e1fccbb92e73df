"""``harakatls queue``: what waits for delivery. Listing is done beside the running server."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.queued import QueuedMessage
from harakatls.spool.listing import broken, listing
from harakatls.spool.salvage import salvage


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command, its verbs and their options."""
    text = "Look at the queue, or save what is left of it."
    parser = commands.add_parser("queue", help=text, description=text)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    text = "List the messages that wait for delivery; the server may be running."
    listed = verbs.add_parser("list", help=text, description=text)
    listed.add_argument("--config", "-c", metavar="DIR", default="./config")
    listed.add_argument("--json", action="store_true", help="one JSON object a line")
    listed.set_defaults(run=list_queue)
    text = "Save what can be read of a damaged queue; the server must be stopped."
    saved = verbs.add_parser("salvage", help=text, description=text)
    saved.add_argument("--config", "-c", metavar="DIR", default="./config")
    saved.set_defaults(run=salvage_queue)


def list_queue(options: argparse.Namespace) -> None:
    """Printed as it is read, so that a long queue stands in no memory."""
    directory = queue_directory(ConfigDirectory(options.config))
    messages = octets = 0
    for queued in listing(directory):
        if options.json:
            print(json.dumps(facts(queued)))
        else:
            print("\n".join(lines(queued)))
        messages += 1
        octets += queued.size
    for damaged in broken(directory):
        if options.json:
            print(json.dumps({"id": damaged.id, "problem": damaged.problem}))
        else:
            print(f"{damaged.id}  set aside, will not be tried: {damaged.problem}")
    if not options.json:
        print(f"{messages} message{'' if messages == 1 else 's'}, {octets} octets")


def salvage_queue(options: argparse.Namespace) -> None:
    """Nothing is deleted, so that it can be tried without fear."""
    saved = salvage(queue_directory(ConfigDirectory(options.config)))
    print(f"{saved.messages} messages are in the queue again")
    print(f"{saved.lost} message bodies that belong to none are in the directory lost of the queue")


def facts(queued: QueuedMessage) -> dict[str, Any]:
    """What --json prints of a message; times are seconds since the epoch."""
    last = queued.history[-1] if queued.history else None
    return {
        "id": queued.id,
        "domain": queued.domain,
        "arrived": queued.arrived,
        "size": queued.size,
        "from": str(queued.envelope.reverse_path or ""),
        "recipients": [str(recipient.address) for recipient in queued.pending],
        "attempts": queued.attempts,
        "next_try": queued.due,
        "last_replies": {to: str(reply) for to, reply in queued.last_replies.items()},
        "last_trials": [
            {"host": t.host, "result": t.result, "tls": t.tls, "reasons": list(t.reasons)}
            for t in (last.trials if last else ())
        ],
    }


def lines(queued: QueuedMessage) -> Iterator[str]:
    """What is printed of a message for people."""
    sender = f"<{queued.envelope.reverse_path or ''}>"
    yield f"{queued.id}  arrived {_when(queued.arrived)}  {queued.size} octets  from {sender}"
    for recipient in queued.pending:
        yield f"    to <{recipient.address}>"
    tries = "attempt" if queued.attempts == 1 else "attempts"
    yield f"    {queued.attempts} {tries}, next try {_when(queued.due)}"
    replies = {str(queued.last_replies.get(str(r.address), "")): None for r in queued.pending}
    for reply in replies:
        if reply:
            yield f"    last reply: {reply}"
    for trial in queued.history[-1].trials if queued.history else ():
        yield f"    tried {trial.host}{f' ({trial.tls})' if trial.tls else ''}: {trial.result}"
        if trial.reasons:
            yield f"        TLS: {'; '.join(trial.reasons)}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
