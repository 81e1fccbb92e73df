"""Our certificates as a client: which there are, and what is wrong with them."""

from collections.abc import Iterator
from datetime import datetime

from attrs import evolve

from harakatls.tls.bundles import named_pairs
from harakatls.tls.certificates import CertificateStore, KeyPair
from harakatls.tls.contexts import PairRefused, TrustStore, client_context
from harakatls.tls.handshake import verify
from harakatls.tls.mutual import HOSTS
from harakatls.tls.pairing import default_pairs
from harakatls.tls.parameters import FILE
from harakatls.tls.settings import OutboundTLS

Pairs = tuple[KeyPair, ...]


def client_certificates(
    settings: OutboundTLS, trust: TrustStore, now: datetime
) -> CertificateStore:
    """
    The certificates that the rules may speak of, and what is wrong with those that they do speak
    of. Of other files in config/tls the server's side tells.

    @raise ConfigError: OpenSSL refuses an option.
    """
    if not settings.mutual:
        return CertificateStore()
    default, problems = default_pairs(settings.keys, settings.certs)
    named, _ = named_pairs(settings.directory, now)
    own = {name: default for pair in default for name in pair.names}
    store = CertificateStore(default, {**own, **named})
    store, refused = _without_refused(store, settings, trust)
    told = (
        *(problems if settings.mutual.wants_default else ()),
        *refused,
        *_invalid(store, settings, now),
        *_missing(store, settings),
    )
    return evolve(store, problems=tuple(dict.fromkeys(told)))


def _spoken_of(store: CertificateStore, settings: OutboundTLS) -> Iterator[Pairs]:
    """The certificates that some hop may get to see."""
    if settings.mutual.everywhere:
        yield from (store.default, *store.named.values())
    else:
        yield from (store.under(rule.certificate) for rule in settings.mutual.rules)


def _without_refused(
    store: CertificateStore, settings: OutboundTLS, trust: TrustStore
) -> tuple[CertificateStore, tuple[str, ...]]:
    """@return: the store without what OpenSSL refuses, and why it does."""
    problems: dict[KeyPair, str] = {}
    for pair in dict.fromkeys(pair for pairs in _spoken_of(store, settings) for pair in pairs):
        try:
            client_context(settings.parameters, False, trust, verify, (pair,))
        except PairRefused as refusal:
            problems[pair] = f"{pair.source}: {refusal}"
    return store.without(problems), tuple(problems.values())


def _invalid(store: CertificateStore, settings: OutboundTLS, now: datetime) -> Iterator[str]:
    pairs = (pair for pairs in _spoken_of(store, settings) for pair in pairs)
    yield from filter(None, (pair.validity_problem(now) for pair in pairs))


def _missing(store: CertificateStore, settings: OutboundTLS) -> Iterator[str]:
    for rule in settings.mutual.rules:
        if rule.certificate is not None and not store.named.get(rule.certificate):
            yield (
                f"{FILE} [{HOSTS}] {rule.entry}: there is no certificate {rule.certificate} in "
                "config/tls that could be used"
            )
