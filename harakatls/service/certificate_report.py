"""Part of ``harakatls tls``: what is in each certificate of ours, and who gets to see it."""

from collections.abc import Mapping
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate, NameOID

from harakatls.service.effective import Facts
from harakatls.service.staple_report import StapleState
from harakatls.tls.certificates import KeyPair
from harakatls.tls.handshake import fingerprint
from harakatls.tls.snapshot import Snapshot


def certificate_facts(
    pair: KeyPair, snapshot: Snapshot, now: datetime, staples: Mapping[Certificate, StapleState]
) -> Facts:
    """@param staples: by certificate; not all need be there."""
    leaf, last = pair.chain[0], pair.chain[-1]
    staple = staples.get(leaf)
    named = snapshot.store.named
    is_own = last.issuer == last.subject
    return {
        "source": pair.source,
        "default": pair in snapshot.store.default,
        "shown_for": [name for name, pairs in named.items() if pair in pairs],
        "names": list(pair.names),
        "key": key_words(pair),
        "serial": f"{leaf.serial_number:02X}",
        "sha256": fingerprint(leaf),
        "valid_from": leaf.not_valid_before_utc.isoformat(),
        "valid_until": pair.not_after.isoformat(),
        "days_left": (pair.not_after - now).days,
        "chain": [_subject(certificate) for certificate in pair.chain],
        "issuer_of_last": None if is_own else last.issuer.rfc4514_string(),
        "staple": staple.text if staple is not None else None,
    }


def key_words(pair: KeyPair) -> str:
    """The kind of key and how large it is, C{EC secp256r1} or C{RSA 2048 bits}."""
    key = pair.private_key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"EC {key.curve.name}"
    size = getattr(key, "key_size", None)
    return pair.kind if size is None else f"{pair.kind} {size} bits"


def _subject(certificate: Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string() or "no name"
