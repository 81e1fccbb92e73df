"""A next hop on loopback, written apart from harakatls: threads, sockets and the ssl module."""

import socket
import ssl
import threading
from collections import Counter
from pathlib import Path

from tests.wire.thread_server import ThreadServer


class Sink(ThreadServer):
    """
    Takes every message and counts it by its Message-ID.

    @ivar messages: how often each Message-ID was taken (answered 250 after the dot).
    @ivar bodies: the last message taken, by Message-ID.
    @ivar envelopes: (MAIL line, RCPT lines) of the last message taken, by Message-ID.
    @ivar taken: how often each message was taken for each recipient: (Message-ID, address).
    @ivar in_clear: how many messages came without TLS.
    @ivar resumed: for each handshake whether it resumed a session.
    @ivar clients: the common names of the clients' certificates, where it `demands` these.
    """

    def __init__(
        self, certificate: Path | None = None, key: Path | None = None, port: int = 0
    ) -> None:
        self.messages: Counter[str] = Counter()
        self.bodies: dict[str, bytes] = {}
        self.envelopes: dict[str, tuple[str, list[str]]] = {}
        self.taken: Counter[tuple[str, str]] = Counter()
        self.in_clear = 0
        self.resumed: list[bool] = []
        self.clients: list[str] = []
        self.replies: dict[str, str] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate, key)
        super().__init__(port)

    def answer(self, verb: str, reply: str) -> None:
        """From now on *verb* ("RCPT", "." for the end of data) is answered with *reply*."""
        self.replies[verb] = reply

    def recipient(self, address: str) -> str:
        """The reply to RCPT; for subclasses that do not know everybody."""
        return "250 2.1.5 ok"

    def demand(self, authority: Path) -> None:
        """From now on clients need a certificate that this authority has issued."""
        assert self._tls is not None
        self._tls.load_verify_locations(authority)
        self._tls.verify_mode = ssl.CERT_REQUIRED

    def drop(self) -> None:
        """Close all connections that are open, without a word."""
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

    def talk(self, connection: socket.socket) -> None:
        """Until QUIT."""
        stream = connection.makefile("rb")
        secured = False
        sender, recipients = "", list[str]()

        def say(line: str) -> None:
            connection.sendall(line.encode() + b"\r\n")

        say("220 sink.test ESMTP")
        while line := stream.readline().decode("utf-8", "replace").rstrip("\r\n"):
            verb = line.split(":")[0].split(" ")[0].upper()
            if verb in self.replies:
                if verb == "RCPT" and self.replies[verb].startswith("250"):
                    recipients.append(line)
                say(self.replies[verb])
            elif verb in ("EHLO", "HELO"):
                offers = ["sink.test", "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000000"]
                if self._tls is not None and not secured:
                    offers.append("STARTTLS")
                say("\r\n".join(f"250-{offer}" for offer in offers[:-1]) + f"\r\n250 {offers[-1]}")
            elif verb == "STARTTLS" and self._tls is not None:
                say("220 go ahead")
                plain, connection = connection, self._tls.wrap_socket(connection, server_side=True)
                self.connections[self.connections.index(plain)] = secure = connection
                self.resumed.append(bool(secure.session_reused))
                self.clients.extend(_common_names(secure))
                stream, secured = connection.makefile("rb"), True
            elif verb == "MAIL":
                sender, recipients = line, []
                say("250 2.1.0 ok")
            elif verb == "RCPT":
                reply = self.recipient(_address(line))
                if reply.startswith("250"):
                    recipients.append(line)
                say(reply)
            elif verb == "DATA" and not recipients:
                say("503 5.5.1 nobody to send it to")
            elif verb == "DATA":
                say("354 go")
                self._take(stream, sender, recipients, secured, say)
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")

    def _take(self, stream, sender, recipients, secured, say) -> None:  # type: ignore[no-untyped-def]
        lines = []
        for line in stream:
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        else:
            return
        if "." in self.replies:
            say(self.replies["."])
            return
        body = b"".join(lines)
        name = "?"
        for line in lines:
            if line.lower().startswith(b"message-id:"):
                name = line.split(b":", 1)[1].strip().decode()
                break
        with self._lock:
            self.messages[name] += 1
            self.taken.update((name, _address(line)) for line in recipients)
            self.bodies[name] = body
            self.envelopes[name] = (sender, list(recipients))
            self.in_clear += not secured
        say("250 2.0.0 taken")


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


def _common_names(connection: ssl.SSLSocket) -> list[str]:
    subject = (connection.getpeercert() or {}).get("subject", ())
    return [value for entry in subject for name, value in entry if name == "commonName"]  # type: ignore
