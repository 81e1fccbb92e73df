"""A connection to Redis for which mail does not wait: each question has a time limit."""

from collections.abc import Callable
from functools import cache
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger

from harakatls.redis.settings import RedisSettings

Connect = Callable[[Any], Deferred[Any]]
"""Connects a protocol to Redis."""

ANSWER_LIMIT = 0.3
"""Seconds that a question may take, the connection included where there is none yet."""

REST = 5.0
"""For so many seconds Redis is left alone after it was away: nobody waits in the meantime."""

_CONNECT_LIMIT = 10.0  # the attempt goes on when those who asked have long given up
_MOST_OCTETS = 65536  # of an answer

log = Logger()


class RedisAway(Exception):
    """There is no answer, or a wrong one; the text is for the operator."""


class RedisRefusal(RedisAway):
    """Redis is there, and does not do it."""


class RedisLink:
    """
    Made when it is first needed, and anew whenever it broke.

    That Redis went away is one line in the log, and that it is back another.
    """

    def __init__(
        self,
        settings: RedisSettings,
        connect: Connect,
        clock: IReactorTime,
        limit: float = ANSWER_LIMIT,
        most_octets: int = _MOST_OCTETS,
        meanwhile: str = "failures of TLS are kept beside the queue",
    ) -> None:
        """
        @param limit: seconds for an answer.
        @param meanwhile: what the operator is told of what happens while it is away.
        """
        self._settings = settings
        self._connect = connect
        self._clock = clock
        self._limit = limit
        self._most_octets = most_octets
        self._meanwhile = meanwhile
        self._protocol: Any = None
        self._opening: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._not_before = 0.0
        self._closed = False
        self._problem = ""
        self._trouble: str | None = None  # the command that failed; "" for all; None for none

    async def ask(self, *command: str | bytes | int) -> object:
        """
        @return: the answer as txredisapi has it, texts as bytes.
        @raise RedisAway: there is none, or an error.
        """
        if self._clock.seconds() < self._not_before:
            raise RedisAway(self._problem)
        asking = Deferred.fromCoroutine(self._asked(command))
        try:
            answer = await asking.addTimeout(self._limit, self._clock)
        except TimedOut:
            self._drop()
            problem = f"no answer within {self._limit:g} seconds"
        except RedisRefusal as refusal:
            self._tell(str(refusal), str(command[0]))
            raise
        except RedisAway as away:
            problem = str(away)
        except CancelledError:
            raise
        except Exception as mistake:
            # Of ours or of txredisapi's: not for those who send mail to bear.
            problem = f"{type(mistake).__name__}: {_in_words(mistake)}"
        else:
            self._well(str(command[0]))
            return answer
        self._away(problem)
        raise RedisAway(problem)

    def close(self) -> None:
        """Give up the connection, and an attempt to make one; that is no news for the log."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        self._drop()

    # -- a question ---------------------------------------------------------------------------

    async def _asked(self, command: tuple[str | bytes | int, ...]) -> object:
        if self._protocol is None:
            await self._connected()
        return await self._answer(self._protocol, command)

    async def _answer(self, protocol: Any, command: tuple[str | bytes | int, ...]) -> object:
        from txredisapi import RedisError, ResponseError

        if protocol is None:
            raise RedisAway("the connection broke")
        protocol.octets = 0
        try:
            return await protocol.execute_command(*command)
        except ResponseError as problem:
            raise RedisRefusal(_in_words(problem)) from None
        except RedisError as problem:
            raise RedisAway(_in_words(problem)) from None

    # -- the connection -----------------------------------------------------------------------

    async def _connected(self) -> None:
        """Wait for the one attempt that is made at a time."""
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if self._opening is None:
            opening = Deferred.fromCoroutine(self._open())
            opening.addTimeout(_CONNECT_LIMIT, self._clock)
            self._opening = opening
            opening.addBoth(self._opened)
        await waiting

    async def _open(self) -> None:
        protocol = _protocol_class()(self._lost, self._most_octets)
        await self._connect(protocol)
        try:
            if self._settings.password is not None:
                await self._log_in(protocol, self._settings.password)
            if self._settings.database:
                await self._answer(protocol, ("SELECT", self._settings.database))
        except BaseException:
            protocol.transport.abortConnection()
            raise
        self._protocol = protocol

    async def _log_in(self, protocol: Any, password: str) -> None:
        try:
            await self._answer(protocol, ("AUTH", password))
        except RedisAway as problem:
            # "ERR unknown command 'AUTH', with args beginning with: ..." is what some answer.
            raise RedisAway(str(problem).replace(password, "...")) from None

    def _opened(self, result: Any) -> None:
        """Tell all who wait; never fails."""
        self._opening = None
        waiting, self._waiting = self._waiting, []
        if self._protocol is not None:
            self._not_before = 0.0
            for waits in waiting:
                waits.callback(None)
            return
        problem = getattr(result, "value", None)
        if isinstance(problem, CancelledError | TimedOut):
            text = "no connection"
        elif isinstance(problem, RedisAway):
            text = str(problem)
        else:
            text = f"no connection: {_in_words(problem)}"
        self._away(text)
        for waits in waiting:
            waits.errback(RedisAway(text))

    def _lost(self, protocol: object) -> None:
        if self._protocol is protocol:
            self._protocol = None

    def _drop(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.transport.abortConnection()

    # -- the log ------------------------------------------------------------------------------

    def _away(self, problem: str) -> None:
        self._problem = problem
        self._not_before = self._clock.seconds() + REST
        self._tell(problem, "")

    def _tell(self, problem: str, command: str) -> None:
        if self._trouble is None and not self._closed:
            self._trouble = command
            log.warn(
                "Redis at {place} is away ({problem}): {meanwhile}",
                place=str(self._settings),
                problem=problem,
                meanwhile=self._meanwhile,
            )

    def _well(self, command: str) -> None:
        # A replica that refuses to write is not well because it can be read.
        if self._trouble in ("", command):
            self._trouble = None
            log.info("Redis at {place} is back", place=str(self._settings))


def redis_link(settings: RedisSettings, reactor: Any, **how: Any) -> RedisLink:
    """
    Over TCP.

    @param reactor: provides TCP, names and time.
    @param how: further arguments of L{RedisLink}.
    """

    def connect(protocol: IProtocol) -> Deferred[Any]:
        endpoint = HostnameEndpoint(
            reactor, settings.host, settings.port, timeout=int(_CONNECT_LIMIT)
        )
        return connectProtocol(endpoint, protocol)  # type: ignore[no-any-return, no-untyped-call]

    return RedisLink(settings, connect, reactor, **how)


@cache
def _protocol_class() -> Any:
    # txredisapi imports the global reactor, and so installs one: not before ours is there.
    from txredisapi import RedisProtocol

    class Protocol(RedisProtocol):  # type: ignore[misc]
        """@ivar octets: heard since the last question."""

        def __init__(self, lost: Callable[[object], None], most_octets: int) -> None:
            super().__init__(charset=None, convertNumbers=False)
            self.octets = 0
            self._lost = lost
            self._most_octets = most_octets

        def dataReceived(self, data: bytes, unpause: bool = False) -> None:
            """Whatever it is that answers: it ends no more than this connection."""
            self.octets += len(data)
            try:
                if self.octets > self._most_octets:
                    raise ValueError("more than was asked for")
                super().dataReceived(data, unpause)
            except Exception:
                self.transport.abortConnection()

        def lineLengthExceeded(self, line: bytes) -> None:
            self.transport.abortConnection()

        def connectionLost(self, why: Any = None) -> None:
            self._lost(self)
            super().connectionLost(why)

    return Protocol


def _in_words(problem: object) -> str:
    """One line; what a server says is not to be believed to be short, or printable."""
    text = str(problem) or type(problem).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:200])
