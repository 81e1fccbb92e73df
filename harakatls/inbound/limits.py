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
    @ivar commands_without_message: before a message comes, not counting its recipients.
    @ivar seconds_without_message: since the last message, or the beginning.
    @ivar octets_per_minute: that a message must come in with.
    @ivar memory: octets of all messages under way that are held; then no further one may begin.
    @ivar refuse_early_talkers: send away who does not wait for the greeting, or for an answer where
        PIPELINING was not offered.
    """

    connections: int | None = None
    connections_per_address: int = 50
    unlimited_hosts: HostList = Factory(HostList)
    commands_without_message: int = 100
    seconds_without_message: float = 1800.0
    octets_per_minute: int = 1024
    memory: int = 256 << 20
    refuse_early_talkers: bool = False

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
            commands_without_message=limits.integer(
                "commands_without_message", usual.commands_without_message, minimum=0
            ),
            seconds_without_message=limits.seconds(
                "seconds_without_message", usual.seconds_without_message
            ),
            octets_per_minute=connection_ini.section("min").octets(
                "octets_per_minute", usual.octets_per_minute
            ),
            memory=limits.octets("memory", usual.memory),
            refuse_early_talkers=connection_ini.main.boolean(
                "refuse_early_talkers", usual.refuse_early_talkers
            ),
        )
