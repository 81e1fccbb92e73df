"""What tls.ini and the files it names come to: a report as plain data, for people and programs."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate, NameOID
from OpenSSL import SSL

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, Endpoint
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from harakatls.outbound.settings import OutboundSettings
from harakatls.service.effective import (
    Facts,
    incoming,
    memory,
    outgoing,
    rules_of,
    servers_of,
    versions,
)
from harakatls.service.identity_report import identities, identity_advice
from harakatls.service.server import STAPLES
from harakatls.service.staple_report import StapleState, staple_state
from harakatls.tls.certificates import KeyPair, wildcard_for
from harakatls.tls.client import ClientTLS
from harakatls.tls.handshake import fingerprint
from harakatls.tls.parameters import FILE
from harakatls.tls.policy import ClientCertificate, client_certificate
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS, OutboundTLS, TLSSettings
from harakatls.tls.snapshot import Snapshot

EXPIRES_SOON = 14
"""Days. What renews certificates by itself has done so long before."""

_T = TypeVar("_T")
_MOST_MISTAKES = 100
_PLUGIN = "tls"
_CERTIFICATE_OF_CLIENT = {
    ClientCertificate.IGNORED: "not asked for",
    ClientCertificate.ASKED_FOR: "asked for",
    ClientCertificate.REQUIRED: "required",
}


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
    mistakes: list[str] = []

    def settings_of(load: Callable[[ConfigDirectory], _T]) -> _T | None:
        for _ in range(_MOST_MISTAKES):
            try:
                return load(config)
            except ConfigError as error:
                mistakes.append(str(error))
                if not _leave_out(config, error):
                    return None
        return None

    def contexts(config: ConfigDirectory) -> tuple[TLSSettings, ServerTLS, list[ClientTLS]]:
        settings = TLSSettings.load(config)
        server = ServerTLS(settings.inbound, inbound.me if inbound is not None else "localhost")
        outbound = (settings.outbound, *_plugins(config, settings).values())
        return settings, server, [ClientTLS(found) for found in outbound]

    inbound = settings_of(InboundSettings.load)
    outbound = settings_of(OutboundSettings.load)
    queue = settings_of(queue_directory)
    made = settings_of(contexts)
    unknown = config.ini(FILE).unknown if made is not None else ()
    told = tuple(w for w in config.warnings if w.startswith(FILE) and w not in unknown)
    if made is None:
        return TLSReport(mistakes=tuple(dict.fromkeys(mistakes)), warnings=told)
    settings, server, clients = made
    snapshot = server.snapshot
    listeners = inbound.listeners if inbound is not None else ()
    has_plugin = _PLUGIN in config.lines("plugins")
    mistakes.extend(server.problems)
    mistakes.extend(problem for client in clients for problem in client.problems)
    mistakes.extend(unknown)
    staples = _staples(server, queue, now)
    for pair in snapshot.pairs:
        state = staples.get(pair.chain[0])
        if state is not None and state.mistake is not None:
            mistakes.append(f"{pair.source}: {state.mistake}")
    if (settings.inbound.require_tls_ports or settings.inbound.require_tls_hosts) and (
        not has_plugin and not all(listener.implicit_tls for listener in listeners)
    ):
        mistakes.append("plugins: TLS is required, but the plugin tls, which offers it, is missing")
    return TLSReport(
        certificates=tuple(_certificate(pair, snapshot, now, staples) for pair in snapshot.pairs),
        listeners=tuple(_listener(listener, server, has_plugin) for listener in listeners),
        identities=identities(clients[0], now),
        incoming=incoming(snapshot.settings),
        named={name: rules_of(rules) for name, rules in snapshot.settings.named.items()},
        outgoing=outgoing(settings.outbound, outbound),
        plugins={name: servers_of(found) for name, found in _plugins(config, settings).items()},
        redis=memory(settings.nogo),
        mistakes=tuple(dict.fromkeys(mistakes)),
        warnings=(
            *told,
            *_advice(snapshot, now, inbound.me if inbound is not None else None),
            *(
                advice
                for client in clients
                for advice in identity_advice(client, now, EXPIRES_SOON)
            ),
            *_ports_without_listener(snapshot.settings, listeners),
        ),
    )


def _plugins(config: ConfigDirectory, settings: TLSSettings) -> Mapping[str, OutboundTLS]:
    """Those with a section of their own."""
    written = config.ini(FILE).sections()
    return {name: found for name, found in settings.plugins.items() if found.section in written}


def _leave_out(config: ConfigDirectory, error: ConfigError) -> bool:
    """@return: whether there is anything left to be looked at."""
    if error.section is None:
        return False
    return config.ini(error.file).leave_out(error.section, error.key)


def _advice(snapshot: Snapshot, now: datetime, me: str | None) -> Iterable[str]:
    for pair in snapshot.pairs:
        days = (pair.not_after - now).days
        if 0 <= days < EXPIRES_SOON:
            yield f"{pair.source}: the certificate expires in {days} days"
    shown = snapshot.store.for_name(me)
    covered = {name for pair in shown for name in pair.names}
    if shown and me is not None and not {me, wildcard_for(me)} & covered:
        yield f"{shown[0].source}: the certificate is not for {me}, our name in the file me"


def _ports_without_listener(
    settings: InboundTLS, listeners: tuple[ListenerSettings, ...]
) -> Iterable[str]:
    open_ports = {listener.port for listener in listeners}
    for key, ports in (
        ("requireAuthorized", settings.require_authorized),
        ("no_starttls_ports", settings.no_starttls_ports),
        ("require_tls_ports", settings.require_tls_ports),
    ):
        for port in sorted(ports - open_ports):
            yield f"{FILE} {key}: lists {port}, but smtp.ini opens no such port"


# -- certificates ------------------------------------------------------------------------------


def _certificate(
    pair: KeyPair, snapshot: Snapshot, now: datetime, staples: Mapping[Certificate, StapleState]
) -> Facts:
    leaf, last = pair.chain[0], pair.chain[-1]
    staple = staples.get(leaf)
    named = snapshot.store.named
    is_own = last.issuer == last.subject
    return {
        "source": pair.source,
        "default": pair in snapshot.store.default,
        "shown_for": [name for name, pairs in named.items() if pair in pairs],
        "names": list(pair.names),
        "key": _key(pair),
        "serial": f"{leaf.serial_number:02X}",
        "sha256": fingerprint(leaf),
        "valid_from": leaf.not_valid_before_utc.isoformat(),
        "valid_until": pair.not_after.isoformat(),
        "days_left": (pair.not_after - now).days,
        "chain": [_subject(certificate) for certificate in pair.chain],
        "issuer_of_last": None if is_own else last.issuer.rfc4514_string(),
        "staple": staple.text if staple is not None else None,
    }


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


def _key(pair: KeyPair) -> str:
    key = pair.private_key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"EC {key.curve.name}"
    size = getattr(key, "key_size", None)
    return pair.kind if size is None else f"{pair.kind} {size} bits"


def _subject(certificate: Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string() or "no name"


# -- listeners ---------------------------------------------------------------------------------


def _listener(listener: ListenerSettings, server: ServerTLS, has_plugin: bool) -> Facts:
    snapshot, ready = server.snapshot, server.ready()
    settings = snapshot.settings
    demand = client_certificate(listener.port, settings)
    tls = _starttls(listener, settings, ready, has_plugin)
    facts: Facts = {
        "address": str(listener),
        "implicit_tls": listener.implicit_tls,
        "opened": ready or not listener.implicit_tls,
        "tls": tls,
    }
    if not ready:
        return facts
    context = snapshot.context(None, demand)
    return facts | {
        "required_of": "everybody"
        if listener.implicit_tls or listener.port in settings.require_tls_ports
        else list(settings.require_tls_hosts.entries),
        "not_offered_to": [] if listener.implicit_tls else list(settings.no_tls_hosts.entries),
        "versions": versions(settings.parameters),
        "ciphers": [
            name
            for name in SSL.Connection(context, None).get_cipher_list()
            if _is_agreed_on(name, server, listener.port)
        ],
        "groups": settings.parameters.groups or "auto",
        "certificates": [f"{_key(pair)}, {pair.source}" for pair in snapshot.store.default],
        "client_certificate": _CERTIFICATE_OF_CLIENT[demand],
        "client_certificate_by_name": {
            name: _CERTIFICATE_OF_CLIENT[client_certificate(listener.port, rules)]
            for name, rules in settings.named.items()
        },
    }


def _is_agreed_on(cipher: str, server: ServerTLS, port: int) -> bool:
    """
    Whether a client that knows no other one gets an answer. OpenSSL lists many for which there is
    no key, and some that nobody can use.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    try:
        if cipher.startswith("TLS_"):
            context.set_min_proto_version(SSL.TLS1_3_VERSION)
            context.set_tls13_ciphersuites(cipher.encode("ascii"))
        else:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_cipher_list(f"{cipher}:@SECLEVEL=0".encode("ascii"))
        hello = _flight(SSL.Connection(context, None), b"")
        somebody = Connection("", Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", port), False)
        creator = server.connection_creator(somebody, hello)
        _flight(creator.serverConnectionForTLS(None), hello)  # type: ignore[arg-type]
    except SSL.Error:
        return False
    return True


def _flight(side: SSL.Connection, heard: bytes) -> bytes:
    """What one side says first. @raise SSL.Error: it cannot agree."""
    if heard:
        side.set_accept_state()
        side.bio_write(heard)
    else:
        side.set_connect_state()
    try:
        side.do_handshake()
    except SSL.WantReadError:
        pass
    return side.bio_read(1 << 16)


def _starttls(
    listener: ListenerSettings, settings: InboundTLS, ready: bool, has_plugin: bool
) -> str:
    if listener.implicit_tls:
        return "from the first octet on" if ready else "not opened: there is no certificate"
    if not ready:
        return "STARTTLS is not offered: there is no certificate"
    if not has_plugin:
        return "STARTTLS is not offered: the plugin tls is not in the file plugins"
    if listener.port in settings.require_tls_ports:
        return "STARTTLS is required"
    if listener.port in settings.no_starttls_ports:
        return "STARTTLS is not offered: no_starttls_ports lists the port"
    return "STARTTLS is offered"


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
