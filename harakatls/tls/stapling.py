"""
OCSP staples: fetched ahead, kept on disk, and there when a handshake asks for one (RFC 6066
section 8, RFC 6960).

A handshake never waits: what is not there is not shown, and what is out of date neither.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography.x509 import Certificate
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from harakatls.tls.certificates import KeyPair
from harakatls.tls.ocsp import (
    ResponseRefused,
    Staple,
    must_staple,
    read_response,
    request_for,
    responder_url,
)
from harakatls.tls.responder import NoResponse
from harakatls.tls.staples import (
    Certified,
    StapleFiles,
    Staples,
    refresh_after,
    retry_after,
    spread,
)

log = Logger()

Ask = Callable[[str, bytes], Awaitable[bytes]]
"""Asks the responder at a URL; `responder.Responders.ask`."""

_MOST_AT_ONCE = 4


class Shows(Protocol):
    """What there is to staple to; `server.ServerTLS`."""

    @property
    def staples_wanted(self) -> bool:
        """What requestOCSP says."""

    def certified(self) -> tuple[Certified, ...]:
        """The certificates that are shown now."""

    def staple_shown(self, pair: KeyPair) -> bytes:
        """What a client that asks gets to see with this certificate of ours, by trying it."""

    def on_change(self, call: Callable[[], None]) -> None:
        """Call it whenever other certificates are shown."""


# -- the service ---------------------------------------------------------------------------------


class Stapler(Service):
    """Sees to it that there is a staple for each certificate that can have one."""

    name = "stapling"

    def __init__(
        self, tls: Shows, staples: Staples, ask: Ask, directory: Path, clock: IReactorTime
    ) -> None:
        """@param directory: where to keep responses; made when there is the first."""
        self._tls = tls
        self._ask = ask
        self._clock = clock
        self.staples = staples
        self.files = StapleFiles(directory)
        self._room = DeferredSemaphore(_MOST_AT_ONCE)
        self._watches: dict[Certificate, _Watch] = {}
        self._told: set[Certificate] = set()
        tls.on_change(self._changed)

    def startService(self) -> None:
        """What is on disk is shown from now on; the rest follows."""
        super().startService()  # type: ignore[no-untyped-call]
        self._changed()

    def stopService(self) -> None:
        """Nothing is asked any more."""
        super().stopService()  # type: ignore[no-untyped-call]
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.seconds()

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self._clock, seconds)

    async def fetch(self, url: str, request: bytes) -> bytes:
        """A few at a time, however many certificates there are."""
        await self._room.acquire()
        try:
            return await self._ask(url, request)
        finally:
            self._room.release()

    def _changed(self) -> None:
        if not self.running:
            return
        try:
            shown = self._tls.certified()
            self._follow([found for found in shown if self._wanted(found)])
            self._complain(shown)
        except Exception:
            log.failure("could not see to the OCSP staples")

    def _wanted(self, found: Certified) -> bool:
        return self._tls.staples_wanted and found.wanted

    def _follow(self, shown: Collection[Certified]) -> None:
        wanted = {found.certificate: found for found in shown}
        for certificate in [known for known in self._watches if known not in wanted]:
            self._watches.pop(certificate).stop()
            self.staples.forget(certificate)
        for certificate, found in wanted.items():
            watch = self._watches.get(certificate)
            url = responder_url(certificate)
            if watch is not None:
                watch.pair = found.pair
                watch.test_soon()
            elif url is not None and found.issuer is not None:
                self._watches[certificate] = _Watch(self, found.pair, found.issuer, url)
        if wanted:
            self.files.remove_others(wanted)

    def _complain(self, shown: Collection[Certified]) -> None:
        """Tell, once for each certificate, which of them have no staple and cannot get one."""
        quiet = []
        for found in shown:
            certificate = found.certificate
            if certificate in self._watches or certificate in self._told:
                continue
            self._told.add(certificate)
            if not self._wanted(found):
                reason = "requestOCSP is off"
            elif found.issuer is None and responder_url(certificate) is not None:
                reason = "the certificate of its issuer is not in its file"
            else:
                reason = "it names no responder"
            if must_staple(certificate):
                log.critical(
                    "{source}: the certificate says that clients must refuse it without an OCSP "
                    "staple, and there is none: {reason}",
                    source=found.pair.source,
                    reason=reason,
                )
            elif self._wanted(found):
                quiet.append(f"{found.pair.source} ({reason})")
        if quiet:
            log.info("no OCSP staples for: {files}", files=", ".join(quiet))

    def test(self, pair: KeyPair) -> None:
        """Shake hands with ourselves, and complain if the staple does not come out."""
        staple = self.staples.of(pair.chain[0])
        if staple is None or not self.running:
            return
        try:
            shown = self._tls.staple_shown(pair)
        except Exception as problem:
            log.warn(
                "{source}: whether the OCSP staple is sent could not be tried: {problem}",
                source=pair.source,
                problem=str(problem) or type(problem).__name__,
            )
            return
        if shown != staple.der:
            log.error("{source}: the OCSP staple does not reach clients", source=pair.source)
        else:
            log.debug("{source}: the OCSP staple reaches clients", source=pair.source)


class _Watch:
    """Keeps the staple of one certificate fresh."""

    def __init__(self, stapler: Stapler, pair: KeyPair, issuer: Certificate, url: str) -> None:
        self.pair = pair
        self._stapler = stapler
        self._issuer = issuer
        self._url = url
        self._must = must_staple(self._certificate)
        self._failures = 0
        self._had_one = self._load()
        self._running = [Deferred.fromCoroutine(self._follow())]
        self._running[0].addErrback(_unless_stopped)
        self.test_soon()

    @property
    def _certificate(self) -> Certificate:
        return self.pair.chain[0]

    def stop(self) -> None:
        for running in self._running:
            running.cancel()

    def test_soon(self) -> None:
        """Not at once: there may be many certificates, and this costs a handshake each."""

        async def test() -> None:
            await self._stapler.sleep(0)
            self._stapler.test(self.pair)

        testing = Deferred.fromCoroutine(test())
        testing.addErrback(_unless_stopped)
        self._running[1:] = [testing]

    def _load(self) -> bool:
        der = self._stapler.files.read(self._certificate)
        if der is None:
            return False
        try:
            staple = self._read(der)
        except ResponseRefused as refused:
            log.debug("{file}: a kept OCSP response: {why}", file=self.pair.source, why=refused)
            return False
        self._stapler.staples.keep(self._certificate, staple)
        self._tell_revoked(staple)
        return True

    def _read(self, der: bytes) -> Staple:
        now = datetime.fromtimestamp(self._stapler.now(), UTC)
        return read_response(der, self._certificate, self._issuer, now)

    async def _follow(self) -> None:
        staple = self._stapler.staples.of(self._certificate)
        if staple is not None:
            await self._stapler.sleep(spread(refresh_after(staple, self._stapler.now())))
        while True:
            await self._stapler.sleep(await self._refresh())

    async def _refresh(self) -> float:
        """@return: how many seconds to wait for the next time."""
        try:
            request = request_for(self._certificate, self._issuer)
            der = await self._stapler.fetch(self._url, request)
            staple = self._read(der)
        except CancelledError:
            raise
        except (NoResponse, ResponseRefused, ValueError) as problem:
            return self._failed(str(problem))
        except Exception:
            log.failure("could not get an OCSP response")
            return self._failed("a fault of this server")
        self._take(staple)
        return spread(refresh_after(staple, self._stapler.now()))

    def _take(self, staple: Staple) -> None:
        if self._failures or not self._had_one:
            log.info("{source}: there is an OCSP staple", source=self.pair.source)
        self._failures, self._had_one = 0, True
        self._stapler.staples.keep(self._certificate, staple)
        self._stapler.files.write(self._certificate, staple.der)
        self._tell_revoked(staple)
        self._stapler.test(self.pair)

    def _failed(self, reason: str) -> float:
        self._failures += 1
        wait = spread(retry_after(self._failures))
        staple = self._stapler.staples.of(self._certificate)
        source = self.pair.source
        if staple is not None:
            # At its end at the latest, so that it is told when there is none any more.
            wait = min(wait, staple.next_update.timestamp() - self._stapler.now())
            if self._failures == 1:
                log.warn(
                    "{source}: no new OCSP staple: {reason}; the old one is good until {end}",
                    source=source,
                    reason=reason,
                    end=staple.next_update.isoformat(" ", "seconds"),
                )
        elif self._must:
            log.critical(
                "{source}: the certificate says that clients must refuse it without an OCSP "
                "staple, and there is none: {reason}",
                source=source,
                reason=reason,
            )
        elif self._failures == 1 or self._had_one:
            log.error("{source}: there is no OCSP staple: {reason}", source=source, reason=reason)
        if staple is None:
            self._had_one = False
        return wait

    def _tell_revoked(self, staple: Staple) -> None:
        if staple.revoked:
            log.critical(
                "{source}: the certificate has been REVOKED, as its issuer says: clients that "
                "look will refuse it; replace it",
                source=self.pair.source,
            )


def _unless_stopped(failure: Any) -> None:
    if not failure.check(CancelledError):
        log.failure("the care for an OCSP staple has ended", failure)
