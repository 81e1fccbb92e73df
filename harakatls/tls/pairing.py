"""
From files to key pairs: the default ones, and who is trusted.

Nothing here raises: what is wrong is told by file, and the rest is used.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509 import Certificate

from harakatls.tls.certificates import KeyPair, certificate_names, chain_of, public_octets
from harakatls.tls.files import PEMFile
from harakatls.tls.parameters import FILE
from harakatls.tls.pem import PEMContents, read_pem


@frozen
class Source:
    """One file, read."""

    file: PEMFile
    contents: PEMContents

    @classmethod
    def read(cls, file: PEMFile) -> "Source":
        return cls(file, read_pem(file.content or b""))

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def keys(self) -> tuple[PrivateKeyTypes, ...]:
        return self.contents.private_keys

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return self.contents.certificates

    def problems(self, expected: str, found: Sequence[object]) -> list[str]:
        """@param found: what the file holds of the kind that is *expected*."""
        if self.file.problem is not None:
            return [f"{self.name}: {self.file.problem}"]
        if self.contents.problems:
            return [f"{self.name}: {problem}" for problem in self.contents.problems]
        return [] if found else [f"{self.name}: there is no {expected} in it"]


def trust_anchors(files: Iterable[PEMFile]) -> tuple[tuple[Certificate, ...], tuple[str, ...]]:
    """@return: all certificates in the files, and what is wrong with these."""
    anchors: list[Certificate] = []
    problems: list[str] = []
    for file in files:
        source = Source.read(file)
        anchors.extend(source.certificates)
        problems.extend(source.problems("certificate", source.certificates))
    return tuple(anchors), tuple(problems)


def default_pairs(
    key_files: Sequence[PEMFile], cert_files: Sequence[PEMFile]
) -> tuple[tuple[KeyPair, ...], tuple[str, ...]]:
    """
    The pairs of C{key} and C{cert}, or of C{key[]} and C{cert[]}.

    @return: one of each kind of key; and what is wrong, a line each.
    """
    keys = [Source.read(file) for file in key_files]
    certs = [Source.read(file) for file in cert_files]
    problems: list[str] = []
    if len(keys) != len(certs):
        problems.append(f"{FILE}: key names {len(keys)} file(s), but cert names {len(certs)}")
    matches = [_match(key, certs[index : index + 1], certs) for index, key in enumerate(keys)]
    used = {id(match[1]) for match in matches if match is not None}
    for key, cert, match in zip_longest(keys, certs, matches):
        problems.extend(_problems(key, cert, match is not None, id(cert) in used))
    pairs: dict[str, KeyPair] = {}
    for pair, _cert in filter(None, matches):
        if pair.kind in pairs:
            problems.append(
                f"{pair.source}: not used, since {pairs[pair.kind].source} has the same kind of "
                f"key ({pair.kind})"
            )
        pairs.setdefault(pair.kind, pair)
    return tuple(pairs.values()), tuple(problems)


_Match = tuple[KeyPair, Source]
"""A pair, and where its certificate is."""


def _match(key: Source, own: Sequence[Source], certs: Sequence[Source]) -> _Match | None:
    """@param own: the certificates in the key's place of the list, if there are any."""
    for private_key in key.keys:
        for cert in (*own, *certs):  # their order does no harm
            pair = _pair(private_key, key.name, cert)
            if pair is not None:
                return pair, cert
    return None


def _problems(
    key: Source | None, cert: Source | None, key_used: bool, cert_used: bool
) -> Iterator[str]:
    """What is wrong with the key and the certificate in one place of the lists."""
    if key and cert and key.certificates and cert.keys and not (key.keys or cert.certificates):
        yield f"{key.name} and {cert.name}: key and cert seem to be interchanged"
        return
    if key:
        yield from key.problems("private key", key.keys)
    if cert:
        yield from cert.problems("certificate", cert.certificates)
    key_left = key is not None and bool(key.keys) and not key_used
    cert_left = cert is not None and bool(cert.certificates) and not cert_used
    if key and cert and key_left and cert_left:
        yield f"{cert.name}: no certificate in it belongs to the key in {key.name}"
    elif key and key_left and cert is None:
        yield f"{key.name}: no certificate belongs to this key"
    elif cert and cert_left and key is None:
        yield f"{cert.name}: no key belongs to this certificate"


def _pair(private_key: PrivateKeyTypes, key_name: str, cert: Source) -> KeyPair | None:
    wanted = public_octets(private_key)
    for leaf in cert.certificates:
        if wanted is not None and public_octets(leaf) == wanted:
            chain = chain_of(leaf, cert.certificates)
            source = cert.name if cert.name == key_name else f"{cert.name} with {key_name}"
            return KeyPair(private_key, chain, certificate_names(leaf), source)
    return None
