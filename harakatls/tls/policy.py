"""
Who gets TLS, and how much: decisions without I/O, each with its reasons.

Other sources of policy (MTA-STS, DANE) may later raise a level; nothing but the operator's own word
may lower it.
"""

from datetime import UTC, datetime
from enum import Enum, IntEnum, auto

from attrs import evolve, frozen

from harakatls.config.hosts import HostList, host_address, host_name
from harakatls.mail.route import NextHop
from harakatls.tls.certificates import CertificateStore, KeyPair
from harakatls.tls.mutual import EVERYWHERE, EXCLUDED, HOSTS, MutualTLS
from harakatls.tls.requiretls import RequireTLS
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
    @ivar identity: the SHA-256 of each of our certificates that may be shown, one of each kind of
        key; empty where none may be.
    @ivar requiretls: what REQUIRETLS demands of the host; None where the message goes there without
        the option.
    """

    level: SecurityLevel
    reasons: tuple[str, ...]
    server_name: str | None = None
    reference: str | None = None
    authenticated: bool = False
    refusal: str | None = None
    identity: tuple[str, ...] = ()
    requiretls: RequireTLS | None = None

    @property
    def may_fall_back(self) -> bool:
        """
        Whether a failed handshake may be followed by a new connection in the clear.

        Not where the certificate has to be valid: who can break a handshake could read the mail.
        """
        return self.level <= SecurityLevel.MAY and not self.authenticated

    @property
    def may_forgo(self) -> bool:
        """
        Whether TLS would be used, yet need not be: so that an earlier failure counts.

        For a message with REQUIRETLS it never does: at least this much it asks for.
        """
        free = not self.authenticated and self.requiretls is None
        return free and self.level is SecurityLevel.MAY


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

    A Unix socket has no TLS, whatever they say of the domain: nobody is in between.

    @param failed_at: when TLS last failed with this host, in seconds since the epoch; None where
        it did not, or where the memory is switched off.
    @param enabled: enable_tls of outbound.ini. Where it is false, a forced host is refused: it
        never gets anything in the clear.
    """
    if hop.is_socket:
        return Decision(SecurityLevel.NONE, ("a Unix socket: it does not leave this machine",))
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
        return evolve(with_tls(hop, SecurityLevel.MAY, reason), authenticated=True)
    if failed_at is not None:
        reason = f"disable_for_failed_hosts: TLS failed with this host at {moment(failed_at)}"
        return Decision(SecurityLevel.NONE, (reason,))
    return with_tls(hop, SecurityLevel.MAY, "no rule for this host: TLS if it is offered")


@frozen
class ClientIdentity:
    """
    Who we are for one next hop.

    @ivar pairs: our certificates that it gets to see if it asks, the favourite first; empty for
        none.
    @ivar reason: why, in words for the operator; None where no rule is about this hop.
    """

    pairs: tuple[KeyPair, ...] = ()
    reason: str | None = None


def client_identity(
    hop: NextHop, mutual: MutualTLS, certificates: CertificateStore, now: datetime
) -> ClientIdentity:
    """
    Which certificate of ours *hop* gets to see if it asks for one.

    None without a rule: the server's certificate is for clients, and whom we know is no matter of
    everybody's. mutual_auth_hosts_exclude beats mutual_auth_hosts, and that beats mutual_tls. All
    are compared with what force_tls_hosts is compared with; the address or name that is connected
    to counts before the name under which it was found, and that before the domain.

    @param certificates: client certificates; the default one, and those by name.
    @param now: a certificate that is not valid by then is shown to nobody.
    """
    rules = ((value, mutual.rule(value)) for value in hop.identities)
    listed = next(((value, rule) for value, rule in rules if rule is not None), None)
    if listed is None and not mutual.everywhere:
        return ClientIdentity()
    excluded = _listed(hop, mutual.excluded)
    if excluded is not None:
        return ClientIdentity((), f"{EXCLUDED} lists {excluded}: no certificate of ours is shown")
    if listed is not None:
        value, rule = listed
        reason, name = f"{HOSTS} lists {value}", rule.certificate
        found = certificates.under(name)
    else:
        reason, name = EVERYWHERE, _server_name(hop)
        found = certificates.named.get(name or "", ())
        if not found:
            found, name = certificates.default, None
    valid = tuple(pair for pair in found if pair.validity_problem(now) is None)
    ours = "default client certificate" if name is None else f"certificate {name}"
    if valid:
        # No names of files: these words stand in reports to senders, too.
        return ClientIdentity(valid, f"{reason}: our {ours} is shown if it asks for one")
    lack = "is not valid now" if found else "cannot be used" if name is None else "is not there"
    return ClientIdentity((), f"{reason}, but our {ours} {lack}: none is shown")


def identified(decision: Decision, identity: ClientIdentity) -> Decision:
    """*decision*, and who we are in it. Where TLS is not used, nobody."""
    if decision.level is SecurityLevel.NONE or identity.reason is None:
        return decision
    return evolve(
        decision,
        identity=tuple(pair.fingerprint for pair in identity.pairs),
        reasons=(*decision.reasons, identity.reason),
    )


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
    decision = with_tls(hop, SecurityLevel.VERIFY, *reasons)
    return evolve(decision, authenticated=True, refusal=refusal)


def with_tls(hop: NextHop, level: SecurityLevel, *reasons: str) -> Decision:
    """TLS at *level*, with the names that belong to *hop*."""
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
    return next((value for value in hop.identities if value in hosts), None)
