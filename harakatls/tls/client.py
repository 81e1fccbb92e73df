"""TLS with those to whom we connect: what is asked of them, and whether it held."""

from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from harakatls.config.hosts import host_address
from harakatls.connection import TLSSummary
from harakatls.interfaces import HasHandle
from harakatls.tls.certificates import UNREADABLE, alternative_names, told_names
from harakatls.tls.contexts import TrustStore, client_context
from harakatls.tls.handshake import (
    Judgement,
    JudgingConnection,
    connection_of,
    summarize,
    verify,
)
from harakatls.tls.pairing import trust_anchors
from harakatls.tls.policy import Decision
from harakatls.tls.settings import OutboundTLS

_NAMES_SHOWN = 3


class ClientTLS:
    """
    The TLS side of all deliveries.

    @ivar problems: what is wrong with the trust anchors, a line for each; for the log.
    """

    def __init__(self, settings: OutboundTLS) -> None:
        """@raise ConfigError: OpenSSL refuses a value of tls.ini."""
        self.settings = settings
        self.problems: tuple[str, ...] = ()
        trust = TrustStore(None)
        if settings.anchors:
            # Where none can be read, nobody is trusted: a host that is forced gets nothing.
            anchors, problems = trust_anchors(settings.anchors)
            trust = TrustStore(anchors)
            found = (*problems, *trust.problems)
            self.problems = tuple(f"ca of [outbound]: {problem}" for problem in found)
        self._contexts = {
            authenticated: client_context(settings.parameters, authenticated, trust, verify)
            for authenticated in (False, True)
        }

    def adopt(self, other: "ClientTLS") -> None:
        """New connections go by what *other* goes by; those that are open stay as they are."""
        self.settings, self.problems = other.settings, other.problems
        self._contexts = other._contexts

    def connection_creator(self, decision: Decision) -> "ConnectionCreator":
        """For one connection, to be given to C{startTLS}."""
        return ConnectionCreator(self._contexts[decision.authenticated], decision)

    def summary(self, transport: HasHandle, decision: Decision) -> TLSSummary:
        """What the handshake that has just finished on *transport* came to."""
        connection = connection_of(transport)
        assert isinstance(connection, _ClientConnection)
        return summarize(connection, decision.server_name, connection.judgement())


@implementer(IOpenSSLClientConnectionCreator)
class ConnectionCreator:
    """For one connection."""

    def __init__(self, context: SSL.Context, decision: Decision) -> None:
        self._context = context
        self._decision = decision
        self._made: _ClientConnection | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        self._made = _ClientConnection(self._context, self._decision)
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


class _ClientConnection(JudgingConnection):
    """
    The certificate is judged in the handshake. Where it has to be valid, that is the end of a
    handshake with a wrong one: before the server is told that we are content, and before we could
    send it anything.
    """

    def __init__(self, context: SSL.Context, decision: Decision) -> None:
        super().__init__(context, decision.authenticated)
        self._reference = decision.reference
        if decision.server_name is not None:
            self.set_tlsext_host_name(decision.server_name.encode("ascii"))

    def examine(self, certificate: crypto.X509, depth: int) -> str | None:
        if depth:
            return None
        try:
            return name_problem(certificate.to_cryptography(), self._reference)
        except UNREADABLE:
            return "certificate is malformed, so whom it is for is not known"

    def judgement(self) -> Judgement:
        return Judgement(self.judged and self.problem is None, self.problem)


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
        if _is_address(reference):
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


def _is_address(reference: str) -> bool:
    try:
        host_address(reference)
    except ValueError:
        return False
    return True
