"""smtp_bridge.ini: the one server that knows our clients, and takes what they send."""

from attrs import evolve, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.section import HIGHEST_PORT
from harakatls.mail.route import BackEndOptions, Credentials, NextHop
from harakatls.plugins.next_hops import parse_next_hop, read_host
from harakatls.smtp.sasl import MECHANISM_NAMES

FILE, SECTION = "smtp_bridge.ini", "smtp_bridge"

CONNECT_TIMEOUT, TIMEOUT = 10.0, 25.0
_WITHOUT_EFFECT = {"priority": "there is one host"}


@frozen
class BridgeSettings:
    """
    @ivar mechanism: the only one to log in with; None for the best that is offered.
    @ivar without_tls: clients' passwords may be sent on in the clear.
    """

    hop: NextHop
    options: BackEndOptions
    mechanism: str | None = None
    without_tls: bool = False

    def hop_for(self, user: str, password: str) -> NextHop:
        """The server, as this client knows it."""
        login = Credentials(user, password, self.mechanism, self.without_tls)
        return evolve(self.hop, credentials=login)


def read_bridge(config: ConfigDirectory) -> BridgeSettings:
    """@raise ConfigError: a value cannot be used."""
    main = config.ini(FILE).main
    main.unsupported(_WITHOUT_EFFECT)
    name = read_host(main, "localhost")
    hop = parse_next_hop(f"[{name}]" if ":" in name else name)
    options = BackEndOptions(
        SECTION,
        main.boolean("enable_tls", True),
        main.seconds("connect_timeout", CONNECT_TIMEOUT, minimum=0.1),
        main.seconds("timeout", TIMEOUT, minimum=0.1),
    )
    return BridgeSettings(
        evolve(hop, port=main.integer("port", 25, 1, HIGHEST_PORT), source="route"),
        options,
        main.choice("auth_type", MECHANISM_NAMES) if main.text("auth_type") else None,
        main.boolean("auth_without_tls", False),
    )
