"""TLS with those who connect to us: which certificate they see, and what is asked of them."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256

from attrs import frozen
from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from harakatls.connection import Connection, TLSSummary
from harakatls.interfaces import HasHandle, IServerTLS
from harakatls.tls.binding import is_resumed
from harakatls.tls.bundles import named_pairs
from harakatls.tls.certificates import CertificateStore, KeyPair, chain_of
from harakatls.tls.clients import FailingClients
from harakatls.tls.contexts import PairRefused, TrustStore, server_context, trial_context
from harakatls.tls.handshake import (
    Judgement,
    JudgingConnection,
    connection_of,
    fingerprint,
    summarize,
    verify,
)
from harakatls.tls.hello import ClientHello, read_client_hello, readable_name
from harakatls.tls.pairing import default_pairs, trust_anchors
from harakatls.tls.policy import (
    ClientCertificate,
    client_certificate,
    moment,
    offers_starttls,
    requires_tls,
)
from harakatls.tls.settings import InboundTLS
from harakatls.tls.staples import Certified
from harakatls.tls.trial import staple_seen

_log = Logger()

_JUDGEMENTS_KEPT = 10_000
_ANY_LABEL = "staple-trial"  # for the * of a certificate's name
_SUBMISSION = 587  # RFC 6409

_Pairs = tuple[KeyPair, ...]

StapleOf = Callable[[Certificate], bytes]
"""The OCSP staple of one of our certificates, at once; b"" for none."""


@implementer(IServerTLS)
class ServerTLS:
    """
    The TLS side of all listeners.

    All that depends on the configuration is in one snapshot, which L{replace} exchanges as a whole;
    a connection keeps the one under which it began.
    """

    def __init__(
        self,
        settings: InboundTLS,
        me: str,
        staple_of: StapleOf = lambda _: b"",
        failing: FailingClients | None = None,
    ) -> None:
        """
        @param me: our host name.
        @param failing: with whom TLS fails; None not to ask, and to remember nothing.
        @raise ConfigError: OpenSSL refuses a value of tls.ini.
        """
        self._me = me
        self._failing = failing
        self._staple_of = staple_of
        self._changes: list[Callable[[], None]] = []
        self._snapshot = Snapshot.make(settings, me, staple_of)

    def replace(self, settings: InboundTLS) -> None:
        """
        New connections go by *settings* from now on.

        @raise ConfigError: OpenSSL refuses a value of tls.ini; nothing has changed.
        """
        self.adopt(self.prepare(settings))

    def prepare(self, settings: InboundTLS) -> "Snapshot":
        """
        All that *settings* come to, ready for use; nothing has changed yet. It may be done in
        another thread.

        @raise ConfigError: OpenSSL refuses a value of tls.ini.
        """
        return Snapshot.make(settings, self._me, self._staple_of)

    def adopt(self, snapshot: "Snapshot") -> None:
        """New connections go by *snapshot* from now on."""
        self._snapshot = snapshot
        for call in self._changes:
            call()

    @property
    def snapshot(self) -> "Snapshot":
        """What new connections go by."""
        return self._snapshot

    def on_change(self, call: Callable[[], None]) -> None:
        """Call it whenever L{adopt} has brought other certificates."""
        self._changes.append(call)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with keys, certificates and trust anchors: a line for each, for the log."""
        return self._snapshot.problems

    def ready(self) -> bool:
        return bool(self._snapshot.store.default)

    async def offers(self, connection: Connection) -> bool:
        return self._may_offer(connection) and not await self._given_up(connection)

    def _may_offer(self, connection: Connection) -> bool:
        return (
            self.ready()
            and not connection.implicit_tls
            and connection.secured is None
            and offers_starttls(
                connection.peer.host, connection.local.port, self._snapshot.settings
            )
        )

    def requires(self, connection: Connection) -> bool:
        return requires_tls(connection.peer.host, connection.local.port, self._snapshot.settings)

    def connection_creator(
        self, connection: Connection, client_hello: bytes
    ) -> IOpenSSLServerConnectionCreator:
        """@raise RuntimeError: there is no certificate; L{ready} says so."""
        snapshot = self._snapshot
        if not snapshot.store.default:
            raise RuntimeError("there is no certificate to show")
        hello = read_client_hello(client_hello)
        name = hello.server_name if isinstance(hello, ClientHello) else None
        demand = client_certificate(connection.local.port, snapshot.settings)
        return _ConnectionCreator(snapshot, name, demand, connection.peer.host)

    def summary(self, transport: HasHandle) -> TLSSummary:
        connection = connection_of(transport)
        assert isinstance(connection, _ServerConnection)
        if self._failing is not None:
            self._failing.succeeded(connection.peer)
        return summarize(connection, connection.server_name, connection.judgement())

    # -- for OCSP stapling -----------------------------------------------------------------------

    @property
    def staples_wanted(self) -> bool:
        return self._snapshot.settings.staples

    def certified(self) -> tuple[Certified, ...]:
        """The certificates that are shown, each once."""
        snapshot = self._snapshot
        pairs = {pair.chain[0]: pair for pairs in snapshot.store.all() for pair in pairs}
        known = snapshot.trust.anchors or ()  # a root need not be in the file of the certificate
        chains = ((pair, chain_of(pair.chain[0], (*pair.chain, *known))) for pair in pairs.values())
        return tuple(Certified(pair, chain[1] if chain[1:] else None) for pair, chain in chains)

    def staple_shown(self, pair: KeyPair) -> bytes:
        """
        What a client that asks for a staple gets with this pair, by a handshake with ourselves.

        @param pair: one of L{certified}.
        @raise TrialFailed: it cannot be seen.
        """
        snapshot = self._snapshot
        names = (None, *snapshot.store.named)
        name = next(name for name in names if pair in snapshot.store.for_name(name))
        demand = client_certificate(0, snapshot.settings)
        asked = None if name is None else name.replace("*", _ANY_LABEL)
        client = trial_context(snapshot.settings.parameters, pair.kind)
        server = _ServerConnection(snapshot, asked, demand)
        return staple_seen(server, pair.chain[0], client, asked)

    async def handshake_failed(self, connection: Connection, reason: str) -> None:
        # At this level, since the line of the connection says it as well.
        _log.debug(
            "TLS with {peer} failed: {reason}",
            connection_id=connection.id,
            peer=str(connection.peer),
            reason=reason,
        )
        if self._failing is not None and self._may_do_without(connection):
            await self._failing.failed(connection.peer.host)

    async def _given_up(self, connection: Connection) -> bool:
        """TLS has failed so often that STARTTLS is not offered."""
        if self._failing is None or not self._may_do_without(connection):
            return False
        failed_at = await self._failing.failed_at(connection.peer.host)
        if failed_at is None:
            return False
        _log.info(
            "STARTTLS is not offered to {peer}: TLS failed with it, last at {when}",
            connection_id=connection.id,
            peer=str(connection.peer),
            when=moment(failed_at),
        )
        return True

    def _may_do_without(self, connection: Connection) -> bool:
        """
        The memory of failures is about this port.

        Not where passwords are sent, where all of the port is TLS, and where the client has to use
        TLS or to show a certificate: there, what fails is to stay outside.
        """
        port = connection.local.port
        return (
            not connection.implicit_tls
            and port != _SUBMISSION
            and not self.requires(connection)
            and client_certificate(port, self._snapshot.settings) is not ClientCertificate.REQUIRED
        )


@frozen(eq=False)
class Snapshot:
    """
    All that one reading of the configuration came to.

    @ivar contexts: for each set of certificates, and each demand that any port makes.
    @ivar trust: whom to trust about clients.
    """

    settings: InboundTLS
    store: CertificateStore
    contexts: Mapping[tuple[_Pairs, ClientCertificate], SSL.Context]
    problems: tuple[str, ...]
    judgements: "_Judgements"
    trust: TrustStore
    staple_of: StapleOf

    @classmethod
    def make(cls, settings: InboundTLS, me: str, staple_of: StapleOf) -> "Snapshot":
        # Wrong values are to show even where there are no certificates.
        server_context(settings.parameters, (), b"trial")
        store = _store(settings, me, datetime.now(UTC))
        store, refused = _without_refused(store, settings)
        trust, mistrusted = _trust(settings)
        contexts = {
            (pairs, demand): _context(settings, me, pairs, demand, trust)
            for pairs in store.all()
            for demand in _demands(settings)
        }
        problems = (*store.problems, *refused, *mistrusted)
        return cls(settings, store, contexts, problems, _Judgements(), trust, staple_of)

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """All that is shown under any name, the default ones first."""
        shown = (self.store.default, *self.store.named.values())
        return tuple(dict.fromkeys(pair for pairs in shown for pair in pairs))

    def context(self, server_name: str | None, demand: ClientCertificate) -> SSL.Context:
        return self.contexts[self.store.for_name(server_name), demand]


def _store(settings: InboundTLS, me: str, now: datetime) -> CertificateStore:
    """Where there is no default pair, one for our own name, else the first of all, is taken."""
    default, problems = default_pairs(settings.keys, settings.certs)
    named, problems_of_named = named_pairs(settings.directory, now)
    if not default and named:
        default = CertificateStore((), named).for_name(me) or next(iter(named.values()))
    own = {name: default for pair in default for name in pair.names}
    used = dict.fromkeys(pair for pairs in (default, *named.values()) for pair in pairs)
    outdated = filter(None, (pair.validity_problem(now) for pair in used))
    return CertificateStore(default, {**own, **named}, (*problems, *problems_of_named, *outdated))


def _context(
    settings: InboundTLS, me: str, pairs: _Pairs, demand: ClientCertificate, trust: TrustStore
) -> SSL.Context:
    shown = (fingerprint(pair.chain[0]) for pair in pairs)
    session_id = sha256(" ".join((me, demand.name, *shown)).encode()).digest()
    context = server_context(settings.parameters, pairs, session_id, demand, trust, verify)
    context.set_tlsext_servername_callback(_choose_context)
    if settings.staples:
        context.set_ocsp_server_callback(_staple)
    return context


def _demands(settings: InboundTLS) -> set[ClientCertificate]:
    """What any port asks of clients; port 0 stands for all that have no rule of their own."""
    return {client_certificate(port, settings) for port in (0, *settings.require_authorized)}


def _without_refused(
    store: CertificateStore, settings: InboundTLS
) -> tuple[CertificateStore, tuple[str, ...]]:
    """@return: the store without what OpenSSL refuses, and why it does."""
    problems: dict[KeyPair, str] = {}
    for pair in {pair for pairs in store.all() for pair in pairs}:
        try:
            server_context(settings.parameters, (pair,), b"trial")
        except PairRefused as refusal:
            problems[pair] = f"{pair.source}: {refusal}"
    return store.without(problems), tuple(problems.values())


def _trust(settings: InboundTLS) -> tuple[TrustStore, tuple[str, ...]]:
    """Whom to trust about clients: where C{ca} names nothing that can be read, nobody."""
    if not settings.anchors:
        return TrustStore(None), ()
    anchors, problems = trust_anchors(settings.anchors)
    return TrustStore(anchors), tuple(f"ca: {problem}" for problem in problems)


# -- one connection ----------------------------------------------------------------------------


@implementer(IOpenSSLServerConnectionCreator)
@frozen(eq=False)
class _ConnectionCreator:
    """For one connection: its context has been chosen from the client's hello."""

    snapshot: Snapshot
    server_name: str | None
    demand: ClientCertificate
    peer: str

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return _ServerConnection(self.snapshot, self.server_name, self.demand, self.peer)


class _ServerConnection(JudgingConnection):
    def __init__(
        self,
        snapshot: Snapshot,
        server_name: str | None,
        demand: ClientCertificate,
        peer: str = "",
    ) -> None:
        super().__init__(
            snapshot.context(server_name, demand), demand is ClientCertificate.REQUIRED
        )
        self.snapshot = snapshot  # keeps the contexts alive that OpenSSL may still call back
        self.server_name = server_name
        self.demand = demand
        self.peer = peer

    def judge(self, certificate: crypto.X509, error: int, depth: int) -> bool:
        content = super().judge(certificate, error, depth)
        if depth == 0:
            name = fingerprint(certificate.to_cryptography())
            self.snapshot.judgements.keep(name, Judgement(self.problem is None, self.problem))
        return content

    def judgement(self) -> Judgement:
        """What to think of the client, now that the handshake has finished."""
        if self.judged:
            return Judgement(self.problem is None, self.problem)
        certificate = self.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            return Judgement()
        if self.demand is ClientCertificate.REQUIRED and is_resumed(self):
            # Sessions of this context were all begun with a certificate that was accepted.
            return Judgement(verified=True)
        return self.snapshot.judgements.of(fingerprint(certificate))


def _choose_context(connection: SSL.Connection) -> None:
    """
    OpenSSL's own word on the server name.

    The context was chosen by the same name before, so that nothing changes here: unless the hello
    could not be read, or was not handed to us. Then at least the certificate is right.
    """
    try:
        assert isinstance(connection, _ServerConnection)
        name = readable_name(connection.get_servername() or b"")
        connection.server_name = connection.server_name or name
        context = connection.snapshot.context(name, connection.demand)
        if context is not connection.get_context():
            connection.set_context(context)
    except Exception:
        _log.failure("could not choose a certificate by the server name")


def _staple(connection: SSL.Connection, _data: object) -> bytes:
    """What goes with the certificate that OpenSSL has chosen, one of several kinds perhaps."""
    try:
        assert isinstance(connection, _ServerConnection)
        certificate = connection.get_certificate(as_cryptography=True)
        return b"" if certificate is None else connection.snapshot.staple_of(certificate)
    except Exception:
        _log.failure("could not staple an OCSP response")
        return b""


class _Judgements:
    """
    What was thought of clients' certificates, by fingerprint.

    A resumed session shows the certificate, but nobody judges it again.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Judgement] = OrderedDict()

    def keep(self, name: str, judgement: Judgement) -> None:
        self._kept[name] = judgement
        self._kept.move_to_end(name)
        if len(self._kept) > _JUDGEMENTS_KEPT:
            self._kept.popitem(last=False)

    def of(self, name: str) -> Judgement:
        return self._kept.get(name) or Judgement(problem="not looked at in a resumed session")
