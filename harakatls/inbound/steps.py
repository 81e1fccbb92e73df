"""
Runs a coroutine: at the price of a call where it does not wait, and of one callback where it does.

`Deferred.fromCoroutine` does the same for three times as much; a mail over TLS waits for nothing
but its handshake.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Waits = Callable[[Deferred[Any]], None]
Ended = Callable[[Failure | None], None]


def run(steps: Coroutine[Any, Any, None], waits: Waits, ended: Ended) -> None:
    """
    @param waits: called with each Deferred that is waited for, which may be cancelled.
    @param ended: called once, with what was raised, if anything was. It must not raise.
    """
    _go_on(None, steps, waits, ended)


def _go_on(result: Any, steps: Coroutine[Any, Any, None], waits: Waits, ended: Ended) -> None:
    try:
        if isinstance(result, Failure):
            awaited = result.throwExceptionIntoGenerator(steps)  # type: ignore[no-untyped-call]
        else:
            awaited = steps.send(result)
        while not isinstance(awaited, Deferred):
            awaited = steps.send(awaited)
    except StopIteration:
        ended(None)
    except Exception:
        ended(Failure())  # type: ignore[no-untyped-call]
    else:
        waits(awaited)
        awaited.addBoth(_go_on, steps, waits, ended)
