"""OCSP staples at hand and on disk, and when to ask for new ones."""

import os
import random
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.tls.certificates import KeyPair
from harakatls.tls.ocsp import Staple
from harakatls.tls.responder import MOST_OCTETS

log = Logger()

_MINUTE = 60.0
_HOUR = 3600.0
_JITTER = 0.1
_SUFFIX = ".der"


@frozen(eq=False)
class Certified:
    """
    A certificate that is shown.

    @ivar issuer: None where it is not known.
    @ivar wanted: a staple is to go with it, under one of its names at least.
    """

    pair: KeyPair
    issuer: Certificate | None
    wanted: bool = True

    @property
    def certificate(self) -> Certificate:
        return self.pair.chain[0]


class Staples:
    """The staples at hand, by certificate."""

    def __init__(self, clock: IReactorTime) -> None:
        """@param clock: tells the seconds since the epoch."""
        self._clock = clock
        self._kept: dict[Certificate, Staple] = {}

    def of(self, certificate: Certificate) -> Staple | None:
        """None where there is none, or it is out of date."""
        staple = self._kept.get(certificate)
        if staple is None or staple.next_update.timestamp() <= self._clock.seconds():
            return None
        return staple

    def octets(self, certificate: Certificate) -> bytes:
        """For a handshake; b"" for nothing."""
        staple = self.of(certificate)
        return b"" if staple is None else staple.der

    def keep(self, certificate: Certificate, staple: Staple) -> None:
        self._kept[certificate] = staple

    def forget(self, certificate: Certificate) -> None:
        self._kept.pop(certificate, None)


# -- when ----------------------------------------------------------------------------------------


def refresh_after(staple: Staple, now: float) -> float:
    """
    How many seconds from *now* to ask for the next: at half of the staple's life, or, where that
    is past already and the responder gave what it had, in an hour; always before its end.
    """
    begin, end = staple.this_update.timestamp(), staple.next_update.timestamp()
    at_half_life = begin + (end - begin) / 2 - now
    return max(at_half_life, min(_HOUR, (end - now) / 2), _MINUTE)


def retry_after(failures: int) -> float:
    """@param failures: how many times it went wrong in a row."""
    return min(_MINUTE * 2.0 ** (min(failures, 10) - 1), _HOUR)


def spread(seconds: float) -> float:
    """So that many servers do not ask at the same moment."""
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311


# -- on disk -------------------------------------------------------------------------------------


class StapleFiles:
    """
    Responses kept across restarts: a file each, named by the certificate.

    What is read is verified as if a responder had said it. A disk that is full or broken costs
    nothing but a question to the responder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, certificate: Certificate) -> bytes | None:
        try:
            with open(self._path(certificate), "rb") as file:
                return file.read(MOST_OCTETS + 1)
        except OSError:
            return None

    def write(self, certificate: Certificate, der: bytes) -> None:
        path = self._path(certificate)
        fresh = path.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            fresh.write_bytes(der)
            os.replace(fresh, path)
        except OSError as problem:
            log.warn("an OCSP response cannot be kept: {problem}", problem=str(problem))

    def remove_others(self, certificates: Iterable[Certificate]) -> None:
        """Remove what belongs to none of these."""
        wanted = {self._path(certificate).name for certificate in certificates}
        try:
            found = [path for path in self._directory.iterdir() if path.name not in wanted]
            for path in found:
                path.unlink(missing_ok=True)
        except OSError:
            pass

    def _path(self, certificate: Certificate) -> Path:
        return self._directory / (certificate.fingerprint(SHA256()).hex() + _SUFFIX)
