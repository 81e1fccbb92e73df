"""A program that shakes hands with the server again and again, and writes down what it saw."""

import json
import socket
import ssl
import sys
import time
from pathlib import Path

from attrs import asdict, frozen
from cryptography.x509 import load_der_x509_certificate

PATIENCE = 30.0  # seconds for anything a client waits for

# By the ciphers of TLS 1.2 a client says which kind of certificate it wants; in TLS 1.3 it takes
# what it gets.
CIPHERS = {"RSA": "ECDHE-RSA-AES128-GCM-SHA256", "EC": "ECDHE-ECDSA-AES128-GCM-SHA256"}


@frozen
class Shake:
    """
    One handshake, with a certificate that is right for *name* and verified by its chain.

    @ivar begun: seconds of the machine's monotonic clock.
    @ivar kind: of certificate that was wanted; "" for any.
    """

    begun: float
    ended: float
    name: str
    kind: str
    implicit_tls: bool
    serial: int


def context_for(kind: str, authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if kind:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS[kind])
    return context


def starttls(plain: socket.socket) -> None:
    """All that comes before the handshake."""
    with plain.makefile("rb") as replies:

        def expect(code: bytes) -> None:
            while (line := replies.readline())[3:4] == b"-":
                pass
            assert line.startswith(code), line

        expect(b"220")
        plain.sendall(b"EHLO client.test\r\n")
        expect(b"250")
        plain.sendall(b"STARTTLS\r\n")
        expect(b"220")


def shake(port: int, implicit_tls: bool, name: str, kind: str, context: ssl.SSLContext) -> Shake:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        if not implicit_tls:
            starttls(plain)
        with context.wrap_socket(plain, server_hostname=name) as peer:
            octets = peer.getpeercert(binary_form=True)
            peer.sendall(b"QUIT\r\n")
            # TLS 1.3: only now it is certain that the server has finished, too.
            assert peer.recv(1000).startswith((b"220", b"221"))
    assert octets is not None
    serial = load_der_x509_certificate(octets).serial_number
    return Shake(begun, time.monotonic(), name, kind, implicit_tls, serial)


def main(port: str, smtps_port: str, authority: str, names: str, count: str, file: str) -> None:
    """@param names: separated by commas; each in turn, over each kind of TLS, for each kind."""
    contexts = {kind: context_for(kind, authority) for kind in (*CIPHERS, "")}
    ways = [
        (int(smtps_port if implicit_tls else port), implicit_tls, name, kind)
        for name in names.split(",")
        for kind in contexts
        for implicit_tls in (False, True)
    ]
    shakes = []
    for number in range(int(count)):
        way = ways[number % len(ways)]
        try:
            shakes.append(shake(*way, contexts[way[3]]))
        except Exception as problem:
            sys.exit(f"handshake {number} {way}: {type(problem).__name__}: {problem}")
    Path(file).write_text(json.dumps([asdict(shake) for shake in shakes]))


if __name__ == "__main__":
    main(*sys.argv[1:])
