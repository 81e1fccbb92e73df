"""Mutated real inputs: nothing but what is documented comes of them."""

import random
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.bundles import named_pairs
from harakatls.tls.files import PEMFile
from harakatls.tls.hello import ClientHello, read_client_hello, readable_name
from harakatls.tls.pairing import default_pairs, trust_anchors
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS
from tests.tls.peers import (
    TLS_1_2,
    begun,
    chain_octets,
    hello_of,
    issued,
    key_octets,
    peer_of,
    pem_files,
    plain_client,
    with_chain,
)
from tests.tls.responding import NOW

FILES = (
    key_octets(issued("a.example")),
    chain_octets(with_chain("b.example")) + key_octets(with_chain("b.example")),
    chain_octets(issued("a.example")),
    b"",
)
HELLO = hello_of(plain_client(server_name="mx.example.com"))
HELLOS = (
    HELLO,
    hello_of(plain_client(server_name="x" * 60 + ".example")),
    hello_of(plain_client(TLS_1_2, "mx.example.com")),
    hello_of(plain_client()),
)
_ALPHABET = frozenset(string.ascii_letters + string.digits + "+/")


@st.composite
def mutated(draw: st.DrawFn, originals: tuple[bytes, ...]) -> bytes:
    """One of these with a few octets changed, cut out, put in, or doubled."""
    octets = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(octets)))
        length = draw(st.integers(0, 200) | st.integers(0, 3))
        octets[at : at + length] = draw(
            st.binary(max_size=4) | st.just(bytes(octets[at : at + length]) * 2)
        )
    return bytes(octets)


class FileTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(st.lists(mutated(FILES), min_size=1, max_size=4))
    def test_damaged_files(self, contents: list[bytes]) -> None:
        """Any damage to files: pairs that belong together, and lines that give no key away."""
        files = [PEMFile(f"tls/{number}.pem", octets) for number, octets in enumerate(contents)]
        named, problems = named_pairs(files, NOW)
        pairs, more = default_pairs(files, files[::-1])
        _, others = trust_anchors(files)
        for pair in (*pairs, *(pair for kinds in named.values() for pair in kinds)):
            self.assertEqual(
                pair.private_key.public_key().public_numbers(),  # type: ignore[union-attr]
                pair.chain[0].public_key().public_numbers(),  # type: ignore[union-attr]
            )
        for line in (*problems, *more, *others):
            self.assertTrue(line.isprintable() and len(line) < 200, line)
            self.assertFalse(
                [word for word in line.split() if len(word) > 40 and _ALPHABET.issuperset(word)]
            )


class HelloTests(SynchronousTestCase):
    """Our reading of a hello, and OpenSSL's."""

    def setUp(self) -> None:
        self.tls = ServerTLS(InboundTLS(**pem_files(issued("mx.example"))), "mx.example")
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        issued("mx.example").configure_cert(self.context)
        self.heard: list[bytes | None] = []
        self.context.set_tlsext_servername_callback(
            lambda connection: self.heard.append(connection.get_servername())
        )

    def names_of_openssl(self, octets: bytes) -> list[str | None] | None:
        """The names it asks us about; None where it refuses the hello before."""
        self.heard.clear()
        server = SSL.Connection(self.context, None)
        server.set_accept_state()
        if octets:  # to pyOpenSSL, none at all is a mistake
            server.bio_write(octets)
        try:
            server.do_handshake()
        except SSL.Error:
            pass
        return [readable_name(name or b"") for name in self.heard] or None

    def agree(self, octets: bytes) -> None:
        """What OpenSSL takes for the name, we do: else rules for a name could be got around."""
        told = self.names_of_openssl(octets)
        ours = read_client_hello(octets)
        if told is not None and isinstance(ours, ClientHello):
            self.assertEqual([ours.server_name], told, octets.hex())

    @settings(max_examples=500)
    @given(mutated(HELLOS))
    def test_names(self, octets: bytes) -> None:
        """However a hello is damaged, where both can read it they read the same name."""
        self.agree(octets)

    def test_many(self) -> None:
        """The same, near the name."""
        randomness = random.Random(3)
        at = HELLO.index(b"mx.example.com")
        for _ in range(3000):
            octets = bytearray(HELLO)
            for _ in range(randomness.randrange(1, 4)):
                octets[randomness.randrange(at - 12, min(at + 18, len(octets)))] = (
                    randomness.randrange(256)
                )
            self.agree(bytes(octets))

    @settings(max_examples=200)
    @given(mutated(HELLOS))
    def test_connections(self, octets: bytes) -> None:
        """Whatever a hello says, there is a connection for it, and OpenSSL has the last word."""
        server = begun(self.tls.connection_creator(peer_of(), octets), octets)
        try:
            server.do_handshake()
        except SSL.Error:
            pass
        self.assertEqual(self.flushLoggedErrors(), [])
