"""Sockets that systemd has opened for us, and what it is told (sd_listen_fds(3), sd_notify(3))."""

import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from twisted.logger import Logger

from harakatls.inbound.settings import ListenerSettings
from harakatls.service.failure import StartFailure

log = Logger()

FIRST = 3
"""The descriptor of the first socket; the others follow."""

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@frozen
class GivenSocket:
    """
    A listening TCP socket.

    @ivar name: FileDescriptorName= of its unit, which is that of the unit where it says nothing.
    @ivar host: IPv6 as `ListenerSettings` writes it.
    """

    name: str
    host: str
    port: int
    socket: socket.socket

    def __str__(self) -> str:
        return f"{ListenerSettings(self.host, self.port)} ({self.name})"


def told_at_start() -> dict[str, str]:
    """
    What this process was told of sockets; its children are not told any more.

    Twisted's endpoints read the variables when they are imported, and remove them: so those are
    asked for that the kernel remembers.
    """
    told = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    try:
        octets = Path("/proc/self/environ").read_bytes()
    except OSError:
        return told
    pairs = (item.decode("utf-8", "replace").partition("=") for item in octets.split(b"\0"))
    return {name: value for name, _, value in pairs if name in _VARIABLES}


def given_sockets(told: Mapping[str, str], pid: int, first: int = FIRST) -> tuple[GivenSocket, ...]:
    """
    The sockets that there are.

    @param told: the variables of `told_at_start`.
    @param pid: of this process.
    @param first: the descriptor of the first one.
    @raise StartFailure: one is no socket on which connections over TCP can be taken. All have been
        closed.
    """
    for_pid, count, names = (told.get(variable, "") for variable in _VARIABLES)
    if not for_pid or not count:
        return ()
    if for_pid != str(pid):
        log.warn(
            "the sockets of systemd are for process {theirs}, this is {ours}: start twistd with "
            "--nodaemon, as the process of the unit itself",
            theirs=for_pid,
            ours=pid,
        )
        return ()
    if not (count.isascii() and count.isdigit() and len(count) < 6):
        raise StartFailure(f"LISTEN_FDS: {count!r} is not a number of sockets")
    named = names.split(":") if names else []
    if len(named) != int(count):
        named = ["unknown"] * int(count)  # as sd_listen_fds_with_names has it
    given: list[GivenSocket] = []
    try:
        for descriptor, name in enumerate(named, first):
            given.append(_adopted(descriptor, name))
    except StartFailure:
        close_all(given)
        raise
    return tuple(given)


def _adopted(descriptor: int, name: str) -> GivenSocket:
    what = f"systemd gave descriptor {descriptor} ({name}), which"
    try:
        os.set_inheritable(descriptor, False)
        made = socket.socket(fileno=descriptor)
    except OSError as problem:
        raise StartFailure(f"{what} is no socket: {problem.strerror}") from None
    wrong = _wrong(made)
    if wrong:
        made.close()
        raise StartFailure(f"{what} {wrong}; expected ListenStream= with an address and a port")
    made.setblocking(False)
    host, port = made.getsockname()[:2]
    return GivenSocket(name, str(ip_address(host.partition("%")[0])), port, made)


def _wrong(made: socket.socket) -> str:
    if made.family == socket.AF_UNIX:
        return "is a Unix socket"
    if made.family not in (socket.AF_INET, socket.AF_INET6) or made.type != socket.SOCK_STREAM:
        return "is not for TCP"
    if not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen (it may be a connection: Accept= must be no)"
    return ""


def close_all(given: Sequence[GivenSocket]) -> None:
    """Systemd still has them."""
    for one in given:
        one.socket.close()


def notify(state: str) -> None:
    """
    Tell systemd where a unit with C{Type=notify} stands; nothing happens in any other.

    @param state: such as C{READY=1}.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # in the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
            to_systemd.settimeout(1.0)
            to_systemd.sendto(state.encode("ascii"), address)
    except OSError as problem:
        log.warn("systemd is not told {state}: {problem}", state=state, problem=str(problem))
