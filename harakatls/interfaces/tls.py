"""The TLS side of listeners, and the memory of hosts with which it failed."""

from typing import Any, Protocol

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import Interface

from harakatls.connection import Connection, TLSSummary


class HasHandle(Protocol):
    """A transport inside of TLS."""

    def getHandle(self) -> Any:
        """@return: the connection of pyOpenSSL."""


class IServerTLS(Interface):
    """The TLS side of all listeners."""

    def ready() -> bool:
        """There is a certificate to show."""

    async def offers(connection: Connection) -> bool:
        """Shall STARTTLS be offered to this peer, on this port?"""

    def requires(connection: Connection) -> bool:
        """Shall nothing be taken from this peer, on this port, before TLS?"""

    def connection_creator(
        connection: Connection, client_hello: bytes
    ) -> IOpenSSLServerConnectionCreator:
        """@param client_hello: the first octets from the peer; a whole ClientHello, or garbage."""

    def summary(transport: HasHandle) -> TLSSummary:
        """
        What the handshake that has just finished on *transport* came to.

        @raise TLSBroken: the client resumes a session that is no longer good enough.
        """

    async def handshake_failed(connection: Connection, reason: str) -> None:
        """The peer broke off, was too slow, or could not agree."""


class ITLSMemory(Interface):
    """Hosts with which TLS failed lately. Mail waits for the answers: so none may take long."""

    async def failed_at(host: str) -> float | None:
        """@return: when, in seconds since the epoch; None where it did not or is forgotten."""

    async def remember_failure(host: str, seconds: float) -> None:
        """@param seconds: for how long."""
