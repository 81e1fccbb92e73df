"""Connections that a proxy passes on: first its header, then the peer (PROXY protocol)."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from harakatls.inbound import replies
from harakatls.inbound.port import Port
from harakatls.inbound.protocol import CLOSE_TIMEOUT, InboundProtocol, endpoint
from harakatls.inbound.proxy_header import BadHeader, ProxyHeader, read_proxy_header
from harakatls.smtp.reply import Reply

log = Logger()

HEADER_TIMEOUT = 30.0  # seconds that a proxy has for its header
_TLS_RECORD = b"\x16"  # a handshake; no PROXY header begins so


@implementer(IHalfCloseableProtocol)
class ProxiedProtocol(Protocol):
    """
    A connection from an address of connection.ini [haproxy] hosts.

    Until the header is there nothing is said, no hook is asked and nothing is counted. Then an
    `InboundProtocol` begins, with the addresses that were told, and gets all that follows.

    @ivar behind: that one, as soon as it is there.
    """

    transport: Any  # ITCPTransport

    def __init__(self, port: Port, forget: Callable[["ProxiedProtocol"], None]) -> None:
        """@param forget: told when nothing of the connection is left."""
        self.behind: InboundProtocol | None = None
        self._port = port
        self._forget = forget
        self._header = b""
        self._closing = False
        self._timer: IDelayedCall | None = None

    # -- from the reactor -------------------------------------------------------------------

    def connectionMade(self) -> None:
        self._timer = self._port.clock.callLater(HEADER_TIMEOUT, self._too_slow)

    def dataReceived(self, data: bytes) -> None:
        if self.behind is not None:
            self.behind.dataReceived(data)
        elif not self._closing:
            self._header += data
            self._read()

    def readConnectionLost(self) -> None:
        """The proxy closed its side."""
        if self.behind is not None:
            self.behind.readConnectionLost()
        else:
            self._closing = True
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """We closed our side."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timer()
        if self.behind is not None:
            self.behind.connectionLost(reason)
        else:
            # A health check that only connects is nothing to write home about.
            self._closing = True
            self._forget(self)

    # -- from the factory -------------------------------------------------------------------

    def stop(self) -> None:
        """See `Conversation.stop`."""
        if self.behind is not None:
            self.behind.stop()
        else:
            self._refuse(replies.STOPPING_BEFORE_GREETING)

    def abort(self) -> None:
        """Close now."""
        if self.behind is not None:
            self.behind.abort()
        else:
            self._closing = True
            self.transport.abortConnection()

    # -- the header -------------------------------------------------------------------------

    def _read(self) -> None:
        if self._port.listener.implicit_tls and self._header.startswith(_TLS_RECORD):
            self._pass_on(None)  # it has connected by itself, as Haraka allows since 3.3.1
            return
        try:
            header = read_proxy_header(self._header)
        except BadHeader as problem:
            self._log("PROXY header refused: {problem}", problem=str(problem))
            self._refuse(replies.PROXY_INVALID)
        else:
            if header is not None:
                self._pass_on(header)

    def _pass_on(self, header: ProxyHeader | None) -> None:
        """@param header: None where the peer has connected without a proxy."""
        self._stop_timer()
        rest = self._header if header is None else self._header[header.length :]
        self._header = b""
        self.behind = InboundProtocol(self._port, self._over, header)
        self.behind.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        if rest:
            self.behind.dataReceived(rest)

    def _over(self, _: InboundProtocol) -> None:
        self._forget(self)

    def _too_slow(self) -> None:
        self._log("no PROXY header in {seconds:g} seconds", seconds=HEADER_TIMEOUT)
        self._refuse(replies.PROXY_TIMEOUT)

    def _refuse(self, reply: Reply) -> None:
        if self._closing:
            return
        self._closing = True
        self._header = b""
        self._stop_timer()
        # What a client behind the proxy still sends is taken and thrown away: the reset that it
        # would cause could overtake the reply.
        self.transport.write(reply.wire)
        self.transport.loseWriteConnection()
        self._timer = self._port.clock.callLater(CLOSE_TIMEOUT, self.abort)

    def _log(self, text: str, **facts: Any) -> None:
        peer = endpoint(self.transport.getPeer())
        log.warn("{peer} (connection.ini [haproxy] hosts): " + text, peer=peer, **facts)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
