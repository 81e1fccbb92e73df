"""Several hosts that do the same: in turn, and not those that failed lately."""

import random
from collections.abc import Callable, Sequence

from harakatls.mail.route import NextHop

RETRY = 10.0  # seconds until a host that failed is asked again


class HostPool:
    """
    Gives the hosts in a random order, each time beginning with the next one.

    A host that failed comes last until it has had its rest; so it costs mail no time, and where all
    have failed, all are asked.
    """

    def __init__(
        self,
        hosts: Sequence[NextHop],
        seconds: Callable[[], float],
        retry: float = RETRY,
        shuffle: Callable[[list[NextHop]], None] = random.shuffle,
    ) -> None:
        """
        @param hosts: at least one.
        @param seconds: the time.
        @param retry: seconds of rest.
        """
        self._hosts = list(hosts)
        shuffle(self._hosts)
        self._seconds = seconds
        self._retry = retry
        self._next = 0
        self._failed: dict[NextHop, float] = {}  # until when it rests

    def hosts(self) -> tuple[NextHop, ...]:
        """All of them, in the order of trying."""
        begin = self._next % len(self._hosts)
        self._next = begin + 1
        order = self._hosts[begin:] + self._hosts[:begin]
        now = self._seconds()
        return tuple(sorted(order, key=lambda host: self._failed.get(host, 0.0) > now))

    def failed(self, host: NextHop) -> None:
        """It took no mail."""
        self._failed[host] = self._seconds() + self._retry

    def worked(self, host: NextHop) -> None:
        """It did."""
        self._failed.pop(host, None)
