"""What a host is told to lack, where it has not the TLS that a delivery needs; pure."""

from enum import Enum, auto

from harakatls.smtp.reply import Reply
from harakatls.tls.policy import Decision
from harakatls.tls.requiretls import RequireTLS


class Miss(Enum):
    """What was missed at a host."""

    FORBIDDEN = auto()  # we may not even ask it
    NO_STARTTLS = auto()  # it does not offer TLS
    STARTTLS_REFUSED = auto()  # it offers TLS, and refuses it
    HANDSHAKE = auto()  # it fails
    CERTIFICATE = auto()  # it is not valid, or for another name
    NO_REQUIRETLS = auto()


# RFC 3463 section 3.8: 4.7.4 security features not supported, 4.7.5 cryptographic failure.
_USUALLY = {
    Miss.FORBIDDEN: (451, "4.7.4"),
    Miss.NO_STARTTLS: (451, "4.7.4"),
    Miss.STARTTLS_REFUSED: (451, "4.7.4"),
    Miss.HANDSHAKE: (451, "4.7.5"),
    Miss.CERTIFICATE: (451, "4.7.5"),
}
# RFC 8689 section 4.2.1: after the last MX the message is returned; 5.7.10 is encryption needed,
# 5.7.30 REQUIRETLS support required. A handshake that breaks proves nothing: it is tried again.
_REQUIRETLS = {
    Miss.FORBIDDEN: (550, "5.7.10"),
    Miss.NO_STARTTLS: (550, "5.7.30"),
    Miss.STARTTLS_REFUSED: (550, "5.7.10"),
    Miss.HANDSHAKE: (451, "4.7.5"),
    Miss.CERTIFICATE: (550, "5.7.10"),
    Miss.NO_REQUIRETLS: (550, "5.7.30"),
}
UNMET_BEHIND = {
    "5.7.10": Reply.of(550, "5.7.10", "The mail server behind this one has not the TLS it needs"),
    "5.7.30": Reply.of(550, "5.7.30", "The mail server behind this one does not know REQUIRETLS"),
}
"""For a client, by status: who and where that server is, and what is wrong, is in the log."""


def missed(decision: Decision, miss: Miss, text: str) -> Reply:
    """
    In our words, as the answer that counts for the recipients if no other host will do.

    @param text: what was found.
    """
    level = decision.requiretls or RequireTLS.DISABLE
    demanded = RequireTLS.ENFORCE if miss is Miss.CERTIFICATE else RequireTLS.STARTTLS
    code, status = (_REQUIRETLS if level >= demanded else _USUALLY)[miss]
    return Reply.of(code, status, text)


def needed(decision: Decision) -> str:
    """How a sentence begins that ends with what was found."""
    if decision.requiretls is not None and decision.requiretls >= RequireTLS.STARTTLS:
        return "REQUIRETLS needs TLS"
    return "TLS is required"


def is_unmet(reply: Reply) -> bool:
    """One of ours, which says that REQUIRETLS cannot be kept there: to come back is in vain."""
    return reply.is_permanent and not reply.heard and str(reply.enhanced) in UNMET_BEHIND
