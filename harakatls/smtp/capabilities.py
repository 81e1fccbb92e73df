"""The answer to EHLO as a value, in both directions (RFC 5321 section 4.1.1.1)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from attrs import field, frozen

from harakatls.smtp.reply import Reply

_LIMIT = re.compile(r"([A-Z0-9][A-Z0-9-]*)=([!-~]+)", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)  # RFC 9422 sections 4.1 to 4.3


class Limits(NamedTuple):
    """
    What a server allows, as it tells before (RFC 9422). 0: it does not say.

    @ivar recipients: in one transaction.
    @ivar transactions: in one connection; each MAIL is one.
    @ivar domains: of the recipients of one transaction.
    """

    recipients: int = 0
    transactions: int = 0
    domains: int = 0

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> "Limits":
        """What stands behind LIMITS; nothing of it counts where something cannot be read."""
        told: dict[str, int] = {}
        for word in text.split():
            found = _LIMIT.fullmatch(word)
            if found is None:
                return cls()
            name = found[1].upper()
            if name in _KNOWN_LIMITS:
                if name in told or not _NUMBER.fullmatch(found[2]):
                    return cls()
                told[name] = int(found[2])
        return cls(*(told.get(name, 0) for name in _KNOWN_LIMITS))


_KNOWN_LIMITS = ("RCPTMAX", "MAILMAX", "RCPTDOMAINMAX")
NO_LIMITS = Limits()


@frozen
class Capabilities:
    """
    Extension keywords (upper case) with their parameters ("" without any), in order.

    A change is a new value: ``offered.adding("STARTTLS")``.
    """

    _keywords: Mapping[str, str] = field(factory=dict)

    @classmethod
    def of(cls, *lines: str) -> "Capabilities":
        """From EHLO lines: ``Capabilities.of("PIPELINING", "SIZE 1000")``."""
        return cls.parse(lines)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "Capabilities":
        """From the lines of an EHLO reply after the first one; empty ones are passed over."""
        keywords: dict[str, str] = {}
        for line in lines:
            keyword, _, parameters = line.strip().partition(" ")
            if keyword.upper().startswith("AUTH="):  # an old spelling that is still met
                keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
            if keyword:
                keywords.setdefault(keyword.upper(), parameters.strip())
        return cls(keywords)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._keywords

    def __iter__(self) -> Iterator[str]:
        return iter(self._keywords)

    @property
    def items(self) -> tuple[tuple[str, str], ...]:
        """Keywords with their parameters, in order."""
        return tuple(self._keywords.items())

    def parameters(self, keyword: str) -> str:
        """What stands behind *keyword*; "" where nothing does or it is not there."""
        return self._keywords.get(keyword, "")

    def adding(self, keyword: str, parameters: str = "") -> "Capabilities":
        """With *keyword* at the end, or with its parameters replaced."""
        return Capabilities({**self._keywords, keyword.upper(): parameters})

    def without(self, keyword: str) -> "Capabilities":
        """Without *keyword*."""
        return Capabilities({k: v for k, v in self._keywords.items() if k != keyword.upper()})

    @property
    def size_limit(self) -> int | None:
        """
        The largest message in octets (RFC 1870); None where no limit is told (no SIZE, 0, or
        not a number).
        """
        text = self._keywords.get("SIZE", "")
        return (int(text) or None) if text.isascii() and text.isdigit() and len(text) < 20 else None

    @property
    def limits(self) -> Limits:
        """What LIMITS tells."""
        text = self._keywords.get("LIMITS")
        return Limits.parse(text) if text else NO_LIMITS

    def to_reply(self, greeting: str) -> Reply:
        """
        The reply to EHLO; it carries no enhanced status (RFC 2034 section 3).

        @param greeting: the first line: our name and a word of welcome.
        """
        lines = [f"{k} {v}" if v else k for k, v in self._keywords.items()]
        return Reply(250, None, (greeting, *lines))


NO_EXTENSIONS = Capabilities()
