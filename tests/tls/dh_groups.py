"""A group for Diffie-Hellman of an operator's own, and which one a server of ours uses."""

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.dhparams import read_group
from harakatls.tls.server import ServerTLS
from tests.tls.peers import begun, ciphers, groups, hello_of, peer_of

# As `openssl dhparam -dsaparam 2048` of OpenSSL 3.0 writes one.
OF_DSA = b"""-----BEGIN X9.42 DH PARAMETERS-----
MIICKQKCAQEAzaYsTaRSmqqvioIhyMoQcPhVuhwdgzoNA85UjxdKwUhwHfQBm2Xl
Uu9Aegz1F2dXA1Gc2Bq64kXop4Mq9RQGA7TDAvATlo2S3i4xLwQHGBqXuvZBh7KP
O7iQ6OxEN2Tn4Yzm1Cf0bfY211jAhNbTirkHNFgw4oeIsiZNZYA/DQFyfoCjYfLp
lw1Ms4nFNW1L1YjNz4mgbqgI1tY9xaavy9cZI31JGtyXeqcAoBbBuE9oqEd6fm/E
41nD+SQTQgdf9hl1f7XNtgSi162KXUARnYLTraaE7w9zUmoYZr02a3K3SzcC9QSe
l2Wk9fqHFeEPy6Zxv8mnNd+KjqV2ZQ925wKCAQEAi5VCzmozHWjtP1HCeIm/Adqo
BU6slYWQY1JNSSelkAMnqPM1iXdxbutREgu3RsLb3XrFrX7MyNG9cXfy5aOMGnRR
qGseJFdj2X1GyA+Fh2CnjzbACmoeA1qYiNeu6XYx7wHb2kT14s/l2MvHgzoBA+sd
uNMefGTAOZ06Wy+5ioTUSPwgDpH5pFDbR4p4a1LYff8iDDuk8kpAJtiP2g+ALNdZ
WWDfxoCCUHoe9rWk8RCs/KK7awSEG9zTxzYPrXHDkvWYp+arQCRAZqbwN3sPslWU
Se2sbJywIPoQKLlB889sE/4Mp278BfBqlJKSVuEPf+IiPpR+XpweapFm+WwBvQId
ALS4GyYq0KExFM9iNU1gW6XYuOak7j1irt+f3hc=
-----END X9.42 DH PARAMETERS-----
"""
OWN = read_group(OF_DSA)

DHE = ciphers("DHE-RSA-AES128-GCM-SHA256")


def without_ffdhe(context: SSL.Context) -> None:
    """A client of the time before RFC 7919, which knows no groups by name but curves."""
    DHE(context)
    groups("prime256v1")(context)


def modulus_of(test: SynchronousTestCase, tls: ServerTLS, client: SSL.Connection) -> int:
    """The modulus in the server's key exchange (RFC 5246 section 7.4.3)."""
    hello = hello_of(client)
    server = begun(tls.connection_creator(peer_of(), hello), hello)
    test.assertRaises(SSL.WantReadError, server.do_handshake)
    return _modulus(server.bio_read(1 << 16))


def _modulus(flight: bytes) -> int:
    messages = b""
    while flight:
        length = int.from_bytes(flight[3:5])
        messages += flight[5 : 5 + length]
        flight = flight[5 + length :]
    while messages:
        kind, length = messages[0], int.from_bytes(messages[1:4])
        if kind == 12:
            octets = int.from_bytes(messages[4:6])
            return int.from_bytes(messages[6 : 6 + octets])
        messages = messages[4 + length :]
    raise AssertionError("no ServerKeyExchange")
