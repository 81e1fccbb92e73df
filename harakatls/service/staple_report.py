"""How each certificate stands with its OCSP staple, by what the server keeps on disk."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from attrs import frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from harakatls.tls.ocsp import ResponseRefused, Staple, must_staple, read_response, responder_url
from harakatls.tls.staples import Certified, StapleFiles


@frozen
class StapleState:
    """
    @ivar text: one line for the operator.
    @ivar mistake: what is wrong with it, without the file; None where all is well.
    """

    text: str
    mistake: str | None = None


def staple_state(found: Certified, directory: Path | None, now: datetime) -> StapleState:
    """
    Nobody is asked: a server that runs has put what it was told into *directory*.

    @param directory: None where requestOCSP is off.
    """
    if directory is None:
        return _without(found, "off", "requestOCSP is off")
    if responder_url(found.certificate) is None:
        return _without(found, "no responder named in the certificate")
    if found.issuer is None:
        return _without(found, "issuer not in the file")
    hidden = _hidden(directory)
    if hidden is not None:
        return StapleState(f"not known: {hidden}")
    der = StapleFiles(directory).read(found.certificate)
    if der is None:
        return _without(found, "none yet")
    try:
        staple = read_response(der, found.certificate, found.issuer, now)
    except ResponseRefused as refused:
        former = _former(der, found.certificate, found.issuer, now)
        if former is None:
            return _without(found, f"none yet; what is kept is refused: {refused}")
        staple = former
    if staple.revoked:
        text = f"revoked since {_revocation(staple, found.certificate)}"
        return StapleState(text, f"the certificate is {text}, as its issuer says; replace it")
    if staple.next_update <= now:
        return _without(found, f"expired at {staple.next_update.isoformat()}")
    return StapleState(f"good until {staple.next_update.isoformat()}")


def _without(found: Certified, text: str, reason: str | None = None) -> StapleState:
    """There is no staple to show, which some certificates do not allow (RFC 7633)."""
    if not must_staple(found.certificate):
        return StapleState(text)
    return StapleState(
        text,
        "the certificate says that clients must refuse it without an OCSP staple, and there is "
        f"none to show: {reason or text}",
    )


def _hidden(directory: Path) -> str | None:
    """Why we cannot see what is kept; whoever asks may have fewer rights than the server."""
    try:
        with os.scandir(directory):
            pass
        return None if os.access(directory, os.X_OK) else f"{directory}: Permission denied"
    except FileNotFoundError:
        return None
    except OSError as problem:
        return f"{directory}: {problem.strerror}"


def _former(
    der: bytes, certificate: Certificate, issuer: Certificate, now: datetime
) -> Staple | None:
    """A response that was right when it was given, and is out of date."""
    for moment in _moments(der, certificate):
        try:
            staple = read_response(der, certificate, issuer, moment)
        except ResponseRefused:
            continue
        if staple.next_update <= now:
            return staple
    return None


def _moments(der: bytes, certificate: Certificate) -> list[datetime]:
    """When it was said. Nothing of it is verified."""
    try:
        return [
            answer.this_update_utc
            for answer in load_der_ocsp_response(der).responses
            if answer.serial_number == certificate.serial_number
        ]
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        return []


def _revocation(staple: Staple, certificate: Certificate) -> str:
    times: Iterator[datetime | None] = (
        answer.revocation_time_utc
        for answer in load_der_ocsp_response(staple.der).responses
        if answer.serial_number == certificate.serial_number
        and answer.certificate_status is OCSPCertStatus.REVOKED
    )
    return (next(times, None) or staple.this_update).isoformat()
