"""
Who gets TLS, and how much: decisions without I/O, each with its reasons.

Other sources of policy (MTA-STS, DANE) may later raise a level; nothing but the operator's own word
may lower it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum, IntEnum, auto

from attrs import evolve, frozen

from harakatls.config.hosts import HostList, host_address, host_name
from harakatls.mail.route import NextHop
from harakatls.tls.settings import InboundTLS, OutboundTLS


class SecurityLevel(IntEnum):
    """
    How much TLS a delivery must have; compare them, the higher is the stronger.

    NONE: not even where it is offered. MAY: where it is offered, whoever the peer may be; and in
    the clear where not, or where it fails. ENCRYPT: never in the clear. VERIFY: ENCRYPT, with a
    valid certificate for the right name.
    """

    NONE = 0
    MAY = 1
    ENCRYPT = 2
    VERIFY = 3


class ClientCertificate(Enum):
    """What is asked of a client about a certificate of its own."""

    IGNORED = auto()
    ASKED_FOR = auto()
    REQUIRED = auto()


@frozen
class Decision:
    """
    How much TLS one delivery to one host has to have, and why.

    @ivar reasons: the first reason first, each a phrase for the operator.
    @ivar server_name: for SNI (RFC 6066 section 3); None where there is no name to send.
    @ivar reference: the name or the IP address that the certificate has to be for; at MAY it is
        only recorded whether it is.
    @ivar authenticated: wherever TLS is used, the certificate has to be valid for *reference*.
    @ivar refusal: why nothing may be sent to this host at all for now, neither with TLS nor
        without; None where there is no such reason.
    """

    level: SecurityLevel
    reasons: tuple[str, ...]
    server_name: str | None = None
    reference: str | None = None
    authenticated: bool = False
    refusal: str | None = None

    @property
    def may_fall_back(self) -> bool:
        """
        Whether a failed handshake may be followed by a new connection in the clear.

        Not where the certificate has to be valid: who can break a handshake could read the mail.
        """
        return self.level <= SecurityLevel.MAY and not self.authenticated

    @property
    def may_forgo(self) -> bool:
        """Whether TLS would be used, yet need not be: so that an earlier failure counts."""
        return self.level is SecurityLevel.MAY and not self.authenticated


def offers_starttls(peer: str, port: int, settings: InboundTLS) -> bool:
    """
    Is STARTTLS offered, as far as the operator's lists go?

    Who must use TLS may use it, whatever the other lists say.

    @param peer: the client's IP address.
    @param port: the local port it has connected to.
    """
    if requires_tls(peer, port, settings):
        return True
    return port not in settings.no_starttls_ports and peer not in settings.no_tls_hosts


def requires_tls(peer: str, port: int, settings: InboundTLS) -> bool:
    """
    Is nothing to be taken from the client before TLS?

    @param peer: the client's IP address.
    @param port: the local port it has connected to.
    """
    return port in settings.require_tls_ports or peer in settings.require_tls_hosts


def client_certificate(port: int, settings: InboundTLS) -> ClientCertificate:
    """@param port: the local port that the client has connected to."""
    if settings.reject_unauthorized or port in settings.require_authorized:
        return ClientCertificate.REQUIRED
    if settings.request_certificate:
        return ClientCertificate.ASKED_FOR
    return ClientCertificate.IGNORED


def outbound_decision(
    hop: NextHop, settings: OutboundTLS, failed_at: float | None, enabled: bool = True
) -> Decision:
    """
    How much TLS a delivery to *hop* must have.

    force_tls_hosts beats no_tls_hosts, and both beat the memory of a failure. Both lists are
    compared with the address or name that is connected to, the name under which it was found, and
    the recipient domain. So give a hop whose host is the address, if networks are to be found.

    @param failed_at: when TLS last failed with this host, in seconds since the epoch; None where
        it did not, or where the memory is switched off.
    @param enabled: enable_tls of outbound.ini. Where it is false, a forced host is refused: it
        never gets anything in the clear.
    """
    forced = _listed(hop, settings.force_tls_hosts)
    excluded = _listed(hop, settings.no_tls_hosts)
    if forced is not None:
        return _forced(hop, forced, excluded, enabled)
    if not enabled:
        return Decision(SecurityLevel.NONE, ("enable_tls is off",))
    if excluded is not None:
        return Decision(SecurityLevel.NONE, (f"no_tls_hosts lists {excluded}",))
    if settings.reject_unauthorized:
        reason = "rejectUnauthorized: TLS if it is offered, with a valid certificate alone"
        return evolve(_with_tls(hop, SecurityLevel.MAY, reason), authenticated=True)
    if failed_at is not None:
        reason = f"disable_for_failed_hosts: TLS failed with this host at {moment(failed_at)}"
        return Decision(SecurityLevel.NONE, (reason,))
    return _with_tls(hop, SecurityLevel.MAY, "no rule for this host: TLS if it is offered")


def moment(seconds: float) -> str:
    """@param seconds: since the epoch; out of a memory that others write to, so it may be odd."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def _forced(hop: NextHop, forced: str, excluded: str | None, enabled: bool) -> Decision:
    reasons = [f"force_tls_hosts lists {forced}"]
    if excluded is not None:
        reasons.append(f"it overrides no_tls_hosts, which lists {excluded}")
    refusal = None
    if not enabled:
        reasons.append("enable_tls is off")
        refusal = f"TLS is required by force_tls_hosts ({forced}), but enable_tls is off"
    decision = _with_tls(hop, SecurityLevel.VERIFY, *reasons)
    return evolve(decision, authenticated=True, refusal=refusal)


def _with_tls(hop: NextHop, level: SecurityLevel, *reasons: str) -> Decision:
    name = _server_name(hop)
    return Decision(level, reasons, name, name or _address(hop))


def _server_name(hop: NextHop) -> str | None:
    """
    The name under which the host was found, never an address (RFC 6066 section 3).

    It is a name that the DNS gave for the domain, as far as it was looked up: what a certificate
    for it proves is worth as much as that look-up.
    """
    try:
        return host_name(hop.mx_name if hop.mx_name is not None else hop.host)
    except ValueError:
        return None


def _address(hop: NextHop) -> str | None:
    try:
        return str(host_address(hop.host))
    except ValueError:
        return None


def _listed(hop: NextHop, hosts: HostList) -> str | None:
    """Which of the hop's names and addresses is listed; None where none is."""
    return next((value for value in _identities(hop) if value in hosts), None)


def _identities(hop: NextHop) -> Iterator[str]:
    yield hop.host
    if hop.mx_name is not None:
        yield hop.mx_name
    yield hop.domain
