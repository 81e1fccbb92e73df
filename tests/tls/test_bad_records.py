"""Records that are none, where TLS has begun: they are not waited for."""

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.layer import TLSBroken, TLSLayer
from tests.tls.peers import TLS_1_2, TLS_1_3, issued, plain_client, plain_server

LEAF = issued("mx.example")


class RecordTests(SynchronousTestCase):
    def pair(self, version: int) -> tuple[TLSLayer, TLSLayer]:
        """Client and server after their handshake."""
        client = TLSLayer(plain_client(version), server=False)
        server = TLSLayer(plain_server(LEAF, version))
        client.begin()
        for _ in range(3):
            server.decrypt(client.outgoing())
            client.decrypt(server.outgoing())
        self.assertTrue(client.established and server.established)
        return client, server

    def test_no_record(self) -> None:
        """What cannot be a record ends the connection at once, not when all of it has come."""
        for version in (TLS_1_2, TLS_1_3):
            for octets in (
                b"MAIL FROM:<evil@evil.test>\r\n",
                b"\r\n.\r\n",
                b"\x17\x03\x03\xff\xff",
                b"\x17\x02\x03\x00\x20" + bytes(10),
            ):
                for pieces in ((octets,), tuple(bytes([octet]) for octet in octets[:5])):
                    _, server = self.pair(version)
                    with self.assertRaises(TLSBroken, msg=str(octets[:20])):
                        for piece in pieces:
                            server.decrypt(piece)
                    self.assertEqual(
                        server.outgoing()[:1], b"\x15" if version == TLS_1_2 else b"\x17"
                    )

    def test_half_a_record(self) -> None:
        """The beginning of a good one is waited for."""
        for version in (TLS_1_2, TLS_1_3):
            client, server = self.pair(version)
            client.encrypt(b"x" * 20_000)
            octets = client.outgoing()
            heard: list[bytes] = []
            for at in range(0, len(octets), 999):
                heard += server.decrypt(octets[at : at + 999])
            self.assertEqual(b"".join(heard), b"x" * 20_000)

    @settings(max_examples=200)
    @given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 50)))
    def test_anything(self, octets: bytes, lengths: list[int]) -> None:
        """Whatever follows a handshake, in any pieces: it is not heard, and nothing else raised."""
        _, server = self.pair(TLS_1_3)
        for length in (*lengths, len(octets)):
            piece, octets = octets[:length], octets[length:]
            try:
                self.assertEqual(server.decrypt(piece), [])
            except TLSBroken:
                return
        self.assertIsInstance(server.getHandle(), SSL.Connection)
