"""Counts logins that failed, so that guessing is slow, however often one comes back."""

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from harakatls.inbound.admission import network_of

FORGOTTEN_AFTER = 900.0  # seconds without another one
MOST_NETWORKS = 10_000  # that are remembered
LONGEST_DELAY = 25.0  # seconds; clients do not wait for ever


class FailedLogins:
    """Shared by all connections. An address of IPv6 counts as its network of 64 bits."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counts: OrderedDict[str | bytes, tuple[int, float]] = OrderedDict()

    def add(self, host: str) -> float:
        """
        Another one.

        @param host: an IP address.
        @return: how many seconds the answer should wait: 1, 2, 4 and so on.
        """
        now = self._clock.seconds()
        network = network_of(host)
        count, last = self._counts.pop(network, (0, now))
        if not 0 <= now - last < FORGOTTEN_AFTER:
            count = 0
        self._counts[network] = (count + 1, now)
        if len(self._counts) > MOST_NETWORKS:
            self._counts.popitem(last=False)
        return _delay(count + 1)

    def owed(self, host: str) -> float:
        """
        How many seconds the next login has to wait: until the last one that failed is answered.

        Who does not wait for the answers, but comes back at once, gains nothing by it.
        """
        found = self._counts.get(network_of(host))
        if found is None:
            return 0.0
        count, last = found
        delay = _delay(count)
        return min(delay, max(0.0, last + delay - self._clock.seconds()))


def _delay(count: int) -> float:
    """@param count: logins that have failed, at least one. @return: seconds."""
    return LONGEST_DELAY if count > 6 else min(2.0 ** (count - 1), LONGEST_DELAY)
