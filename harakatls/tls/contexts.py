"""
OpenSSL contexts: the only place that sets OpenSSL's options.

A context cannot be changed once it was used, and what it allows is fixed for a connection before
the client's hello is read. So there is one for each set of certificates and each demand for a
client's certificate, made once and shared by all connections (and, made before a fork, by all
processes: they share the keys of the session tickets, too).
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto

from harakatls.tls.binding import set_groups, share_store, want_key
from harakatls.tls.certificates import KeyPair
from harakatls.tls.dhparams import DHGroup
from harakatls.tls.files import PEMFile
from harakatls.tls.pairing import trust_anchors
from harakatls.tls.parameters import ContextParameters, TLSVersion
from harakatls.tls.policy import ClientCertificate

VerifyCallback = Callable[[SSL.Connection, crypto.X509, int, int, int], bool]

MOST_AUTHORITIES = 64
"""How many trust anchors are named to clients; of more, none: then they show what they have."""

_MODE_NO_AUTO_CHAIN = 0x8
_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
_LOWEST_SECURITY = "@SECLEVEL="
_ANONYMOUS = ("aNULL", "ADH", "AECDH")

# The library's groups would put a post-quantum key share into the first packet, which makes it two;
# some servers and boxes on the way cannot cope. So X25519MLKEM768 is offered, but its share is sent
# only when asked for.
_SMALL_HELLO = (
    "?X25519MLKEM768 / ?*X25519:?secp256r1 / ?X448:?secp384r1:?secp521r1 / ?ffdhe2048:?ffdhe3072"
)

# RFC 7919 section 4: who offers groups of this kind, none of which is ours, must not be given a key
# exchange without curves at all, though dhparam has a group for it. It is no curve, so ecdhCurve
# does not shut it out.
_FINITE_GROUP = "ffdhe2048"


class TrustStore:
    """
    Whom to trust, shared by any number of contexts.

    @ivar anchors: those that are used; None for the system's.
    @ivar problems: why others are not, a line each.
    """

    def __init__(
        self, anchors: Sequence[Certificate] | None, problems: tuple[str, ...] = ()
    ) -> None:
        """
        @param anchors: None for those of the system.
        @param problems: of the files that they come from.
        """
        self.problems = problems
        self.anchors = None if anchors is None else self._loaded(anchors)
        self._owner = SSL.Context(SSL.TLS_METHOD)
        self._fill(self._owner)

    @classmethod
    def read(cls, files: Sequence[PEMFile]) -> "TrustStore":
        """
        @param files: what C{ca} names; where that is nothing, the system's anchors count. Where
            none can be read, nobody is trusted: a host that is forced gets nothing.
        """
        return cls(*trust_anchors(files)) if files else cls(None)

    def apply(self, context: SSL.Context) -> None:
        if not share_store(context, self._owner):
            self._fill(context)

    def _loaded(self, anchors: Sequence[Certificate]) -> Sequence[Certificate]:
        loaded = []
        for anchor in anchors:
            try:
                crypto.X509.from_cryptography(anchor)
            except crypto.Error as error:
                which = f"the certificate with the serial number {anchor.serial_number:X}"
                self.problems += (f"{which} is not used: OpenSSL refuses it: {_reason(error)}",)
            else:
                loaded.append(anchor)
        return loaded

    def _fill(self, context: SSL.Context) -> None:
        if self.anchors is None:
            context.set_default_verify_paths()
            return
        store = context.get_cert_store()
        assert store is not None
        for anchor in self.anchors:
            store.add_cert(crypto.X509.from_cryptography(anchor))


class PairRefused(Exception):
    """OpenSSL will not have a key pair: its text says why."""


def server_context(
    parameters: ContextParameters,
    pairs: Sequence[KeyPair],
    demand: ClientCertificate = ClientCertificate.IGNORED,
    trust: TrustStore | None = None,
    verify: VerifyCallback | None = None,
) -> SSL.Context:
    """
    @param pairs: at most one of each kind.
    @param trust: for clients' certificates, if these are asked for.
    @param verify: judges clients' certificates, likewise.
    @raise ConfigError: OpenSSL refuses one of the parameters.
    @raise PairRefused: it refuses a pair.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _apply(context, parameters, _ciphers(parameters))
    if parameters.honor_cipher_order:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    if parameters.groups is not None and not (
        parameters.min_version < TLSVersion.TLS_1_3
        and set_groups(context, f"{parameters.groups}:{_FINITE_GROUP}")
    ):
        _set_groups(context, parameters, parameters.groups)
    _set_dh_group(context, parameters.dh_group)
    for pair in pairs:  # after the ciphers, which may hold the security level they have to meet
        _use(context, pair)
    # A session is bound to this context by the keys of its ticket, and further by L{bind_sessions}.
    # Tickets need no memory here; a cache would let a client fill it.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if demand is not ClientCertificate.IGNORED:
        assert trust is not None and verify is not None
        mode = SSL.VERIFY_PEER
        if demand is ClientCertificate.REQUIRED:
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(mode, verify)
        trust.apply(context)
        if trust.anchors is not None and len(trust.anchors) <= MOST_AUTHORITIES:
            for anchor in trust.anchors:
                context.add_client_ca(anchor)
    return context


def client_context(
    parameters: ContextParameters,
    authenticated: bool,
    trust: TrustStore,
    verify: VerifyCallback,
    pairs: Sequence[KeyPair] = (),
) -> SSL.Context:
    """
    @param authenticated: the server's certificate must be valid: *verify* has to see one.
    @param pairs: to be shown to a server that asks, at most one of each kind. Which one, in TLS 1.3
        the server's taste decides; below, it is the first.
    @raise ConfigError: OpenSSL refuses one of the parameters.
    @raise PairRefused: it refuses a pair.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    ciphers = _ciphers(parameters)
    if authenticated:
        # Without a certificate there would be nothing to verify.
        ciphers = (ciphers or "DEFAULT") + ":!aNULL"
    _apply(context, parameters, ciphers)
    if parameters.groups is not None:
        _set_groups(context, parameters, parameters.groups)
    else:
        set_groups(context, _SMALL_HELLO)  # where the library is too old for it, its own will do
    for pair in reversed(pairs):  # below TLS 1.3, OpenSSL's client knows but the last one
        _use(context, pair)
    trust.apply(context)
    context.set_verify(SSL.VERIFY_PEER, verify)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def trial_context(parameters: ContextParameters, kind: str) -> SSL.Context:
    """
    For a client that tries our own server, and judges nothing.

    @param parameters: the server's.
    @param kind: of the key whose certificate it wants to see.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    _apply(context, parameters, _ciphers(parameters))
    if parameters.groups is not None:
        _set_groups(context, parameters, parameters.groups)
    want_key(context, kind)
    return context


def _apply(context: SSL.Context, parameters: ContextParameters, ciphers: str | None) -> None:
    # MODE_RELEASE_BUFFERS halves the memory of an idle connection.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    context.set_options(_OPTIONS)
    context.set_min_proto_version(parameters.min_version)
    if parameters.max_version is not None:
        context.set_max_proto_version(parameters.max_version)
    try:
        if ciphers is not None:
            context.set_cipher_list(ciphers.encode("ascii"))
        if parameters.suites is not None:
            context.set_tls13_ciphersuites(parameters.suites.encode("ascii"))
    except SSL.Error:
        shown = " ".join(filter(None, (parameters.ciphers, parameters.suites)))
        raise parameters.error("ciphers", f"{shown!r} leaves OpenSSL no cipher to use") from None


def _ciphers(parameters: ContextParameters) -> str | None:
    """The list for TLS up to 1.2; None for the library's own."""
    words = parameters.ciphers
    if parameters.min_version < TLSVersion.TLS_1_2 and _LOWEST_SECURITY not in (words or ""):
        # OpenSSL has the signatures of TLS 1.0 and 1.1 (SHA-1, MD5) on no other level.
        words = f"{words or 'DEFAULT'}:{_LOWEST_SECURITY}0"
    if words is not None and not _asks_for_anonymous(words):
        words += ":!aNULL"
    return words


def _asks_for_anonymous(words: str) -> bool:
    """Whether the operator names ciphers without certificates: not to shut out some of them."""
    named = (word for word in words.split(":") if not word.startswith(("!", "-")))
    return any(name in word for word in named for name in _ANONYMOUS)


def _set_groups(context: SSL.Context, parameters: ContextParameters, groups: str) -> None:
    if not set_groups(context, groups):
        raise parameters.error("ecdhCurve", f"OpenSSL does not know {groups!r}")


def _set_dh_group(context: SSL.Context, group: DHGroup) -> None:
    with _as_file(group.pem()) as path:  # pyOpenSSL takes a group from nowhere else
        try:
            context.load_tmp_dh(path)
        except SSL.Error:
            # The group is too small for the security level that the operator has written behind
            # the ciphers: at that level there is no such key exchange.
            return


def _use(context: SSL.Context, pair: KeyPair) -> None:
    try:
        with _as_file(b"".join(c.public_bytes(Encoding.PEM) for c in pair.chain)) as path:
            # The one call that gives each certificate a chain of its own.
            context.use_certificate_chain_file(path)
        context.use_privatekey(pair.private_key)  # type: ignore[arg-type]
        # A key of another kind than the certificate is taken without a word.
        context.check_privatekey()
    except SSL.Error as error:
        raise PairRefused(f"OpenSSL refuses it: {_reason(error)}") from None
    except TypeError:
        raise PairRefused(f"OpenSSL has no use for {pair.kind} keys") from None


def _reason(error: Exception) -> str:
    """The first that OpenSSL gives: (library, function, reason) is what it has for each."""
    entries = error.args[0] if error.args else ()
    return next((entry[-1] for entry in entries if entry[-1]), "no reason given")


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The name of a file with this content, as long as it is needed."""
    try:
        descriptor = os.memfd_create("certificates")
    except (AttributeError, OSError):
        descriptor = -1
    if descriptor >= 0:
        try:
            os.write(descriptor, content)
            path = f"/proc/self/fd/{descriptor}"
            if os.path.exists(path):
                yield path
                return
        finally:
            os.close(descriptor)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
