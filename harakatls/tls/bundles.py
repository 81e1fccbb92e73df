"""
The directory config/tls: certificates for other names than our own.

Each file may hold keys, certificates and their issuers, in any order; or a key may be in another
file than its certificate. What belongs together is found by the public key, and the names under
which it is shown are those of the certificate.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePath

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509 import BasicConstraints, Certificate, ExtensionNotFound

from harakatls.tls.certificates import (
    UNREADABLE,
    KeyPair,
    certificate_names,
    chain_of,
    public_octets,
    spelled_in_file,
)
from harakatls.tls.files import PEMFile
from harakatls.tls.pairing import Source

_Key = tuple[PrivateKeyTypes, Source]
"""A key, and where it is."""


def named_pairs(
    files: Sequence[PEMFile], now: datetime
) -> tuple[dict[str, tuple[KeyPair, ...]], tuple[str, ...]]:
    """
    Of several certificates with the same name and kind of key, the one that is valid now and was
    made last is shown.

    @return: the pairs by name, in the order of the files; and what is wrong, a line each.
    """
    sources = [Source.read(file) for file in files]
    keys = {
        octets: (key, source)
        for source in reversed(sources)
        for key in source.keys
        if (octets := public_octets(key)) is not None
    }
    pairs: dict[Certificate, KeyPair] = {}
    matched: set[str] = set()
    for source in sources:
        for certificate in source.certificates:
            key = keys.get(public_octets(certificate) or b"")
            if key is not None:
                matched.update((source.name, key[1].name))
                if certificate not in pairs:
                    pairs[certificate] = _pair(certificate, source, key, sources)
    problems = [problem for s in sources for problem in _problems(s, s.name in matched)]
    problems.extend(
        f"{pair.source}: the certificate names no host" for pair in pairs.values() if not pair.names
    )
    return _by_name(tuple(pairs.values()), now), tuple(problems)


def _by_name(pairs: Sequence[KeyPair], now: datetime) -> dict[str, tuple[KeyPair, ...]]:
    def preference(pair: KeyPair) -> tuple[bool, datetime]:
        return pair.validity_problem(now) is None, pair.chain[0].not_valid_before_utc

    named: dict[str, dict[str, KeyPair]] = {name: {} for pair in pairs for name in pair.names}
    for pair in sorted(pairs, key=preference):
        for name in pair.names:
            named[name][pair.kind] = pair
    return {name: tuple(kinds[kind] for kind in sorted(kinds)) for name, kinds in named.items()}


def _pair(
    certificate: Certificate, source: Source, key: _Key, sources: Sequence[Source]
) -> KeyPair:
    private_key, key_source = key
    # As certbot writes them, the issuers may be in a file of their own.
    elsewhere = (c for other in sources if other is not source for c in other.certificates)
    chain = chain_of(certificate, (*source.certificates, *elsewhere))
    names = certificate_names(certificate) or _names_of_file(source.name)
    told = source.name if key_source is source else f"{source.name} with {key_source.name}"
    return KeyPair(private_key, chain, names, told)


def _problems(source: Source, matched: bool) -> Iterator[str]:
    found = (*source.keys, *source.certificates)
    if source.file.is_anchor and not found:
        return  # what is wrong with it is told of C{ca}
    yield from source.problems("key and no certificate", found)
    if source.keys and not matched:
        yield f"{source.name}: no certificate belongs to this key"
    elif not (matched or source.file.is_anchor or all(map(_is_authority, source.certificates))):
        yield f"{source.name}: no key belongs to this certificate"


def _is_authority(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except (ExtensionNotFound, *UNREADABLE):
        return False


def _names_of_file(name: str) -> tuple[str, ...]:
    """For a certificate without a name."""
    found = spelled_in_file(PurePath(name).stem)
    return () if found is None else (found,)
