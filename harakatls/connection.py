"""Facts about a peer and its transaction, as hooks are told them."""

from typing import Any

from attrs import Factory, evolve, field, frozen

from harakatls.mail.envelope import Envelope


@frozen
class Endpoint:
    """One side of a TCP connection; IPv4-mapped IPv6 addresses are written as IPv4."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """It is an address of this machine that cannot be reached from elsewhere."""
        return self.host.startswith("127.") or self.host == "::1"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Hello:
    """@ivar extended: EHLO, not HELO."""

    name: str
    extended: bool


@frozen
class TLSSummary:
    """
    What a finished handshake came to.

    @ivar protocol: as OpenSSL writes it, "TLSv1.3".
    @ivar cipher: the name that OpenSSL has for it; for TLS 1.3 that is IANA's,
        "TLS_AES_256_GCM_SHA384".
    @ivar bits: the strength of the cipher.
    @ivar server_name: SNI as A-label, or None.
    @ivar peer_names: the DNS names (else the common name) of the peer's certificate.
    @ivar verified: the peer's certificate was asked for, chains to a trust anchor and,
        where a name was required, is for that name.
    @ivar verify_error: why it is not verified; None where it is, or where there was none.
    @ivar fingerprint: SHA-256 of the peer's certificate in hexadecimal; "" without one.
    @ivar group: the key exchange group, "X25519MLKEM768"; None where it is not known.
    """

    protocol: str
    cipher: str
    bits: int
    server_name: str | None = None
    peer_names: tuple[str, ...] = ()
    verified: bool = False
    verify_error: str | None = None
    fingerprint: str = ""
    group: str | None = None
    resumed: bool = False

    def without_certificate(self) -> "TLSSummary":
        """The same channel, whoever the peer has shown to be."""
        return evolve(self, peer_names=(), verified=False, verify_error=None, fingerprint="")


@frozen
class Connection:
    """
    One peer that gives us mail. A new fact makes a new value (`attrs.evolve`; for those that come
    with every connection there are methods, which take a third of the time).

    @ivar id: unique, upper-case UUID; transactions are id.1, id.2 and so on.
    @ivar implicit_tls: the listener speaks TLS from the start.
    @ivar authenticated_as: the name of the user who has logged in (AUTH), or None.
    @ivar relaying: the peer may send mail to any domain.
    @ivar errors: commands so far that were unknown, malformed or out of order.
    @ivar early_talker: the peer did not wait for the greeting, or for an answer although PIPELINING
        was not offered to it (RFC 5321 section 3.1, RFC 2920).
    @ivar peer: where a proxy in front, or XCLIENT, has told an address, it is that.
    @ivar local: the address that the peer has connected to, which may be that of a proxy.
    @ivar peer_name: the peer's name, as XCLIENT told it or a plugin has found it in the DNS; None
        where it is not known. A host name in ASCII.
    @ivar proxied_by: the proxy that has passed the connection on with a PROXY header; the same as
        *peer* where it did not tell for whom. None without one.
    @ivar xclient_by: who told all that by XCLIENT; None where nobody did.
    @ivar notes: for plugins only; the same dictionary for the life of the connection, so across
        STARTTLS: not for what the peer says.
    @ivar password: with which the user has logged in, where the mechanism tells it (PLAIN, LOGIN).
        For plugins that log in elsewhere in the user's name; it is nowhere else, and must not be.
    """

    id: str
    peer: Endpoint
    local: Endpoint
    implicit_tls: bool = False
    hello: Hello | None = None
    secured: TLSSummary | None = None
    authenticated_as: str | None = None
    relaying: bool = False
    notes: dict[str, Any] = Factory(dict)
    errors: int = 0
    password: str | None = field(default=None, repr=False)
    early_talker: bool = False
    peer_name: str | None = None
    proxied_by: Endpoint | None = None
    xclient_by: Endpoint | None = None

    @property
    def is_anonymous(self) -> bool:
        """The peer's address is a proxy's, which did not tell for whom it speaks."""
        return self.proxied_by is not None and self.peer == self.proxied_by

    @property
    def is_from_this_machine(self) -> bool:
        """
        All who are known to have a part in it are at loopback addresses. What a proxy elsewhere
        tells to be one is on the machine of the proxy.
        """
        ends = (self.peer, self.proxied_by, self.xclient_by)
        return not self.is_anonymous and all(end is None or end.is_loopback for end in ends)

    def after_hello(self, hello: Hello) -> "Connection":
        """The peer has said HELO or EHLO."""
        return Connection(
            self.id,
            self.peer,
            self.local,
            self.implicit_tls,
            hello,
            self.secured,
            self.authenticated_as,
            self.relaying,
            self.notes,
            self.errors,
            self.password,
            self.early_talker,
            self.peer_name,
            self.proxied_by,
            self.xclient_by,
        )

    def after_login(self, user: str, password: str | None) -> "Connection":
        """The peer has logged in, so it may send mail to any domain."""
        return evolve(self, authenticated_as=user, password=password, relaying=True)

    def after_handshake(self, secured: TLSSummary) -> "Connection":
        """TLS has begun: what the peer said before is forgotten (RFC 3207 section 4.2)."""
        return Connection(
            self.id,
            self.peer,
            self.local,
            self.implicit_tls,
            secured=secured,
            # A login in the clear, told by XCLIENT, is forgotten with the right that came with it.
            relaying=self.relaying and self.authenticated_as is None,
            notes=self.notes,
            errors=self.errors,
            early_talker=self.early_talker,
            peer_name=self.peer_name,
            proxied_by=self.proxied_by,
            xclient_by=self.xclient_by,
        )


@frozen
class Transaction:
    """
    One mail transaction, from MAIL to the end of its data.

    @ivar id: also the id under which the message is queued.
    @ivar relaying: as `Connection.relaying`, for this transaction.
    @ivar notes: for plugins only; the same dictionary for the life of the transaction.
    """

    id: str
    envelope: Envelope
    relaying: bool = False
    notes: dict[str, Any] = Factory(dict)
