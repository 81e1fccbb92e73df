"""
For tests, ours and those of plugin authors: values to start from, a DNS of their own, and SMTP
servers in memory that follow a script. No sockets, no threads, no waiting.

A plugin's hook is asked with values made here::

    verdict = self.successResultOf(
        Deferred.fromCoroutine(plugin.rcpt(connection(), transaction(), recipient("bob@a.example")))
    )

A delivery is played through between a client and servers that exist in memory alone::

    network = MemoryNetwork(Clock())
    network.serve("192.0.2.1", ObligingPeer(RCPT="550 5.1.1 No such user"))
    ... hand in network.connect where connections are made; then network.flush()
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from errno import ECONNREFUSED
from typing import Any

from attrs import Factory, define, evolve, field, frozen
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.connection import Connection, Endpoint, Hello, TLSSummary, Transaction
from harakatls.interfaces import IMessageBody, IResolver, NoSuchDomain
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.mail.route import MailExchanger, NextHop
from harakatls.queued import QueuedMessage
from harakatls.tls.policy import Decision

# -- values ---------------------------------------------------------------------------------------

SENDER = "alice@sender.example"
RECIPIENT = "bob@recipient.example"
ARRIVED = 1_700_000_000.0
NEXT_HOP = NextHop("192.0.2.1", "recipient.example", mx_name="mx.recipient.example")


def recipient(address: str = RECIPIENT) -> Recipient:
    """From ``local@domain``."""
    return Recipient(parse_address(address))


def envelope(sender: str | None = SENDER, recipients: Iterable[str] = (RECIPIENT,)) -> Envelope:
    """@param sender: None is the null reverse-path."""
    reverse_path = None if sender is None else parse_address(sender)
    return Envelope(reverse_path, tuple(recipient(text) for text in recipients))


def connection(**changes: Any) -> Connection:
    """A client at 192.0.2.10 that has said EHLO; *changes* are fields of `Connection`."""
    usual = Connection(
        "1F0E2D3C-4B5A-6978-8796-A5B4C3D2E1F0",
        Endpoint("192.0.2.10", 49152),
        Endpoint("198.51.100.1", 25),
        hello=Hello("client.example", extended=True),
    )
    return evolve(usual, **changes)


def transaction(**changes: Any) -> Transaction:
    """From `SENDER` to `RECIPIENT`; *changes* are fields of `Transaction`."""
    return evolve(Transaction(f"{connection().id}.1", envelope()), **changes)


def queued_message(
    sender: str | None = SENDER, recipients: Iterable[str] = (RECIPIENT,), **changes: Any
) -> QueuedMessage:
    """
    A message in the queue that has not been tried yet.

    @param recipients: of one domain.
    @param changes: fields of `QueuedMessage`.
    """
    mail = envelope(sender, recipients)
    usual = QueuedMessage(
        f"{transaction().id}.1",
        mail,
        mail.recipients[0].address.domain,
        arrived=ARRIVED,
        due=ARRIVED,
        size=len(MESSAGE),
        pending=mail.recipients,
    )
    return evolve(usual, **changes)


MESSAGE = (
    b"From: alice@sender.example\r\nTo: bob@recipient.example\r\n"
    b"Message-Id: <1@sender.example>\r\nSubject: hello\r\n\r\nHello Bob.\r\n.hidden\r\n"
)


@implementer(IMessageBody)
class FixedBody:
    """A message that is in memory."""

    def __init__(self, content: bytes = MESSAGE) -> None:
        self.size = len(content)
        self.closed = False
        self._content = content
        self._position = 0

    async def read(self, length: int) -> bytes:
        """As `IMessageBody.read`."""
        start = self._position
        self._position = min(start + length, self.size)
        return self._content[start : self._position]

    def close(self) -> None:
        """As `IMessageBody.close`."""
        self.closed = True


# -- DNS ------------------------------------------------------------------------------------------


@implementer(IResolver)
@frozen
class FixedResolver:
    """
    Knows what it is given and nothing else; what stands nowhere does not exist.

    @ivar exchangers: by domain: (preference, host) pairs, or the exception to be raised.
    @ivar hosts: by name: addresses, or the exception to be raised.
    @ivar asked: the names that were looked up, in order, as ("mx", domain) and ("address", host).
    """

    exchangers: Mapping[str, Sequence[tuple[int, str]] | Exception] = Factory(dict)
    hosts: Mapping[str, Sequence[str] | Exception] = Factory(dict)
    asked: list[tuple[str, str]] = field(init=False, factory=list)

    async def mx(self, domain: str) -> tuple[MailExchanger, ...]:
        """As `IResolver.mx`."""
        self.asked.append(("mx", domain))
        found = self.exchangers.get(domain, ())
        if isinstance(found, Exception):
            raise found
        if not found and domain not in self.exchangers and domain not in self.hosts:
            raise NoSuchDomain(domain)
        return tuple(MailExchanger(preference, host) for preference, host in found)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """As `IResolver.addresses`."""
        self.asked.append(("address", host))
        found = self.hosts.get(host)
        if found is None:
            raise NoSuchDomain(host)
        if isinstance(found, Exception):
            raise found
        return tuple(found)


# -- servers --------------------------------------------------------------------------------------


class Act(Enum):
    """What a peer may do in place of an answer."""

    SILENCE = "say nothing"
    HANG_UP = "close the connection in order"
    BREAK_OFF = "be gone"


SILENCE = Act.SILENCE
HANG_UP = Act.HANG_UP
BREAK_OFF = Act.BREAK_OFF

Answer = str | Act | tuple[str, Act]
"""
A reply, one line of text for each of its lines; or an act; or both.

The lines of a reply are those of the wire ("250-a" and "250 b"), without their CRLF.
"""


@define
class Said:
    """One line from the client. @ivar secured: inside of TLS."""

    line: str
    secured: bool


class ScriptedPeer:
    """
    An SMTP server that plays a script: pairs of what it expects and what it answers.

    Expected is the beginning of a command line, whatever its case; "" is the connection itself and
    "." the end of a message. What comes unexpected is noted in `problems` and ends the connection.

    @ivar said: the command lines that came.
    @ivar messages: the messages that came, dots unstuffed.
    @ivar problems: what was not as the script has it.
    @ivar handshake: whether TLS works, when it comes to it; `SILENCE` is a handshake that hangs.
    @ivar gone: the client has closed the connection.
    @ivar extra: octets sent in the clear right behind the answer to STARTTLS (an attack).
    """

    def __init__(self, *script: tuple[str, Answer], handshake: bool | Act = True) -> None:
        self.script = list(script)
        self.handshake = handshake
        self.said: list[Said] = []
        self.messages: list[bytes] = []
        self.problems: list[str] = []
        self.gone = False
        self.secured = False
        self.extra = b""
        self.output = bytearray()
        self.ending: Act | None = None
        self._input = bytearray()
        self._receiving = False

    # -- the script -----------------------------------------------------------------------------

    def answer(self, command: str) -> Answer:
        """What to say to *command* ("" and "." as in the script)."""
        if self.script:
            expected, answer = self.script[0]
            if command.upper().startswith(expected.upper()) and bool(expected) == bool(command):
                del self.script[0]
                return answer
        wanted = self.script[0][0] if self.script else "nothing more"
        self.problems.append(f"{command!r} came in place of {wanted!r}")
        return ("421 4.3.0 This is not in the script", HANG_UP)

    @property
    def commands(self) -> list[str]:
        """The lines that came, without what concerns TLS."""
        return [said.line for said in self.said]

    # -- what the network calls -----------------------------------------------------------------

    def connected(self) -> None:
        """A client is there."""
        self._respond("")

    def received(self, data: bytes) -> None:
        """Octets from the client."""
        self._input += data
        while not self.ending and (self._message() if self._receiving else self._line()):
            pass

    def started_tls(self) -> None:
        """The handshake has succeeded."""
        self.secured = True
        self._input.clear()

    # -- lines and messages ---------------------------------------------------------------------

    def _line(self) -> bool:
        end = self._input.find(b"\r\n")
        if end < 0:
            return False
        line = self._input[:end].decode("utf-8", "replace")
        del self._input[: end + 2]
        self.said.append(Said(line, self.secured))
        self._respond(line)
        return True

    def _message(self) -> bool:
        # The CRLF of DATA itself may be the one before the dot.
        if self._input.startswith(b".\r\n"):
            end, length = 0, 3
        else:
            found = self._input.find(b"\r\n.\r\n")
            if found < 0:
                return False
            end, length = found + 2, 3
        stuffed = bytes(self._input[:end])
        del self._input[: end + length]
        unstuffed = (b"\r\n" + stuffed).replace(b"\r\n..", b"\r\n.")[2:]
        self.messages.append(unstuffed)
        self._receiving = False
        self._respond(".")
        return True

    def _respond(self, command: str) -> None:
        answer = self.answer(command)
        if isinstance(answer, Act):
            answer = ("", answer)
        reply, act = answer if isinstance(answer, tuple) else (answer, SILENCE)
        if reply:
            self.output += "".join(f"{line}\r\n" for line in reply.split("\n")).encode()
            if reply.startswith("354"):
                self._receiving = True
            if reply.startswith("220") and command.upper().startswith("STARTTLS"):
                self.output += self.extra
        if act in (HANG_UP, BREAK_OFF):
            self.ending = act


_USUAL: dict[str, Answer] = {
    "connect": "220 peer.example ESMTP",
    "EHLO": "250-peer.example\n250-PIPELINING\n250-8BITMIME\n250 SIZE 26214400",
    "HELO": "250 peer.example",
    "STARTTLS": "220 2.0.0 Go ahead",
    "MAIL": "250 2.1.0 Sender ok",
    "RCPT": "250 2.1.5 Recipient ok",
    "DATA": "354 Go on",
    "end": "250 2.0.0 Kept",
    "RSET": "250 2.0.0 Forgotten",
    "QUIT": ("221 2.0.0 Goodbye", HANG_UP),
}


class ObligingPeer(ScriptedPeer):
    """
    An SMTP server that says yes to everything but what it is told otherwise::

        ObligingPeer(MAIL="451 4.7.1 Later", RCPT=["250 Ok", "550 5.1.1 No such user"])

    A list is used up, then the usual answers follow. `connect` is the greeting and `end` the
    answer to the message. What depends on a command that was refused is refused with 503, where
    nothing else is said.
    """

    def __init__(
        self,
        *extensions: str,
        handshake: bool | Act = True,
        **answers: Answer | list[Answer],
    ) -> None:
        """@param extensions: offered in place of the usual ones: "STARTTLS", "SIZE 1000"."""
        super().__init__(handshake=handshake)
        self._answers = dict(answers)
        self._extensions = extensions
        self._accepted: set[str] = set()

    def answer(self, command: str) -> Answer:
        """As `ScriptedPeer.answer`."""
        verb = {"": "connect", ".": "end"}.get(command) or command.split(" ")[0].upper()
        answer = self._given(verb) or self._usual(verb)
        if isinstance(answer, str) and answer[0] in "23":
            self._accepted.add(verb)
        if verb in ("MAIL", "RSET", "end"):
            self._accepted -= {"RCPT", "DATA", *({"MAIL"} if verb != "MAIL" else ())}
        return answer

    def _given(self, verb: str) -> Answer | None:
        given = self._answers.get(verb)
        if isinstance(given, list):
            return given.pop(0) if given else None
        return given

    def _usual(self, verb: str) -> Answer:
        needed = {"RCPT": "MAIL", "DATA": "RCPT"}.get(verb)
        if needed is not None and needed not in self._accepted:
            return f"503 5.5.1 {needed} first"
        if verb == "EHLO" and self._extensions:
            offered = [e for e in self._extensions if not (self.secured and e == "STARTTLS")]
            *first, last = ["peer.example", *offered]
            return "\n".join([*(f"250-{line}" for line in first), f"250 {last}"])
        return _USUAL.get(verb, "500 5.5.2 Unrecognized")


# -- the network ----------------------------------------------------------------------------------

BUFFER = 65536  # octets after which a transport asks its producer to pause, as Twisted's do


_TOO_LATE: Exception = error.TimeoutError()  # type: ignore[no-untyped-call]
_REFUSED: Exception = error.ConnectionRefusedError(ECONNREFUSED)  # type: ignore[no-untyped-call]


def _failure(reason: Exception) -> Failure:
    return Failure(reason)  # type: ignore[no-untyped-call]


class HandshakeError(Exception):
    """A handshake that failed; in place of OpenSSL's error."""


@implementer(ITransport, IConsumer)
class MemoryTransport:
    """
    One connection in memory, seen from its client.

    Nothing arrives before `MemoryNetwork.flush`, as nothing arrives at once on a network.

    @ivar most_buffered: the most octets that ever waited to be sent.
    @ivar creator: as given to startTLS.
    """

    def __init__(self, host: str, port: int, protocol: IProtocol, peer: ScriptedPeer) -> None:
        self.host, self.port, self.protocol, self.peer = host, port, protocol, peer
        self.disconnecting = False
        self.aborted = False
        self.connected = True
        self.most_buffered = 0
        self.creator: Any = None
        self.stuck = False
        self._output = bytearray()
        self._producer: IPushProducer | None = None
        self._paused = False
        self._handshaking = False

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

    def startTLS(self, contextFactory: object, normal: bool = True) -> bool:
        self.creator = contextFactory
        self._handshaking = True
        return True

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
        self.peer.received(data)
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
        return True

    def _from_peer(self) -> bool:
        if self.peer.output:
            data, self.peer.output = bytes(self.peer.output), bytearray()
            self.protocol.dataReceived(data)
            return True
        if self._handshaking and self.peer.handshake is not SILENCE:
            self._handshaking = False
            if self.peer.handshake:
                self.peer.started_tls()
                assert IHandshakeListener.providedBy(self.protocol)
                self.protocol.handshakeCompleted()
            else:
                self._end(HandshakeError("wrong version number"))
            return True
        return False

    def _ends(self) -> bool:
        if not self.connected or self.peer.output:
            return False
        if self.peer.ending is not None:
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
    @ivar transports: of each connection that was made.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.attempts: list[tuple[str, int]] = []
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
        self, host: str, port: int, factory: IProtocolFactory, seconds: float
    ) -> "Deferred[IProtocol]":
        """To be handed in where connections are made; as `outbound.connector.Connect`."""
        self.attempts.append((host, port))
        if host in self._unreachable:
            silent: Deferred[IProtocol] = Deferred()
            return silent.addTimeout(seconds, self.clock, lambda *_: _failure(_TOO_LATE))
        if not self._peers.get(host):
            return fail(_REFUSED)
        protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        assert protocol is not None
        peer = self._peers[host].pop(0)
        transport = MemoryTransport(host, port, protocol, peer)
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

    def connection_creator(self, decision: Decision) -> Any:
        """As `ClientTLS.connection_creator`."""
        self.decisions.append(decision)
        return _PretendedCreator(decision, self._failure)

    def summary(self, transport: object, decision: Decision) -> TLSSummary:
        """As `ClientTLS.summary`."""
        return evolve(self._summary, server_name=decision.server_name)


def run(coroutine: Any, *then: Callable[[], object]) -> "Deferred[Any]":
    """Start *coroutine*, then call each of *then*, such as a network's `flush`."""
    running = Deferred.fromCoroutine(coroutine)
    for step in then:
        step()
    return running
