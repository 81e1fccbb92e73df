"""A handshake with ourselves, in memory: what a client gets to see."""

from cryptography.x509 import Certificate
from OpenSSL import SSL

from harakatls.tls.handshake import describe_failure

_MOST_FLIGHTS = 10
_AT_MOST = 65536


class TrialFailed(Exception):
    """The client never got to see the certificate; the text says why."""


def staple_seen(
    server: SSL.Connection, wanted: Certificate, context: SSL.Context, server_name: str | None
) -> bytes:
    """
    What *server* staples for a client that asks.

    @param server: a new connection, over memory.
    @param wanted: the certificate that it is about.
    @param context: the client's.
    @return: b"" for nothing.
    @raise TrialFailed: the handshake did not come so far.
    """
    seen: list[bytes] = []

    def see(_connection: SSL.Connection, staple: bytes, _data: object) -> bool:
        seen.append(staple)
        return True

    context.set_ocsp_client_callback(see)
    client = SSL.Connection(context, None)
    client.request_ocsp()
    if server_name is not None:
        client.set_tlsext_host_name(server_name.encode("ascii"))
    client.set_connect_state()
    server.set_accept_state()
    failure = _shake(client, server)
    # A server that wants a certificate of the client breaks off, but only after it has shown its
    # own with what belongs to it.
    shown = client.get_peer_certificate(as_cryptography=True)
    if shown is None:
        raise TrialFailed(failure or "no certificate was shown")
    if shown != wanted:
        raise TrialFailed("another certificate was shown")
    return seen[-1] if seen else b""


def _shake(client: SSL.Connection, server: SSL.Connection) -> str | None:
    """@return: why it failed; None where it did not."""
    failure = None
    for _ in range(_MOST_FLIGHTS):
        for side, other in ((client, server), (server, client)):
            try:
                side.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                failure = failure or describe_failure(error)
            _carry(side, other)
        if failure is not None:
            break
    return failure


def _carry(source: SSL.Connection, target: SSL.Connection) -> None:
    while True:
        try:
            target.bio_write(source.bio_read(_AT_MOST))
        except SSL.Error:
            return
