"""ESMTP over a connection of the reactor's: octets in and out, TLS, time limits."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.connection import Connection, Endpoint, TLSSummary
from harakatls.inbound import replies
from harakatls.inbound.channel import HandshakeFailed
from harakatls.inbound.conversation import Conversation
from harakatls.inbound.identity import new_id
from harakatls.inbound.log import NOT_A_PROXY
from harakatls.inbound.port import Port
from harakatls.inbound.proxy_header import SIGNATURE, ProxyHeader
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.tls.channel_binding import tls_exporter
from harakatls.tls.hello import is_hello_enough
from harakatls.tls.layer import TLSBroken, TLSLayer
from harakatls.tls.link import Link

log = Logger()

CLOSE_TIMEOUT = 10.0  # seconds that a peer has to take our last reply
LINGER_OCTETS = 1 << 20  # and how much it may still send meanwhile


@implementer(IPushProducer, IHalfCloseableProtocol)
class InboundProtocol(Protocol):
    """
    The connection to one peer.

    Nothing is read while the conversation has enough to do, nor while the peer does not take what
    it is sent: so what is kept for one connection is bounded.
    """

    transport: Any  # ITCPTransport
    _link: Link
    _conversation: Conversation

    def __init__(
        self,
        port: Port,
        forget: Callable[["InboundProtocol"], None],
        header: ProxyHeader | None = None,
    ) -> None:
        """
        @param forget: told when nothing of the conversation is left.
        @param header: what a proxy in front has told; None where there is none.
        """
        self._port = port
        self._forget = forget
        self._admitted: str | None = None  # from this host; then there is a conversation
        self._header = header
        self._handshake: Deferred[TLSSummary] | None = None
        self._client_hello: bytes | None = None  # while it is being gathered
        self._securing: Connection | None = None
        self._over_tls = False
        self._deadline: IDelayedCall | None = None
        self._resting: Deferred[None] | None = None
        self._paused = False  # the conversation wants nothing read
        self._choked = False  # the peer does not take our replies
        self._heard_out = False  # the peer has closed its side
        self._closing = False
        self._gone = False
        self._discarded = 0

    # -- from the reactor -------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        self._link = Link(transport)
        peer = endpoint(transport.getPeer())
        refusal = self._port.admission.enter(peer)
        if refusal is not None:
            self._turn_away(refusal)
            return
        # Replies are written in one piece, so there is nothing to wait for to join them with.
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        local, header = endpoint(transport.getHost()), self._header
        if header is None:
            self._begin(peer, local, None)
        else:
            self._begin(header.peer or peer, header.local or local, peer)

    def _begin(self, peer: Endpoint, local: Endpoint, proxy: Endpoint | None) -> None:
        """Whose connection it is, is known: a proxy's header has been read before."""
        port = self._port
        refusal = port.admission.admit(peer.host)
        if refusal is not None:
            self._turn_away(refusal)
            return
        self._admitted = peer.host
        self.transport.registerProducer(self, True)
        implicit_tls = port.listener.implicit_tls
        connection = Connection(new_id(), peer, local, implicit_tls, proxied_by=proxy)
        self._conversation = Conversation(
            ServerSession(port.limits, connection.implicit_tls),
            port.chain,
            connection,
            port.settings,
            port.spool,
            port.tls,
            port.me,
            port.clock,
            self,
            port.failed_logins,
            port.admission,
        )
        self._conversation.ended.addBoth(self._over)
        self._conversation.begin()

    def _turn_away(self, refusal: Reply) -> None:
        """Before anything was made for it. Who expects TLS cannot be told anything yet."""
        self._closing = True
        in_clear = not self._port.listener.implicit_tls
        self._link.close(linger=False, last=refusal.wire if in_clear else b"")

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            self._discarded += len(data)
            if self._discarded > LINGER_OCTETS:
                self.abort()
        elif self._over_tls:
            self._decrypt(data)
        elif self._client_hello is not None:
            self._gather_hello(data)
        else:
            self._conversation.received(data)

    def readConnectionLost(self) -> None:
        """The peer closed its side."""
        self._heard_out = True
        if self._closing:
            self.transport.loseConnection()
        elif self._handshake is not None:
            self._fail_handshake("the peer broke off")
        else:
            self._conversation.input_ended()

    def writeConnectionLost(self) -> None:
        """We closed our side."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = self._closing = True
        self._client_hello = None
        self._cancel_deadline()
        self._port.admission.leave(self._admitted)
        if self._admitted is None:
            self._forget(self)
            return
        if self._handshake is not None:
            self._fail_handshake("the peer broke off")
        self._conversation.leave()

    def _over(self, _: object) -> None:
        """The peer has gone, and nothing of the conversation is left."""
        # Each holds the other. Let go, they go now, with all that OpenSSL has of the connection,
        # and not when the garbage collector finds them, which is work besides.
        del self._conversation
        self._forget(self)

    def pauseProducing(self) -> None:
        """Too much of what we wrote has not been taken."""
        self._choked = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It has been taken."""
        self._choked = False
        if not self._paused:
            self.transport.resumeProducing()
        self._rested()

    def stopProducing(self) -> None:
        """The transport cannot be written to any more; connectionLost follows."""

    # -- for the conversation ---------------------------------------------------------------

    def write(self, octets: bytes) -> None:
        if self._gone:
            return
        try:
            self._link.write(octets)
        except TLSBroken:
            self.abort()

    def pause(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._choked and not self._gone:
                self.transport.resumeProducing()

    def rest(self) -> Deferred[None]:
        self._resting = Deferred()
        self._port.clock.callLater(0, self._rested)
        return self._resting

    def _rested(self) -> None:
        if self._resting is not None and not self._choked:
            resting, self._resting = self._resting, None
            if not resting.called:
                resting.callback(None)

    def close(self, linger: bool, last: bytes = b"") -> None:
        if self._closing:
            return
        self._closing = True
        self._paused = self._choked = False
        transport = self.transport
        transport.unregisterProducer()
        self._cancel_deadline()
        transport.resumeProducing()
        self._link.close(linger and not self._heard_out, last)
        if not self._gone:
            self._deadline = self._port.clock.callLater(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        if not self._gone:
            self._closing = True
            self.transport.abortConnection()

    def stop(self) -> None:
        """See `Conversation.stop`. Who is still in the handshake has nothing to lose."""
        if self._gone:
            return
        if self._admitted is None:
            self.abort()
            return
        self._conversation.stop()
        if self._handshake is not None:
            self.abort()

    def now_from(self, host: str) -> Reply | None:
        if self._gone:  # and is not counted any more
            return None
        assert self._admitted is not None
        refusal = self._port.admission.move(self._admitted, host)
        if refusal is None:
            self._admitted = host
        return refusal

    # -- TLS --------------------------------------------------------------------------------

    def secure(self, connection: Connection) -> Deferred[TLSSummary]:
        """
        The same way for STARTTLS and for implicit TLS: the ClientHello is gathered and shown to
        `IServerTLS`, which chooses by it what OpenSSL cannot change later.
        """
        self._securing = connection
        self._client_hello = b""
        self._handshake = Deferred()
        self._deadline = self._port.clock.callLater(
            self._port.settings.handshake_timeout, self._handshake_too_slow
        )
        return self._handshake

    def binding(self) -> bytes | None:
        layer = self._link.layer
        return None if layer is None else tls_exporter(layer.connection)

    def _gather_hello(self, data: bytes) -> None:
        assert self._client_hello is not None
        self._client_hello += data
        if is_hello_enough(self._client_hello):
            octets, self._client_hello = self._client_hello, None
            if octets.startswith((b"PROXY ", SIGNATURE)):
                self._refuse_proxy()
            else:
                self._begin_handshake(octets)

    def _refuse_proxy(self) -> None:
        """It is not TLS that the peer speaks, so it is told in the clear."""
        assert self._securing is not None
        self.write(replies.proxy_not_allowed(self._securing).wire)
        self._fail_handshake(NOT_A_PROXY)

    def _begin_handshake(self, client_hello: bytes) -> None:
        """@param client_hello: or garbage, to which OpenSSL has the right answer."""
        tls = self._port.tls
        assert tls is not None and self._securing is not None
        try:
            self._link.start_tls(tls.connection_creator(self._securing, client_hello))
        except Exception:
            log.failure("{id}: a mistake in the TLS handshake", id=self._securing.id)
            self._fail_handshake("a mistake of the server", ours=True)
            self.abort()
        else:
            self._over_tls = True
            self._decrypt(client_hello)

    def _decrypt(self, octets: bytes) -> None:
        layer = self._link.layer
        assert layer is not None
        try:
            pieces = self._link.decrypt(octets)
        except Exception as problem:
            self._break_tls(problem)
            return
        if self._handshake is not None and layer.established:
            self._handshake_completed(layer)
        if pieces and not self._closing:
            # Together, so that commands in several records are answered in one.
            self._conversation.received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._link.flush()
        if layer.ended and not self._closing:
            self._conversation.input_ended()

    def _break_tls(self, problem: Exception) -> None:
        """The peer does not keep to TLS, refuses ours, or (another exception) we have failed."""
        ours = not isinstance(problem, TLSBroken)
        reason = "a mistake of the server" if ours else str(problem)
        if ours:
            log.failure("a mistake in TLS")
        if self._handshake is not None:
            self._fail_handshake(reason, ours)
        elif not ours:
            self.close(linger=True)  # there is an alert on its way
        else:
            self.abort()

    def _handshake_completed(self, layer: TLSLayer) -> None:
        handshake, self._handshake = self._handshake, None
        tls = self._port.tls
        assert handshake is not None and tls is not None
        self._cancel_deadline()
        try:
            summary = tls.summary(layer)
        except TLSBroken as problem:
            handshake.errback(HandshakeFailed(str(problem)))
            self.abort()
        except Exception:
            log.failure("a finished TLS handshake cannot be summed up")
            handshake.errback(HandshakeFailed("a mistake of the server", ours=True))
            self.abort()
        else:
            handshake.callback(summary)

    def _handshake_too_slow(self) -> None:
        seconds = self._port.settings.handshake_timeout
        self._fail_handshake(f"it took longer than {seconds:g} seconds")
        self.abort()

    def _fail_handshake(self, reason: str, ours: bool = False) -> None:
        handshake, self._handshake = self._handshake, None
        self._client_hello = None
        if handshake is not None and not handshake.called:
            handshake.errback(HandshakeFailed(reason, ours))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


def endpoint(address: Any) -> Endpoint:
    """Of an IPv4Address or IPv6Address; an IPv4 peer of an IPv6 socket is written as IPv4."""
    host = address.host.partition("%")[0]  # without the interface of a link-local address
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return Endpoint(host, address.port)
