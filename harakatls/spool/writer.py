"""
The one thread of a process that writes to the queue's database.

Whatever was asked for while a transaction was being synced makes up the next one: groups form by
themselves under load, and a lone request waits for nobody.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from twisted.logger import Logger

from harakatls.interfaces import SpoolDamaged, SpoolFull
from harakatls.spool.errors import is_full, is_input_output, is_of_storage
from harakatls.spool.ledger import Ledger
from harakatls.spool.requests import Request, Settlement, Shrinking

log = Logger()

GROUP = 256  # the most requests of one transaction
_QUOTA = 65536  # octets: with less left, an error of the disk is taken for a lack of space
GROUP_OCTETS = 4194304  # one more is taken while there are fewer


class GroupWriter:
    """
    Does requests in groups, one transaction for each.

    A request that fails for a reason of its own takes no other with it. Where COMMIT fails,
    nothing of the group is there and each request fails, but for settlements when the disk is
    full: these are tried once more alone, as they are what makes space.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        ledger: Ledger,
        finished: Callable[[list[Request[Any]]], object],
        fits: Callable[[int], bool],
        threaded: bool = True,
    ) -> None:
        """
        @param path: of the database.
        @param finished: called in the writer's thread with a group whose outcome is known.
        @param fits: whether there is space for so many octets.
        @param threaded: without, each request is done at once in the thread that asks.
        """
        self._connection = connection
        self._path = path
        self._ledger = ledger
        self._finished = finished
        self._fits = fits
        self._requests: SimpleQueue[Request[Any] | None] = SimpleQueue()
        self._files = _files(path)
        self._failing = False
        self._thread: threading.Thread | None = None
        self.held = False  # without a thread: requests wait for `work`
        if threaded:
            # A daemon: what was not answered for may be lost when the process ends.
            self._thread = threading.Thread(target=self._run, name="queue writer", daemon=True)
            self._thread.start()

    def submit(self, request: Request[Any]) -> None:
        """Have it done; `finished` is told."""
        self._requests.put(request)
        if self._thread is None and not self.held:
            self.work()

    def stop(self) -> None:
        """Do what was asked for before, end the thread, and close the database."""
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join()
        else:
            self.work()

    def work(self) -> bool:
        """
        Wait for a request and do it, together with all that have come meanwhile.

        @return: there may be more; False after `stop`.
        """
        requests = self._requests
        request = requests.get()
        group: list[Request[Any]] = []
        octets = 0
        while request is not None:
            group.append(request)
            octets += request.octets
            if octets >= GROUP_OCTETS or len(group) == GROUP or not requests.qsize():
                break
            request = requests.get_nowait()
        if group:
            self._transact(self._fitting(group, octets))
            self._finished(group)
            if any(type(request) is Shrinking and not request.result for request in group):
                self._clear_log()
        if request is not None:
            return True
        self._connection.close()
        return False

    def _run(self) -> None:
        while self.work():
            pass

    def _fitting(self, group: list[Request[Any]], octets: int) -> list[Request[Any]]:
        """
        Fail what adds to a database that has no space for it, before it fills the disk.

        A log that fills the disk to the last octet leaves no room for it to be cleared.
        """
        if not octets or self._fits(octets):
            return group
        fitting = []
        octets = 0
        for request in group:
            if request.octets and not self._fits(octets + request.octets):
                request.error = SpoolFull(f"{self._path}: too little space is left")
                request.failed()
            else:
                fitting.append(request)
                octets += request.octets
        return fitting

    def _transact(self, group: list[Request[Any]]) -> None:
        if not group:
            return
        try:
            self._check_files()
            self._connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, SpoolDamaged) as error:
            self._fail(group, error)
            return
        try:
            self._ledger.apply(self._connection, group)
        except Exception as error:
            self._roll_back()
            if len(group) == 1:
                self._fail(group, error)
            else:
                self._each_alone(group)
            return
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            freeing = [request for request in group if isinstance(request, Settlement)]
            if not is_full(error) or len(group) == 1:
                freeing = []
            self._fail([request for request in group if request not in freeing], error)
            self._each_alone(freeing)
            return
        self._succeeded(group)

    def _clear_log(self) -> None:
        # Until the log is moved into the database, that is as large as before.
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            log.error("{path}: cannot clear the log: {error}", path=self._path, error=error)

    def _each_alone(self, group: Sequence[Request[Any]]) -> None:
        for request in group:
            self._transact([request])

    def _roll_back(self) -> None:
        # Some failures have rolled back already.
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.error("{path}: cannot roll back: {error}", path=self._path, error=error)

    def _succeeded(self, group: list[Request[Any]]) -> None:
        for request in group:
            request.error = None
        if self._failing:
            self._failing = False
            log.info("{path}: can be written again", path=self._path)

    def _fail(self, group: list[Request[Any]], error: Exception) -> None:
        if isinstance(error, sqlite3.Error) and is_of_storage(error):
            error = self._told(error)
        told = isinstance(error, SpoolFull | SpoolDamaged)
        if told and not self._failing:
            self._failing = True
            log.error("cannot write to the queue: {error}", error=error)
        for request in group:
            # One each: an exception gathers the traceback of everybody who raises it.
            request.error = type(error)(*error.args) if told else error
            request.failed()

    def _told(self, error: sqlite3.Error) -> SpoolFull | SpoolDamaged:
        """What a failure of the database means to who asked."""
        full = is_full(error) or (is_input_output(error) and not self._fits(_QUOTA))
        return (SpoolFull if full else SpoolDamaged)(f"{self._path}: {error}")

    def _check_files(self) -> None:
        # SQLite would go on writing into files that have lost their names, and lose it all.
        if _files(self._path) != self._files:
            raise SpoolDamaged(
                f"{self._path} or its -wal was removed or replaced while in use; put it back "
                "as it was, or stop the server and start it anew"
            )


def _files(path: Path) -> tuple[object, object]:
    return _identity(f"{path}"), _identity(f"{path}-wal")


def _identity(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
