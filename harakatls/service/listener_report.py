"""Part of ``harakatls tls``: what each port offers and demands."""

from collections.abc import Iterator

from OpenSSL import SSL

from harakatls.connection import Connection, Endpoint
from harakatls.inbound.settings import ListenerSettings
from harakatls.service.certificate_report import key_words
from harakatls.service.effective import Facts, versions
from harakatls.tls.parameters import FILE
from harakatls.tls.policy import ClientCertificate, client_certificate
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS

_CERTIFICATE_OF_CLIENT = {
    ClientCertificate.IGNORED: "not asked for",
    ClientCertificate.ASKED_FOR: "asked for",
    ClientCertificate.REQUIRED: "required",
}


def required_without_plugin(
    settings: InboundTLS, listeners: tuple[ListenerSettings, ...], has_plugin: bool
) -> Iterator[str]:
    """The mistake that keeps clients out who would use STARTTLS."""
    is_required = bool(settings.require_tls_ports or settings.require_tls_hosts)
    needs_starttls = not all(listener.implicit_tls for listener in listeners)
    if is_required and needs_starttls and not has_plugin:
        yield "plugins: TLS is required, but the plugin tls, which offers it, is missing"


def ports_without_listener(
    settings: InboundTLS, listeners: tuple[ListenerSettings, ...]
) -> Iterator[str]:
    """Warnings of ports that tls.ini lists for nothing."""
    open_ports = {listener.port for listener in listeners}
    for key, ports in (
        ("requireAuthorized", settings.require_authorized),
        ("no_starttls_ports", settings.no_starttls_ports),
        ("require_tls_ports", settings.require_tls_ports),
    ):
        for port in sorted(ports - open_ports):
            yield f"{FILE} {key}: lists {port}, but smtp.ini opens no such port"


def listener_facts(listener: ListenerSettings, server: ServerTLS, has_plugin: bool) -> Facts:
    """@param has_plugin: the plugin tls is in the file plugins."""
    snapshot, ready = server.snapshot, server.ready()
    settings = snapshot.settings
    demand = client_certificate(listener.port, settings)
    facts: Facts = {
        "address": str(listener),
        "implicit_tls": listener.implicit_tls,
        "opened": ready or not listener.implicit_tls,
        "tls": _starttls(listener, settings, ready, has_plugin),
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
        "certificates": [f"{key_words(pair)}, {pair.source}" for pair in snapshot.store.default],
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
