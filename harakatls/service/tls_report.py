"""What tls.ini and the files it names come to: a report as plain data, for people and programs."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen
from cryptography.x509 import Certificate

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.config.errors import ConfigError
from harakatls.inbound.settings import InboundSettings
from harakatls.outbound.settings import OutboundSettings
from harakatls.service.certificate_report import certificate_facts
from harakatls.service.effective import Facts, incoming, memory, outgoing, rules_of, servers_of
from harakatls.service.identity_report import identities, identity_advice
from harakatls.service.listener_report import (
    listener_facts,
    ports_without_listener,
    required_without_plugin,
)
from harakatls.service.server import STAPLES
from harakatls.service.staple_report import StapleState, staple_state
from harakatls.tls.certificates import wildcard_for
from harakatls.tls.client import ClientTLS
from harakatls.tls.parameters import FILE
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from harakatls.tls.snapshot import Snapshot

EXPIRES_SOON = 14
"""Days. What renews certificates by itself has done so long before."""

_T = TypeVar("_T")
_MOST_MISTAKES = 100
_PLUGIN = "tls"


@frozen
class TLSReport:
    """
    @ivar certificates: all that are shown to anybody, the default ones first.
    @ivar listeners: one for each address of smtp.ini.
    @ivar identities: which next hop gets to see which certificate of ours.
    @ivar incoming: the effective settings, by their names in tls.ini.
    @ivar named: those for clients that ask for a name with a section of its own, by that name.
    @ivar outgoing: those for mail that goes out.
    @ivar plugins: those of the plugins that have a section of their own, by their names.
    @ivar redis: about the memory of hosts with which TLS failed.
    @ivar mistakes: a line for each, which begins with the file.
    @ivar warnings: what works, but should be looked at.
    """

    certificates: tuple[Facts, ...] = ()
    listeners: tuple[Facts, ...] = ()
    identities: tuple[Facts, ...] = ()
    incoming: Facts = field(factory=dict)
    named: Mapping[str, Facts] = field(factory=dict)
    outgoing: Facts = field(factory=dict)
    plugins: Mapping[str, Facts] = field(factory=dict)
    redis: Facts = field(factory=dict)
    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def tls_report(config: ConfigDirectory, now: datetime) -> TLSReport:
    """A setting with a mistake is left out, so that what else is wrong shows as well."""
    loading = _Loading(config)
    inbound = loading.settings_of(InboundSettings.load)
    outbound = loading.settings_of(OutboundSettings.load)
    queue = loading.settings_of(queue_directory)
    me = inbound.me if inbound is not None else None
    made = loading.settings_of(lambda config: _Made.of(config, me))
    unknown = config.ini(FILE).unknown if made is not None else ()
    told = tuple(w for w in config.warnings if w.startswith(FILE) and w not in unknown)
    if made is None:
        return TLSReport(mistakes=tuple(dict.fromkeys(loading.mistakes)), warnings=told)
    settings, server, snapshot = made.settings, made.server, made.server.snapshot
    listeners = inbound.listeners if inbound is not None else ()
    has_plugin = _PLUGIN in config.lines("plugins")
    staples = _staples(server, queue, now)
    return TLSReport(
        certificates=tuple(
            certificate_facts(pair, snapshot, now, staples) for pair in snapshot.pairs
        ),
        listeners=tuple(listener_facts(listener, server, has_plugin) for listener in listeners),
        identities=identities(made.client, now),
        incoming=incoming(snapshot.settings),
        named={name: rules_of(rules) for name, rules in snapshot.settings.named.items()},
        outgoing=outgoing(settings.outbound, outbound),
        plugins={name: servers_of(client.settings) for name, client in made.plugins.items()},
        redis=memory(settings.nogo),
        mistakes=tuple(
            dict.fromkeys(
                (
                    *loading.mistakes,
                    *made.problems,
                    *unknown,
                    *_mistakes_of_staples(snapshot, staples),
                    *required_without_plugin(settings.inbound, listeners, has_plugin),
                )
            )
        ),
        warnings=(
            *told,
            *_advice(snapshot, now, me),
            *made.advice_on_identities(now),
            *ports_without_listener(snapshot.settings, listeners),
        ),
    )


@frozen
class _Loading:
    """@ivar mistakes: what was wrong with settings that were read, in that order."""

    config: ConfigDirectory
    mistakes: list[str] = field(factory=list)

    def settings_of(self, load: Callable[[ConfigDirectory], _T]) -> _T | None:
        """@return: None where there is nothing left to leave out."""
        for _ in range(_MOST_MISTAKES):
            try:
                return load(self.config)
            except ConfigError as error:
                self.mistakes.append(str(error))
                if not _leave_out(self.config, error):
                    return None
        return None


@frozen
class _Made:
    """
    What tls.ini comes to.

    @ivar client: for mail that goes out.
    @ivar plugins: for those of the plugins that have a section of their own, by their names.
    """

    settings: TLSSettings
    server: ServerTLS
    client: ClientTLS
    plugins: Mapping[str, ClientTLS]

    @classmethod
    def of(cls, config: ConfigDirectory, me: str | None) -> "_Made":
        """@raise ConfigError: a value cannot be used."""
        settings = TLSSettings.load(config)
        written = config.ini(FILE).sections()
        return cls(
            settings,
            ServerTLS(settings.inbound, "localhost" if me is None else me),
            ClientTLS(settings.outbound),
            {
                name: ClientTLS(found)
                for name, found in settings.plugins.items()
                if found.section in written
            },
        )

    @property
    def problems(self) -> Iterator[str]:
        """What is wrong with files, a line each."""
        yield from self.server.problems
        for client in (self.client, *self.plugins.values()):
            yield from client.problems

    def advice_on_identities(self, now: datetime) -> Iterator[str]:
        for client in (self.client, *self.plugins.values()):
            yield from identity_advice(client, now, EXPIRES_SOON)


def _leave_out(config: ConfigDirectory, error: ConfigError) -> bool:
    """@return: whether there is anything left to be looked at."""
    if error.section is None:
        return False
    return config.ini(error.file).leave_out(error.section, error.key)


def _mistakes_of_staples(
    snapshot: Snapshot, staples: Mapping[Certificate, StapleState]
) -> Iterator[str]:
    for pair in snapshot.pairs:
        state = staples.get(pair.chain[0])
        if state is not None and state.mistake is not None:
            yield f"{pair.source}: {state.mistake}"


def _advice(snapshot: Snapshot, now: datetime, me: str | None) -> Iterator[str]:
    for pair in snapshot.pairs:
        days = (pair.not_after - now).days
        if 0 <= days < EXPIRES_SOON:
            yield f"{pair.source}: the certificate expires in {days} days"
    shown = snapshot.store.for_name(me)
    covered = {name for pair in shown for name in pair.names}
    if shown and me is not None and not {me, wildcard_for(me)} & covered:
        yield f"{shown[0].source}: the certificate is not for {me}, our name in the file me"


def _staples(
    server: ServerTLS, queue: Path | None, now: datetime
) -> Mapping[Certificate, StapleState]:
    """@param queue: None where nobody knows where it is, which is a mistake of its own."""
    if server.staples_wanted and queue is None:
        return {}
    directory = queue / STAPLES if server.staples_wanted and queue is not None else None
    return {
        found.certificate: staple_state(found, directory if found.wanted else None, now)
        for found in server.certified()
    }


def as_mapping(report: TLSReport) -> Mapping[str, Any]:
    """For JSON."""
    return {
        "certificates": report.certificates,
        "listeners": report.listeners,
        "identities": report.identities,
        "incoming": report.incoming,
        "incoming_by_name": report.named,
        "outgoing": report.outgoing,
        "plugins": report.plugins,
        "redis": report.redis,
        "mistakes": report.mistakes,
        "warnings": report.warnings,
    }
