"""TLS between octets and octets."""

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls import layer
from harakatls.tls.layer import TLSBroken, TLSLayer
from tests.tls.peers import TLS_1_2, TLS_1_3, VERSIONS, client_context, issued, server_context
from tests.tls.records import CIPHER, RecordWriter


def contexts(version: int) -> tuple[SSL.Context, SSL.Context]:
    """Client's and server's, for one version of TLS."""
    return client_context(version), server_context(issued("mx.example"), version)


class Pair:
    """A client and a server; what the server hears comes in pieces of *cut* octets."""

    def __init__(self, version: int = TLS_1_3, cut: int = 1 << 20) -> None:
        client, server = contexts(version)
        self.by_hand = RecordWriter(client)
        self.client = TLSLayer(SSL.Connection(client, None), server=False)
        self.server = TLSLayer(SSL.Connection(server, None))
        self.cut = cut
        self.heard_by_client: list[bytes] = []
        self.heard_by_server: list[bytes] = []

    def shake(self) -> None:
        self.client.begin()
        while not (self.client.established and self.server.established):
            self.pump()
        self.pump()

    def pump(self) -> None:
        octets = self.client.outgoing()
        for at in range(0, len(octets), self.cut):
            self.heard_by_server += self.server.decrypt(octets[at : at + self.cut])
        self.heard_by_client += self.client.decrypt(self.server.outgoing())

    def say_nothing(self) -> bytes:
        """@return: what the server heard all the same."""
        self.heard_by_server.clear()
        self.pump()
        return b"".join(self.heard_by_server)

    def say(self, octets: bytes) -> bytes:
        """@return: what the server heard of it."""
        self.heard_by_server.clear()
        self.client.encrypt(octets)
        self.pump()
        return b"".join(self.heard_by_server)


class KeepingConnection:
    """Takes octets as a connection of OpenSSL does that does not get to read them."""

    def __init__(self, kept: list[bytes]) -> None:
        self.kept = kept

    def bio_write(self, octets: bytes) -> None:
        self.kept.append(octets)


class LayerTests(SynchronousTestCase):
    """Two layers of ours, in both versions of the protocol."""

    def test_both_directions(self) -> None:
        """What one side says the other hears, whole and in order, of any size."""
        for version, name in VERSIONS.items():
            pair = Pair(version)
            pair.shake()
            self.assertEqual(pair.server.connection.get_protocol_version_name(), name)
            for size in (1, 16384, 16385, 300_000):
                self.assertEqual(pair.say(b"x" * size), b"x" * size)
                pair.server.encrypt(b"y" * size)
                pair.heard_by_client.clear()
                pair.pump()
                self.assertEqual(b"".join(pair.heard_by_client), b"y" * size)

    def test_by_public_calls_alone(self) -> None:
        """Where pyOpenSSL is made otherwise, its methods do the same, only slower."""
        self.patch(layer, "has_record_calls", lambda connection: False)
        for version in VERSIONS:
            pair = Pair(version, cut=1448)
            pair.shake()
            self.assertEqual(pair.say(b"x" * 300_000), b"x" * 300_000)
            pair.client.close()
            self.assertEqual(pair.say_nothing(), b"")
            self.assertTrue(pair.server.ended)

    def test_cut_anywhere(self) -> None:
        """Records that arrive octet by octet, or across reads, are heard all the same."""
        for version in VERSIONS:
            for cut in (1, 3, 5, 6, 1448):
                pair = Pair(version, cut)
                pair.shake()
                self.assertEqual(pair.say(b"EHLO\r\n" * 1000), b"EHLO\r\n" * 1000)

    @settings(max_examples=30)
    @given(
        st.lists(st.integers(1, 40_000).map(lambda size: b"x" * size), max_size=4),
        st.integers(100, 20_000),
    )
    def test_any_cut(self, said: list[bytes], cut: int) -> None:
        """Nothing is lost or doubled, however records and reads fall together."""
        pair = Pair(cut=cut)
        pair.shake()
        for octets in said:
            pair.client.encrypt(octets)
        pair.pump()
        self.assertEqual(b"".join(pair.heard_by_server), b"".join(said))

    def test_data_with_the_last_of_the_handshake(self) -> None:
        """A client may speak in the packet that ends its handshake."""
        pair = Pair()
        pair.client.begin()
        pair.server.decrypt(pair.client.outgoing())
        pair.client.decrypt(pair.server.outgoing())
        pair.client.encrypt(b"EHLO client\r\n")
        self.assertEqual(pair.server.decrypt(pair.client.outgoing()), [b"EHLO client\r\n"])

    def test_data_before_close_notify(self) -> None:
        """What came before the peer's close_notify is heard, and the end is known."""
        pair = Pair()
        pair.shake()
        pair.client.encrypt(b"QUIT\r\n")
        pair.client.close()
        self.assertEqual(pair.server.decrypt(pair.client.outgoing()), [b"QUIT\r\n"])
        self.assertTrue(pair.server.ended)

    def test_data_behind_close_notify(self) -> None:
        """A peer that goes on sending after its close_notify fills no memory of ours."""
        pair = Pair()
        pair.shake()
        pair.client.close()
        self.assertEqual(pair.server.decrypt(pair.client.outgoing()), [])
        kept: list[bytes] = []
        self.patch(pair.server, "connection", KeepingConnection(kept))
        self.assertEqual(pair.server.decrypt(b"x" * 65536), [])
        self.assertEqual(kept, [])

    def test_key_updates(self) -> None:
        """New keys in the middle of what is said cost nothing of it; it is known that we answer."""
        pair = Pair()
        pair.shake()
        self.assertEqual(pair.server.connection.get_cipher_name(), CIPHER)
        pair.server.is_answering = False
        said = pair.by_hand.data(b"NOOP\r\n")
        self.assertEqual(pair.server.decrypt(said), [b"NOOP\r\n"])
        self.assertFalse(pair.server.is_answering)
        said = pair.by_hand.key_update() + pair.by_hand.data(b"MAIL") + pair.by_hand.key_update()
        self.assertEqual(pair.server.decrypt(said), [b"MAIL"])
        self.assertTrue(pair.server.is_answering)
        self.assertNotEqual(pair.server.outgoing(), b"")

    def test_garbage(self) -> None:
        """Octets that are no TLS raise."""
        pair = Pair()
        self.assertRaises(TLSBroken, pair.server.decrypt, b"EHLO plain\r\n" * 3)

    def test_alert(self) -> None:
        """A peer with which no version is in common is told so before the connection ends."""
        client, _ = contexts(TLS_1_2)
        asking = TLSLayer(SSL.Connection(client, None), server=False)
        asking.begin()
        server = Pair(TLS_1_3).server
        self.assertRaises(TLSBroken, server.decrypt, asking.outgoing())
        self.assertEqual(server.outgoing()[0], 21)  # ContentType alert, RFC 8446 section 5.1

    def test_damaged_record(self) -> None:
        """A record that was changed on its way is not heard."""
        pair = Pair()
        pair.shake()
        pair.client.encrypt(b"MAIL FROM:<a@b.example>\r\n")
        octets = bytearray(pair.client.outgoing())
        octets[-1] ^= 1
        self.assertRaises(TLSBroken, pair.server.decrypt, bytes(octets))

    def test_close_in_the_middle_of_a_handshake(self) -> None:
        """Nothing to say good-bye to is no error."""
        pair = Pair()
        pair.server.close()
        self.assertEqual(pair.server.outgoing(), b"")
