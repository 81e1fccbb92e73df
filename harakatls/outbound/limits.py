"""What outbound.ini says about how much may go to one destination."""

import re
from collections.abc import Mapping

from attrs import frozen

from harakatls.config.errors import shown
from harakatls.config.hosts import host_address, host_name
from harakatls.config.ini import Ini
from harakatls.config.section import LONGEST_WAIT, SECONDS_IN, Section

CONCURRENCY = "destination_concurrency"
RATE = "destination_rate"
MOST = 100_000  # of messages in a rate, of deliveries at once

_RATE = re.compile(r"([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*([smhd])", re.IGNORECASE)


@frozen
class Rate:
    """So many messages in so many seconds, evenly."""

    messages: int
    seconds: float

    @property
    def most_at_once(self) -> float:
        """What has been saved up after a pause: the messages of a second, at least one."""
        return max(1.0, self.messages / self.seconds)


@frozen
class Limits:
    """
    What the operator allows. Names are those of hosts or of domains; a domain that is named counts
    as a destination of its own.

    @ivar usual: deliveries at once to any destination.
    @ivar concurrency: the same for some.
    """

    usual: int = 10
    concurrency: Mapping[str, int] = {}
    rates: Mapping[str, Rate] = {}

    @classmethod
    def load(cls, ini: Ini) -> "Limits":
        """@raise ConfigError: where a value cannot be used."""
        concurrency, rates = ini.section(CONCURRENCY), ini.section(RATE)
        return cls(
            ini.main.integer("pool_concurrency_max", cls().usual, 1, MOST),
            {_name(concurrency, key): _required(concurrency, key) for key in concurrency.names()},
            {_name(rates, key): _rate(rates, key) for key in rates.names()},
        )

    def names(self, name: str) -> bool:
        """There is a line for it."""
        return name in self.concurrency or name in self.rates


def _name(section: Section, key: str) -> str:
    try:
        return str(host_address(key))
    except ValueError:
        pass
    try:
        return host_name(key)
    except ValueError:
        expected = "expected one such as mx.example.com or 192.0.2.1"
        raise section.error(key, f"is no host, domain or address; {expected}") from None


def _required(section: Section, key: str) -> int:
    number = section.integer(key, None, 1, MOST)
    assert number is not None, "it is there"
    return number


def _rate(section: Section, key: str) -> Rate:
    text = section.text(key) or ""
    found = _RATE.fullmatch(text.partition(";")[0].strip())
    messages, seconds = (
        (int(found[1]), int(found[2]) * SECONDS_IN[found[3].lower()]) if found else (0, 0)
    )
    if not (1 <= messages <= MOST and 1 <= seconds <= LONGEST_WAIT):
        expected = "expected messages and a time, such as 60/1m (s, m, h or d)"
        raise section.error(key, f"{shown(text)} is not a rate; {expected}")
    return Rate(messages, float(seconds))
