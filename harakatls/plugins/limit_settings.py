"""limit.ini: how much one peer, sender or recipient may have of us."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import host_address, host_name
from harakatls.config.ini import Ini
from harakatls.config.section import SECONDS_IN, Section
from harakatls.mail.address import Address, AddressError, parse_address
from harakatls.redis.settings import RedisSettings, read_redis

FILE = "limit.ini"
DEFAULT = "default"

_SWITCH = "enabled"
_MINUTE = 60
_RATE = re.compile(r"([0-9]{1,9})(?:/([0-9]{1,6})([smhd]?))?", re.IGNORECASE)
_EXPECTED = "expected a number, with a time or without: 50/5m, 1000/1d, 5 (in a minute), 0 for any"
_PREFIX = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}|[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6}")
_NEEDS_KARMA = "there is no plugin here that remembers who is good"
_ELSEWHERE = {
    "outbound": "set [destination_concurrency] in outbound.ini",
    "rate_outbound": "set [destination_rate] in outbound.ini",
    "concurrency_history": _NEEDS_KARMA,
    "recipients_history": _NEEDS_KARMA,
    "rate_conn_history": _NEEDS_KARMA,
}


@frozen
class Rate:
    """@ivar count: so many within *seconds*; 0 is any number."""

    count: int
    seconds: int = _MINUTE


_NO_RATE = Rate(0)
# As in the limit.ini that comes with Haraka's plugin, where our own host has no limit, either.
_OURSELVES = {"127": _NO_RATE, "0:0:0:0:0:0:0:1": _NO_RATE}


@frozen
class Rates:
    """
    What one section says: by addresses and names, whole or the first or last parts of them.

    @ivar default: for all others, each for itself.
    """

    by_key: Mapping[str, Rate]
    default: Rate = _NO_RATE

    def of_host(self, address: str, name: str | None = None) -> tuple[str, Rate]:
        """
        @param name: what the DNS calls the address, or None.
        @return: what is counted together, and how many there may be: addresses that begin
            alike, names that end alike. Without a key of its own, an IPv6 address counts as its
            /64: whoever has one of them has all.
        """
        parsed = host_address(address)
        for key in (*_first_parts(parsed), *_last_parts((name or "").lower())):
            if key in self.by_key:
                return key, self.by_key[key]
        return one_of(parsed), self.default

    def of_address(self, address: Address) -> tuple[str, Rate]:
        """As L{of_host}, by the whole address, or the last parts of its domain."""
        whole = str(address).lower()
        for key in (whole, *_last_parts(address.domain)):
            if key in self.by_key:
                return key, self.by_key[key]
        return whole, self.default


def one_of(address: IPv4Address | IPv6Address) -> str:
    """What counts as one peer: an address, or a network of 64 bits."""
    if isinstance(address, IPv6Address):
        return ":".join(_groups(address)[:4]) + "::/64"
    return str(address)


def _first_parts(address: IPv4Address | IPv6Address) -> Iterator[str]:
    dot = "." if isinstance(address, IPv4Address) else ":"
    parts = str(address).split(".") if isinstance(address, IPv4Address) else _groups(address)
    for count in range(len(parts), 0, -1):
        yield dot.join(parts[:count])


def _groups(address: IPv6Address) -> list[str]:
    return [f"{int(group, 16):x}" for group in address.exploded.split(":")]


def _last_parts(domain: str) -> Iterator[str]:
    while domain:
        yield domain
        _, _, domain = domain.partition(".")


@frozen
class LimitSettings:
    """
    None and 0: without limit.

    @ivar tarpit_delay: seconds that whoever is over a limit waits for the answer.
    @ivar redis: where to count; None for here, in memory.
    @ivar concurrency: connections of one address, or one /64, at a time.
    @ivar recipients: of one connection, the refused ones too.
    @ivar recipients_relaying: of one that may relay; None: as all.
    @ivar unrecognized_commands: of one connection.
    @ivar errors: of one connection.
    @ivar rate_conn: connections, by host.
    @ivar rate_rcpt_host: recipients, by host.
    @ivar rate_rcpt_sender: recipients, by reverse-path.
    @ivar rate_rcpt: messages, by recipient.
    @ivar rate_rcpt_null: messages with the null reverse-path, by recipient.
    """

    tarpit_delay: float = 3.0
    redis: RedisSettings | None = None
    concurrency: int = 0
    recipients: int = 0
    recipients_relaying: int | None = None
    unrecognized_commands: int = 0
    errors: int = 0
    rate_conn: Rates | None = None
    rate_rcpt_host: Rates | None = None
    rate_rcpt_sender: Rates | None = None
    rate_rcpt: Rates | None = None
    rate_rcpt_null: Rates | None = None

    @classmethod
    def load(cls, config: ConfigDirectory, longest_delay: float) -> "LimitSettings":
        """
        @param longest_delay: seconds; the plugin would be cut off behind it.
        @raise ConfigError: a value cannot be used.
        """
        ini = config.ini(FILE)
        for name, instead in _ELSEWHERE.items():
            section = ini.section(name)
            if section.names():
                section.warn(None, f"this section has no effect in harakatls; {instead}")
        delay = ini.main.seconds("tarpit_delay", 3.0)
        if longest_delay and delay >= longest_delay:
            raise ini.main.error(
                "tarpit_delay", f"{delay:g} is not below the plugin's time limit, {longest_delay:g}"
            )
        recipients = _switched_on(ini, "recipients")
        return cls(
            tarpit_delay=delay,
            redis=read_redis(config, ini.section("redis")),
            concurrency=_maximum(ini, "concurrency", 3),
            recipients=_maximum(ini, "recipients", 0),
            recipients_relaying=recipients.integer("max_relaying", None, minimum=0)
            if recipients is not None
            else None,
            unrecognized_commands=_maximum(ini, "unrecognized_commands", 10),
            errors=_maximum(ini, "errors", 10),
            rate_conn=_host_rates(ini, "rate_conn", Rate(5)),
            rate_rcpt_host=_host_rates(ini, "rate_rcpt_host", Rate(50, 5 * _MINUTE)),
            rate_rcpt_sender=_mail_rates(ini, "rate_rcpt_sender", Rate(50, 5 * _MINUTE)),
            rate_rcpt=_mail_rates(ini, "rate_rcpt", Rate(50, 5 * _MINUTE)),
            rate_rcpt_null=_mail_rates(ini, "rate_rcpt_null", Rate(1)),
        )


def _switched_on(ini: Ini, name: str) -> Section | None:
    """A limit that is written down, but not switched on, looks as if it were there."""
    section = ini.section(name)
    if section.boolean(_SWITCH, False):
        return section
    if _SWITCH not in section and section.names():
        section.warn(None, f"this section has no effect without {_SWITCH}=true")
    section.names()
    return None


def _maximum(ini: Ini, name: str, default: int) -> int:
    section = _switched_on(ini, name)
    return 0 if section is None else section.integer("max", default, minimum=0)


def _host_rates(ini: Ini, name: str, default: Rate) -> Rates | None:
    section = _switched_on(ini, name)
    if section is None:
        return None
    own = {_host_key(section, key): rate for key, rate in _rates(section)}
    return Rates({**_OURSELVES, **own}, _default(section, default))


def _mail_rates(ini: Ini, name: str, default: Rate) -> Rates | None:
    section = _switched_on(ini, name)
    if section is None:
        return None
    # The sample of Haraka's plugin has it here, too, where it means nothing.
    own = {_mail_key(section, key): rate for key, rate in _rates(section) if key != "127"}
    return Rates(own, _default(section, default))


def _rates(section: Section) -> Iterator[tuple[str, Rate]]:
    for key in section.names():
        if key not in (_SWITCH, DEFAULT):
            yield key, _rate(section, key)


def _default(section: Section, default: Rate) -> Rate:
    return _rate(section, DEFAULT) if DEFAULT in section else default


def _rate(section: Section, key: str) -> Rate:
    text = section.text(key, "").rstrip("; \t")
    match = _RATE.fullmatch(text)
    if match is None:
        raise section.error(key, f"{shown(text)} is not a rate; {_EXPECTED}")
    count, time, unit = match.groups()
    seconds = _MINUTE if time is None else int(time) * SECONDS_IN[unit.lower() or "s"]
    if seconds == 0:
        raise section.error(key, f"{shown(text)} is within no time at all; {_EXPECTED}")
    return Rate(int(count), seconds)


def _host_key(section: Section, key: str) -> str:
    folded = key.lower()
    if _PREFIX.fullmatch(folded):
        return (
            ":".join(f"{int(group, 16):x}" for group in folded.split(":"))
            if ":" in folded
            else folded
        )
    try:
        parsed = host_address(folded)
    except ValueError:
        pass
    else:
        return ":".join(_groups(parsed)) if isinstance(parsed, IPv6Address) else str(parsed)
    try:
        return host_name(folded)
    except ValueError:
        raise section.error(
            key, "is neither an address, the first parts of one, nor a name"
        ) from None


def _mail_key(section: Section, key: str) -> str:
    try:
        return str(parse_address(key)).lower() if "@" in key else host_name(key)
    except (AddressError, ValueError):
        raise section.error(key, "is neither a mail address nor a domain") from None
