"""Back ends of plugins: what smtp_forward.ini and smtp_proxy.ini say of one, and their TLS."""

from collections.abc import Sequence

from attrs import evolve, frozen

from harakatls.config.errors import MAIN
from harakatls.config.section import HIGHEST_PORT, Section
from harakatls.connection import Connection
from harakatls.interfaces import IBackEnds, Site
from harakatls.mail.route import (
    LMTP,
    LMTP_PORT,
    SMTP,
    SMTP_PORT,
    BackEndOptions,
    Credentials,
    NextHop,
)
from harakatls.plugins.host_pool import RETRY
from harakatls.plugins.introduced import introduced
from harakatls.plugins.next_hops import (
    make_credentials,
    parse_bind,
    parse_bind_helo,
    parse_next_hop,
    read_host,
)

CONNECT_TIMEOUT, TIMEOUT = 30.0, 300.0
MOST_HOSTS = 64  # of one pool
_LEFT_OVER = {"max_connections": "connections are kept for some seconds, see pool_timeout"}


@frozen
class BackEndSettings:
    """
    One back end.

    @ivar hops: where it is, the hosts of a pool in any order; at least one.
    @ivar enable_outbound: mail of clients that may relay goes there, too.
    @ivar one_message_per_rcpt: a transaction for each recipient.
    @ivar queue: a queue plugin that is to take this mail; "" leaves it to this one.
    @ivar xclient: where the back end offers XCLIENT, it is told for which client mail is.
    @ivar retry: seconds until a host of a pool that failed is asked again.
    """

    hops: tuple[NextHop, ...]
    options: BackEndOptions
    enable_outbound: bool = False
    one_message_per_rcpt: bool = False
    queue: str = ""
    retry: float = RETRY
    xclient: bool = True

    def hop_for(self, hop: NextHop, connection: Connection) -> NextHop:
        """One of the hops, for the mail of this client."""
        return introduced(hop, connection) if self.xclient else hop


@frozen
class _Layers:
    """A section over the main one: what it does not say, the main one says."""

    sections: tuple[Section, ...]

    def holding(self, *keys: str) -> Section:
        """The first that has one of *keys*, else the last."""
        return next(
            (section for section in self.sections if any(key in section for key in keys)),
            self.sections[-1],
        )

    def up_to(self, last: Section, key: str) -> Section:
        """The first that has *key*, none behind *last*; else that."""
        for section in self.sections:
            if key in section or section is last:
                return section
        return last

    def text(self, key: str) -> str | None:
        return self.holding(key).text(key) or None

    def boolean(self, key: str, default: bool) -> bool:
        return self.holding(key).boolean(key, default)

    def seconds(self, key: str, default: float) -> float:
        return self.holding(key).seconds(key, default, minimum=0.1)


def ready_back_ends(site: Site, section: str) -> IBackEnds:
    """
    Back ends, whose TLS is ready.

    @param section: of tls.ini.
    @raise ConfigError: OpenSSL refuses a value in it.
    """
    assert site.back_ends is not None, "a server has them"
    site.back_ends.prepare(section)
    return site.back_ends


def read_back_end(
    name: str, main: Section, own: Section | None, enable_outbound: bool
) -> BackEndSettings:
    """
    @param name: of the section in tls.ini.
    @param own: the section of a domain or address; None for the main one.
    @param enable_outbound: where neither says anything.
    @raise ConfigError: a value cannot be used.
    """
    layers = _Layers((main,) if own is None else (own, main))
    for section in layers.sections:
        section.unsupported(_LEFT_OVER)
    options = BackEndOptions(
        name,
        layers.boolean("enable_tls", False),
        layers.seconds("connect_timeout", CONNECT_TIMEOUT),
        layers.seconds("timeout", TIMEOUT),
    )
    return BackEndSettings(
        _hops(layers),
        options,
        layers.boolean("enable_outbound", enable_outbound),
        layers.boolean("one_message_per_rcpt", False),
        layers.text("queue") or "",
        layers.seconds("dead_forwarding_host_retry_secs", RETRY),
        layers.boolean("xclient", True),
    )


def _hops(layers: _Layers) -> tuple[NextHop, ...]:
    # A place belongs together: another host has another port, and is not to hear this one's login.
    place = layers.holding("host", "forwarding_host_pool")
    lmtp = layers.holding("using_lmtp").boolean("using_lmtp", False)
    protocol, usual = (LMTP, LMTP_PORT) if lmtp else (SMTP, SMTP_PORT)
    given = NextHop(
        "",
        "",
        layers.up_to(place, "port").integer("port", usual, 1, HIGHEST_PORT),
        source="route",
        protocol=protocol,
        credentials=_credentials(layers, place),
        bind=_parsed(layers, "bind"),
        bind_helo=_parsed(layers, "bind_helo"),
    )
    pool = place.text("forwarding_host_pool")
    if pool:
        return tuple(_of_pool(place, given, pool.replace(";", ",").replace(",", " ").split()))
    return (_at(given, read_host(place, "localhost"), given.port),)


def _of_pool(section: Section, given: NextHop, entries: Sequence[str]) -> list[NextHop]:
    key = "forwarding_host_pool"
    if not 0 < len(entries) <= MOST_HOSTS:
        raise section.error(key, f"{len(entries)} is not a number of hosts from 1 to {MOST_HOSTS}")
    hops = []
    for entry in entries:
        try:
            hop = parse_next_hop(entry)
        except ValueError as problem:
            raise section.error(key, str(problem)) from None
        if hop.credentials is not None or "://" in entry:
            raise section.error(key, "expected addresses with ports, such as 10.0.0.5:2525")
        hops.append(_at(given, hop.host, hop.port))
    return list(dict.fromkeys(hops))


def _at(given: NextHop, host: str, port: int) -> NextHop:
    placed = parse_next_hop(f"[{host}]" if ":" in host else host)
    return evolve(given, host=host, port=port, mx_name=placed.mx_name)


def _parsed(layers: _Layers, key: str) -> str | None:
    text = layers.text(key)
    if text is None:
        return None
    try:
        return parse_bind(text) if key == "bind" else parse_bind_helo(text)
    except ValueError as problem:
        raise layers.holding(key).error(key, str(problem).removeprefix(f"{key} ")) from None


def _credentials(layers: _Layers, place: Section) -> Credentials | None:
    section = layers.holding("auth_user", "auth_pass", "auth_type")
    if section is not place and section.name == MAIN:
        return None
    user, password = section.text("auth_user") or "", section.text("auth_pass") or ""
    mechanism = section.text("auth_type")
    without_tls = section.boolean("auth_without_tls", False)
    if not user and not password:
        if mechanism:
            section.warn("auth_type", "has no effect without auth_user and auth_pass")
        return None
    if not user or not password:
        raise section.error(
            "auth_user" if user else "auth_pass", "needs the other of auth_user and auth_pass"
        )
    try:
        return make_credentials(user, password, mechanism, without_tls)
    except ValueError as problem:
        raise section.error("auth_user", str(problem)) from None
