"""The trace of a message: the Received field (RFC 5321 section 4.4)."""

import re
from email.utils import formatdate
from functools import lru_cache

from harakatls.connection import Connection, Transaction
from harakatls.inbound.replies import product
from harakatls.inbound.tls_clause import tls_clause
from harakatls.mail.address import Address

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}\Z")
_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_SPECIAL_IN_COMMENT = re.compile(r"([()\\])")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]+\Z")


class TraceFields:
    """
    Writes the Received field of each message of one connection::

        Received: from client.example ([192.0.2.1])
                by mx.example (harakatls/1.0) with ESMTPS id 4C1F….1
                (envelope-from <a@b.example>)
                tls TLS_AES_256_GCM_SHA384 (TLSv1.3 X25519 sni=mx.example)
                (REQUIRETLS);
                Sun, 23 Nov 2025 04:01:00 +0000
    """

    def __init__(self, me: str, show_version: bool) -> None:
        self._by = f"{me} ({product(show_version)})"
        self._connection: Connection | None = None
        self._from_and_by = ""
        self._protocol = ""
        self._tls = ""

    def received(self, connection: Connection, transaction: Transaction, now: float) -> bytes:
        """@param now: seconds since the epoch."""
        if connection is not self._connection:
            self._remember(connection)
        envelope = transaction.envelope
        utf8 = "UTF8" if envelope.parameters.smtputf8 else ""
        # RFC 8689 has no clause for it.
        requiretls = "\r\n\t(REQUIRETLS)" if envelope.parameters.requiretls else ""
        protocol = self._protocol.removeprefix("E") if utf8 else self._protocol
        return (
            f"{self._from_and_by} with {utf8}{protocol} id {transaction.id}\r\n"
            f"\t(envelope-from <{_path(envelope.reverse_path)}>){self._tls}{requiretls};\r\n"
            f"\t{_date(int(now))}\r\n"
        ).encode("utf-8", "replace")

    def _remember(self, connection: Connection) -> None:
        self._connection = connection
        hello = connection.hello
        self._from_and_by = (
            f"Received: from {_host(hello.name if hello else '')}"
            f" ({_told_name(connection)}[{_literal(connection.peer.host)}])\r\n\tby {self._by}"
        )
        self._protocol = with_protocol(connection)
        self._tls = "" if connection.secured is None else tls_clause(connection.secured)


def with_protocol(connection: Connection) -> str:
    """The keyword of the "with" clause (RFC 3848); UTF8SMTP and so on stand for theirs."""
    if connection.hello is None or not connection.hello.extended:
        return "SMTP"
    tls = "S" if connection.secured is not None else ""
    auth = "A" if connection.authenticated_as is not None else ""
    return f"ESMTP{tls}{auth}"


def _host(name: str) -> str:
    """A HELO name is whatever the peer likes, so only what a name is made of is repeated."""
    return name if _HOST.match(name) else _NOT_IN_HOST.sub("?", name[:255]) or "unknown"


def _told_name(connection: Connection) -> str:
    return "" if connection.peer_name is None else f"{_host(connection.peer_name)} "


def _literal(host: str) -> str:
    return f"IPv6:{host}" if ":" in host else host


def _path(address: Address | None) -> str:
    if address is None:
        return ""
    text = str(address)
    # A quoted local part may hold what would end the comment that it stands in.
    return text if _PLAIN_PATH.match(text) else _SPECIAL_IN_COMMENT.sub(r"\\\1", text)


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    return formatdate(second, localtime=True)
