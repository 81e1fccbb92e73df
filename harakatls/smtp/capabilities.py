"""The answer to EHLO as a value, in both directions (RFC 5321 section 4.1.1.1)."""

from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen

from harakatls.smtp.reply import Reply


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

    def to_reply(self, greeting: str) -> Reply:
        """
        The reply to EHLO; it carries no enhanced status (RFC 2034 section 3).

        @param greeting: the first line: our name and a word of welcome.
        """
        lines = [f"{k} {v}" if v else k for k, v in self._keywords.items()]
        return Reply(250, None, (greeting, *lines))
