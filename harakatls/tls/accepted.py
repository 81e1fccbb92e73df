"""One connection of a client: its context, its certificate, and the staple it gets."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from os import urandom
from typing import Protocol

from attrs import frozen
from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from harakatls.tls.binding import bind_sessions, is_resumed
from harakatls.tls.certificates import UNREADABLE
from harakatls.tls.handshake import Judgement, JudgingConnection, fingerprint
from harakatls.tls.hello import readable_name
from harakatls.tls.policy import ClientCertificate

log = Logger()

_JUDGEMENTS_KEPT = 10_000

StapleOf = Callable[[Certificate], bytes]
"""The OCSP staple of one of our certificates, at once; b"" for none."""


class Shown(Protocol):
    """
    What connections are served with.

    @ivar staple_of: the OCSP staple of one of our certificates.
    """

    @property
    def judgements(self) -> "Judgements": ...

    @property
    def staple_of(self) -> StapleOf: ...

    def context(self, server_name: str | None, demand: ClientCertificate) -> SSL.Context:
        """@param server_name: as L{host_name} writes it; None where the client sent none."""

    def has_rules(self, server_name: str | None) -> bool:
        """Whether anything differs for clients that ask for this name."""


@implementer(IOpenSSLServerConnectionCreator)
@frozen(eq=False)
class ConnectionCreator:
    """
    For one connection: its context has been chosen from the client's hello.

    @ivar sessions: see L{sessions_of}.
    """

    snapshot: Shown
    server_name: str | None
    demand: ClientCertificate
    sessions: bytes
    peer: str

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return ServerConnection(
            self.snapshot, self.server_name, self.demand, self.sessions, self.peer
        )


def sessions_of(server_name: str | None, port: int) -> bytes:
    """
    What sessions of clients that ask for *server_name* on our *port* are known by: they do not
    resume elsewhere (RFC 6066 section 3, RFC 8446 section 4.6.1). A context may serve many names
    and ports; and where anything is demanded that differs, it is another one.
    """
    return sha256(f"{port} {server_name or ''}".encode()).digest()


def sessions_of_nobody() -> bytes:
    """For a connection that resumes nothing, and whose sessions nobody resumes."""
    return urandom(32)


class ServerConnection(JudgingConnection):
    def __init__(
        self,
        snapshot: Shown,
        server_name: str | None,
        demand: ClientCertificate,
        sessions: bytes,
        peer: str = "",
    ) -> None:
        """@param sessions: see L{sessions_of}."""
        context = snapshot.context(server_name, demand)
        bind_sessions(context, sessions)
        super().__init__(context, demand is ClientCertificate.REQUIRED)
        self.snapshot = snapshot  # keeps the contexts alive that OpenSSL may still call back
        self.server_name = server_name
        self.demand = demand
        self.sessions = sessions
        self.peer = peer

    def judge(self, certificate: crypto.X509, error: int, depth: int) -> bool:
        content = super().judge(certificate, error, depth)
        if depth == 0:
            found = Judgement(self.problem is None, self.problem)
            self.snapshot.judgements.keep(fingerprint(certificate), found)
        return content

    def judgement(self, now: float) -> Judgement:
        """
        What to think of the client, now that the handshake has finished.

        @param now: seconds since the epoch.
        """
        if self.judged:
            return Judgement(self.problem is None, self.problem)
        certificate = self.get_peer_certificate()
        if certificate is None:
            return Judgement()
        # In TLS 1.3 each connection brings a new ticket, so a session has no end of its own.
        if _has_expired(certificate, now):
            return Judgement(problem="certificate has expired since the session began")
        if self.demand is ClientCertificate.REQUIRED and is_resumed(self):
            # Sessions of this context were all begun with a certificate that was accepted.
            return Judgement(verified=True)
        return self.snapshot.judgements.of(fingerprint(certificate))


def _has_expired(certificate: crypto.X509, now: float) -> bool:
    try:
        return certificate.to_cryptography().not_valid_after_utc.timestamp() < now
    except UNREADABLE:
        return True


def choose_context(connection: SSL.Connection) -> None:
    """
    OpenSSL's own word on the server name.

    The context was chosen by the same name before, so that nothing changes here: unless the hello
    could not be read, or was not handed to us. Then at least the certificate is right; but a name
    with rules of its own is as good as none, since it is too late for most of these.
    """
    try:
        assert isinstance(connection, ServerConnection)
        name = readable_name(connection.get_servername() or b"")
        if connection.server_name is None and connection.snapshot.has_rules(name):
            return
        connection.server_name = connection.server_name or name
        context = connection.snapshot.context(name, connection.demand)
        if context is not connection.get_context():
            bind_sessions(context, connection.sessions)  # OpenSSL may go by the new one's
            connection.set_context(context)
    except Exception:
        log.failure("could not choose a certificate by the server name")


def staple(connection: SSL.Connection, _data: object) -> bytes:
    """What goes with the certificate that OpenSSL has chosen, one of several kinds perhaps."""
    try:
        assert isinstance(connection, ServerConnection)
        certificate = connection.get_certificate(as_cryptography=True)
        return b"" if certificate is None else connection.snapshot.staple_of(certificate)
    except Exception:
        log.failure("could not staple an OCSP response")
        return b""


class Judgements:
    """
    What was thought of clients' certificates, each named by its fingerprint.

    A resumed session shows the certificate, but nobody judges it again.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Judgement] = OrderedDict()

    def keep(self, certificate: str, judgement: Judgement) -> None:
        self._kept[certificate] = judgement
        self._kept.move_to_end(certificate)
        if len(self._kept) > _JUDGEMENTS_KEPT:
            self._kept.popitem(last=False)

    def of(self, certificate: str) -> Judgement:
        found = self._kept.get(certificate)
        return found or Judgement(problem="not looked at in a resumed session")
