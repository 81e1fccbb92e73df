"""What a TLS channel is known by at both of its ends (RFC 9266): nobody in between has the same."""

from OpenSSL import SSL

from harakatls.tls.binding import has_extended_master_secret

_LABEL = b"EXPORTER-Channel-Binding"
_OCTETS = 32


def tls_exporter(connection: SSL.Connection) -> bytes | None:
    """
    The channel binding C{tls-exporter}, a secret of the connection.

    @param connection: one whose handshake has finished.
    @return: None where it would not be unique (RFC 9266 section 4.2): before TLS 1.3 without the
        extended master secret.
    """
    if connection.get_protocol_version() < SSL.TLS1_3_VERSION and not has_extended_master_secret(
        connection
    ):
        return None
    # RFC 9266 section 2: the context is of length zero; in TLS 1.2 that is not the same as none.
    octets: bytes = connection.export_keying_material(_LABEL, _OCTETS, b"")
    return octets
