"""How much of the server one peer may take, and all of them together: connection.ini."""

from attrs import Factory, frozen

from harakatls.config.hosts import HostList
from harakatls.config.ini import Ini


@frozen(kw_only=True, cache_hash=True)
class PeerLimits:
    """
    For each of the numbers 0 is without limit.

    @ivar connections: at the same time, in all; None for half the file descriptors there may be.
    @ivar connections_per_address: of one IPv4 address, or one IPv6 network of 64 bits.
    @ivar unlimited_hosts: are not counted by address; this machine never is.
    """

    connections: int | None = None
    connections_per_address: int = 50
    unlimited_hosts: HostList = Factory(HostList)

    @classmethod
    def load(cls, connection_ini: Ini) -> "PeerLimits":
        """@raise ConfigError: a value cannot be used."""
        usual = cls()
        limits = connection_ini.section("max")
        return cls(
            connections=limits.integer("connections", minimum=0),
            connections_per_address=limits.integer(
                "connections_per_address", usual.connections_per_address, minimum=0
            ),
            unlimited_hosts=limits.hosts("unlimited_hosts"),
        )
