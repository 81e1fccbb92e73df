"""All that one reading of the configuration came to: certificates, and a context for each use."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from attrs import evolve, field, frozen
from cryptography.x509 import Certificate
from OpenSSL import SSL

from harakatls.config.errors import place
from harakatls.tls.accepted import Judgements, StapleOf, choose_context, staple
from harakatls.tls.bundles import named_pairs
from harakatls.tls.certificates import CertificateStore, KeyPair, wildcard_for
from harakatls.tls.contexts import PairRefused, TrustStore, server_context
from harakatls.tls.files import PEMFile
from harakatls.tls.handshake import verify
from harakatls.tls.pairing import default_pairs
from harakatls.tls.parameters import FILE
from harakatls.tls.policy import ClientCertificate, client_certificate
from harakatls.tls.sections import INBOUND
from harakatls.tls.settings import InboundTLS

_Pairs = tuple[KeyPair, ...]
_Use = tuple[str | None, _Pairs, ClientCertificate]
"""What a context is for: the name whose rules hold, the certificates, and what is demanded."""


@frozen(eq=False)
class Snapshot:
    """
    All that one reading of the configuration came to.

    @ivar settings: with rules for those names alone that there are certificates for.
    @ivar contexts: for each name with rules of its own and each set of certificates, and each
        demand that any port makes.
    @ivar trust: whom to trust about clients that ask for no name with rules of its own.
    @ivar anchors: all that are trusted about any clients, but for those of the system.
    """

    settings: InboundTLS
    store: CertificateStore
    contexts: Mapping[_Use, SSL.Context]
    problems: tuple[str, ...]
    judgements: Judgements
    trust: TrustStore
    anchors: tuple[Certificate, ...]
    staple_of: StapleOf

    @classmethod
    def make(cls, settings: InboundTLS, me: str, staple_of: StapleOf) -> "Snapshot":
        """@raise ConfigError: OpenSSL refuses a value of tls.ini."""
        # Wrong values are to show even where there are no certificates.
        for rules in (settings, *settings.named.values()):
            server_context(rules.parameters, ())
        store = _store(settings, datetime.now(UTC))
        settings, unknown = _without_unknown(settings, store)
        store, refused = _without_refused(_with_named(store, settings), settings)
        if not store.default and store.named:
            store, more = _without_refused(_with_default(store, me), settings)
            refused += more
        before, settings = settings, _without_orphaned(settings, store)
        if settings != before:  # names that a wildcard's rules were for go by those for all now
            store, more = _without_refused(store, settings)
            refused += more
        trust = _Trust()
        for rules in (settings, *settings.named.values()):
            trust.store_of(rules)  # a mistake is to show even where there are no certificates
        contexts = {
            (name, pairs, demand): _context(settings, (name, pairs, demand), trust)
            for name, pairs in _combinations(settings, store)
            for demand in _demands(settings if name is None else settings.named[name])
        }
        problems = (*store.problems, *refused, *unknown, *_group_problems(settings))
        return cls(
            settings,
            store,
            contexts,
            (*problems, *trust.problems),
            Judgements(),
            trust.store_of(settings),
            trust.anchors,
            staple_of,
        )

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """All that is shown under any name, the default ones first."""
        shown = (self.store.default, *self.store.named.values())
        return tuple(dict.fromkeys(pair for pairs in shown for pair in pairs))

    def context(self, server_name: str | None, demand: ClientCertificate) -> SSL.Context:
        """
        @param server_name: as L{host_name} writes it; None where the client sent none.
        @param demand: one that the rules for this name make on some port.
        """
        rules = self.settings.name_of_rules(server_name)
        return self.contexts[rules, self.store.for_name(server_name), demand]

    def demand(self, server_name: str | None, port: int) -> ClientCertificate:
        """What is asked of a client that asks for *server_name*, on our *port*."""
        return client_certificate(port, self.settings.for_name(server_name))

    def has_rules(self, server_name: str | None) -> bool:
        """Whether anything differs for clients that ask for this name."""
        return self.settings.name_of_rules(server_name) is not None

    def names(self) -> tuple[str | None, ...]:
        """All that a certificate is shown under, wildcards among them; None is for no name."""
        return (None, *self.store.named)


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


# -- names with rules of their own -------------------------------------------------------------


def _without_unknown(
    settings: InboundTLS, store: CertificateStore
) -> tuple[InboundTLS, tuple[str, ...]]:
    """@return: the settings without rules for names that no certificate has; and these names."""
    known = {name: rules for name, rules in settings.named.items() if _is_known(name, store)}
    unknown = (rules for name, rules in settings.named.items() if name not in known)
    problems = (f"{place(FILE, rules.section)}: no certificate has this name" for rules in unknown)
    return evolve(settings, named=known), tuple(problems)


def _without_orphaned(settings: InboundTLS, store: CertificateStore) -> InboundTLS:
    """
    Without rules for names whose certificates OpenSSL refuses under just these rules: a client that
    asks for such a name is as one that asks for another.
    """
    kept = {name: rules for name, rules in settings.named.items() if name in store.named}
    return evolve(settings, named=kept)


def _is_known(name: str, store: CertificateStore) -> bool:
    return name in store.named or wildcard_for(name) in store.named


def _with_named(store: CertificateStore, settings: InboundTLS) -> CertificateStore:
    """Names with rules of their own stand by themselves, also where a wildcard is for them."""
    added = {name: store.for_name(name) for name in settings.named if name not in store.named}
    return evolve(store, named={**store.named, **added})


def _combinations(
    settings: InboundTLS, store: CertificateStore
) -> Iterator[tuple[str | None, _Pairs]]:
    """The name whose rules hold, and the certificates: for all that a client may ask for."""
    found = {(settings.name_of_rules(name), pairs) for name, pairs in store.named.items()}
    yield from found | ({(None, store.default)} if store.default else set())


def _without_refused(
    store: CertificateStore, settings: InboundTLS
) -> tuple[CertificateStore, tuple[str, ...]]:
    """
    @return: the store without what OpenSSL refuses under the rules for its name, and why it does.
    """
    problems: dict[tuple[str | None, KeyPair], str] = {}
    for name, pairs in _combinations(settings, store):
        rules = settings if name is None else settings.named[name]
        for pair in pairs:
            try:
                server_context(rules.parameters, (pair,))
            except PairRefused as refusal:
                where = "" if name is None else f"{place(FILE, rules.section)}: "
                problems[name, pair] = f"{where}{pair.source}: {refusal}"

    def usable(rules: str | None, pairs: _Pairs) -> _Pairs:
        return tuple(pair for pair in pairs if (rules, pair) not in problems)

    named = {
        name: usable(settings.name_of_rules(name), pairs) for name, pairs in store.named.items()
    }
    kept = {name: pairs for name, pairs in named.items() if pairs}
    default = usable(None, store.default)
    return evolve(store, default=default, named=kept), tuple(dict.fromkeys(problems.values()))


# -- contexts ----------------------------------------------------------------------------------


def _context(settings: InboundTLS, use: _Use, trust: "_Trust") -> SSL.Context:
    name, pairs, demand = use
    rules = settings if name is None else settings.named[name]
    context = server_context(rules.parameters, pairs, demand, trust.store_of(rules), verify)
    context.set_tlsext_servername_callback(choose_context)
    if rules.staples:
        context.set_ocsp_server_callback(staple)
    return context


def _demands(rules: InboundTLS) -> set[ClientCertificate]:
    """What any port asks of clients; port 0 stands for all that have no rule of their own."""
    return {client_certificate(port, rules) for port in (0, *rules.require_authorized)}


@frozen(eq=False)
class _Trust:
    """Whom to trust about clients: one store for each set of files that C{ca} names."""

    _stores: dict[tuple[PEMFile, ...], TrustStore] = field(factory=dict)
    _problems: dict[str, None] = field(factory=dict)

    def store_of(self, rules: InboundTLS) -> TrustStore:
        if rules.anchors not in self._stores:
            store = self._stores[rules.anchors] = TrustStore.read(rules.anchors)
            where = "ca" if rules.section == INBOUND else f"ca of [{rules.section}]"
            self._problems.update(dict.fromkeys(f"{where}: {found}" for found in store.problems))
        return self._stores[rules.anchors]

    @property
    def anchors(self) -> tuple[Certificate, ...]:
        return tuple(anchor for store in self._stores.values() for anchor in store.anchors or ())

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems)


def _group_problems(settings: InboundTLS) -> Iterator[str]:
    for file in settings.group_files:
        if file.problem is not None:
            yield f"dhparam: {file.name}: {file.problem}; the group ffdhe2048 is used instead"
