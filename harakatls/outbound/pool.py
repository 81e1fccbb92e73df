"""
Connections that are kept for the next message.

A connection was made under a policy, and only what would have made the very same one may go out on
it. How long and for how many messages one is kept is bounded, so that hosts see us come and go, and
that what was decided about TLS is decided anew before long.
"""

from attrs import define, evolve, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from harakatls.connection import TLSSummary
from harakatls.mail.route import Credentials, NextHop
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.requiretls import RequireTLS

MOST_MESSAGES = 100  # on one connection; some servers count them
LONGEST = 300.0  # seconds since it was opened, after which no further message is sent on it


@frozen
class LineKey:
    """
    All that has to be the same for a message to go out on a connection that was made for another.

    Two decisions with different reasons, and alike in all else, make the same connection.

    @ivar for_clients: the host would have been told of a client (XCLIENT), and offers no way to.
    """

    host: str
    port: int
    protocol: str
    me: str
    level: SecurityLevel
    authenticated: bool
    server_name: str | None
    reference: str | None
    identity: tuple[str, ...]
    credentials: Credentials | None
    bind: str | None
    requiretls: RequireTLS | None
    for_clients: bool = False

    @classmethod
    def of(cls, hop: NextHop, decision: Decision, me: str) -> "LineKey":
        """@param me: our name in EHLO."""
        return cls(
            hop.host,
            hop.port,
            hop.protocol,
            hop.bind_helo or me,
            decision.level,
            decision.authenticated,
            decision.server_name,
            decision.reference,
            decision.identity,
            hop.credentials,
            hop.bind,
            decision.requiretls,
            hop.client is not None,
        )

    @property
    def suitable(self) -> "tuple[LineKey, ...]":
        """Whose connections are good enough, the best first."""
        # Where nobody can be introduced, those of clients' mail and of other mail are the same. A
        # connection of other mail tells nothing about that, and might speak in our own name.
        return (self,) if self.for_clients else (self, evolve(self, for_clients=True))


@define(eq=False)
class Line:
    """
    A connection that may be kept.

    @ivar secured: what its TLS came to; None in the clear.
    @ivar opened: when, in seconds.
    @ivar generation: of the pool, when it began to be opened.
    @ivar messages: how many have been on it.
    @ivar resting: since when, in seconds.
    """

    protocol: OutboundProtocol
    key: LineKey
    secured: TLSSummary | None
    opened: float
    generation: int
    messages: int = 0
    resting: float = 0.0


class Pool:
    """
    The connections on which nothing is being sent.

    There is one timer for all of them.
    """

    def __init__(self, clock: IReactorTime, seconds: float, most: int) -> None:
        """
        @param seconds: that one may rest; 0 keeps none.
        @param most: connections that rest at once; those that have rested longest are given up.
        """
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._generation = 0
        self._resting: dict[OutboundProtocol, Line] = {}  # the one that rests longest is first
        self._by_key: dict[LineKey, list[Line]] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._resting)

    @property
    def generation(self) -> int:
        """Connections of another one are not kept."""
        return self._generation

    def made(
        self, protocol: OutboundProtocol, key: LineKey, secured: TLSSummary | None, generation: int
    ) -> Line:
        """
        A connection that was just opened.

        @param generation: what it was when that began: the settings of then were gone by.
        """
        return Line(protocol, key, secured, self._clock.seconds(), generation)

    def take(self, key: LineKey) -> Line | None:
        """The one that was used last, so that those that are not needed end."""
        for each in key.suitable:
            lines = self._by_key.get(each)
            if lines:
                line = lines[-1]
                self.forget(line.protocol)
                line.protocol.wake_up()
                return line
        return None

    def keep(self, line: Line) -> None:
        """A message was sent on it, or refused. It is kept if it is still good for another one."""
        line.messages += 1
        now = self._clock.seconds()
        if (
            not self._seconds
            or line.generation != self._generation
            or line.messages >= MOST_MESSAGES
            or now - line.opened >= LONGEST
            or line.protocol.session.is_spent
            or not line.protocol.rest()
        ):
            line.protocol.quit()
            return
        line.resting = now
        self._resting[line.protocol] = line
        self._by_key.setdefault(line.key, []).append(line)
        if len(self._resting) > self._most:
            self._give_up(next(iter(self._resting)))
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._sweep)

    def forget(self, protocol: OutboundProtocol) -> None:
        """It rests no longer: it is used, or gone."""
        line = self._resting.pop(protocol, None)
        if line is None:
            return
        lines = self._by_key[line.key]
        lines.remove(line)
        if not lines:
            del self._by_key[line.key]

    def clear(self) -> None:
        """Say goodbye on all; those that are in use now are not kept."""
        self._generation += 1
        for protocol in tuple(self._resting):
            self._give_up(protocol)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, protocol: OutboundProtocol) -> None:
        self.forget(protocol)
        protocol.quit()

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for protocol, line in tuple(self._resting.items()):
            wait = line.resting + self._seconds - now
            if wait > 0:
                self._timer = self._clock.callLater(wait, self._sweep)
                return
            self._give_up(protocol)
