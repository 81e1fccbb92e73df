"""All that one reading of the configuration came to: certificates, and a context for each use."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256

from attrs import evolve, frozen
from OpenSSL import SSL

from harakatls.tls.accepted import Judgements, StapleOf, choose_context, staple
from harakatls.tls.bundles import named_pairs
from harakatls.tls.certificates import CertificateStore, KeyPair
from harakatls.tls.contexts import PairRefused, TrustStore, server_context
from harakatls.tls.handshake import fingerprint, verify
from harakatls.tls.pairing import default_pairs, trust_anchors
from harakatls.tls.policy import ClientCertificate, client_certificate
from harakatls.tls.settings import InboundTLS

_Pairs = tuple[KeyPair, ...]


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
    judgements: Judgements
    trust: TrustStore
    staple_of: StapleOf

    @classmethod
    def make(cls, settings: InboundTLS, me: str, staple_of: StapleOf) -> "Snapshot":
        # Wrong values are to show even where there are no certificates.
        server_context(settings.parameters, (), b"trial")
        store, refused = _without_refused(_store(settings, datetime.now(UTC)), settings)
        store = _with_default(store, me)
        trust, mistrusted = _trust(settings)
        contexts = {
            (pairs, demand): _context(settings, me, pairs, demand, trust)
            for pairs in store.all()
            for demand in _demands(settings)
        }
        problems = (*store.problems, *refused, *mistrusted)
        return cls(settings, store, contexts, problems, Judgements(), trust, staple_of)

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """All that is shown under any name, the default ones first."""
        shown = (self.store.default, *self.store.named.values())
        return tuple(dict.fromkeys(pair for pairs in shown for pair in pairs))

    def context(self, server_name: str | None, demand: ClientCertificate) -> SSL.Context:
        return self.contexts[self.store.for_name(server_name), demand]


def _store(settings: InboundTLS, now: datetime) -> CertificateStore:
    default, problems = default_pairs(settings.keys, settings.certs)
    named, problems_of_named = named_pairs(settings.directory, now)
    own = {name: default for pair in default for name in pair.names}
    used = dict.fromkeys(pair for pairs in (default, *named.values()) for pair in pairs)
    outdated = filter(None, (pair.validity_problem(now) for pair in used))
    return CertificateStore(default, {**own, **named}, (*problems, *problems_of_named, *outdated))


def _with_default(store: CertificateStore, me: str) -> CertificateStore:
    """Where there is no default pair, one for our own name, else the first of all, is taken."""
    if store.default or not store.named:
        return store
    return evolve(store, default=store.for_name(me) or next(iter(store.named.values())))


def _context(
    settings: InboundTLS, me: str, pairs: _Pairs, demand: ClientCertificate, trust: TrustStore
) -> SSL.Context:
    shown = (fingerprint(pair.chain[0]) for pair in pairs)
    session_id = sha256(" ".join((me, demand.name, *shown)).encode()).digest()
    context = server_context(settings.parameters, pairs, session_id, demand, trust, verify)
    context.set_tlsext_servername_callback(choose_context)
    if settings.staples:
        context.set_ocsp_server_callback(staple)
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
    trust = TrustStore(anchors)
    return trust, tuple(f"ca: {problem}" for problem in (*problems, *trust.problems))
