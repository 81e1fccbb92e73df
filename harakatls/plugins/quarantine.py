"""Keeps copies of messages that other plugins have marked (Haraka's queue/quarantine)."""

import os
import re
from pathlib import Path
from time import gmtime, strftime

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, IStagedMessage, Site
from harakatls.plugins.files import CallInThread, refusal, sync_directory, write_message
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Accept, Reject, TempFail, Verdict

log = Logger()

FILE = "quarantine.ini"
PATH = "/var/spool/haraka/quarantine"
NOTE, ACTION = "quarantine", "quarantine_action"
_KIND = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")  # one part of a path; never .. or .


def load(site: Site) -> "Quarantine":
    """From quarantine.ini; what a crash has left half-written is removed."""
    directory = path(site.config)
    unfinished = directory / "tmp"
    if unfinished.is_dir():
        for file in unfinished.iterdir():
            file.unlink(missing_ok=True)
    return Quarantine(directory, site.clock, site.call_in_thread)


def path(config: ConfigDirectory) -> Path:
    """Where the copies are."""
    return config.resolve(config.ini(FILE).main.text("quarantine_path") or PATH)


@implementer(IQueueHook)
@frozen
class Quarantine:
    """
    ``notes["quarantine"]`` of the connection or the transaction says that a copy is to be kept:
    True, or a directory below the path, as ``spam/virus``. ``notes["quarantine_action"]`` says what
    the client is told then: a verdict, or nothing, and the message goes on.
    """

    directory: Path
    clock: IReactorTime
    call_in_thread: CallInThread

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """A copy that cannot be written has the client come back, so that nothing is missed."""
        wanted = connection.notes.get(NOTE) or transaction.notes.get(NOTE)
        if not wanted:
            return CONTINUE
        day = strftime("%Y%m%d", gmtime(self.clock.seconds()))
        place = Path(*_parts(wanted), day)
        try:
            unix_lines = not transaction.envelope.parameters.is_binary
            await self._keep(place, transaction.id, message, unix_lines)
        except OSError as problem:
            log.error(
                "{id} cannot be quarantined in {directory}: {problem}",
                id=transaction.id,
                directory=str(self.directory / place),
                problem=problem.strerror or str(problem),
            )
            return TempFail(refusal(problem))
        log.info("{id} is quarantined in {place}", id=transaction.id, place=str(place))
        action = connection.notes.get(ACTION) or transaction.notes.get(ACTION)
        return _verdict(action)

    async def _keep(
        self, place: Path, name: str, message: IStagedMessage, unix_lines: bool
    ) -> None:
        """@raise OSError: no copy is there."""
        unfinished = self.directory / "tmp"
        await self.call_in_thread(_make, unfinished)
        file = unfinished / name
        await write_message(self.call_in_thread, file, message.open(), unix_lines)
        try:
            await self.call_in_thread(_finish, file, self.directory / place / name)
        except OSError:
            file.unlink(missing_ok=True)
            raise


def _parts(wanted: object) -> tuple[str, ...]:
    """What a plugin has written may come from a peer: nothing leads out of the directory."""
    if not isinstance(wanted, str):
        return ()
    return tuple(part for part in wanted.split("/") if _KIND.fullmatch(part))


def _verdict(action: object) -> Verdict:
    if isinstance(action, Accept | Reject | TempFail):
        return action
    if isinstance(action, Reply):
        return Reject(action) if action.is_permanent else TempFail(action)
    return CONTINUE


def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _finish(unfinished: Path, file: Path) -> None:
    _make(file.parent)
    os.replace(unfinished, file)
    sync_directory(file.parent)
