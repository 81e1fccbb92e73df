"""Offers STARTTLS (Haraka's tls)."""

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection
from harakatls.interfaces import ICapabilitiesHook, IServerTLS, Site
from harakatls.smtp.capabilities import Capabilities


def load(site: Site) -> "StartTLSOffer":
    """tls.ini is read for the server as a whole, not here."""
    return StartTLSOffer(site.tls)


@implementer(ICapabilitiesHook)
@frozen
class StartTLSOffer:
    """Adds STARTTLS where `IServerTLS.offers` says so."""

    server_tls: IServerTLS

    async def capabilities(self, connection: Connection, offered: Capabilities) -> Capabilities:
        """RFC 3207 section 4.2: not to be offered again inside of TLS."""
        if connection.secured is None and await self.server_tls.offers(connection):
            return offered.adding("STARTTLS")
        return offered
