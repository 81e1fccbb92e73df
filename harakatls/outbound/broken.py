"""The end of a connection, before all was said."""


class ConnectionBroken(Exception):
    """
    Nothing more can be said on this connection; the text says why, for logs and reports.

    @ivar status: RFC 3463 section 3.5: 4.4.1 no answer from host, 4.4.2 bad connection.
    @ivar securing: it broke in the TLS handshake.
    @ivar resuming: in one that was to resume a session.
    @ivar unsecured: it broke where the answer to STARTTLS should have come, or that was neither yes
        nor no.
    @ivar untrusted: in one that failed since the certificate is not good enough.
    @ivar injected: what came was an attacker's.
    """

    def __init__(
        self,
        problem: str,
        securing: bool = False,
        status: str = "4.4.2",
        resuming: bool = False,
        unsecured: bool = False,
        injected: bool = False,
        untrusted: bool = False,
    ) -> None:
        super().__init__(problem)
        self.securing = securing
        self.status = status
        self.resuming = resuming
        self.unsecured = unsecured
        self.injected = injected
        self.untrusted = untrusted
