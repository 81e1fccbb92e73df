"""Asks one hook: with a time limit, and with nobody harmed by what it does."""

from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from types import coroutine as awaitable_generator
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.interfaces import SpoolFull

log = Logger()

# Seconds. While a hook neither ends nor waits, nobody at all is served.
BLOCKED = 1.0

# A plugin may use what was written to be a program: its end is not that of the conversation.
_MISTAKES = (Exception, SystemExit)


class Hook(NamedTuple):
    """
    One method of one plugin.

    @ivar timeout: in seconds; 0 is without limit.
    """

    stage: str
    plugin: str
    method: Callable[..., Coroutine[Any, Any, Any]]
    timeout: float


class HookFailed(Exception):
    """A hook raised, took too long, or answered nonsense; it has been logged."""


class HookCancelled(HookFailed):
    """Whoever wanted to know has gone."""


class _TooSlow(Exception):
    pass


async def ask(hook: Hook, clock: IReactorTime, *arguments: Any) -> Any:
    """
    What the hook returns. One that does not wait for anything costs no timer and no Deferred.

    A cancelled hook has failed like any other, so whoever cancels must remember it.

    @param arguments: a Connection first, or what the hook is about second.
    @raise HookFailed: it raised, or took too long.
    @raise HookCancelled: it was cancelled.
    @raise SpoolFull: no space for the message.
    """
    began = monotonic()
    try:
        answer = hook.method(*arguments)
        awaited = answer.send(None)
    except StopIteration as finished:
        return finished.value
    except SpoolFull:
        raise
    except BaseException:  # Ctrl-C is Twisted's: so even KeyboardInterrupt is of the hook's making
        raise _raised(hook, arguments) from None
    finally:
        if monotonic() - began > BLOCKED:
            _blocked(hook, monotonic() - began, arguments)
    try:
        return await _finish(answer, awaited, clock, hook, arguments)
    except SpoolFull:
        raise
    except _TooSlow:
        log.error(
            "plugin {plugin} took longer than {seconds} seconds at {stage} of {subject}",
            seconds=hook.timeout,
            **_facts(hook, arguments),
        )
    except CancelledError:
        # A peer that leaves is nothing to write home about.
        facts = _facts(hook, arguments)
        log.debug("plugin {plugin} was cancelled at {stage} of {subject}", **facts)
        raise HookCancelled(f"{hook.plugin} at {hook.stage}") from None
    except _MISTAKES:
        raise _raised(hook, arguments) from None
    raise HookFailed(f"{hook.plugin} at {hook.stage}")


def _raised(hook: Hook, arguments: tuple[Any, ...]) -> HookFailed:
    """To be called while the exception is handled."""
    facts = _facts(hook, arguments)
    log.failure("plugin {plugin} raised an exception at {stage} of {subject}", **facts)
    return HookFailed(f"{hook.plugin} at {hook.stage}")


def _blocked(hook: Hook, seconds: float, arguments: tuple[Any, ...]) -> None:
    log.warn(
        "plugin {plugin} blocked the server for {seconds:.1f} seconds at {stage} of {subject}: "
        "what takes long belongs in a thread",
        seconds=seconds,
        **_facts(hook, arguments),
    )


def nonsense(hook: Hook, answer: object, *arguments: Any) -> None:
    """Log that a hook gave an answer that its stage does not know."""
    log.error(
        "plugin {plugin} answered {answer!r} at {stage} of {subject}",
        answer=answer,
        **_facts(hook, arguments),
    )


def _facts(hook: Hook, arguments: tuple[Any, ...]) -> dict[str, Any]:
    subjects = [a.id for a in arguments[:2] if hasattr(a, "id")]
    return {
        "plugin": hook.plugin,
        "stage": hook.stage,
        "subject": subjects[-1] if subjects else "-",
    }


@awaitable_generator
def _finish(
    answer: Coroutine[Any, Any, Any],
    awaited: Any,
    clock: IReactorTime,
    hook: Hook,
    arguments: tuple[Any, ...],
) -> Generator[Any, Any, Any]:
    """
    Go on with a coroutine that waits, until it is done or its time is over.

    @param awaited: the Deferred it waits for; what is none is waited for by nobody.
    @raise _TooSlow: the time is over; whatever it waited for has been cancelled.
    """
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        _cancel(awaited)

    timer = clock.callLater(hook.timeout, expire) if hook.timeout else None
    try:
        while True:
            try:
                if not isinstance(awaited, Deferred):
                    raise TypeError(f"a {type(awaited).__name__} is no Deferred to wait for")
                result = yield awaited
            except GeneratorExit:
                answer.close()
                raise
            except BaseException as problem:
                resume: Callable[[Any], Any] = answer.throw
                value: Any = problem
            else:
                resume, value = answer.send, result
            awaited = _resumed(resume, value, hook, arguments)
            if expired:
                # It was told, and waits for something else now: it is not asked again.
                answer.close()
                _forget(awaited)
                raise _TooSlow
    except StopIteration as finished:
        if expired:
            raise _TooSlow from None
        return finished.value
    except _MISTAKES:
        if expired:
            raise _TooSlow from None
        raise
    finally:
        if timer is not None and timer.active():
            timer.cancel()


def _resumed(
    resume: Callable[[Any], Any],
    value: Any,
    hook: Hook,
    arguments: tuple[Any, ...],
) -> Any:
    """What a coroutine that goes on waits for next."""
    began = monotonic()
    try:
        return resume(value)
    except _MISTAKES:  # StopIteration is its end
        raise
    except BaseException as problem:  # such as asyncio's CancelledError
        raise RuntimeError(f"it raised {type(problem).__name__}") from problem
    finally:
        took = monotonic() - began
        if took > BLOCKED:
            _blocked(hook, took, arguments)


def _cancel(awaited: Any) -> None:
    if isinstance(awaited, Deferred):
        awaited.cancel()


def _forget(awaited: Any) -> None:
    if isinstance(awaited, Deferred):
        awaited.addErrback(lambda _: None)
        awaited.cancel()
