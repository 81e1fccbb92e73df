"""Offers XCLIENT to proxies that may speak for their clients (Haraka's xclient)."""

from ipaddress import ip_address

from attrs import frozen
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError, shown
from harakatls.config.hosts import HostList
from harakatls.connection import Connection
from harakatls.interfaces import ICapabilitiesHook, Site
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.xclient import ATTRIBUTES

FILE = "xclient.hosts"
ALWAYS = frozenset({"127.0.0.1", "::1"})


def load(site: Site) -> "XClientOffer":
    """From xclient.hosts."""
    return XClientOffer(speakers(site.config))


def speakers(config: ConfigDirectory) -> HostList:
    """
    Who may use XCLIENT besides this machine: the hosts of xclient.hosts.

    @raise ConfigError: there is a name in it. A peer is known by its address alone, so the name
        would never match.
    """
    hosts = config.hosts(FILE)
    for entry in hosts.entries:
        if "/" not in entry:
            try:
                ip_address(entry)
            except ValueError:
                raise ConfigError(
                    FILE,
                    None,
                    None,
                    f"{shown(entry)} is a name; expected an address or a network, such as "
                    "192.0.2.10 or 192.0.2.0/24",
                ) from None
    return hosts


@implementer(ICapabilitiesHook)
@frozen
class XClientOffer:
    """@ivar hosts: who may speak for others, besides this machine."""

    hosts: HostList

    async def capabilities(self, connection: Connection, offered: Capabilities) -> Capabilities:
        """
        To whom it is not offered, the session refuses it.

        Only once: there are proxies (nginx) that pass on whatever the client says from then on, and
        by XCLIENT it could give itself any address and login. And the address of a proxy that does
        not say for whom it speaks is nobody's permission.
        """
        if connection.xclient_by is not None:
            return offered
        speaker, proxy = connection.peer, connection.proxied_by
        is_here = speaker.host in ALWAYS and (proxy is None or proxy.is_loopback)
        if (is_here or speaker.host in self.hosts) and speaker != proxy:
            return offered.adding("XCLIENT", " ".join(ATTRIBUTES))
        return offered
