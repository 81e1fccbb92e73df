"""The queue for programs on this machine: the command STATUS (Haraka's status)."""

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import queue_directory
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import ICapabilitiesHook, IUnrecognizedHook, Site
from harakatls.mail.address import Address
from harakatls.plugins.files import CallInThread
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import TEXT_OCTETS, Reply
from harakatls.spool.changes import Chosen, Flush, carry_out, remove_all
from harakatls.spool.codec import UndecodableMessage
from harakatls.spool.database import BODIES
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.listing import Entry, State, entries, opened
from harakatls.spool.statistics import counts
from harakatls.verdict import CONTINUE, Accept, Reject, Verdict

log = Logger()

VERB = "STATUS"
MOST = 10_000  # messages in one answer
_ID = re.compile(r"[!-~]{1,200}")
_WAITING = (State.WAITING, State.HELD)


class Refused(Exception):
    """The command is none, or cannot be obeyed; the text is for the client."""


def load(site: Site) -> "Status":
    """There is nothing to configure but the queue itself."""
    return Status(queue_directory(site.config), site.call_in_thread)


@implementer(ICapabilitiesHook, IUnrecognizedHook)
@frozen
class Status:
    """Answers with JSON, and peers on this machine alone."""

    queue: Path
    call_in_thread: CallInThread

    async def capabilities(self, connection: Connection, offered: Capabilities) -> Capabilities:
        """STATUS."""
        return offered.adding(VERB) if connection.is_from_this_machine else offered

    async def unrecognized(
        self, connection: Connection, transaction: Transaction | None, verb: str, argument: str
    ) -> Verdict:
        """211 and JSON, or 500."""
        if verb != VERB:
            return CONTINUE
        if not connection.is_from_this_machine:
            return Reject(Reply.of(500, "5.7.1", "STATUS not allowed remotely"))
        words = argument.split()
        log.info("{id} asks for STATUS {words}", id=connection.id, words=" ".join(words))
        try:
            found = await self.call_in_thread(self.obey, words)
        except Refused as problem:
            return Reject(Reply.of(500, "5.5.4", str(problem)))
        except SpoolUnusable as problem:
            log.error("STATUS cannot be answered: {problem}", problem=problem)
            return Reject(Reply.of(500, "5.3.0", "The queue cannot be read"))
        return Accept(in_lines(found))

    def obey(self, words: list[str]) -> object:
        """
        Blocks.

        @return: what JSON can hold.
        @raise Refused: what is asked for is not there.
        """
        names = tuple(word.upper() for word in words[:2])
        if len(words) == 2 and names in _QUESTIONS:
            return _QUESTIONS[names](self)
        if len(words) == 3 and names in _ORDERS:
            if not _ID.fullmatch(words[2]):
                raise Refused("no message has such a name")
            return _ORDERS[names](self, words[2])
        kind = names[0] if names and names[0] == "QUEUE" else ""
        raise Refused(f"unknown {kind or VERB} command")

    def list_queue(self) -> object:
        """Each message, by destination; the times are milliseconds, as in Haraka."""
        return [_shown(entry) for entry in self._all()]

    def stats(self) -> object:
        """How many are in hand, are due, and wait for another attempt."""
        with opened(self.queue) as connection:
            now = counts(connection, time.time())
        return f"{now.in_hand}/{now.due}/{now.delayed}"

    def inspect(self) -> object:
        """What is under way or due, and what waits."""
        now = time.time()
        due, waiting = [], []
        for entry in self._all():
            if entry.in_hand or (entry.state is State.WAITING and entry.due <= now):
                due.append({"id": entry.id})
            elif entry.state in _WAITING:
                waiting.append({"id": entry.id, "fire_time": round(entry.due * 1000)})
        return {"delivery_queue": due, "temp_fail_queue": waiting}

    def discard(self, message_id: str) -> object:
        """Remove a message; nobody is told."""
        with opened(self.queue, to_write=True) as connection:
            numbers = [e.number for e in entries(connection) if e.id == message_id]
            chosen = Chosen(lambda entry: entry.id == message_id)
            bodies = self.queue / BODIES
            outcomes = remove_all(connection, numbers, chosen, bodies, time.time(), lambda _: None)
        return _told(message_id, outcomes)

    def push(self, message_id: str) -> object:
        """Try a message now."""
        with opened(self.queue, to_write=True) as connection:
            numbers = [e.number for e in entries(connection) if e.id == message_id]
            outcomes = carry_out(connection, numbers, Flush(time.time()), lambda _: None)
        return _told(message_id, outcomes)

    def _all(self) -> list[Entry]:
        with opened(self.queue) as connection:
            messages = counts(connection, time.time()).messages
            if messages > MOST:
                raise Refused(f"{messages} messages are too many: harakatls queue list has them")
            return list(entries(connection))


_QUESTIONS: Mapping[tuple[str, ...], Callable[[Status], object]] = {
    ("QUEUE", "LIST"): Status.list_queue,
    ("QUEUE", "STATS"): Status.stats,
    ("QUEUE", "INSPECT"): Status.inspect,
}
_ORDERS: Mapping[tuple[str, ...], Callable[[Status, str], object]] = {
    ("QUEUE", "DISCARD"): Status.discard,
    ("QUEUE", "PUSH"): Status.push,
}


def _shown(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "file": entry.id,
        "uuid": entry.id,
        "queue_time": round(entry.arrived * 1000),
        "domain": entry.domain,
    }
    try:
        queued = entry.queued()
    except UndecodableMessage:
        return shown
    shown["from"] = _path(queued.envelope.reverse_path)
    shown["to"] = [_path(recipient.address) for recipient in queued.pending]
    return shown


def _path(address: Address | None) -> str:
    return f"<{address or ''}>"


def _told(message_id: str, outcomes: Mapping[str, int]) -> object:
    if not outcomes:
        raise Refused(f"there is no message {message_id} in the queue")
    log.info("STATUS: {message}: {outcomes}", message=message_id, outcomes=dict(outcomes))
    return "OK"


def in_lines(found: object) -> Reply:
    """
    JSON, in as many lines as it takes: joined as they are, they are JSON again.

    A blank would be lost where a line ends, so there is none.
    """
    text = json.dumps(found, separators=(",", ":")).replace(" ", "\\u0020")
    lines = (text[at : at + TEXT_OCTETS] for at in range(0, len(text), TEXT_OCTETS))
    return Reply.of(211, None, *lines)
