"""Sees to it that the files of Diffie-Hellman groups are there (dhparam)."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from harakatls.tls.dhparams import write_group
from harakatls.tls.files import GroupFile
from harakatls.tls.settings import TLSSettings

log = Logger()


class GroupFiles:
    """Makes those that are missing. Nobody waits: what will be in them is in use already."""

    def __init__(self, call_in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._call_in_thread = call_in_thread
        self._told: set[Path] = set()

    def make(self, settings: TLSSettings) -> Deferred[None]:
        """@return: for tests; it never fails."""
        missing = [file for file in settings.inbound.group_files if file.missing]
        made = Deferred.fromCoroutine(self._make(missing))
        made.addErrback(lambda failure: log.failure("dhparam", failure=failure))
        return made

    async def _make(self, missing: list[GroupFile]) -> None:
        for file in missing:
            try:
                written = await self._call_in_thread(write_group, file.path)
            except (OSError, ValueError) as problem:
                self._tell(file, problem)
            else:
                if written:
                    log.info("dhparam: {file} was missing, and has been made", file=file.name)

    def _tell(self, file: GroupFile, problem: Exception) -> None:
        if file.path in self._told:
            return
        self._told.add(file.path)
        log.warn(
            "dhparam: {file} cannot be made ({reason}); the group ffdhe2048 is used without it",
            file=file.name,
            reason=getattr(problem, "strerror", None) or str(problem),
        )
