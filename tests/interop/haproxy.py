"""An HAProxy of our own in front of the server: loopback only, ended with the test."""

import csv
import io
import socket

from tests.interop.mail_server import MailServer
from tests.support import free_port

SOURCE = "127.0.0.2"
"""From here it connects to the server."""

HEAD = """\
global
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    option tcp-check
    tcp-check expect rstring ^220
"""
LISTEN = """\
listen {name}
    bind 127.0.0.1:{port}
    default-server source {source} check check-send-proxy inter 300ms fall 1
    server mx 127.0.0.1:{to} {header} {check}
"""


class HAProxy(MailServer):
    """@ivar ports: by name of the listener."""

    program = "haproxy"

    def __init__(self, listeners: dict[str, tuple[int, str, bool]]) -> None:
        """@param listeners: name → port of the server, C{send-proxy} or so, is TLS first."""
        super().__init__()
        self.said = self.directory / "log"
        self.ports: dict[str, int] = {}
        text = HEAD.format(socket=self.directory / "stats")
        for name, (to, header, implicit_tls) in listeners.items():
            port = self.ports[name] = self.port if not self.ports else free_port()
            check = "check-ssl verify none" if implicit_tls else ""
            text += LISTEN.format(
                name=name, port=port, to=to, header=header, source=SOURCE, check=check
            )
        (self.directory / "haproxy.cfg").write_text(text)

    def arguments(self) -> list[str]:
        """See `MailServer.arguments`."""
        return ["-db", "-f", str(self.directory / "haproxy.cfg")]

    def checks(self) -> dict[str, str]:
        """What its last health check of the server came to, by listener; "L7OK" is good."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.settimeout(10)
            stats.connect(str(self.directory / "stats"))
            stats.sendall(b"show stat\n")
            octets = b"".join(iter(lambda: stats.recv(65536), b""))
        rows = csv.DictReader(io.StringIO(octets.decode().removeprefix("# ")))
        return {row["pxname"]: row["check_status"] for row in rows if row["svname"] == "mx"}
