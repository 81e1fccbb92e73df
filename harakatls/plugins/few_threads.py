"""Blocking calls, so many at a time and no more."""

from collections.abc import Callable, Coroutine
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

        async def steps() -> T:
            result: T = await self._call_in_thread(function, *arguments)
            return result

        return await self.work(steps)

    async def work(self, steps: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """As `call`: more than one step, in one place."""
        await self._places.acquire()
        wanted: Deferred[T] = Deferred()
        working = Deferred.fromCoroutine(self._finished(steps))
        working.addBoth(_tell, wanted)
        return await wanted

    async def _finished(self, steps: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await steps()
        finally:
            self._places.release()


def _tell(result: Any, wanted: Deferred[Any]) -> None:
    if not wanted.called:
        wanted.callback(result)  # of a Failure it makes an errback
