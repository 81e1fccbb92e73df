"""What a session offers to a peer and holds it to, by the settings."""

from functools import lru_cache

from harakatls.inbound.settings import InboundSettings
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.offer import SessionLimits


def session_limits(settings: InboundSettings) -> SessionLimits:
    """What the session is to hold the peer to."""
    return SessionLimits(
        line=settings.max_line_length,
        data_line=settings.max_data_line_length,
        message=settings.max_bytes,
        recipients=settings.max_recipients,
        errors=settings.max_bad_commands,
        smtputf8=settings.smtputf8,
        requiretls=settings.requiretls,
        chunking=settings.chunking,
    )


@lru_cache(maxsize=4)
def offered_always(settings: InboundSettings) -> Capabilities:
    """In the answer to EHLO, before plugins edit it."""
    return session_limits(settings).capabilities
