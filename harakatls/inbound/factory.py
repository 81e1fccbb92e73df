"""The connections to one listening port, from the first to the last."""

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from harakatls.inbound.haproxy import ProxiedProtocol
from harakatls.inbound.port import Port
from harakatls.inbound.protocol import InboundProtocol

ABORT_TIMEOUT = 5.0  # seconds of a shutdown that are kept for what cannot be cancelled


def patience(seconds: float) -> float:
    """Of so many seconds for a shutdown, how many are for what is under way to end by itself."""
    return seconds - min(ABORT_TIMEOUT, seconds / 2)


class InboundFactory(Factory):
    """ESMTP on one listening port."""

    noisy = False

    def __init__(self, port: Port) -> None:
        self.port = port
        self.connections: set[InboundProtocol | ProxiedProtocol] = set()
        self._stopping = False
        self._emptied: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> InboundProtocol | ProxiedProtocol:
        proxies = self.port.settings.proxies
        by_proxy = bool(proxies) and getattr(addr, "host", None) in proxies
        kind = ProxiedProtocol if by_proxy else InboundProtocol
        protocol: InboundProtocol | ProxiedProtocol = kind(self.port, self.forget)
        protocol.factory = self
        self.connections.add(protocol)
        if self._stopping:
            self.port.clock.callLater(0, protocol.stop)
        return protocol

    def forget(self, protocol: InboundProtocol | ProxiedProtocol) -> None:
        """Its conversation has ended."""
        self.connections.discard(protocol)
        if not self.connections and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    async def drain(self, seconds: float) -> None:
        """
        Let the connections end; the port is to be closed before.

        A peer that has a transaction under way may finish it. What lasts longer than `patience`
        allows is broken off, but for messages that may be ours already.

        @param seconds: after which it is over, whatever there is still.
        """
        self._stopping = True
        for protocol in tuple(self.connections):
            protocol.stop()
        patient = patience(seconds)
        await self._all_gone(patient)
        for protocol in tuple(self.connections):
            protocol.abort()
        await self._all_gone(seconds - patient)

    async def _all_gone(self, seconds: float) -> None:
        if not self.connections:
            return
        emptied = self._emptied = Deferred()
        try:
            await emptied.addTimeout(seconds, self.port.clock)
        except TimedOut:
            self._emptied = None
