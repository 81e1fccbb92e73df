"""Opens the ports of smtp.ini, or takes over those that systemd has opened."""

import errno
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IListeningPort, IReactorSocket
from twisted.logger import Logger

from harakatls.inbound.settings import ListenerSettings
from harakatls.service.activation import GivenSocket, close_all
from harakatls.service.failure import StartFailure

log = Logger()

BACKLOG = 1024  # connections that wait to be taken; the system may allow less
REASONS = {
    errno.EADDRINUSE: "another program listens there",
    errno.EACCES: "ports below 1024 need root",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine has no IPv6",
}


@frozen
class BoundSocket:
    """A socket that has its address; nobody takes its connections yet."""

    settings: ListenerSettings
    socket: socket.socket

    def __str__(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return str(ListenerSettings(host, port))

    def open(self) -> None:
        """
        From now on connections wait to be taken; before, they are refused.

        @raise StartFailure: another program listens there by now.
        """
        try:
            self.socket.listen(BACKLOG)
        except OSError as problem:
            raise _failure("listen on", self, problem) from None


def bind_all(
    listeners: Sequence[ListenerSettings],
    by_default: bool = False,
    closed: Collection[ListenerSettings] = (),
    given: Sequence[GivenSocket] = (),
) -> tuple[BoundSocket, ...]:
    """
    Bind while the rights to do so are still there.

    @param by_default: the operator named no address, so on a machine without IPv6 all IPv4
        addresses may stand in for ``::``.
    @param closed: those of *listeners* that are to be opened later.
    @param given: by systemd. The address of each is that of a listener, which needs no binding.
    @raise StartFailure: an address cannot be bound, or no listener has the address of a socket that
        was given; the others have been closed again.
    """
    ready = _by_address(listeners, given)
    wildcards = {listener.port for listener in listeners if listener.host == "0.0.0.0"}  # noqa: S104
    bound: list[BoundSocket] = []
    for listener in listeners:
        try:
            try:
                made = ready.pop((listener.host, listener.port), None) or _bind(
                    listener, listener.port in wildcards
                )
            except OSError as problem:
                if not (by_default and problem.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)):
                    raise
                made = _bind(ListenerSettings("0.0.0.0", listener.port, listener.implicit_tls))  # noqa: S104
            bound.append(BoundSocket(listener, made))
            if listener not in closed:
                made.listen(BACKLOG)
        except OSError as problem:
            for other in (*ready.values(), *(one.socket for one in bound)):
                other.close()
            raise _failure("bind", listener, problem) from None
    return tuple(bound)


def _by_address(
    listeners: Sequence[ListenerSettings], given: Sequence[GivenSocket]
) -> dict[tuple[str, int], socket.socket]:
    """@raise StartFailure: a socket that no listener is there for; all have been closed."""
    wanted = {(listener.host, listener.port) for listener in listeners}
    found: dict[tuple[str, int], socket.socket] = {}
    for one in given:
        address = one.host, one.port
        if address in found or address not in wanted:
            close_all(given)
            problem = "twice" if address in found else "but it is not in smtp.ini listen"
            told = ", ".join(map(str, listeners))
            raise StartFailure(f"systemd gave the socket {one}, {problem}; listen is {told}")
        found[address] = one.socket
    return found


def _failure(what: str, address: object, problem: OSError) -> StartFailure:
    reason = REASONS.get(problem.errno or 0, "")
    text = f"{problem.strerror}{'; ' if reason else ''}{reason}"
    return StartFailure(f"smtp.ini listen: cannot {what} {address}: {text}")


def _bind(listener: ListenerSettings, ipv6_alone: bool = False) -> socket.socket:
    """
    @param ipv6_alone: ``::`` is not to take IPv4 connections too, since another listener does.
    @raise OSError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A server that starts anew is not kept out by the connections of the one before.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(ipv6_alone))
        made.setblocking(False)
        made.bind((listener.host, listener.port))
    except BaseException:
        made.close()
        raise
    return made


def serve(
    bound: Sequence[BoundSocket],
    reactor: IReactorSocket,
    factory_for: Callable[[ListenerSettings], Any],
) -> list[IListeningPort]:
    """
    From now on connections are taken; those that have come by now first.

    @param bound: open ones.
    """
    ports: list[IListeningPort] = []
    for one in bound:
        factory = factory_for(one.settings)
        # The port gets a copy of the descriptor.
        ports.append(reactor.adoptStreamPort(one.socket.fileno(), one.socket.family, factory))
        log.info(
            "listening on {address} for {service}",
            address=str(one),
            service="SMTP over TLS" if one.settings.implicit_tls else "SMTP",
        )
        one.socket.close()
    return ports
