"""
What the sender of a message wants of TLS (RFC 8689), and what that makes of the decision for a
host; pure.

REQUIRETLS can only raise what is demanded. C{TLS-Required: No} lowers it, but never below what the
operator demands of a host by its name, or of one that is told a login of ours.
"""

from attrs import evolve

from harakatls.mail.envelope import Envelope, TLSWish
from harakatls.mail.route import NextHop
from harakatls.tls.policy import Decision, SecurityLevel, outbound_decision, with_tls
from harakatls.tls.requiretls import SECURE_MX, RequireTLS, is_found_securely
from harakatls.tls.settings import OutboundTLS

_NEEDS = {
    RequireTLS.STARTTLS: (SecurityLevel.ENCRYPT, "REQUIRETLS: TLS, whoever the peer may be"),
    RequireTLS.ENFORCE: (
        SecurityLevel.VERIFY,
        "REQUIRETLS: TLS with a valid certificate, and REQUIRETLS there as well",
    ),
}


def decision_for(
    wish: TLSWish,
    hop: NextHop,
    settings: OutboundTLS,
    failed_at: float | None,
    enabled: bool = True,
) -> Decision:
    """
    How much TLS a delivery of one message to *hop* must have.

    @param wish: of the message.
    @param failed_at: as for L{outbound_decision}; where REQUIRETLS is passed on, it never counts.
    @param enabled: as for L{outbound_decision}.
    """
    if wish is TLSWish.REQUIRED:
        return _required(hop, settings, failed_at, enabled)
    if wish is TLSWish.OPTIONAL:
        return _optional(hop, settings, failed_at, enabled)
    return outbound_decision(hop, settings, failed_at, enabled)


def as_told(envelope: Envelope, decision: Decision) -> Envelope:
    """
    The envelope that a host is told: with REQUIRETLS as far as it is passed on there.

    RFC 8689 section 5: with REQUIRETLS, nothing but the header may come back in a report; who does
    not know it learns that from RET.
    """
    given = envelope.parameters
    if not given.requiretls:
        return envelope
    passed_on = decision.requiretls is not None
    return evolve(envelope, parameters=evolve(given, ret="HDRS", requiretls=passed_on))


def _required(
    hop: NextHop, settings: OutboundTLS, failed_at: float | None, enabled: bool
) -> Decision:
    policy = settings.requiretls
    level, why = policy.level(hop)
    if level is RequireTLS.DISABLE:
        usual = outbound_decision(hop, settings, failed_at, enabled)
        reasons = (*usual.reasons, f"REQUIRETLS is not passed on: {why}")
        return evolve(usual, reasons=reasons)
    usual = outbound_decision(hop, settings, None, enabled)
    if level is RequireTLS.OPPORTUNISTIC:
        reasons = (*usual.reasons, f"REQUIRETLS is passed on if it is offered: {why}")
        return evolve(usual, reasons=reasons, requiretls=level)
    floor, need = _NEEDS[level]
    decision = with_tls(hop, max(floor, usual.level), f"{need} ({why})", *_beside(usual))
    secure = is_found_securely(hop)
    if level is RequireTLS.ENFORCE and not secure:
        reason = "the host was found by plain DNS, which proves nothing"
        decision = evolve(decision, reasons=(*decision.reasons, reason))
    refusal = None
    if not enabled:
        refusal = "REQUIRETLS needs TLS, but enable_tls is off"
    elif level is RequireTLS.ENFORCE and policy.secure_mx and not secure:
        refusal = (
            f"REQUIRETLS needs a host that was found by secure means, but {hop.name} was found by "
            f"plain DNS ({SECURE_MX})"
        )
    authenticated = usual.authenticated or level is RequireTLS.ENFORCE
    return evolve(decision, requiretls=level, authenticated=authenticated, refusal=refusal)


def _beside(usual: Decision) -> tuple[str, ...]:
    """What else is said of the host."""
    if usual.level is SecurityLevel.NONE:
        return tuple(f"although {reason}" for reason in usual.reasons)
    return usual.reasons if usual.authenticated else ()


def _optional(
    hop: NextHop, settings: OutboundTLS, failed_at: float | None, enabled: bool
) -> Decision:
    """
    The cap comes before anything is looked up, so that nothing of what would raise the level is
    left in the decision. rejectUnauthorized is about nobody in particular; force_tls_hosts is.
    Where we log in, though, it is our password that would be told to whoever answers.
    """
    if hop.credentials is None:
        settings = evolve(settings, reject_unauthorized=False)
    capped = outbound_decision(hop, settings, failed_at, enabled)
    if capped.level > SecurityLevel.MAY or capped.authenticated:
        reason = "TLS-Required: No in the header counts for nothing beside that"
    elif capped.level is SecurityLevel.NONE:
        return capped
    else:
        reason = "TLS-Required: No in the header: whoever the peer may be"
    return evolve(capped, reasons=(*capped.reasons, reason))
