"""Where a message goes next."""

from collections.abc import Iterator

from attrs import field, frozen

SMTP_PORT = 25
LMTP_PORT = 24
SMTP, LMTP = "smtp", "lmtp"


@frozen
class MailExchanger:
    """One MX record: a host as an A-label without trailing dot; "" in a null MX (RFC 7505)."""

    preference: int
    host: str


@frozen
class Credentials:
    """
    Who we are for a server that wants to know (AUTH, RFC 4954).

    They come from the configuration at each attempt and are kept nowhere else: what is shown of
    them, in logs as in tracebacks, is that they are there.

    @ivar mechanism: the only one to use, in upper case; None for the best that is offered.
    @ivar without_tls: they may be sent in the clear. The operator has to say so.
    """

    user: str = field(repr=False)
    password: str = field(repr=False)
    mechanism: str | None = None
    without_tls: bool = False


@frozen
class BackEndOptions:
    """
    How to talk to a back end.

    @ivar section: of tls.ini, without C{queue/}: C{smtp_forward}, C{smtp_proxy} and the like.
    @ivar use_tls: STARTTLS where it is offered; hosts in C{force_tls_hosts} get nothing without.
    @ivar connect_timeout: seconds.
    @ivar timeout: seconds for each answer.
    """

    section: str
    use_tls: bool = False
    connect_timeout: float = 30.0
    timeout: float = 300.0


@frozen
class IntroducedClient:
    """
    The client for whom mail is handed on while it waits, as a back end is told of it (XCLIENT).

    None is what nobody knows. All of it but the addresses and ports may be what the client, or who
    owns its address, has thought up.

    @ivar host: its IP address.
    @ivar name: what its address is called in the DNS.
    @ivar hello: what it has said at EHLO, or HELO where not *extended*.
    @ivar login: as whom it has logged in.
    @ivar local_host: the address of ours that it has connected to.
    """

    host: str | None = None
    port: int | None = None
    name: str | None = None
    hello: str | None = None
    extended: bool = True
    login: str | None = None
    local_host: str | None = None
    local_port: int | None = None


@frozen
class NextHop:
    """
    One host to try for a domain.

    @ivar host: what is connected to: an IP address, a name to be resolved, or the path of a Unix
        socket.
    @ivar domain: the recipient domain (or the domain of the route) it was found for.
    @ivar mx_name: the name under which the host was found (MX target or configured
        name): the one for SNI and the certificate; None where only an address is known.
    @ivar source: "mx", "implicit mx" (RFC 5321 section 5.1), "address literal" (section 4.1.3), or
        "route" (configured).
    @ivar protocol: `SMTP`, or `LMTP` (RFC 2033) where the host is the last one.
    @ivar credentials: with which to log in; None where that is not wanted.
    @ivar bind: the address of ours to connect from; None leaves it to the system.
    @ivar bind_helo: our name for EHLO; None for the server's own.
    @ivar back_end: how to talk to it, TLS above all, where it is the back end of a plugin; None
        for what counts for all mail that goes out.
    @ivar client: for whom a connection is to be made, where the host wants to know (XCLIENT); None
        for mail that has waited in the queue.
    """

    host: str
    domain: str
    port: int = SMTP_PORT
    preference: int = 0
    mx_name: str | None = None
    source: str = "mx"
    protocol: str = SMTP
    credentials: Credentials | None = None
    bind: str | None = None
    bind_helo: str | None = None
    back_end: BackEndOptions | None = None
    client: IntroducedClient | None = None

    @property
    def is_socket(self) -> bool:
        """A Unix socket: it has neither port nor name, and nothing leaves this machine."""
        return self.host.startswith("/")

    @property
    def name(self) -> str:
        """For those who read about it: the name, or the address where only that is known."""
        return self.mx_name or self.host

    @property
    def identities(self) -> Iterator[str]:
        """By which lists of hosts may mean it, the nearest first."""
        yield self.host
        if self.mx_name is not None:
            yield self.mx_name
        yield self.domain
