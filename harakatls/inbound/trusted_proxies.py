"""Whose PROXY headers are believed (connection.ini, section haproxy)."""

from ipaddress import IPv6Address

from harakatls.config.errors import shown
from harakatls.config.hosts import HostList, host_address
from harakatls.config.section import Section

_EXPECTED = "expected 192.0.2.10, 192.0.2.0/24 or 2001:db8::/64, for example"


def trusted_proxies(section: Section) -> HostList:
    """
    From C{hosts} and C{enabled}. As in Haraka, an IPv6 address without a mask stands for its /64.

    @raise ConfigError: an entry is something else. A name is refused: whose address it is could
        change, or be lied about.
    """
    enabled = section.boolean("enabled", True)
    texts = [text.strip() for line in section.texts("hosts") for text in line.split(",")]
    found = [_network(section, text) for text in texts if text]
    return HostList.parse(found) if enabled else HostList()


def _network(section: Section, text: str) -> str:
    wrong = section.error(
        "hosts", f"{shown(text)} is neither an address nor a network; {_EXPECTED}"
    )
    try:
        if "/" in text:
            (entry,) = HostList.parse([text]).entries
            return entry
        address = host_address(text)
    except ValueError:
        raise wrong from None
    return f"{address}/64" if isinstance(address, IPv6Address) else str(address)
