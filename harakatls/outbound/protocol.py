"""The client side of one SMTP connection, for a coroutine to talk through."""

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IOpenSSLClientConnectionCreator,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.interfaces import IMessageBody
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.tcp import why_lost
from harakatls.smtp.client import ClientSession
from harakatls.smtp.errors import Injected, LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import NEED_DATA, Answered, Asked
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import CLOSED, READY
from harakatls.tls.layer import TLSBroken, TLSLayer
from harakatls.tls.link import Link

CHUNK = 65536  # octets of a body that are read at once
GOODBYE = 5.0  # seconds for a server to answer QUIT and to close
_WHEN = {
    **{asked: f"while waiting for the answer to {asked.value}" for asked in Asked},
    Asked.GREETING: "while waiting for the greeting",
    Asked.BODY: "while waiting for the answer to the message",
}
UNREAD = 1 << 20  # octets that a server may send while nobody asks


@implementer(IPushProducer)
class OutboundProtocol(Protocol):
    """
    Waits, with time limits, for the answers that a `ClientSession` reads.

    Used by one coroutine at a time. There is one timer for the whole connection; each wait sets it
    anew.

    @ivar given_up: it was we who broke the connection off.
    """

    transport: Any  # ITCPTransport
    _link: Link

    def __init__(
        self,
        session: ClientSession,
        clock: IReactorTime,
        closed: Callable[["OutboundProtocol"], object] = lambda _: None,
    ) -> None:
        """@param closed: told when the connection is gone."""
        self.session = session
        self._clock = clock
        self._closed = closed
        self._timer: IDelayedCall | None = None
        self._expired = ""
        self._deadline = inf  # of one message, however lively the server is
        self._waiting: Deferred[None] | None = None
        self._securing = False
        self._full = False  # the transport's buffer
        self._leaving = False
        self._resting = False
        self._unread = 0
        self._problem: str | None = None  # why nothing can be said any more
        self._gone = False
        self.given_up = False

    # -- what Twisted tells ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A command must not wait for the acknowledgement of the one before (Nagle)."""
        self._link = Link(self.transport)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Some octets; they are understood only when an answer is waited for."""
        if self._problem is not None:
            return
        if self._link.layer is None:
            self._received(data)
        else:
            self._decrypt(data)

    def _received(self, octets: bytes) -> None:
        if self._leaving:
            # Whatever it is, it is the answer to QUIT.
            self._link.close(linger=False)
            return
        if self._resting:
            # Most often 421: it has waited long enough.
            self._end("the server speaks without being asked")
            return
        self._unread += len(octets)
        if self._unread > UNREAD:
            self._break("the server sends without being asked")
            return
        self.session.receive(octets)
        if not self._securing and not self._full:
            self._wake()

    def _decrypt(self, data: bytes) -> None:
        layer = self._layer()
        try:
            pieces = self._link.decrypt(data)
        except TLSBroken as problem:
            self._tls_broke(str(problem))
            return
        if self._securing and layer.established:
            # EHLO goes out with the end of the handshake.
            self._wake()
        if pieces:
            self._received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._problem is None:
            self._link.flush()
            if layer.ended:
                self._end("the server closed the connection")

    def _tls_broke(self, problem: str) -> None:
        """There may be an alert on its way to the server."""
        self._end(problem if self._securing else f"TLS broke: {problem}")

    def _end(self, problem: str) -> None:
        """Nothing more can be said; what was said still goes out."""
        self._limit(GOODBYE, "")  # for a server that does not take what it is still to be sent
        if self._problem is None:
            self._problem = problem
        self._link.close(linger=False)
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """However it came about."""
        self._gone = True
        if self._problem is None:
            self._problem = why_lost(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        layer = self._link.layer
        if layer is not None:
            layer.close()  # else OpenSSL holds its session for a bad one
        self._closed(self)
        self._wake()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """There is room again."""
        self._full = False
        self._wake()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost says so."""

    # -- what the coroutine says and hears --------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Nothing can be said any more."""
        return self._problem is not None

    def send(self, octets: bytes) -> None:
        """Commands, as the session gives them."""
        if self._problem is not None:
            return
        try:
            self._link.write(octets)
        except TLSBroken as problem:
            self._tls_broke(str(problem))

    async def answer(self, asked: Asked, seconds: float) -> Reply:
        """
        The answer to what was asked first and not yet answered.

        @param asked: what that is, for the text of the failure.
        @raise ConnectionBroken: none came within *seconds*, or what came is no SMTP.
        """
        try:
            event = self.session.next_event()
            if event is NEED_DATA:
                self._limit(seconds, f"no answer within {seconds:g} seconds")
            while event is NEED_DATA:
                self._unread = 0
                await self._wait()
                event = self.session.next_event()
        except RemoteProtocolError as problem:
            self._break(str(problem))
            injected = isinstance(problem, Injected)
            raise ConnectionBroken(f"{problem} {_WHEN[asked]}", injected=injected) from None
        except ConnectionBroken as problem:
            raise ConnectionBroken(f"{problem} {_WHEN[asked]}") from None
        assert isinstance(event, Answered)
        return event.reply

    async def reset(self, seconds: float) -> None:
        """
        RSET, where the last transaction did not end with a message.

        @raise ConnectionBroken: the server ended the conversation, or refused; there can be no
            other transaction.
        """
        if self.session.state is READY:
            return
        if self.session.state is CLOSED:
            raise ConnectionBroken("the server ended the conversation")
        self.send(self.session.reset())
        reply = await self.answer(Asked.RSET, seconds)
        if not reply.accepts:
            raise ConnectionBroken(f"the server refused RSET: {reply}")

    async def start_tls(self, creator: IOpenSSLClientConnectionCreator, seconds: float) -> TLSLayer:
        """
        The handshake. The server has agreed to it.

        @return: what TLS knows of the connection.
        @raise ConnectionBroken: with `securing`.
        """
        self._securing = True
        self._limit(seconds, f"the handshake took more than {seconds:g} seconds")
        try:
            self._check()
            self._link.connect_tls(creator)
            layer = self._layer()
            while not layer.established:
                await self._wait()
        except (ConnectionBroken, TLSBroken) as problem:
            raise ConnectionBroken(str(problem), securing=True) from None
        self._securing = False
        return layer

    async def send_body(self, top: bytes, body: IMessageBody, seconds: float) -> Reply | None:
        """
        The message and the dot that ends it.

        Not more than a chunk and what the transport buffers is in memory at any time.

        @param top: header fields to be put on top.
        @param seconds: for the server to take each chunk.
        @return: None where all of it was handed to the transport, else the refusal with which the
            server cut it short.
        @raise ConnectionBroken: before the whole of it was handed to the transport.
        """
        session = self.session
        chunk = await body.read(CHUNK)
        if len(chunk) == body.size:
            # All of it: one write, and the transport need not tell about its buffer.
            self.send(b"".join((session.body(top + chunk), session.end_body())))
            return None
        transport = self.transport
        transport.registerProducer(self, True)
        try:
            self.send(session.body(top + chunk))
            while chunk:
                if self._full:
                    await self._drained(seconds)
                if self._unread or self.lost:
                    refusal = self._refusal()
                    if refusal is not None:
                        return refusal
                chunk = await body.read(CHUNK)
                self.send(session.body(chunk))
            self.send(session.end_body())
            return None
        finally:
            transport.unregisterProducer()
            self._full = False

    def _refusal(self) -> Reply | None:
        """
        What the server says while it is sent a message.

        @raise ConnectionBroken: it is gone.
        """
        try:
            event = self.session.next_event()
        except RemoteProtocolError as problem:
            self._break(str(problem))
            raise ConnectionBroken(str(problem)) from None
        if isinstance(event, Answered):
            return event.reply
        self._unread = 0
        self._check()
        return None

    def rest(self) -> bool:
        """
        Nothing is said until `wake_up`. If the server says something meanwhile, that is the end.

        @return: whether there is anything left to be said on this connection.
        """
        if self._problem is not None or self._leaving or not self.session.is_idle:
            return False
        self._unread = 0
        self._resting = True
        return True

    def wake_up(self) -> None:
        """The end of a rest."""
        self._resting = False

    def allow(self, seconds: float) -> None:
        """From now on until this is said again nothing may take longer, all in all."""
        self._deadline = self._clock.seconds() + seconds

    def quit(self) -> None:
        """Say goodbye; nobody waits for the answer."""
        if self.lost or self._leaving:
            return
        self._deadline = inf
        try:
            goodbye = self.session.quit()
        except LocalProtocolError:
            # An answer is still to come, so there is nothing to say.
            self.abort()
            return
        self._resting, self._leaving = False, True
        self.send(goodbye)
        self._limit(GOODBYE, "")

    def close(self) -> None:
        """Wait for nothing more: the goodbye was said, or there is none to say."""
        if not self._leaving:
            self.abort()
        elif not self._gone:
            self._link.close(linger=False)

    def abort(self) -> None:
        """Close at once, so that the server throws away what it has of a message."""
        self._break("the connection was given up")

    # -- waiting ----------------------------------------------------------------------------------

    async def _drained(self, seconds: float) -> None:
        self._limit(seconds, f"no data was taken for {seconds:g} seconds")
        while self._full and not (self.lost and self._unread):
            await self._wait()

    async def _wait(self) -> None:
        self._check()
        self._waiting = Deferred()
        try:
            await self._waiting
        finally:
            self._waiting = None
        self._check(events=True)

    def _check(self, events: bool = False) -> None:
        """
        @param events: answers that came before the end are still to be read.
        """
        if self._problem is not None and not (events and self._unread and not self._securing):
            raise ConnectionBroken(self._problem)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _limit(self, seconds: float, expired: str) -> None:
        left = self._deadline - self._clock.seconds()
        if left < seconds:
            seconds, expired = max(left, 0.0), "the message took too long, all in all"
        self._expired = expired
        if self._timer is None:
            if not self.lost:
                self._timer = self._clock.callLater(seconds, self._too_late)
        else:
            self._timer.reset(seconds)

    def _too_late(self) -> None:
        self._timer = None
        if self._waiting is not None or self._leaving or self.lost:
            self._break(self._expired)

    def _break(self, problem: str) -> None:
        if self._problem is None:
            self._problem = problem
            self.given_up = True
        if not self._gone:
            self.transport.abortConnection()
        self._wake()

    def _layer(self) -> TLSLayer:
        layer = self._link.layer
        assert layer is not None, "not secured"
        return layer
