"""What outbound.ini, or the older files in its place, say about giving mail to others."""

import re

from attrs import field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import HostList
from harakatls.config.section import LONGEST_WAIT, SECONDS_IN, Section
from harakatls.outbound.limits import Limits
from harakatls.outbound.templates import NO_TEMPLATES, Templates

_OLD_FILES = (
    "concurrency_max",
    "disabled",
    "enable_tls",
    "maxTempFailures",
    "received_header",
    "temp_fail_intervals",
)
"""Each may still stand in a file of its own, C{outbound.<key>}, whose first line is the value."""

_TIMEOUTS = (
    "connect_timeout",
    "handshake_timeout",
    "greeting_timeout",
    "command_timeout",
    "data_timeout",
    "end_of_data_timeout",
)

_LONGEST_REST = 300.0  # seconds; RFC 5321 section 4.5.3.2.7: servers may close then
_WITHOUT_EFFECT = {
    "ipv6_enabled": "use inet_prefer",
}
# Text in the comment of a Received field (RFC 5322 section 3.2.2), where these would need quoting.
_COMMENT_TEXT = re.compile(r"[ !-'*-\[\]-~]{1,200}")

_INTERVAL = re.compile(r"([0-9]{1,9})\s*([smhd])\s*(?:\*\s*([0-9]{1,4}))?", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{1,9})\s*([smhd])", re.IGNORECASE)
_SHORTEST_INTERVAL = 5
_MOST_INTERVALS = 1000
_INTERVALS_EXPECTED = (
    "expected intervals such as 30s, 1m*2, 4h (s, m, h or d; at least 5s), or none"
)


def doubling_intervals(failures: int) -> tuple[float, ...]:
    """
    The schedule where none is given: 64 s, 128 s and so on, each twice the one before.

    @param failures: the one at which to give up, so there is one interval less; 13 is three days.
    """
    return tuple(float(2 ** (attempt + 5)) for attempt in range(1, failures))


@frozen(kw_only=True)
class OutboundSettings:
    """
    Times are seconds.

    @ivar disabled: accept and queue, but deliver nothing.
    @ivar concurrency_max: how many deliveries are under way at once.
    @ivar enable_tls: use STARTTLS where it is offered. Hosts that are forced to TLS get nothing
        while it is false.
    @ivar temp_fail_intervals: how long to wait after the first, second, ... failed attempt; when
        there is no further one, the message is returned.
    @ivar always_split: one delivery for each recipient, not for each domain.
    @ivar received_header: the comment of the Received field put on top when a message is queued for
        others; None for no such field.
    @ivar connect_timeout: for TCP to connect.
    @ivar handshake_timeout: for TLS to be agreed.
    @ivar greeting_timeout: for the greeting (RFC 5321 section 4.5.3.2.1).
    @ivar command_timeout: for the reply to any command (4.5.3.2.2 to 4.5.3.2.4).
    @ivar data_timeout: for the peer to take in each chunk of the message (4.5.3.2.5).
    @ivar end_of_data_timeout: for the reply to the final dot (4.5.3.2.6). If it is short,
        messages arrive twice.
    @ivar pool_timeout: how long a connection is kept for another message; 0 is not at all.
    @ivar limits: how much may go to one destination.
    @ivar dead_host_retry: how long a host is left alone that could not be reached; 0 is not at all.
    @ivar local_mx_ok: an MX may be this very machine.
    @ivar inet_prefer: C{v4}, C{v6} or C{default}: which addresses of one host to try first.
    @ivar public_ip: the address under which the world sees us, if that is none of this machine.
    @ivar delay_warning_time: how long a message waits until its sender is told; 0 is never.
    @ivar chunking: use BDAT where it is offered (RFC 3030).
    @ivar templates: the operator's own words for reports.
    """

    disabled: bool = False
    concurrency_max: int = 100
    enable_tls: bool = True
    temp_fail_intervals: tuple[float, ...] = doubling_intervals(13)
    always_split: bool = False
    received_header: str | None = "harakatls outbound"
    connect_timeout: float = 30.0
    handshake_timeout: float = 30.0
    greeting_timeout: float = 300.0
    command_timeout: float = 300.0
    data_timeout: float = 180.0
    end_of_data_timeout: float = 600.0
    pool_timeout: float = 5.0
    limits: Limits = field(factory=Limits)
    dead_host_retry: float = 60.0
    local_mx_ok: bool = False
    inet_prefer: str = "default"
    public_ip: HostList = field(factory=HostList)
    delay_warning_time: float = 0.0
    chunking: bool = True
    templates: Templates = NO_TEMPLATES

    @classmethod
    def load(cls, config: ConfigDirectory) -> "OutboundSettings":
        """@raise ConfigError: where a value cannot be used."""
        ini = config.ini("outbound.ini")
        main = ini.main
        old = {key: _where(config, main, key) for key in _OLD_FILES}
        main.unsupported(_WITHOUT_EFFECT)
        usual = cls()
        return cls(
            disabled=old["disabled"].boolean("disabled", usual.disabled),
            concurrency_max=old["concurrency_max"].integer(
                "concurrency_max", usual.concurrency_max, 1, 100_000
            ),
            enable_tls=old["enable_tls"].boolean("enable_tls", usual.enable_tls),
            temp_fail_intervals=_temp_fail_intervals(
                old["temp_fail_intervals"], old["maxTempFailures"]
            ),
            always_split=main.boolean("always_split", usual.always_split),
            received_header=_received_header(old["received_header"], usual.received_header),
            **{key: main.seconds(key, getattr(usual, key), minimum=1) for key in _TIMEOUTS},
            pool_timeout=main.seconds("pool_timeout", usual.pool_timeout, maximum=_LONGEST_REST),
            limits=Limits.load(ini),
            dead_host_retry=main.seconds("dead_host_retry", usual.dead_host_retry),
            local_mx_ok=main.boolean("local_mx_ok", usual.local_mx_ok),
            inet_prefer=main.choice("inet_prefer", ("default", "v4", "v6"), usual.inet_prefer),
            public_ip=config.ini("smtp.ini").main.hosts("public_ip"),
            delay_warning_time=_delay_warning_time(main),
            chunking=main.boolean("chunking", usual.chunking),
            templates=Templates.load(config),
        )


def _where(config: ConfigDirectory, main: Section, key: str) -> Section:
    """Where *key* stands: in outbound.ini, which wins, or in the older file of its own."""
    file = f"outbound.{key}"
    value = config.value(file)
    if value is None:
        return main
    if key in main:
        config.warn(file, f"has no effect, since outbound.ini sets {key}")
        return main
    return Section(file, "main", {key: value})


def _received_header(section: Section, usual: str | None) -> str | None:
    text = section.text("received_header")
    if text is None:
        return usual
    if text == "disabled":
        return None
    if not _COMMENT_TEXT.fullmatch(text):
        raise section.error(
            "received_header",
            f"{shown(text)} is not a text of 1 to 200 ASCII characters without ( ) and \\, "
            "nor 'disabled'",
        )
    return text


def _delay_warning_time(section: Section) -> float:
    """C{4h}, as in Postfix; but there a number alone is of hours, so here it must have its unit."""
    text = section.text("delay_warning_time", "0")
    found = _TIME.fullmatch(text)
    if text != "0" and (not found or int(found[1]) * SECONDS_IN[found[2].lower()] > LONGEST_WAIT):
        expected = "expected a time such as 4h (s, m, h or d), or 0 for no warnings"
        raise section.error("delay_warning_time", f"{shown(text)} is not a time; {expected}")
    return float(int(found[1]) * SECONDS_IN[found[2].lower()]) if found else 0.0


def _temp_fail_intervals(intervals: Section, failures: Section) -> tuple[float, ...]:
    """C{temp_fail_intervals} wins over C{maxTempFailures}, as in Haraka."""
    doubling = doubling_intervals(failures.integer("maxTempFailures", 13, 1, 20))
    text = intervals.text("temp_fail_intervals")
    if text is None:
        return doubling
    try:
        return parse_intervals(text)
    except ValueError as problem:
        raise intervals.error("temp_fail_intervals", str(problem)) from None


def parse_intervals(text: str) -> tuple[float, ...]:
    """
    A schedule of retries: C{10s, 1m*2} is 10 s, 60 s, 60 s; C{none} is no retry at all.

    Haraka falls back to its default schedule where it cannot read the text; here it is an error.

    @return: seconds.
    @raise ValueError: in words for the operator.
    """
    text = text.rstrip("; \t")
    if text.strip().lower() == "none":
        return ()
    found: list[float] = []
    for item in text.split(","):
        match = _INTERVAL.fullmatch(item.strip())
        if not match:
            raise ValueError(f"{shown(item.strip())} is not an interval; {_INTERVALS_EXPECTED}")
        seconds = int(match[1]) * SECONDS_IN[match[2].lower()]
        count = int(match[3] or 1)
        if not (_SHORTEST_INTERVAL <= seconds <= LONGEST_WAIT and count > 0):
            raise ValueError(f"{shown(item.strip())} is out of range; {_INTERVALS_EXPECTED}")
        found.extend([float(seconds)] * count)
        if len(found) > _MOST_INTERVALS:
            raise ValueError(f"there are more than {_MOST_INTERVALS} intervals")
    return tuple(found)
