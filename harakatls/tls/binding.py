"""
The few things pyOpenSSL has no method for, by the low-level binding it stands on.

The binding is no public API, so each use is guarded, and none is anywhere else. Where a name is
missing, a plainer way is taken, or what is lost is said.
"""

import threading
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "prime256v1": ec.SECP256R1,
    "P-256": ec.SECP256R1,
    "secp384r1": ec.SECP384R1,
    "P-384": ec.SECP384R1,
    "secp521r1": ec.SECP521R1,
    "P-521": ec.SECP521R1,
}

_SIGNATURES = {
    "RSA": "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512",
    "EC": "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512",
    "Ed25519": "ed25519",
    "Ed448": "ed448",
}


def set_groups(context: SSL.Context, groups: str) -> bool:
    """
    The groups for the key exchange, in all versions of TLS.

    @param groups: in OpenSSL's notation, such as C{X25519:prime256v1}.
    @return: whether OpenSSL knows them.
    """
    if hasattr(lib, "SSL_CTX_set1_curves_list"):
        done = bool(lib.SSL_CTX_set1_curves_list(_pointer(context), groups.encode("ascii")) == 1)
        if not done:
            _forget_errors()
        return done
    if groups in _CURVES:
        context.set_tmp_ecdh(_CURVES[groups]())
        return True
    return False


def want_key(context: SSL.Context, kind: str) -> bool:
    """
    Let a client accept signatures by one kind of key alone, so that it gets to see that one.

    @param kind: as L{KeyPair.kind} has it.
    @return: whether it could be done.
    """
    names = _SIGNATURES.get(kind)
    if names is None or not hasattr(lib, "SSL_CTX_set1_sigalgs_list"):
        return False
    done = bool(lib.SSL_CTX_set1_sigalgs_list(_pointer(context), names.encode("ascii")) == 1)
    if not done:
        _forget_errors()
    return done


def share_store(context: SSL.Context, owner: SSL.Context) -> bool:
    """
    Let *context* trust whom *owner* trusts, at no cost in memory: the system's store has a MiB.

    @return: whether it could be done.
    """
    needed = ("SSL_CTX_get_cert_store", "X509_STORE_up_ref", "SSL_CTX_set_cert_store")
    if not all(hasattr(lib, name) for name in needed):
        return False
    store = lib.SSL_CTX_get_cert_store(_pointer(owner))
    if store == ffi.NULL or lib.X509_STORE_up_ref(store) != 1:
        return False
    lib.SSL_CTX_set_cert_store(_pointer(context), store)  # takes over the reference
    return True


def bind_sessions(context: SSL.Context, identifier: bytes) -> None:
    """
    Connections that are made with *context* from now on resume sessions of others with the same
    identifier alone; what others offer is as good as nothing. Those made before keep theirs.

    OpenSSL copies it into each connection, so the one thread that makes connections may change it
    at any time. pyOpenSSL does not let it be changed once a connection was made, and it has not
    got OpenSSL's call for a single connection.

    @param identifier: up to 32 octets.
    """
    done = lib.SSL_CTX_set_session_id_context(_pointer(context), identifier, len(identifier))
    assert done == 1, "the identifier of the sessions is too long"


def is_resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake resumed a session, so that no certificate was looked at."""
    return hasattr(lib, "SSL_session_reused") and bool(lib.SSL_session_reused(_pointer(connection)))


def has_extended_master_secret(connection: SSL.Connection) -> bool:
    """Whether the keys are of this handshake alone (RFC 7627); False where it is not known."""
    asked = getattr(lib, "SSL_get_extms_support", None)
    return asked is not None and bool(asked(_pointer(connection)) == 1)


def is_same_session(one: SSL.Session, other: SSL.Session) -> bool:
    """Whether both are one session, not two of one server. Where that is unknown, they are."""
    mine, others = (getattr(session, "_session", None) for session in (one, other))
    return mine is None or others is None or bool(mine == others)


def session_octets(session: SSL.Session) -> int:
    """How large a session is, with its ticket and the peer's certificate; 0 where it is unknown."""
    inner = getattr(session, "_session", None)
    if inner is None or not hasattr(lib, "i2d_SSL_SESSION"):
        return 0
    return max(int(lib.i2d_SSL_SESSION(inner, ffi.NULL)), 0)


def was_asked_for_certificate(connection: SSL.Connection) -> bool:
    """
    Whether the server has asked a client for a certificate, as far as that is known: up to TLS 1.2
    always, in TLS 1.3 if it told whose certificates it takes.
    """
    if not hasattr(lib, "SSL_get_client_CA_list"):
        return False
    return bool(lib.SSL_get_client_CA_list(_pointer(connection)) != ffi.NULL)


def tells_resumed() -> bool:
    """Whether L{is_resumed} can be believed."""
    return hasattr(lib, "SSL_session_reused")


def verify_error_text(error: int) -> str:
    """The words and the number of a verify error: "self-signed certificate (18)"."""
    if hasattr(lib, "X509_verify_cert_error_string"):
        words = ffi.string(lib.X509_verify_cert_error_string(error)).decode("ascii", "replace")
        return f"{words} ({error})"
    return f"certificate verify error {error}"


def _pointer(of: SSL.Context | SSL.Connection) -> Any:
    return of._context if isinstance(of, SSL.Context) else of._ssl


def _forget_errors() -> None:
    # What stays in OpenSSL's queue of errors would be taken for that of a later call.
    while lib.ERR_get_error():
        pass


# -- records -------------------------------------------------------------------------------------
#
# What pyOpenSSL's methods do with octets, without what they do around it: for the few octets of an
# SMTP reply that is twice as much again. Whatever goes wrong is left to pyOpenSSL's own methods,
# which find it once more and raise what they always raise.

_SPACE = 65536
_CALLS = ("SSL_read", "SSL_write", "BIO_read", "BIO_write", "SSL_get_error", "SSL_ERROR_WANT_READ")
_HAS_CALLS = all(hasattr(lib, name) for name in _CALLS)
_of_thread = threading.local()  # C code runs without the interpreter's lock


def has_record_calls(connection: SSL.Connection) -> bool:
    """Whether the four functions below may be used with it."""
    try:
        parts = (connection._ssl, connection._into_ssl, connection._from_ssl)
    except AttributeError:
        return False
    return _HAS_CALLS and None not in parts


def feed(connection: SSL.Connection, octets: bytes) -> bool:
    """Hand over what came from the peer. @return: whether it was taken, all of it."""
    return bool(lib.BIO_write(connection._into_ssl, octets, len(octets)) == len(octets))


def read_record(connection: SSL.Connection) -> bytes | None:
    """What one record says; None where there is none, b"" where something else is to be told."""
    space = _space()
    count = lib.SSL_read(connection._ssl, space, _SPACE)
    if count <= 0 and lib.SSL_get_error(connection._ssl, count) == lib.SSL_ERROR_WANT_READ:
        return None
    return _octets(space, count)


def write_records(connection: SSL.Connection, octets: bytes) -> int:
    """@return: how many octets were written; 0 where something is wrong."""
    return max(int(lib.SSL_write(connection._ssl, octets, len(octets))), 0)


def drain(connection: SSL.Connection) -> bytes:
    """Some of what is to be sent to the peer; b"" for nothing."""
    space = _space()
    return _octets(space, lib.BIO_read(connection._from_ssl, space, _SPACE))


def _space() -> Any:
    try:
        return _of_thread.space
    except AttributeError:
        space = _of_thread.space = ffi.new("char[]", _SPACE)
        return space


def _octets(space: Any, count: int) -> bytes:
    return bytes(ffi.buffer(space, count)) if count > 0 else b""
