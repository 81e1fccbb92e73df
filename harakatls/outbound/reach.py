"""
TCP to a host, by one of its addresses or by one of the other family.

Where IPv6 (or IPv4) is broken somewhere on the way, a connection most often hangs. So a host that
has both is not waited for by one of them alone: this is RFC 8305 in small, for one address of each
family. Who connects first is spoken to; the other is given up, and left alone for a while.
"""

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, evolve, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.dead_hosts import DeadHosts
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.tcp import Connect
from harakatls.smtp.client import ClientSession

# Seconds that the first address is ahead. It is the most that RFC 8305 section 5 allows: nobody
# looks on, and a host that is merely far away is not to be held for broken.
HEAD_START = 2.0

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Why there is no connection, though the host may well be there."""


@frozen
class Reached:
    """
    A connection on which nothing has been said.

    @ivar hop: to which of the two it is.
    @ivar problem: why it is not to the first one; None where it is.
    """

    protocol: OutboundProtocol
    hop: NextHop
    problem: str | None = None


def other_family(hop: NextHop, others: Iterable[NextHop]) -> NextHop | None:
    """
    The same host by the other kind of address: the first one of *others* that is.

    None where an address of ours is given to connect from, which is of one family.
    """
    if hop.mx_name is None or hop.bind is not None:
        return None
    is_ipv6 = ":" in hop.host
    for other in others:
        if (":" in other.host) is not is_ipv6 and evolve(other, host=hop.host) == hop:
            return other
    return None


@define(eq=False)
class Reach:
    """
    @ivar seconds: for each connection to be made.
    @ivar dead: the hosts that could not be reached lately.
    @ivar made: told of each connection that is begun.
    @ivar gone: told of each that is gone.
    """

    connect: Connect
    seconds: float
    clock: IReactorTime
    dead: DeadHosts
    made: Callable[[OutboundProtocol], object]
    gone: Callable[[OutboundProtocol], object]
    head_start: float = HEAD_START

    async def to(self, hop: NextHop) -> OutboundProtocol:
        """@raise ConnectionBroken: there is none to be had."""
        session = ClientSession(lmtp=hop.protocol == LMTP)
        protocol = OutboundProtocol(session, self.clock, self.gone)
        self.made(protocol)
        connected = False
        try:
            await self.connect(hop.host, hop.port, _Once(protocol), self.seconds, hop.bind)
            connected = True
        except ConnectTimeout:
            problem = f"no connection within {self.seconds:g} seconds"
            self.dead.failed(hop.host, hop.port, problem)
            raise ConnectionBroken(problem, status="4.4.1") from None
        except (ConnectError, OSError) as error:
            problem = f"no connection: {_in_words(error)}"
            if _number(error) not in _OURS:
                self.dead.failed(hop.host, hop.port, problem)
            raise ConnectionBroken(problem, status="4.4.1") from None
        finally:
            if not connected:
                self.gone(protocol)
        return protocol

    async def either(self, hop: NextHop, other: NextHop) -> Reached:
        """
        To *hop*; where that takes long, to *other* as well, and to the one that is faster.

        Where *hop* fails before its time, *other* is not asked: it has a turn of its own.

        @raise ConnectionBroken: there is none to be had to *hop*, nor to *other* if it was asked.
        """
        began = self.clock.seconds()
        problem: str | None = None
        pause: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self.clock.callLater(self.head_start, pause.callback, None)

        async def follow() -> OutboundProtocol:
            await pause
            return await self.to(other)

        def failed(failure: Failure) -> Failure:
            nonlocal problem
            problem = str(failure.value)
            if timer.active():
                timer.cancel()
                pause.errback(failure)
            return failure

        second = Deferred.fromCoroutine(follow())
        first = Deferred.fromCoroutine(self.to(hop)).addErrback(failed)
        # At the first success (protocol, index), else (False, failure) of both.
        race: Any = DeferredList([first, second], fireOnOneCallback=True, consumeErrors=True)
        result = await race
        if isinstance(result, list):
            raise _reason([failure.value for _, failure in result])
        protocol, winner = result
        if winner and problem is None:
            problem = f"no connection within {self.clock.seconds() - began:.1f} seconds"
            self.dead.failed(hop.host, hop.port, problem)
        faster = f"{problem}; {other.host} was faster" if winner else None
        (second, first)[winner].cancel()
        return Reached(protocol, other if winner else hop, faster)


def _reason(problems: list[BaseException]) -> BaseException:
    """That we were told to stop, before all; else what became of the first."""
    for problem in problems:
        if isinstance(problem, CancelledError):
            return problem
    return problems[0]


class _Once(Factory):
    """Gives one protocol, made before."""

    noisy = False

    def __init__(self, protocol: OutboundProtocol) -> None:
        self._made = protocol

    def buildProtocol(self, addr: IAddress | None) -> OutboundProtocol:
        return self._made


def _in_words(problem: Exception) -> str:
    number = _number(problem)
    return str(problem) if number is None else os.strerror(number)


def _number(problem: Exception) -> int | None:
    number = getattr(problem, "osError", None) or getattr(problem, "errno", None)
    return number if isinstance(number, int) else None
