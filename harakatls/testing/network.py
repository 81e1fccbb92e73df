"""Connections in memory between a client and the servers of `testing.peers`."""

from collections.abc import Callable, Iterable
from errno import ECONNREFUSED
from typing import Any

from attrs import define, evolve
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IConsumer,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.connection import TLSSummary
from harakatls.mail.route import NextHop
from harakatls.testing.peers import HANG_UP, SILENCE, ScriptedPeer
from harakatls.testing.records import (
    ALERT,
    DATA,
    HANDSHAKE,
    PretendedConnection,
    Records,
    record,
)
from harakatls.tls.policy import Decision

BUFFER = 65536  # octets after which a transport asks its producer to pause, as Twisted's do


_TOO_LATE: Exception = error.TimeoutError()  # type: ignore[no-untyped-call]
_REFUSED: Exception = error.ConnectionRefusedError(ECONNREFUSED)  # type: ignore[no-untyped-call]


def _failure(reason: Exception) -> Failure:
    return Failure(reason)  # type: ignore[no-untyped-call]


@implementer(ITransport, IConsumer)
class MemoryTransport:
    """
    One connection in memory, seen from its client.

    Nothing arrives before `MemoryNetwork.flush`, as nothing arrives at once on a network.

    @ivar most_buffered: the most octets that ever waited to be sent.
    """

    def __init__(self, host: str, port: int, protocol: IProtocol, peer: ScriptedPeer) -> None:
        self.host, self.port, self.protocol, self.peer = host, port, protocol, peer
        self.disconnecting = False
        self.aborted = False
        self.connected = True
        self.most_buffered = 0
        self.stuck = False
        self._output = bytearray()
        self._producer: IPushProducer | None = None
        self._paused = False
        self._records: Records | None = None  # since the client has begun a handshake
        self._shaken = b""  # the peer's part in it, to be sent

    # -- for the protocol -------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.disconnecting or not self.connected:
            return
        self._output += data
        self.most_buffered = max(self.most_buffered, len(self._output))
        if self._producer is not None and len(self._output) > BUFFER and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._paused = IPushProducer(producer), False

    def unregisterProducer(self) -> None:
        self._producer = None

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self.host, self.port)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "198.51.100.1", 49152)

    # -- for the network --------------------------------------------------------------------------

    def pump(self) -> bool:
        """Move what is to be moved. @return: whether there was anything."""
        if not self.connected:
            return False
        if self.aborted:
            self._end(error.ConnectionAborted())
            return True
        return any((self._to_peer(), self._from_peer(), self._ends()))

    def _to_peer(self) -> bool:
        if self.stuck or not self._output:
            return False
        data, self._output = bytes(self._output), bytearray()
        if self._records is None and data[0] == HANDSHAKE:
            self._records = Records()
        if self._records is None:
            self.peer.received(data)
        else:
            self._records.add(data)
            while (found := self._records.next()) is not None:
                self._to_pretender(*found)
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
        return True

    def _to_pretender(self, kind: int, content: bytes) -> None:
        if kind == DATA:
            self.peer.received(content)
        elif kind == HANDSHAKE and self.peer.handshake is not SILENCE:
            if self.peer.handshake:
                self.peer.started_tls()
            self._shaken = record(HANDSHAKE if self.peer.handshake else ALERT)

    def _from_peer(self) -> bool:
        octets, self._shaken = self._shaken, b""
        if self.peer.output:
            said, self.peer.output = bytes(self.peer.output), bytearray()
            octets += record(DATA, said) if self.peer.secured else said
        if octets:
            self.protocol.dataReceived(octets)
        return bool(octets)

    def _ends(self) -> bool:
        if not self.connected or self._shaken:
            return False
        if self.peer.ending is not None and not self.peer.output:
            self._end(
                error.ConnectionDone() if self.peer.ending is HANG_UP else error.ConnectionLost()
            )
            return True
        if self.disconnecting and not self._output:
            self._end(error.ConnectionDone())
            return True
        return False

    def _end(self, reason: Exception) -> None:
        self.connected = False
        self.peer.gone = True
        self.protocol.connectionLost(_failure(reason))


class MemoryNetwork:
    """
    Hosts by address, each with the peers that answer its connections.

    @ivar attempts: (host, port) of each connection that was begun.
    @ivar bound_to: the address of ours that each of them was to come from.
    @ivar transports: of each connection that was made.
    """

    make_transport: Callable[[str, int, IProtocol, ScriptedPeer], MemoryTransport] = MemoryTransport

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.attempts: list[tuple[str, int]] = []
        self.bound_to: list[str | None] = []
        self.transports: list[MemoryTransport] = []
        self._peers: dict[str, list[ScriptedPeer]] = {}
        self._unreachable: set[str] = set()

    def serve(self, host: str, *peers: ScriptedPeer) -> None:
        """The first connection is answered by the first of *peers*, and so on; then refused."""
        self._peers.setdefault(host, []).extend(peers)

    def swallow(self, host: str) -> None:
        """Nothing answers there, not even with a refusal."""
        self._unreachable.add(host)

    def connect(
        self,
        host: str,
        port: int,
        factory: IProtocolFactory,
        seconds: float,
        bind: str | None = None,
    ) -> "Deferred[IProtocol]":
        """To be handed in where connections are made; as `outbound.connector.Connect`."""
        self.attempts.append((host, port))
        self.bound_to.append(bind)
        if host in self._unreachable:
            silent: Deferred[IProtocol] = Deferred()
            return silent.addTimeout(seconds, self.clock, lambda *_: _failure(_TOO_LATE))
        if not self._peers.get(host):
            return fail(_REFUSED)
        protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        assert protocol is not None
        peer = self._peers[host].pop(0)
        transport = self.make_transport(host, port, protocol, peer)
        self.transports.append(transport)
        protocol.makeConnection(transport)
        peer.connected()
        return succeed(protocol)

    def flush(self) -> None:
        """Move octets until all is quiet, without any time passing."""
        quiet = False
        while not quiet:
            self.clock.advance(0)
            moved = [transport.pump() for transport in self.transports]
            quiet = not any(moved)


@define
class _PretendedCreator:
    """@ivar failure: as of `tls.client`'s creators."""

    decision: Decision
    failure: str | None = None

    def clientConnectionForTLS(self, _: object) -> PretendedConnection:
        return PretendedConnection()


class PretendedTLS:
    """
    In place of `tls.client.ClientTLS`: nothing is encrypted and the outcome is what it is told.

    @ivar decisions: for which a handshake was begun.
    """

    def __init__(self, summary: TLSSummary | None = None, failure: str | None = None) -> None:
        """
        @param summary: of each handshake that succeeds.
        @param failure: the reason of those that do not.
        """
        usual = TLSSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, verified=True)
        self._summary = usual if summary is None else summary
        self._failure = failure
        self.decisions: list[Decision] = []

    def identified(self, hop: NextHop, decision: Decision) -> Decision:
        """As `ClientTLS.identified`, without any certificate."""
        return decision

    def connection_creator(self, decision: Decision, hop: NextHop | None = None) -> Any:
        """As `ClientTLS.connection_creator`."""
        self.decisions.append(decision)
        return _PretendedCreator(decision, self._failure)

    def summary(self, transport: object, decision: Decision) -> TLSSummary:
        """As `ClientTLS.summary`."""
        return evolve(self._summary, server_name=decision.server_name)

    def keep_session(self, transport: object) -> None:
        """As `ClientTLS.keep_session`."""
