"""One section of an ini file: text in, typed values out."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import overload

from attrs import field, frozen

from harakatls.config.errors import ConfigError, place, shown
from harakatls.config.hosts import HostList

Value = str | tuple[str, ...] | None
"""What the grammar yields: a scalar, an array (C{key[]}), or None for a bare key."""

TRUE = frozenset({"true", "yes", "ok", "enabled", "on", "1"})
FALSE = frozenset({"false", "no", "disabled", "off", "0"})

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")
_OCTETS = re.compile(r"([0-9]{1,15})\s*([kmg]?)(?:i?b)?", re.IGNORECASE)
_MULTIPLES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

HIGHEST_PORT = 65535
LONGEST_WAIT = 10 * 365 * 86400.0
"""Ten years in seconds: no number of seconds may be larger, so that any can be given to a clock."""


def _bare(text: str) -> str:
    """Without the C{;} that many write behind a value, as in C{requireAuthorized[]=465;}."""
    return text.rstrip("; \t")


@frozen(eq=False)
class Section:
    """
    The keys of one section, read by asking for a type.

    Values are text until a getter is asked, so leading zeros survive in what is meant as text. A
    getter returns its default where the key is not there, and raises L{ConfigError} where the
    value does not fit: an unknown word is never quietly "false" or zero. Numbers, booleans,
    choices and hosts may be followed by C{;}, texts keep it.

    A key without C{=} has no value, which is an error for every getter but L{names}, L{is_bare} and
    C{in}.

    @ivar file: the file's name, for errors.
    @ivar name: the section's name; C{main} for the keys before the first header.
    @ivar warnings: what L{warn} was told; the L{Ini} shares one list among its sections.
    """

    file: str
    name: str
    _values: Mapping[str, Value] = field(factory=dict, repr=False)  # may hold passwords
    warnings: list[str] = field(factory=list, repr=False)
    _read: set[str] = field(factory=set, init=False, repr=False)
    _known: set[str] = field(factory=set, init=False, repr=False)

    def __contains__(self, key: object) -> bool:
        """Whether *key* is there, with or without a value. Does not count as reading it."""
        if isinstance(key, str):
            self._known.add(key)
        return key in self._values

    def is_bare(self, key: str) -> bool:
        """Whether *key* is there without C{=}."""
        return key in self and self._values[key] is None

    def names(self) -> tuple[str, ...]:
        """All keys in the order of the file, for sections whose keys are the data."""
        self._read.update(self._values)
        return tuple(self._values)

    def without(self, key: str) -> "Section":
        """The section as if *key* were not there, and nothing had been read."""
        values = {name: value for name, value in self._values.items() if name != key}
        return Section(self.file, self.name, values, self.warnings)

    def unread(self) -> tuple[str, ...]:
        """The keys that no getter was asked for so far."""
        return tuple(key for key in self._values if key not in self._read)

    def error(self, key: str | None, problem: str) -> ConfigError:
        """The error to raise about *key*, or about the section as a whole."""
        return ConfigError(self.file, self.name, key, problem)

    def warn(self, key: str | None, problem: str) -> None:
        """Tell the operator about *key*, once, without refusing the file."""
        warning = f"{place(self.file, self.name, key)}: {problem}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def unsupported(self, reasons: Mapping[str, str]) -> None:
        """
        Warn of each key that is there, but without effect.

        @param reasons: for each such key what the operator should know, or the empty text.
        """
        for key, reason in reasons.items():
            if key in self:
                self._read.add(key)
                self.warn(key, "has no effect in harakatls" + (f"; {reason}" if reason else ""))

    def unknown(self) -> tuple[str, ...]:
        """A warning for each key that no getter was asked for, with the likely meant one."""
        return tuple(
            f"{place(self.file, self.name, key)}: unknown key{self._guess(key)}"
            for key in self.unread()
        )

    def _guess(self, key: str) -> str:
        by_folded = {known.lower(): known for known in sorted(self._known) if known != key}
        close = get_close_matches(key.lower(), by_folded, 1, 0.8)
        return f"; did you mean {by_folded[close[0]]}?" if close else ""

    # -- one value ---------------------------------------------------------------------------

    def _scalar(self, key: str, expected: str) -> str | None:
        self._known.add(key)
        if key not in self._values:
            return None
        self._read.add(key)
        value = self._values[key]
        if value is None:
            raise self.error(key, f"has no value; expected {expected}")
        if isinstance(value, tuple):
            raise self.error(key, f"is an array ({key}[]); expected {expected}")
        return value

    @overload
    def text(self, key: str, default: str) -> str: ...
    @overload
    def text(self, key: str, default: None = None) -> str | None: ...
    def text(self, key: str, default: str | None = None) -> str | None:
        """The value as it stands; C{key=} is the empty text."""
        found = self._scalar(key, "one text")
        return default if found is None else found

    @overload
    def boolean(self, key: str, default: bool) -> bool: ...
    @overload
    def boolean(self, key: str, default: None = None) -> bool | None: ...
    def boolean(self, key: str, default: bool | None = None) -> bool | None:
        """
        True for C{true yes ok enabled on 1}, false for C{false no disabled off 0}, in any case.

        Haraka takes every other word for false; here C{rejectUnauthorized=ture} is an error.
        """
        found = self._scalar(key, "true or false")
        if found is None:
            return default
        word = _bare(found).lower()
        if word in TRUE:
            return True
        if word in FALSE:
            return False
        raise self.error(key, f"{shown(found)} is neither true nor false")

    @overload
    def integer(
        self, key: str, default: int, minimum: int | None = None, maximum: int | None = None
    ) -> int: ...
    @overload
    def integer(
        self,
        key: str,
        default: None = None,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> int | None: ...
    def integer(
        self,
        key: str,
        default: int | None = None,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> int | None:
        """A whole number from *minimum* to *maximum*."""
        expected = "a whole number" + _range(minimum, maximum)
        found = self._scalar(key, expected)
        if found is None:
            return default
        return self._integer(key, found, expected, minimum, maximum)

    def _integer(
        self, key: str, found: str, expected: str, minimum: int | None, maximum: int | None
    ) -> int:
        text = _bare(found)
        if not _INTEGER.fullmatch(text):
            raise self.error(key, f"{shown(found)} is not {expected}")
        number = int(text)
        if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
            raise self.error(key, f"{shown(found)} is not {expected}")
        return number

    @overload
    def seconds(
        self, key: str, default: float, minimum: float = 0, maximum: float = LONGEST_WAIT
    ) -> float: ...
    @overload
    def seconds(
        self, key: str, default: None = None, minimum: float = 0, maximum: float = LONGEST_WAIT
    ) -> float | None: ...
    def seconds(
        self,
        key: str,
        default: float | None = None,
        minimum: float = 0,
        maximum: float = LONGEST_WAIT,
    ) -> float | None:
        """A number of seconds, whole or with a fraction."""
        expected = "a number of seconds"
        if minimum > 0:
            expected += f" of at least {minimum:g}"
        found = self._scalar(key, expected)
        if found is None:
            return default
        text = _bare(found)
        if not _SECONDS.fullmatch(text):
            raise self.error(key, f"{shown(found)} is not {expected}")
        number = float(text)
        if number < minimum:
            raise self.error(key, f"{shown(found)} is not {expected}")
        if number > maximum:
            raise self.error(key, f"{shown(found)} is more than {maximum:.0f} seconds")
        return number

    @overload
    def octets(self, key: str, default: int, minimum: int = 0) -> int: ...
    @overload
    def octets(self, key: str, default: None = None, minimum: int = 0) -> int | None: ...
    def octets(self, key: str, default: int | None = None, minimum: int = 0) -> int | None:
        """A size in octets; C{K}, C{M} and C{G} stand for 1024, 1024 squared and cubed."""
        expected = "a size in octets (26214400, 25M)"
        if minimum > 0:
            expected += f" of at least {minimum}"
        found = self._scalar(key, expected)
        if found is None:
            return default
        match = _OCTETS.fullmatch(_bare(found))
        if match:
            size = int(match[1]) * _MULTIPLES[match[2].lower()]
            if size >= minimum:
                return size
        raise self.error(key, f"{shown(found)} is not {expected}")

    @overload
    def choice(self, key: str, choices: Collection[str], default: str) -> str: ...
    @overload
    def choice(self, key: str, choices: Collection[str], default: None = None) -> str | None: ...
    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str | None:
        """One of *choices*, written in any case; returned as it stands in *choices*."""
        expected = "one of " + ", ".join(choices)
        found = self._scalar(key, expected)
        if found is None:
            return default
        word = _bare(found)
        if word in choices:
            return word
        for choice in choices:
            if choice.lower() == word.lower():
                return choice
        raise self.error(key, f"{shown(found)} is not {expected}")

    # -- many values -------------------------------------------------------------------------

    def texts(self, key: str) -> tuple[str, ...]:
        """
        All values of C{key[]}; a scalar counts as an array of one. Empty ones are left out.

        @return: empty where the key is not there.
        """
        self._known.add(key)
        if key not in self._values:
            return ()
        self._read.add(key)
        value = self._values[key]
        if value is None:
            raise self.error(key, f"has no value; expected {key}[]=... for each entry")
        entries = value if isinstance(value, tuple) else (value,)
        return tuple(entry for entry in entries if entry)

    def integers(
        self, key: str, minimum: int | None = None, maximum: int | None = None
    ) -> tuple[int, ...]:
        """The whole numbers of C{key[]}, each from *minimum* to *maximum*."""
        expected = "a whole number" + _range(minimum, maximum)
        return tuple(
            self._integer(key, text, expected, minimum, maximum) for text in self.texts(key)
        )

    def hosts(self, key: str) -> HostList:
        """The hosts of C{key[]}."""
        return self._hosts(key, self.texts(key))

    def named_hosts(self) -> HostList:
        """The hosts that are the keys of this section, as in C{[no_tls_hosts]}."""
        return self._hosts(None, self.names())

    def _hosts(self, key: str | None, texts: Iterable[str]) -> HostList:
        try:
            return HostList.parse(texts)
        except ValueError as problem:
            raise self.error(key, str(problem)) from None


def _range(minimum: int | None, maximum: int | None) -> str:
    if minimum is None and maximum is None:
        return ""
    if maximum is None:
        return f" of at least {minimum}"
    if minimum is None:
        return f" of at most {maximum}"
    return f" from {minimum} to {maximum}"
