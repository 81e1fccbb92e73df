"""What a handshake came to: the facts of a finished one, and words for a failed one."""

from attrs import frozen
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto
from twisted.logger import Logger

from harakatls.connection import TLSSummary
from harakatls.interfaces import HasHandle
from harakatls.tls.binding import is_resumed, verify_error_text
from harakatls.tls.certificates import UNREADABLE, told_names

log = Logger()

_LONGEST_REASON = 200

_MEANINGS = {
    "wrong version number": "the peer does not speak TLS",
    "http request": "the peer speaks HTTP",
    "unsupported protocol": "no TLS version in common",
    "no protocols available": "no TLS version in common",
    "unknown protocol": "no TLS version in common",
    "alert protocol version": "no TLS version in common",
    "no shared cipher": "no cipher in common that suits our certificate",
    "no suitable signature algorithm": "no signature algorithm in common",
    "no shared signature algorithms": "no signature algorithm in common",
    "no suitable key share": "no key exchange group in common",
    "no suitable groups": "no key exchange group in common",
    "bad key share": "no key exchange group in common",
    "alert handshake failure": "the peer found no parameters in common",
    "alert insufficient security": "the peer wants stronger ciphers than we have",
    "alert unknown ca": "the peer does not trust the issuer of our certificate",
    "alert bad certificate": "the peer does not accept our certificate",
    "alert unsupported certificate": "the peer does not accept our kind of certificate",
    "alert certificate unknown": "the peer does not accept our certificate",
    "alert certificate revoked": "the peer holds our certificate for revoked",
    "alert certificate expired": "the peer holds our certificate for expired",
    "alert certificate required": "the peer wants a certificate from us",
    "alert access denied": "the peer refuses us",
    "alert unrecognized name": "the peer does not know the name we asked for",
    "alert internal error": "the peer has a problem of its own",
    "alert user cancelled": "the peer gave up",
    "alert decode error": "the peer could not read what we sent",
    "certificate verify failed": "the peer's certificate is not valid",
    "peer did not return a certificate": "the client showed no certificate",
    "dh key too small": "the peer's Diffie-Hellman group is too small",
    "ee key too small": "the key of the peer's certificate is too small",
    "ca key too small": "a key in the peer's certificate chain is too small",
    "ca md too weak": "a signature in the peer's certificate chain is too weak",
    "unexpected eof while reading": "the peer broke off",
    "Unexpected EOF": "the peer broke off",
    "unexpected message": "the peer does not keep to the protocol",
    "bad record type": "the peer does not keep to the protocol",
}
"""By the end of OpenSSL's reason, which begins differently from version to version."""


@frozen
class Judgement:
    """
    What is thought of the peer's certificate.

    @ivar verified: it is valid, and for the name it has to be for.
    @ivar problem: why it is not; None where it is, or where the peer showed none.
    """

    verified: bool = False
    problem: str | None = None


class JudgingConnection(SSL.Connection):
    """
    A connection that judges its peer's certificate during the handshake.

    OpenSSL's own result is of no use afterwards: it is "valid" wherever the judge let a certificate
    pass, and on each resumed session, where nobody is asked.

    @ivar strict: a certificate that is not right ends the handshake.
    @ivar judged: whether the peer's certificate was looked at.
    @ivar problem: the first thing found wrong.
    """

    def __init__(self, context: SSL.Context, strict: bool) -> None:
        super().__init__(context, None)
        self.strict = strict
        self.judged = False
        self.problem: str | None = None

    def examine(self, certificate: crypto.X509, depth: int) -> str | None:
        """
        @param certificate: one in which OpenSSL finds nothing wrong.
        @param depth: 0 for the peer's own certificate, which comes last.
        @return: what is wrong with it all the same.
        """
        return None

    def judge(self, certificate: crypto.X509, error: int, depth: int) -> bool:
        """
        Called for each error in the chain, and for each certificate in it without one.

        @param error: 0 for none.
        @return: whether to go on with the handshake.
        """
        self.judged = self.judged or depth == 0
        problem = verify_error_text(error) if error else self.examine(certificate, depth)
        self.problem = self.problem or problem
        return self.problem is None or not self.strict


def verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, _ok: int
) -> bool:
    """For L{SSL.Context.set_verify}: asks the connection. Nothing that goes wrong here escapes."""
    if not isinstance(connection, JudgingConnection):
        return False
    try:
        return connection.judge(certificate, error, depth)
    except Exception:
        log.failure("could not judge a certificate")
        connection.problem = "the certificate could not be judged"
        return not connection.strict


def connection_of(transport: HasHandle) -> SSL.Connection:
    """What OpenSSL has of a transport on which TLS was started."""
    handle = transport.getHandle()
    assert isinstance(handle, SSL.Connection), "there is no TLS"
    return handle


def summarize(
    connection: SSL.Connection, server_name: str | None, judgement: Judgement
) -> TLSSummary:
    """@param connection: one whose handshake has finished."""
    certificate = connection.get_peer_certificate()
    return TLSSummary(
        protocol=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        bits=connection.get_cipher_bits() or 0,
        server_name=server_name,
        peer_names=() if certificate is None else _names(certificate),
        verified=judgement.verified,
        verify_error=judgement.problem,
        fingerprint="" if certificate is None else fingerprint(certificate),
        group=_group(connection),
        resumed=is_resumed(connection),
    )


def fingerprint(certificate: Certificate | crypto.X509) -> str:
    """SHA-256 of the certificate, in hexadecimal; of one that only OpenSSL can read, too."""
    if isinstance(certificate, crypto.X509):
        return certificate.digest("sha256").decode("ascii").replace(":", "").lower()
    return certificate.fingerprint(SHA256()).hex()


def _names(certificate: crypto.X509) -> tuple[str, ...]:
    try:
        return told_names(certificate.to_cryptography())
    except UNREADABLE:
        return ()


def _group(connection: SSL.Connection) -> str | None:
    try:
        return connection.get_group_name()
    except (AttributeError, NotImplementedError):  # an older OpenSSL
        return None


def describe_failure(error: BaseException) -> str:
    """
    Why a handshake failed, in one line for the operator: what it means, and OpenSSL's own words.

    @param error: what pyOpenSSL raised, or the connection was lost with.
    """
    reason = _reason(error)
    for ending, meaning in _MEANINGS.items():
        if reason.endswith(ending):
            return f"{meaning} ({reason})"
    return reason


def _reason(error: BaseException) -> str:
    if isinstance(error, SSL.SysCallError):
        return str(error.args[-1]) if error.args else "the connection broke"
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        # Of several entries, the last is the consequence; each is (library, function, reason).
        reasons = [str(entry[-1]) for entry in error.args[0] if entry and entry[-1]]
        if reasons:
            return reasons[0][:_LONGEST_REASON]
    if isinstance(error, SSL.Error):
        return "the peer broke off, or TLS failed without a reason"
    return (str(error) or type(error).__name__)[:_LONGEST_REASON]
