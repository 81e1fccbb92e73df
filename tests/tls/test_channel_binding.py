"""tls-exporter (RFC 9266), at both ends of connections in memory."""

import trustme
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.channel_binding import tls_exporter

NO_EXTENDED_MASTER_SECRET = 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET, OpenSSL 3


def shaken(version: int, options: int = 0) -> tuple[SSL.Connection, SSL.Connection]:
    """A client and its server."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    trustme.CA().issue_cert("mx.example").configure_cert(context)
    server = SSL.Connection(context, None)
    server.set_accept_state()
    wanted = SSL.Context(SSL.TLS_CLIENT_METHOD)
    wanted.set_min_proto_version(version)
    wanted.set_max_proto_version(version)
    if options:
        wanted.set_options(options)
    client = SSL.Connection(wanted, None)
    client.set_connect_state()
    for _ in range(5):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
    return client, server


class ExporterTests(SynchronousTestCase):
    def test_both_ends(self) -> None:
        """Both see the same, and on no other connection it is the same."""
        seen = set()
        for version in (SSL.TLS1_3_VERSION, SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            client, server = shaken(version)
            octets = tls_exporter(server)
            assert octets is not None
            self.assertEqual(len(octets), 32)
            self.assertEqual(octets, tls_exporter(client))
            seen.add(octets)
        self.assertEqual(len(seen), 3)

    def test_not_unique(self) -> None:
        """TLS 1.2 without extended master secret: somebody in between could make them the same."""
        client, server = shaken(SSL.TLS1_2_VERSION, NO_EXTENDED_MASTER_SECRET)
        self.assertEqual(server.get_protocol_version_name(), "TLSv1.2")
        self.assertIsNone(tls_exporter(server))
        self.assertIsNone(tls_exporter(client))
