"""Blocking calls, so many at a time and no more."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from harakatls.plugins.files import CallInThread

T = TypeVar("T")


class FewThreads:
    """A place is free again when the work is done, although nobody may wait for it any more."""

    def __init__(self, call_in_thread: CallInThread, most: int) -> None:
        self._call_in_thread = call_in_thread
        self._places = DeferredSemaphore(most)

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """What *function* gives, or raises. It may be cancelled."""
        await self._places.acquire()
        wanted: Deferred[T] = Deferred()
        working = Deferred.fromCoroutine(self._work(function, arguments))
        working.addBoth(_tell, wanted)
        return await wanted

    async def _work(self, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
        try:
            result: T = await self._call_in_thread(function, *arguments)
            return result
        finally:
            self._places.release()


def _tell(result: Any, wanted: Deferred[Any]) -> None:
    if not wanted.called:
        wanted.callback(result)  # of a Failure it makes an errback
