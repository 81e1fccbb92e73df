"""New certificates and TLS settings are taken on without a restart."""

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from harakatls.config.directory import ConfigDirectory, Stamp, stamp
from harakatls.config.errors import ConfigError
from harakatls.tls.certificates import KeyPair
from harakatls.tls.client import ClientTLS
from harakatls.tls.handshake import fingerprint
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from harakatls.tls.snapshot import Snapshot

log = Logger()

ROUND = 2.0
"""Seconds. What has changed gets one round to be complete."""

SETTLE = 0.75
"""Seconds that it gets once more if it is still changing then: all counts before 5 are over."""

REMIND = timedelta(days=1).total_seconds()
"""So often the log repeats that a change could not be used: else certificates expire unnoticed."""

_NAMES_TOLD = 5

Stamps = Mapping[Path, Stamp | None]


@frozen
class _TLSFound:
    """
    One reading of all that belongs to TLS.

    @ivar problems: why it cannot be used; what was wrong before is no reason.
    """

    stamps: Stamps
    problems: tuple[str, ...]
    settings: TLSSettings | None = None
    inbound: Snapshot | None = None
    outbound: ClientTLS | None = None
    warnings: tuple[str, ...] = ()


@frozen
class _OtherFile:
    """A file that is read at the start alone, as it was then and as it was last looked at."""

    at_start: bytes | None
    stamp: Stamp | None
    told: bytes | None = field(repr=False)


class TLSReload:
    """
    Looks at the files every few seconds, and takes on what is new as a whole or not at all.

    What costs time (looking, reading, making contexts) is done in a thread.
    """

    def __init__(
        self,
        config: ConfigDirectory,
        settings: TLSSettings,
        stamps: Stamps,
        server: ServerTLS,
        client: ClientTLS,
        clock: IReactorTime,
        call_in_thread: Callable[..., Awaitable[Any]],
        taken_on: Callable[[TLSSettings], None],
        read: Callable[[TLSSettings], object] = lambda _: None,
    ) -> None:
        """
        @param config: the one that everybody has read from, or will.
        @param settings: those that *server* and *client* go by.
        @param stamps: of the files that belong to these.
        @param taken_on: told when *server* and *client* have taken on new settings.
        @param read: told what was read without a mistake, also where nothing is new in it; after
            *taken_on*.
        """
        self._config = config
        self._settings = settings
        self._stamps = dict(stamps)
        self._server = server
        self._client = client
        self._clock = clock
        self._call_in_thread = call_in_thread
        self._taken_on = taken_on
        self._read_well = read
        self._others: dict[Path, _OtherFile] = {}
        self._warned = set(config.warnings)
        self._seen: Stamps | None = None  # of what has changed, when that was seen first
        self._settling: IDelayedCall | None = None
        self._refusal: str | None = None
        self._told_at = 0.0
        self._one_at_a_time = DeferredLock()
        self._rounds = LoopingCall(self._round)
        self._rounds.clock = clock

    def start(self) -> None:
        """From now on, changes are noticed; everybody has read their files."""
        self._warned.update(self._config.warnings)
        for path, seen in self._config.stamps.items():
            if path not in self._stamps:
                content = _digest(path)
                self._others[path] = _OtherFile(content, seen, content)
        self._rounds.start(ROUND, now=False)

    def stop(self) -> None:
        """What is being read comes to nothing."""
        self._settled()
        if self._rounds.running:
            self._rounds.stop()

    def reload(self) -> Deferred[None]:
        """At once, and saying so in any case (SIGHUP)."""
        return self._alone(self._reload_now)

    # -- rounds ------------------------------------------------------------------------------

    def _round(self) -> Deferred[None]:
        return self._alone(self._look)

    def _alone(self, do: Callable[[], Any]) -> Deferred[None]:
        done = self._one_at_a_time.run(lambda: Deferred.fromCoroutine(do()))
        # Whatever goes wrong, the next round comes.
        done.addErrback(lambda failure: log.failure("TLS: could not reload", failure=failure))
        return done

    async def _look(self) -> None:
        if self._settling is None:
            await self._look_at_files()
        self._remind()
        await self._tell_of_others(again=False)

    async def _look_at_files(self) -> None:
        before, seen = self._seen, await self._call_in_thread(_changed, self._stamps)
        self._seen = seen
        if seen is None or before is None:
            return  # half of a pair may have been written by now; so not before the next round
        if seen == before:
            await self._take_on_what_is_there()
        else:
            self._settling = self._clock.callLater(SETTLE, self._alone, self._take_on_what_is_there)

    async def _take_on_what_is_there(self) -> None:
        self._settled()
        await self._reload()

    def _settled(self) -> None:
        """Nothing is waited for any more."""
        self._seen = None
        if self._settling is not None and self._settling.active():
            self._settling.cancel()
        self._settling = None

    async def _reload_now(self) -> None:
        self._settled()
        if not await self._reload() and self._refusal is None:
            log.info("SIGHUP: nothing has changed for TLS")
        await self._tell_of_others(again=True)

    def _remind(self) -> None:
        if self._refusal is not None and self._clock.seconds() - self._told_at >= REMIND:
            self._refuse(self._refusal)

    # -- TLS ---------------------------------------------------------------------------------

    async def _reload(self) -> bool:
        """@return: whether new settings or certificates have been taken on."""
        found = await self._call_in_thread(self._read)
        self._stamps = found.stamps
        for warning in found.warnings:
            if warning not in self._warned:
                log.warn("{problem}", problem=warning)
        self._warned.update(found.warnings)
        if found.problems:
            self._refuse("; ".join(found.problems))
            return False
        was_refused, self._refusal = self._refusal is not None, None
        assert found.settings is not None
        is_new = bool(found.settings != self._settings)
        if is_new:
            self._take_on(found)
        elif was_refused:
            log.info("TLS: the change that could not be used has been taken back")
        self._read_well(found.settings)
        return is_new

    def _refuse(self, reason: str) -> None:
        self._refusal, self._told_at = reason, self._clock.seconds()
        log.error(
            "TLS: what has changed is not used, all goes on as before: {reason}", reason=reason
        )

    def _read(self) -> _TLSFound:
        """In a thread: nothing is changed."""
        config = self._config
        try:
            config = ConfigDirectory(self._config.path)
            settings = TLSSettings.load(config)
            inbound, outbound = self._server.prepare(settings.inbound), ClientTLS(settings.outbound)
            problems = self._new_problems(inbound, outbound)
        except ConfigError as error:
            known = config.stamps if config is not self._config else {}
            others = {path: stamp(path, s) for path, s in self._stamps.items() if path not in known}
            return _TLSFound({**others, **known}, (str(error),))
        stamps = config.stamps
        if problems:  # what was used so far may come back
            stamps = {**{path: stamp(path, s) for path, s in self._stamps.items()}, **stamps}
        return _TLSFound(stamps, problems, settings, inbound, outbound, config.warnings)

    def _new_problems(self, inbound: Snapshot, outbound: ClientTLS) -> tuple[str, ...]:
        """
        One file that has been wrong since the start, or a certificate that has expired since, must
        not keep the others from being renewed.
        """
        now = self._server.prepare(self._settings.inbound)
        known = {*now.problems, *ClientTLS(self._settings.outbound).problems}
        found = (*inbound.problems, *outbound.problems)
        problems = tuple(problem for problem in found if problem not in known)
        if now.store.default and not inbound.store.default and not problems:
            return ("there is no certificate any more",)
        return problems

    def _take_on(self, found: _TLSFound) -> None:
        before, old = self._server.snapshot, self._settings
        assert found.settings is not None and found.inbound is not None
        assert found.outbound is not None
        self._server.adopt(found.inbound)
        self._client.adopt(found.outbound)
        self._settings = found.settings
        self._taken_on(found.settings)
        log.info("TLS: new connections go by what has changed in tls.ini and the files it names")
        _tell_of_certificates(before.pairs, found.inbound.pairs)
        if old.nogo != found.settings.nogo:
            log.warn("[redis] of tls.ini, or redis.ini, has changed; restart to apply")

    # -- other files -------------------------------------------------------------------------

    async def _tell_of_others(self, again: bool) -> None:
        """@param again: also of those of which it was told before."""
        looked = await self._call_in_thread(_look_at_others, self._config.path, self._others)
        for path, (seen, content) in looked.items():
            other = self._others[path]
            self._others[path] = _OtherFile(other.at_start, seen, content)
            if content != other.told and content != other.at_start:
                self._tell_of_other(path)
        if again:
            for path, other in self._others.items():
                if path not in looked and other.told != other.at_start:
                    self._tell_of_other(path)

    def _tell_of_other(self, path: Path) -> None:
        root = self._config.path
        name = path.relative_to(root) if path.is_relative_to(root) else path
        log.warn("{file} has changed; restart to apply", file=str(name))


def _changed(stamps: Stamps) -> Stamps | None:
    """
    @return: the stamps as they are by now, also of all that is below directories that have changed,
        since files that are new grow; None where nothing has changed.
    """
    found = {path: stamp(path, seen) for path, seen in stamps.items()}
    if found == stamps:
        return None
    for path, seen in stamps.items():
        if found[path] != seen and path.is_dir():
            for top, _, names in os.walk(path):
                found.update({Path(top, name): stamp(Path(top, name)) for name in names})
    return found


def _look_at_others(
    root: Path, others: Mapping[Path, _OtherFile]
) -> dict[Path, tuple[Stamp | None, bytes | None]]:
    """
    The changed ones alone. That a file was written anew says nothing, so they are read; nor does it
    that there is no file while there is no directory.
    """
    found: dict[Path, tuple[Stamp | None, bytes | None]] = {}
    if not root.is_dir():
        return found
    for path, other in others.items():
        seen = stamp(path, other.stamp)
        if seen != other.stamp:
            found[path] = seen, _digest(path)
    return found


def _digest(path: Path) -> bytes | None:
    """Of a file's content; None where there is none that could be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would hold us for ever
        with open(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return None


def _tell_of_certificates(before: tuple[KeyPair, ...], now: tuple[KeyPair, ...]) -> None:
    """A line for each that is new, and for each that is gone."""
    old = {fingerprint(pair.chain[0]): pair for pair in before}
    new = {fingerprint(pair.chain[0]): pair for pair in now}
    for name, pair in new.items():
        if name not in old:
            log.info(
                "TLS: {source}: new {kind} certificate for {names}, serial {serial}, valid until "
                "{expiry}",
                source=pair.source,
                kind=pair.kind,
                names=_names(pair),
                serial=serial_number(pair),
                expiry=str(pair.not_after),
            )
    for name, pair in old.items():
        if name not in new:
            log.info(
                "TLS: {source}: the {kind} certificate for {names}, serial {serial}, is no longer "
                "shown",
                source=pair.source,
                kind=pair.kind,
                names=_names(pair),
                serial=serial_number(pair),
            )


def serial_number(pair: KeyPair) -> str:
    """Of the certificate, as the tools of OpenSSL write it."""
    return f"{pair.chain[0].serial_number:02X}"


def _names(pair: KeyPair) -> str:
    more = len(pair.names) - _NAMES_TOLD
    shown = ", ".join(pair.names[:_NAMES_TOLD])
    return (shown + (f" and {more} more" if more > 0 else "")) or "no name"
