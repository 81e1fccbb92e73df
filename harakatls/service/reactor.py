"""The reactor of a server of our own: Twisted's for epoll, with less around each event."""

import errno
import sys
from collections.abc import Callable
from importlib.metadata import version
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

log = Logger()

_TRIED = ("24", "25", "26")  # major versions of Twisted; others keep the reactor that they bring
# What is used of Twisted's reactor that it does not promise.
_PARTS = ("_selectables", "_poller", "_doReadOrWrite", "_disconnectSelectable")


class LeanEPollReactor(EPollReactor):
    """
    Calls whatever may be read from without a logging context of its own.

    Twisted makes one around each event, for messages that are logged in the old way
    (twisted.python.log); that is a tenth of all that a short message costs. Nothing else differs.
    """

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, and call those they are for."""
        selectables: dict[int, Any] = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as problem:
            if problem.errno == errno.EINTR:
                return
            raise
        in_other_ways: Callable[[Any, int, int], None] = self._doReadOrWrite
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:  # closed by an event before this one
                continue
            try:
                if event == EPOLLIN and selectable.fileno() != -1:
                    why = _read(selectable)
                    if why:
                        self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]
                else:
                    in_other_ways(selectable, descriptor, event)
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.failure("an exception was not caught when a connection ended")

    doIteration = doPoll  # noqa: N815  # Twisted's name


def _read(selectable: Any) -> BaseException | None:
    """@return: why it is to be disconnected; None where it is not."""
    try:
        why: BaseException | None = selectable.doRead()
    except BaseException as problem:
        log.failure("an exception was not caught; its connection is closed")
        return problem
    return why


def _twisted() -> str:
    """Its major version."""
    return version("twisted").partition(".")[0]


def install_lean_reactor() -> None:
    """
    Install it, unless a reactor was chosen already (``twistd --reactor``), or Twisted's is not
    made as the one that this was written for.
    """
    if "twisted.internet.reactor" in sys.modules or _twisted() not in _TRIED:
        return
    reactor = LeanEPollReactor()  # type: ignore[no-untyped-call]
    if all(hasattr(reactor, part) for part in _PARTS):
        installReactor(reactor)  # type: ignore[no-untyped-call]
