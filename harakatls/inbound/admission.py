"""Who is let in: connections are counted in all, and for each address."""

import socket

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.replies import TOO_MANY_CONNECTIONS, TOO_MANY_OF_YOURS
from harakatls.smtp.reply import Reply

log = Logger()

MOST_CONNECTIONS = 10_000  # where the operator names no number
QUIET = 60.0  # seconds between two lines of the log about those turned away
_NETWORK_OCTETS = 8  # RFC 6177: nobody gets less than 64 bits of IPv6


class Admission:
    """
    The connections of all listeners.

    Each is counted when it comes (`enter`), and by its address once that is known (`admit`), which
    behind a proxy is later; `leave` takes back both.

    @ivar most: connections that there may be in all.
    """

    def __init__(
        self, limits: PeerLimits, clock: IReactorTime, descriptors: int = 2 * MOST_CONNECTIONS
    ) -> None:
        """@param descriptors: that the process may have open."""
        self.most = most_connections(limits.connections, descriptors)
        self._per_address = limits.connections_per_address or float("inf")
        self._unlimited = limits.unlimited_hosts
        self._memory = limits.memory or float("inf")
        self._total = 0
        self._by_network: dict[str | bytes, int] = {}
        self._turned_away = TurnedAway(clock)

    def enter(self, peer: object) -> Reply | None:
        """
        A connection has come.

        @param peer: for the log.
        @return: what it is sent away with. It has to `leave` nevertheless.
        """
        self._total += 1
        if self._total <= self.most:
            return None
        self._turned_away.add(f"there are {self.most} connections already", peer)
        return TOO_MANY_CONNECTIONS

    def admit(self, host: str) -> Reply | None:
        """
        It is from *host*, an IP address.

        @return: what it is sent away with; then nothing is to be taken back for the address.
        """
        network = network_of(host)
        count = self._by_network.get(network, 0)
        if count >= self._per_address and not self._is_unlimited(host):
            self._turned_away.add(f"there are {count} connections from its address already", host)
            return TOO_MANY_OF_YOURS
        self._by_network[network] = count + 1
        return None

    def move(self, admitted: str, host: str) -> Reply | None:
        """
        Who was admitted from one host speaks for another from now on.

        @return: what it is sent away with; then it is counted as before.
        """
        if network_of(host) == network_of(admitted):
            return None
        refusal = self.admit(host)
        if refusal is None:
            self._release(admitted)
        return refusal

    def leave(self, admitted: str | None) -> None:
        """
        A connection has gone.

        @param admitted: the host it was admitted from, if it was.
        """
        self._total -= 1
        if admitted is not None:
            self._release(admitted)

    def _release(self, admitted: str) -> None:
        network = network_of(admitted)
        count = self._by_network[network] - 1
        if count:
            self._by_network[network] = count
        else:
            del self._by_network[network]

    def has_room(self, held: int) -> bool:
        """
        For one more message.

        @param held: octets of others that are in memory.
        """
        if held < self._memory:
            return True
        self._turned_away.add(f"{held} octets of others are in memory already", "a message")
        return False

    def _is_unlimited(self, host: str) -> bool:
        return host.startswith("127.") or host == "::1" or host in self._unlimited


class TurnedAway:
    """Writes of those turned away to the log: the first at once, then one line a minute."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0
        self._last = ""
        self._timer: IDelayedCall | None = None

    def add(self, reason: str, peer: object) -> None:
        """One more."""
        if self._timer is None:
            log.warn("turned away {peer}: {reason}", peer=str(peer), reason=reason)
            self._timer = self._clock.callLater(QUIET, self._tell)
        else:
            self._count += 1
            self._last = f"{peer}: {reason}"

    def _tell(self) -> None:
        self._timer = None
        if not self._count:
            return
        log.warn(
            "turned away {count} more within {seconds:g} seconds, the last of them {last}",
            count=self._count,
            seconds=QUIET,
            last=self._last,
        )
        self._count = 0
        self._timer = self._clock.callLater(QUIET, self._tell)


def most_connections(wanted: int | None, descriptors: int) -> int:
    """
    How many connections there may be in all.

    A connection is a descriptor, and a large message one more; the queue, deliveries and back ends
    need some too. The reactor would turn away by itself when none is left, but without a word.

    @param wanted: by the operator; 0 is as many as there are descriptors.
    @param descriptors: that the process may have open.
    """
    if wanted is None:
        return max(1, min(descriptors // 2, MOST_CONNECTIONS))
    return wanted or descriptors


def network_of(host: str) -> str | bytes:
    """What *host* is counted as: an IPv4 address, or the first half of an IPv6 address."""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host)[:_NETWORK_OCTETS]
