"""Where a message goes next."""

from attrs import frozen

SMTP_PORT = 25
LMTP_PORT = 24
SMTP, LMTP = "smtp", "lmtp"


@frozen
class MailExchanger:
    """One MX record: a host as an A-label without trailing dot; "" in a null MX (RFC 7505)."""

    preference: int
    host: str


@frozen
class NextHop:
    """
    One host to try for a domain.

    @ivar host: what is connected to: an IP address, or a name to be resolved.
    @ivar domain: the recipient domain (or the domain of the route) it was found for.
    @ivar mx_name: the name under which the host was found (MX target or configured
        name): the one for SNI and the certificate; None where only an address is known.
    @ivar source: "mx", "implicit mx" (RFC 5321 section 5.1), or "route" (configured).
    @ivar protocol: `SMTP`, or `LMTP` (RFC 2033) where the host is the last one.
    """

    host: str
    domain: str
    port: int = SMTP_PORT
    preference: int = 0
    mx_name: str | None = None
    source: str = "mx"
    protocol: str = SMTP
