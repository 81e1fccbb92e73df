"""What the log is told of clients, in Haraka's words."""

from twisted.logger import Logger

from harakatls.connection import Connection, TLSSummary

log = Logger()

NOT_A_PROXY = "a PROXY header, and connection.ini [haproxy] hosts has no such peer"
"""How the connection of one ended that sent a header nobody awaited."""


def log_secured(connection: Connection, summary: TLSSummary) -> None:
    """The handshake with a client that showed a certificate."""
    log.info(
        "{id} {peer} secured: {summary}",
        id=connection.id,
        peer=connection.peer,
        summary=secured_words(summary),
        verified=summary.verified,
        verify_error=summary.verify_error,
        peer_names=summary.peer_names,
        fingerprint=summary.fingerprint,
    )


def secured_words(summary: TLSSummary) -> str:
    """
    What a handshake came to, on one line::

        cipher=ECDHE-ECDSA-AES256-GCM-SHA384 version=TLSv1.2 verified=true cn="a.example"
        fingerprint=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

    with C{error="..."} before the names where the certificate is not verified.
    """
    words = [f"cipher={summary.cipher}", f"version={summary.protocol}"]
    words.append(f"verified={'true' if summary.verified else 'false'}")
    if summary.verify_error is not None:
        words.append(f"error={_quoted(summary.verify_error)}")
    words.append(f"cn={_quoted(','.join(summary.peer_names))}")
    words.append(f"fingerprint={summary.fingerprint}")
    return " ".join(words)


def by_name(connection: Connection) -> str:
    """What the peer is called, with a blank before; "" where nobody knows."""
    return "" if connection.peer_name is None else f" name={connection.peer_name}"


def by_proxy(connection: Connection) -> str:
    """Who has told the peer's address, with a blank before; "" where nobody did."""
    proxy, speaker = connection.proxied_by, connection.xclient_by
    return (f" proxy={proxy}" if proxy is not None else "") + (
        f" xclient={speaker}" if speaker is not None else ""
    )


def _quoted(text: str) -> str:
    """The peer may have written anything there, so that a quotation mark must not end it."""
    return '"' + text.replace('"', "'") + '"'
