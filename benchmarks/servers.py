"""The servers that can be measured, by name."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from loads import Item
from peers import haraka_instance, harakatls_instance, postfix_instance
from peers.preparing import PEERS, Place

OURS = "harakatls"


@dataclass(frozen=True)
class Server:
    """A server to measure. `prepare` writes its configuration and gives its command."""

    name: str
    prepare: Callable[[Place], list[str]]
    env: dict[str, str] = field(default_factory=dict)
    by_name_only: bool = False  # not among "all"
    forgets: bool = True  # measured where a message may be dropped after its 250
    durable: bool = False  # measured where a message must be on disk before its 250

    def takes(self, item: Item) -> bool:
        """Whether this item is measured with this server."""
        return self.durable if item.durable else self.forgets


def python_peer(script: str, *extra: str) -> Callable[[Place], list[str]]:
    """A server of peers/ that is one Python script."""

    def prepare(place: Place) -> list[str]:
        command = [place.options.python, str(PEERS / script), "--port", str(place.port)]
        return [*command, "--cert", str(place.cert), "--key", str(place.key), *extra]

    return prepare


def sink_peer(place: Place) -> list[str]:
    """smtpsink, a server that does the least possible: the limit."""
    program = str(place.options.tools / "smtpsink")
    pair = ["--cert", str(place.cert), "--key", str(place.key)]
    return [program, *pair, f"127.0.0.1:{place.port}"]


def command_peer(command: str) -> Callable[[Place], list[str]]:
    """A server given on the command line, with placeholders."""

    def prepare(place: Place) -> list[str]:
        return [place.fill(part) for part in shlex.split(command)]

    return prepare


DISCARD = {"YES_REALLY_DO_DISCARD": "1"}
SERVERS = [
    Server("haraka", haraka_instance.discard, DISCARD),
    Server("haraka-log-info", haraka_instance.discard_logging, DISCARD, by_name_only=True),
    Server("postfix", postfix_instance.discard, durable=True),
    Server("aiosmtpd", python_peer("aiosmtpd_null.py")),
    Server("aiosmtpd-uvloop", python_peer("aiosmtpd_null.py", "--uvloop")),
    Server("twisted-epoll", python_peer("twisted_null.py")),
    Server("twisted-uvloop", python_peer("twisted_null.py", "--reactor", "asyncio-uvloop")),
    Server("smtpsink", sink_peer),
    Server(OURS, harakatls_instance.discard, DISCARD),
    Server(OURS, harakatls_instance.durable, forgets=False, durable=True),
]
CROWDED = {OURS: Server(OURS, harakatls_instance.bundled, DISCARD)}
"""In their places for row 9: with all plugins that a server on the open internet may have."""

RELAYS = [
    Server("haraka", haraka_instance.relay),
    Server("postfix", postfix_instance.relay),
    Server("postfix-reuse", postfix_instance.relay_reuse),
    Server(OURS, harakatls_instance.relay),
]


def choose(known: list[Server], wanted: str, own: list[str]) -> list[Server]:
    """The servers named in --peers, and those given as NAME=COMMAND."""
    names = wanted.split(",")
    chosen = [
        server
        for server in known
        if server.name in names or (wanted == "all" and not server.by_name_only)
    ]
    for text in own:
        name, _, command = text.partition("=")
        chosen.append(Server(name, command_peer(command)))
    return chosen
