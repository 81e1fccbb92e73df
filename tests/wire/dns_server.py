"""A name server on loopback, over UDP and TCP, that answers as it is told."""

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

Answers = Callable[[dns.Message, bool], list[bytes]]
"""From a question, and whether it came over TCP, to what is sent back: any number of messages."""

_reactor: Any = reactor


def reply(question: dns.Message, *records: tuple[str, Any], **fields: Any) -> bytes:
    """
    An honest answer, but for *fields*, which are attributes of the message.

    @param records: owner and payload of each record in the answer.
    """
    message = dns.Message(question.id, answer=1, recDes=1, recAv=1, maxSize=0)
    message.queries = question.queries
    message.answers = [
        dns.RRHeader(owner, payload.TYPE, ttl=300, payload=payload) for owner, payload in records
    ]
    for name, value in fields.items():
        setattr(message, name, value)
    return bytes(message.toStr())


class _OverUDP(DatagramProtocol):
    transport: Any

    def __init__(self, server: "LyingServer") -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        for octets in self._server.answer(datagram, over_tcp=False):
            self.transport.write(octets, addr)


class _OverTCP(Int16StringReceiver):
    transport: Any

    def __init__(self, server: "LyingServer") -> None:
        self._server = server
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._server.connections.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)

    def stringReceived(self, string: bytes) -> None:
        answers = self._server.answer(string, over_tcp=True)
        if not answers:
            self.transport.loseConnection()
        for octets in answers:
            self.sendString(octets)


class LyingServer:
    """
    @ivar asked: (name, type, over TCP) of each question.
    @ivar port: of both, UDP and TCP.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.connections: list[_OverTCP] = []
        self.asked: list[tuple[str, int, bool]] = []
        self._ports: list[IListeningPort] = []
        factory = Factory()
        factory.buildProtocol = lambda addr: _OverTCP(self)  # type: ignore[method-assign]
        for _ in range(50):
            over_tcp = _reactor.listenTCP(0, factory, interface="127.0.0.1")
            self.port: int = over_tcp.getHost().port
            try:
                over_udp = _reactor.listenUDP(self.port, _OverUDP(self), interface="127.0.0.1")
            except CannotListenError:
                over_tcp.stopListening()
                continue
            self._ports = [over_tcp, over_udp]
            return
        raise AssertionError("no port is free for both")

    def answer(self, octets: bytes, over_tcp: bool) -> list[bytes]:
        """To one question."""
        question = dns.Message()
        question.fromStr(octets)
        (query,) = question.queries
        self.asked.append((str(query.name), query.type, over_tcp))
        return self._answers(question, over_tcp)

    async def stop(self) -> None:
        """Both, and what is open."""
        for connection in self.connections:
            connection.transport.abortConnection()
            await connection.gone
        for port in self._ports:
            stopped: Any = port.stopListening()
            if stopped is not None:
                await stopped
