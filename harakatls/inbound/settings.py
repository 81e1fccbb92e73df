"""What smtp.ini and connection.ini say about taking mail."""

import re
from ipaddress import IPv6Address, ip_address

from attrs import Factory, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import HostList
from harakatls.config.section import HIGHEST_PORT, Section
from harakatls.config.timeouts import plugin_timeout
from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.trusted_proxies import trusted_proxies

_EXPECTED = "expected addresses with ports, such as 127.0.0.1:2525, [::1]:2525"

# RFC 5321 section 4.2: textstring; with what we put around it the line stays below 512 octets.
_REPLY_TEXT = re.compile(r"[\t -~]{1,400}")

_NOT_YET = ""
_SMTP_INI_WITHOUT_EFFECT = {
    "nodes": "there is one process",
    "daemonize": "leave out twistd's --nodaemon",
    "daemon_log_file": "use twistd's --logfile",
    "daemon_pid_file": "use twistd's --pidfile",
    "ignore_bad_plugins": "a plugin that cannot be loaded always stops the start",
    "graceful_shutdown": "every stop waits for what is under way, see force_shutdown_timeout",
}
_CONNECTION_INI_WITHOUT_EFFECT = {
    "main": {
        "spool_dir": "large messages wait in the queue directory, see queue_dir",
        "spool_after": "large messages wait in the queue directory, see queue_dir",
        "strict_rfc1869": "addresses are always read as RFC 5321 writes them",
        "postel": "addresses are always read as RFC 5321 writes them",
    },
    "max": {"mime_parts": "a message is not taken apart here"},
    "uuid": {"banner_chars": _NOT_YET, "deny_chars": _NOT_YET},
}
_FILES_WITHOUT_EFFECT = {
    "smtp.json": "write smtp.ini",
    "smtp.yaml": "write smtp.ini",
    "databytes": "set bytes in connection.ini [max]",
    "max_line_length": "set line_length in connection.ini [max]",
    "max_data_line_length": "set data_line_length in connection.ini [max]",
    "max_mime_parts": "a message is not taken apart here",
    "smtpgreeting": "set greeting[] in connection.ini [message]",
    "ehlo_hello_message": "set helo in connection.ini [message]",
    "connection_close_message": "set close in connection.ini [message]",
    "banner_includes_uuid": _NOT_YET,
    "deny_includes_uuid": _NOT_YET,
    "haproxy_hosts": "list them as hosts[] in connection.ini [haproxy]",
}


@frozen
class ListenerSettings:
    """
    One address to listen on.

    @ivar host: an IP address, IPv6 without brackets.
    @ivar port: 0 stands for any free port.
    @ivar implicit_tls: TLS from the first octet on (RFC 8314); else STARTTLS may be offered.
    """

    host: str
    port: int
    implicit_tls: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen(kw_only=True, cache_hash=True)
class InboundSettings:
    """
    Times are seconds, sizes octets.

    @ivar me: our host name.
    @ivar listens_by_default: nothing was said about where to listen; where the system has no IPv6,
        0.0.0.0 may stand in for C{::}.
    @ivar inactivity_timeout: how long a peer may be silent.
    @ivar handshake_timeout: how long a TLS handshake may take.
    @ivar shutdown_timeout: how long a stop waits for what is under way.
    @ivar user: whose rights to take on once the ports are bound; None to stay.
    @ivar max_line_length: of a command, CRLF included.
    @ivar max_data_line_length: of a line of a message, without CRLF; longer ones are folded.
    @ivar max_bytes: of a message; 0 is without limit.
    @ivar clean_auth_results: Authentication-Results fields of others are renamed.
    @ivar max_header_lines: a longer header is told of in the log.
    @ivar max_received: more Received fields than this are taken for a mail loop.
    @ivar max_recipients: of one message.
    @ivar max_bad_commands: of one connection, unknown, malformed or out of order.
    @ivar max_failed_logins: of one connection; then it is closed.
    @ivar greeting: lines of the banner that come behind our name; empty for the usual one.
    @ivar helo: what the first line of the answer to EHLO ends with.
    @ivar close: the text of the answer to QUIT.
    @ivar proxies: from these a PROXY header is awaited, and believed.
    @ivar chunking: whether messages are taken in chunks, and BINARYMIME ones (RFC 3030).
    @ivar show_version: whether banner and Received field tell our version.
    """

    me: str
    listeners: tuple[ListenerSettings, ...] = (ListenerSettings("::", 25),)
    listens_by_default: bool = False
    inactivity_timeout: float = 300.0
    handshake_timeout: float = 30.0
    shutdown_timeout: float = 30.0
    user: str | None = None
    group: str | None = None
    max_line_length: int = 512
    max_data_line_length: int = 992
    max_bytes: int = 26214400
    clean_auth_results: bool = True
    max_header_lines: int = 1000
    max_received: int = 100
    max_recipients: int = 1000
    max_bad_commands: int = 20
    max_failed_logins: int = 5
    greeting: tuple[str, ...] = ()
    helo: str = "harakatls is at your service."
    close: str = "closing connection. Have a jolly good day."
    show_version: bool = True
    add_received: bool = True
    smtputf8: bool = True
    peers: PeerLimits = Factory(PeerLimits)
    requiretls: bool = True
    proxies: HostList = Factory(HostList)
    chunking: bool = True

    @classmethod
    def load(cls, config: ConfigDirectory) -> "InboundSettings":
        """
        Keys that Haraka knows and harakatls does not end in the directory's warnings.

        @raise ConfigError: where a value cannot be used.
        """
        main = config.ini("smtp.ini").main
        connection = config.ini("connection.ini")
        message = connection.section("message")
        limits = connection.section("max")
        headers = connection.section("headers")
        greeting = message.texts("greeting")
        usual = cls(me=config.me)
        inactivity_timeout = main.seconds("inactivity_timeout", usual.inactivity_timeout, minimum=1)
        _warn_of_what_has_no_effect(config)
        return cls(
            me=usual.me,
            listeners=_listeners(main),
            listens_by_default=not any(key in main for key in ("listen", "listen_host", "port")),
            inactivity_timeout=inactivity_timeout,
            handshake_timeout=plugin_timeout(config, "tls") or inactivity_timeout,
            shutdown_timeout=main.seconds("force_shutdown_timeout", usual.shutdown_timeout),
            user=main.text("user") or None,
            group=main.text("group") or None,
            # RFC 5321 section 4.5.3.1 says what must be taken at least.
            max_line_length=limits.integer("line_length", usual.max_line_length, 512, 65536),
            max_data_line_length=limits.integer(
                "data_line_length", usual.max_data_line_length, 78, 1 << 20
            ),
            max_bytes=limits.octets("bytes", usual.max_bytes),
            max_recipients=limits.integer("recipients", usual.max_recipients, minimum=100),
            max_bad_commands=limits.integer("bad_commands", usual.max_bad_commands, minimum=1),
            max_failed_logins=limits.integer("failed_logins", usual.max_failed_logins, minimum=1),
            clean_auth_results=headers.boolean("clean_auth_results", usual.clean_auth_results),
            max_header_lines=headers.integer("max_lines", usual.max_header_lines, minimum=1),
            max_received=headers.integer("max_received", usual.max_received, minimum=1),
            add_received=headers.boolean("add_received", usual.add_received),
            show_version=headers.boolean("show_version", usual.show_version),
            greeting=tuple(_reply_text(message, "greeting", line) for line in greeting),
            helo=_reply_text(message, "helo", message.text("helo", usual.helo)),
            close=_reply_text(message, "close", message.text("close", usual.close)),
            smtputf8=connection.main.boolean("smtputf8", usual.smtputf8),
            peers=PeerLimits.load(connection),
            requiretls=connection.main.boolean("requiretls", usual.requiretls),
            proxies=trusted_proxies(connection.section("haproxy")),
            chunking=connection.main.boolean("chunking", usual.chunking),
        )


def _reply_text(section: Section, key: str, text: str) -> str:
    if not _REPLY_TEXT.fullmatch(text):
        raise section.error(key, f"{shown(text)} is not a text of 1 to 400 ASCII characters")
    return text


def _warn_of_what_has_no_effect(config: ConfigDirectory) -> None:
    config.ini("smtp.ini").main.unsupported(_SMTP_INI_WITHOUT_EFFECT)
    connection = config.ini("connection.ini")
    for name, reasons in _CONNECTION_INI_WITHOUT_EFFECT.items():
        connection.section(name).unsupported(reasons)
    for file, reason in _FILES_WITHOUT_EFFECT.items():
        if config.exists(file):
            config.warn(file, "has no effect in harakatls" + (f"; {reason}" if reason else ""))


# -- where to listen -------------------------------------------------------------------------


def _listeners(main: Section) -> tuple[ListenerSettings, ...]:
    """From C{listen}; the older C{listen_host} and C{port} come first if they are there."""
    smtps_port = main.integer("smtps_port", 465, minimum=0, maximum=HIGHEST_PORT)
    found: list[tuple[str, int]] = []
    port = main.integer("port", minimum=0, maximum=HIGHEST_PORT)
    host = main.text("listen_host")
    if port is not None or host is not None:
        found.append(_address(main, "listen_host", host or "::", 25 if port is None else port))
    if "listen" in main:
        entries = [text.strip() for line in main.texts("listen") for text in line.split(",")]
        if not any(entries):
            raise main.error("listen", f"names no address; {_EXPECTED}")
        found.extend(_address(main, "listen", entry, 25) for entry in entries if entry)
    elif not found:
        found.append(("::", 25))
    listeners: list[ListenerSettings] = []
    for host, port in found:
        # Port 0 is chosen by the system at each listener anew, so it never is the SMTPS port.
        listener = ListenerSettings(host, port, port == smtps_port and port != 0)
        if listener in listeners and port != 0:
            raise main.error("listen", f"{listener} is listed twice")
        listeners.append(listener)
    return tuple(listeners)


def _address(section: Section, key: str, text: str, default_port: int) -> tuple[str, int]:
    """
    One entry of C{listen}: C{127.0.0.1:25}, C{127.0.0.1}, C{[::1]:25}, C{[::1]}, C{::1}, or C{25}
    for all addresses.

    Unix sockets are refused, and names as well: which address they mean is not for us to guess.
    """

    def wrong(problem: str) -> Exception:
        return section.error(key, f"{shown(text)} {problem}; {_EXPECTED}")

    if text.startswith("/"):
        raise wrong("is a unix socket, which is not supported")
    host, port = _split(text)
    if host is None:
        raise wrong("could be an address, or an address with a port: put the address in brackets")
    try:
        address = ip_address(host)
    except ValueError:
        raise wrong("is not an IP address") from None
    if port is None:
        return str(address), default_port
    # isdigit() alone is true for other scripts' digits, too.
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= HIGHEST_PORT):
        raise wrong(f"has no port from 0 to {HIGHEST_PORT}")
    return str(address), int(port)


def _split(text: str) -> tuple[str | None, str | None]:
    """
    Host and port, as they stand.

    @return: the port is None where there is none, the host where both readings are possible, as
        in C{::1:2525}.
    """
    if text.isascii() and text.isdigit():
        return "::", text
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        return text, None
    host, colon, port = text.rpartition(":")
    if ":" in host:  # IPv6 without brackets
        with_port = _is_ipv6(host) and port.isdigit()
        if not _is_ipv6(text):
            return (host, port) if with_port else (text, None)
        return None if with_port else text, None
    return (host, port) if colon else (text, None)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
