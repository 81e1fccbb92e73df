"""Part of ``harakatls tls``: which next hop gets to see which certificate of ours."""

from collections.abc import Iterator
from datetime import datetime

from cryptography.x509 import Certificate, ExtendedKeyUsage, ExtensionNotFound
from cryptography.x509.oid import ExtendedKeyUsageOID

from harakatls.service.effective import Facts
from harakatls.tls.certificates import UNREADABLE, KeyPair
from harakatls.tls.client import ClientTLS

_FOR_CLIENTS = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def identities(client: ClientTLS, now: datetime) -> tuple[Facts, ...]:
    """One for each rule: whom it is about, and what they get to see if they ask."""
    mutual, certificates = client.settings.mutual, client.certificates
    found = [_facts(rule.entry, certificates.under(rule.certificate), now) for rule in mutual.rules]
    if mutual.everywhere:
        found.extend(
            _facts(name, pairs, now)
            for name, pairs in certificates.named.items()
            if pairs != certificates.default and mutual.rule(name) is None
        )
        found.append(_facts("every other next hop", certificates.default, now))
    return tuple(found)


def identity_advice(client: ClientTLS, now: datetime, soon: int) -> Iterator[str]:
    """@param soon: days before a certificate expires in which to say so."""
    mutual, certificates = client.settings.mutual, client.certificates
    wanted = [certificates.under(rule.certificate) for rule in mutual.rules]
    if mutual.everywhere:
        wanted.append(certificates.default)
    for pair in dict.fromkeys(pair for pairs in wanted for pair in pairs):
        days = (pair.not_after - now).days
        if 0 <= days < soon:
            yield f"{pair.source}: the certificate for next hops expires in {days} days"
        if not _is_for_clients(pair.chain[0]):
            yield (
                f"{pair.source}: the certificate is for servers alone (extended key usage); a next "
                "hop that looks closely does not take it from a client"
            )


def _facts(hosts: str, pairs: tuple[KeyPair, ...], now: datetime) -> Facts:
    return {
        "for": hosts,
        "certificates": [
            {
                "source": pair.source,
                "names": list(pair.names),
                "kind": pair.kind,
                "sha256": pair.fingerprint,
                "valid_until": pair.not_after.isoformat(),
                "shown": pair.validity_problem(now) is None,
            }
            for pair in pairs
        ],
    }


def _is_for_clients(certificate: Certificate) -> bool:
    """RFC 5280 section 4.2.1.12: without the extension, it is for all."""
    try:
        usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except (ExtensionNotFound, *UNREADABLE):
        return True
    return bool(_FOR_CLIENTS & set(usage))


def identity_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """For people: names and texts; the first has no name."""
    yield "", facts["for"]
    if not facts["certificates"]:
        yield "certificate", "none, see the mistakes"
    for certificate in facts["certificates"]:
        shown = "" if certificate["shown"] else ", not valid now: not shown"
        names = ", ".join(certificate["names"]) or "no name"
        yield "certificate", f"{certificate['kind']}, {certificate['source']}, for {names}{shown}"
        yield "SHA-256", certificate["sha256"]
        yield "valid until", certificate["valid_until"]
