"""Two sides of TLS, joined in memory; and certificates for them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypedDict

import trustme
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from OpenSSL._util import lib
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, Endpoint
from harakatls.mail.route import NextHop
from harakatls.tls.binding import set_groups
from harakatls.tls.client import ClientTLS
from harakatls.tls.files import PEMFile
from harakatls.tls.policy import Decision
from harakatls.tls.server import ServerTLS

CN = NameOID.COMMON_NAME
TLS_1_2, TLS_1_3 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION
VERSIONS = {TLS_1_2: "TLSv1.2", TLS_1_3: "TLSv1.3"}

Configure = Callable[[SSL.Context], object]
"""What else there is to a context."""


@cache
def authority(name: str = "Harbour Trust") -> trustme.CA:
    """One certificate authority for each name."""
    return trustme.CA(organization_name=name)


@cache
def intermediate(kind: str) -> trustme.CA:
    """An authority below the usual one, for one kind of key."""
    return authority().create_child_ca(key_type=trustme.KeyType[kind])


@cache
def issued(*names: str, kind: str = "ECDSA", by: str | None = None) -> trustme.LeafCert:
    """
    A certificate for *names* that any test may use, since keys are dear.

    @param by: another authority than the usual one.
    """
    issuer = authority() if by is None else authority(by)
    return issuer.issue_cert(*names, key_type=trustme.KeyType[kind])


@cache
def with_chain(*names: str, kind: str = "ECDSA") -> trustme.LeafCert:
    """A certificate that an intermediate authority has issued."""
    return intermediate(kind).issue_cert(*names, key_type=trustme.KeyType[kind])


def chain_octets(leaf: trustme.LeafCert) -> bytes:
    """The file that C{cert} names: the certificate, then its intermediates."""
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems)


def key_octets(leaf: trustme.LeafCert) -> bytes:
    """The file that C{key} names."""
    return leaf.private_key_pem.bytes()


def serial(leaf: trustme.LeafCert) -> int:
    """The serial number of a certificate."""
    return serial_of_pem(leaf.cert_chain_pems[0].bytes())


def fingerprint_of(leaf: trustme.LeafCert) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return (
        x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).fingerprint(SHA256()).hex()
    )


def serial_of_pem(pem: bytes) -> int:
    """The same, of the first in a file."""
    return x509.load_pem_x509_certificate(pem).serial_number


class Pairs(TypedDict):
    """The C{keys} and C{certs} of L{InboundTLS}."""

    keys: tuple[PEMFile, ...]
    certs: tuple[PEMFile, ...]


def pem_files(*leaves: trustme.LeafCert) -> Pairs:
    """As if tls.ini named these."""
    return {
        "keys": tuple(PEMFile(f"{n}.key", key_octets(leaf)) for n, leaf in enumerate(leaves)),
        "certs": tuple(PEMFile(f"{n}.crt", chain_octets(leaf)) for n, leaf in enumerate(leaves)),
    }


def key_pem(key: object) -> bytes:
    """Any private key of cryptography's, as PEM."""
    octets: bytes = key.private_bytes(  # type: ignore[attr-defined]
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return octets


def self_signed(
    common_name: str | None,
    *names: str,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    key: CertificateIssuerPrivateKeyTypes | None = None,
) -> tuple[bytes, bytes]:
    """
    What C{openssl req -x509} makes, with what trustme cannot do.

    @return: key and certificate, as PEM.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    attributes = [] if common_name is None else [x509.NameAttribute(CN, common_name)]
    subject = x509.Name(attributes)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(not_after or datetime.now(UTC) + timedelta(days=1))
    )
    if names:
        entries = [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(entries), False)
    certificate = builder.sign(key, SHA256())
    return key_pem(key), certificate.public_bytes(Encoding.PEM)


# -- the two sides -----------------------------------------------------------------------------


@frozen
class Transport:
    """As much of a transport as C{summary} asks for."""

    connection: SSL.Connection

    def getHandle(self) -> SSL.Connection:
        """The connection of pyOpenSSL."""
        return self.connection


@frozen
class Outcome:
    """What both sides say after a handshake; None is no error."""

    client: SSL.Connection
    server: SSL.Connection
    client_error: BaseException | None
    server_error: BaseException | None

    @property
    def succeeded(self) -> bool:
        """Both are content, also with what comes after the handshake."""
        return self.client_error is None and self.server_error is None

    @property
    def shown(self) -> crypto.X509:
        """The certificate that the client got to see."""
        certificate = self.client.get_peer_certificate()
        assert certificate is not None
        return certificate

    @property
    def serial(self) -> int:
        """The serial number of that certificate."""
        return self.shown.get_serial_number()


def reasons(error: BaseException | None) -> str:
    """The words of an error of OpenSSL's."""
    return "" if error is None else repr(error)


def peer_of(
    port: int = 25, peer: str = "192.0.2.1", implicit_tls: bool = False, local: str = "192.0.2.25"
) -> Connection:
    """Somebody who has connected to our *port*."""
    return Connection("ID", Endpoint(peer, 49152), Endpoint(local, port), implicit_tls)


def client_context(version: int | None = None, configure: Configure | None = None) -> SSL.Context:
    """For a client that is content with everything, unless *configure* says otherwise."""
    return _context(SSL.TLS_CLIENT_METHOD, version, configure)


def server_context(
    leaf: trustme.LeafCert, version: int | None = None, configure: Configure | None = None
) -> SSL.Context:
    """For a server as others have them; tickets are bound to it."""
    context = _context(SSL.TLS_SERVER_METHOD, version, configure)
    leaf.configure_cert(context)
    return context


def _context(method: int, version: int | None, configure: Configure | None) -> SSL.Context:
    context = SSL.Context(method)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if configure is not None:
        configure(context)
    return context


def plain_client(
    version: int | None = None,
    server_name: str | None = None,
    configure: Configure | None = None,
) -> SSL.Connection:
    """A client that is content with everything, unless *configure* says otherwise."""
    return client_on(client_context(version, configure), server_name)


def client_on(context: SSL.Context, server_name: str | None = None) -> SSL.Connection:
    """A client on a context that may be shared."""
    connection = SSL.Connection(context, None)
    if server_name is not None:
        connection.set_tlsext_host_name(server_name.encode())
    return connection


def plain_server(
    leaf: trustme.LeafCert,
    version: int | None = None,
    configure: Configure | None = None,
) -> SSL.Connection:
    """A server as others have them."""
    return SSL.Connection(server_context(leaf, version, configure), None)


def ciphers(names: str) -> Callable[[SSL.Context], None]:
    """For up to TLS 1.2."""
    return lambda context: context.set_cipher_list(names.encode())


def groups(names: str) -> Callable[[SSL.Context], None]:
    """For the key exchange."""

    def configure(context: SSL.Context) -> None:
        assert set_groups(context, names)

    return configure


def signatures(names: str) -> Callable[[SSL.Context], None]:
    """What a client of TLS 1.3 can verify."""

    def configure(context: SSL.Context) -> None:
        assert lib.SSL_CTX_set1_sigalgs_list(context._context, names.encode()) == 1

    return configure


def hello_of(client: SSL.Connection) -> bytes:
    """The first octets that a client sends."""
    client.set_connect_state()
    error = _step(client)
    assert error is None, error
    return client.bio_read(1 << 16)


def begun(creator: IOpenSSLServerConnectionCreator, octets: bytes) -> SSL.Connection:
    """Our side of a connection that begins with these octets of the client's."""
    server = creator.serverConnectionForTLS(None)  # type: ignore[arg-type]
    server.set_accept_state()
    if octets:  # to write nothing is an error of pyOpenSSL's
        server.bio_write(octets)
    return server


def to_us(
    tls: ServerTLS,
    client: SSL.Connection,
    connection: Connection | None = None,
    hello: bytes | None = None,
) -> Outcome:
    """
    A client's handshake with our server.

    @param hello: what is shown to the server as the client's first octets, if not those.
    """
    octets = hello_of(client)
    creator = tls.connection_creator(connection or peer_of(), octets if hello is None else hello)
    return shake_hands(client, begun(creator, octets))


def from_us(
    tls: ClientTLS, decision: Decision, server: SSL.Connection, hop: NextHop | None = None
) -> Outcome:
    """Our handshake, as a client, with a server. @param hop: to resume sessions."""
    creator = tls.connection_creator(decision, hop)
    client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
    client.set_connect_state()
    server.set_accept_state()
    return shake_hands(client, server)


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> Outcome:
    """
    Carry octets between both until nothing more happens; then a line in each direction, since in
    TLS 1.3 the server objects only after the client has finished.
    """
    errors: list[BaseException | None] = [None, None]
    sides = [client, server]
    for _ in range(20):
        for side in (0, 1):
            errors[side] = errors[side] or _step(sides[side])
        if not _carry(client, server):
            break
    for side in (0, 1):
        errors[side] = errors[side] or _talk(sides[side])
    _carry(client, server)
    for side in (1, 0):
        errors[side] = errors[side] or _listen(sides[side])
        _carry(client, server)
    return Outcome(client, server, errors[0], errors[1])


def _step(side: SSL.Connection) -> BaseException | None:
    try:
        side.do_handshake()
    except SSL.WantReadError:
        return None
    except Exception as error:
        return error
    return None


def _talk(side: SSL.Connection) -> BaseException | None:
    try:
        side.send(b"line\r\n")
    except Exception as error:
        return error
    return None


def _listen(side: SSL.Connection) -> BaseException | None:
    try:
        return None if side.recv(100) == b"line\r\n" else AssertionError("not what was sent")
    except Exception as error:
        return error


def _carry(client: SSL.Connection, server: SSL.Connection) -> bool:
    carried = False
    for source, target in ((client, server), (server, client)):
        while True:
            try:
                octets = source.bio_read(1 << 16)
            except SSL.WantReadError:
                break
            target.bio_write(octets)
            carried = True
    return carried


def offered(test: SynchronousTestCase, tls: ServerTLS, connection: Connection) -> bool:
    """Whether STARTTLS is; nothing is waited for."""
    offers: bool = test.successResultOf(Deferred.fromCoroutine(tls.offers(connection)))
    return offers
