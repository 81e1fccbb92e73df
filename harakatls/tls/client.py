"""TLS with those to whom we connect: what is asked of them, and whether it held."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from attrs import evolve, frozen
from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from harakatls.config.hosts import is_address
from harakatls.connection import TLSSummary
from harakatls.interfaces import HasHandle
from harakatls.mail.route import NextHop
from harakatls.tls.binding import (
    is_resumed,
    is_same_session,
    session_octets,
    tells_resumed,
    was_asked_for_certificate,
)
from harakatls.tls.certificates import UNREADABLE, alternative_names, told_names
from harakatls.tls.contexts import TrustStore, client_context
from harakatls.tls.handshake import Judgement, JudgingConnection, connection_of, summarize, verify
from harakatls.tls.identities import client_certificates
from harakatls.tls.policy import Decision, client_identity, identified
from harakatls.tls.sessions import LONGEST_LIFE, MOST_OCTETS, KeptSession, SessionKey, Sessions
from harakatls.tls.settings import OutboundTLS

_NAMES_SHOWN = 3


class ClientTLS:
    """
    The TLS side of all deliveries, or of one plugin's.

    @ivar certificates: our own, as far as a rule speaks of any.
    @ivar problems: what is wrong with these and with the trust anchors, a line for each; for the
        log.
    """

    def __init__(self, settings: OutboundTLS, seconds: Callable[[], float] = time.time) -> None:
        """
        @param seconds: the time since the epoch.
        @raise ConfigError: OpenSSL refuses a value of tls.ini.
        """
        self.settings = settings
        self._seconds = seconds
        self._trust = TrustStore.read(settings.anchors)
        self.certificates = client_certificates(settings, self._trust, self._now())
        untrusted = (f"ca of [{settings.section}]: {problem}" for problem in self._trust.problems)
        self.problems = (*untrusted, *self.certificates.problems)
        self._contexts: dict[tuple[bool, tuple[str, ...]], SSL.Context] = {
            (authenticated, ()): client_context(
                settings.parameters, authenticated, self._trust, verify
            )
            for authenticated in (False, True)
        }
        self._sessions = Sessions()

    def adopt(self, other: "ClientTLS") -> None:
        """New connections go by what *other* goes by; those that are open stay as they are."""
        self.settings, self.problems = other.settings, other.problems
        self.certificates, self._trust = other.certificates, other._trust
        self._contexts, self._sessions = other._contexts, other._sessions

    def identified(self, hop: NextHop, decision: Decision) -> Decision:
        """*decision*, and which certificate of ours the host gets to see if it asks."""
        mutual = self.settings.mutual
        if not mutual:
            return decision
        return identified(decision, client_identity(hop, mutual, self.certificates, self._now()))

    def connection_creator(
        self, decision: Decision, hop: NextHop | None = None
    ) -> "ConnectionCreator":
        """
        For one connection, to be given to C{startTLS}.

        @param hop: with whom, to resume a session; None for a full handshake.
        """
        history = None
        if hop is not None:
            history = _History(self._sessions, SessionKey.of(hop, decision), self._seconds)
        return ConnectionCreator(self._context(decision), decision, history)

    def summary(self, transport: HasHandle, decision: Decision) -> TLSSummary:
        """What the handshake that has just finished on *transport* came to."""
        connection = _ours(transport)
        return summarize(connection, decision.server_name, connection.judgement())

    def keep_session(self, transport: HasHandle) -> None:
        """
        For the next connection to the same host. The server is content with this one: it has
        answered, so in TLS 1.3 its tickets have come as well.
        """
        _ours(transport).keep_session()

    def _context(self, decision: Decision) -> SSL.Context:
        # They are made as they are needed: there may be a certificate for each of many hosts.
        key = decision.authenticated, decision.identity
        if key not in self._contexts:
            known = {pair.fingerprint: pair for pairs in self.certificates.all() for pair in pairs}
            pairs = tuple(known[name] for name in decision.identity if name in known)
            self._contexts[key] = client_context(
                self.settings.parameters, decision.authenticated, self._trust, verify, pairs
            )
        return self._contexts[key]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds(), UTC)


@frozen
class _History:
    """The sessions with one host under one policy."""

    sessions: Sessions
    key: SessionKey
    seconds: Callable[[], float]

    def newest(self) -> KeptSession | None:
        return self.sessions.take(self.key, self.seconds())


@implementer(IOpenSSLClientConnectionCreator)
class ConnectionCreator:
    """For one connection."""

    def __init__(
        self, context: SSL.Context, decision: Decision, history: _History | None = None
    ) -> None:
        self._context = context
        self._decision = decision
        self._history = history
        self._made: _ClientConnection | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        self._made = _ClientConnection(self._context, self._decision, self._history)
        return self._made

    @property
    def failure(self) -> str | None:
        """
        What is wrong with the server's certificate, where the handshake failed for that; None
        where it did not fail, or for another reason.
        """
        if self._made is None or not self._made.strict:
            return None
        return self._made.problem

    @property
    def resuming(self) -> bool:
        """A session was offered, so a failure says little about another handshake."""
        return self._made is not None and self._made.offered is not None

    @property
    def remark(self) -> str | None:
        """What may explain a failure, though the server did not say so; None for nothing."""
        if self._made is None or self._decision.identity:
            return None
        if not was_asked_for_certificate(self._made):
            return None
        # TLS 1.2 has no alert of its own for this.
        return "the server had asked for a certificate of ours, and got none"


class _ClientConnection(JudgingConnection):
    """
    The certificate is judged in the handshake. Where it has to be valid, that is the end of a
    handshake with a wrong one: before the server is told that we are content, and before we could
    send it anything.

    @ivar offered: the session that was to be resumed.
    """

    def __init__(self, context: SSL.Context, decision: Decision, history: _History | None) -> None:
        super().__init__(context, decision.authenticated)
        self._reference = decision.reference
        self._history = history
        self.offered = None if history is None else history.newest()
        if decision.server_name is not None:
            self.set_tlsext_host_name(decision.server_name.encode("ascii"))
        if self.offered is not None:
            self.set_session(self.offered.session)

    def examine(self, certificate: crypto.X509, depth: int) -> str | None:
        if depth:
            return None
        try:
            return name_problem(certificate.to_cryptography(), self._reference)
        except UNREADABLE:
            return "certificate is malformed, so whom it is for is not known"

    def judgement(self) -> Judgement:
        """Of a resumed session, what was found when it was made."""
        if self.offered is not None and is_resumed(self):
            return self.offered.judgement
        return Judgement(self.judged and self.problem is None, self.problem)

    def keep_session(self) -> None:
        history, session = self._history, self.get_session()
        if history is None or session is None or not tells_resumed():
            return
        if session_octets(session) + self._chain_octets() > MOST_OCTETS:
            return
        if self.offered is None or not is_resumed(self):
            kept = KeptSession(session, self.judgement(), self._expiry(history.seconds()))
        elif self.get_protocol_version() >= SSL.TLS1_3_VERSION and is_same_session(
            session, self.offered.session
        ):
            return  # no new ticket has come
        else:
            kept = evolve(self.offered, session=session)
        history.sessions.keep(history.key, kept)

    def _chain_octets(self) -> int:
        chain = self.get_peer_cert_chain() or ()
        return sum(len(crypto.dump_certificate(crypto.FILETYPE_ASN1, c)) for c in chain)

    def _expiry(self, now: float) -> float:
        latest = now + LONGEST_LIFE
        certificate = self.get_peer_certificate()
        if certificate is None:
            return latest
        try:
            return min(latest, certificate.to_cryptography().not_valid_after_utc.timestamp())
        except UNREADABLE:
            return latest


def _ours(transport: HasHandle) -> _ClientConnection:
    connection = connection_of(transport)
    assert isinstance(connection, _ClientConnection)
    return connection


def name_problem(certificate: Certificate, reference: str | None) -> str | None:
    """
    Whether *certificate* is for the host that was meant (RFC 9525).

    The common name does not count.

    @param reference: a host name, as L{host_name} writes it, or an IP address.
    @return: None where it is.
    """
    if reference is None:
        return "there is no name the certificate could be for"
    try:
        if is_address(reference):
            verify_certificate_ip_address(certificate, reference)
        else:
            verify_certificate_hostname(certificate, reference)
    except (CertificateError, VerificationError, ValueError):
        names = alternative_names(certificate)
        if names:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            shown = ", ".join(names[:_NAMES_SHOWN])
            return f"certificate is for {shown}{more}, not {reference}"
        common = ", ".join(told_names(certificate)) or "none"
        return (
            f"certificate has no subject alternative name (only a common name, {common}), so it is "
            f"not for {reference}"
        )
    return None
