"""What a session offers, and what it holds a client to."""

from functools import lru_cache
from typing import NamedTuple

from attrs import frozen

from harakatls.smtp import refusals
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.commands import Grammar
from harakatls.smtp.reply import Reply

# What an offered extension adds to the length of a command line: RFC 1870 section 3, RFC 6152
# section 2, RFC 6531 section 3.1, RFC 4954 section 5, RFC 8689 section 2; NOTIFY and ORCPT at their
# longest; XCLIENT has room for three names.
_LONGER_LINES = {
    "SIZE": 26,
    "8BITMIME": 17,
    "SMTPUTF8": 10,
    "AUTH": 500,
    "DSN": 537,
    "REQUIRETLS": 11,
    "XCLIENT": 1536,
}

_OK = 250


@frozen
class SessionLimits:
    """
    @ivar line: octets of a command line with its CRLF; what the offered extensions add comes on
        top.
    @ivar data_line: octets of a line of a message without its CRLF; longer ones are folded by
        inserting CRLF and a space. 0: never.
    @ivar message: octets of a message; 0 is without limit.
    @ivar recipients: of one message.
    @ivar errors: commands that are unknown, malformed or out of order since the last message;
        then comes 421. 0: any number.
    @ivar smtputf8: non-ASCII addresses are taken, if SMTPUTF8 was offered.
    @ivar requiretls: REQUIRETLS is offered, within TLS.
    @ivar chunking: BDAT and BINARYMIME are taken (RFC 3030), if CHUNKING was offered.
    """

    line: int = 512
    data_line: int = 992
    message: int = 26214400
    recipients: int = 10000
    errors: int = 20
    smtputf8: bool = True
    requiretls: bool = True
    chunking: bool = True

    @property
    def capabilities(self) -> Capabilities:
        """What a session with these limits does by itself, to be offered."""
        return Capabilities.of(
            "PIPELINING",
            "8BITMIME",
            *(("SMTPUTF8",) if self.smtputf8 else ()),
            f"SIZE {self.message}",
            "ENHANCEDSTATUSCODES",
            "DSN",
            *(("REQUIRETLS",) if self.requiretls else ()),
            *(("CHUNKING", "BINARYMIME") if self.chunking else ()),
            f"LIMITS RCPTMAX={self.recipients}",
        )


class Offer(NamedTuple):
    """
    What the answer to EHLO offers.

    @ivar longer: so many octets more may a command line have.
    @ivar lines: all lines of the answer but the first, as they are sent.
    @ivar auth_refusal: what AUTH is answered with; None where it is legal.
    """

    grammar: Grammar
    longer: int
    lines: bytes
    auth_refusal: Reply | None


@lru_cache(maxsize=64)  # there are two or three, unless a plugin makes more
def offer_of(items: tuple[tuple[str, str], ...], secured: bool, utf8: bool) -> Offer:
    """@param items: the extensions with their parameters, some of which may not be had now."""
    # RFC 4954 section 4: a password that was sent in the clear is known to others. RFC 8689 section
    # 2: what came in the clear cannot be protected by what comes after.
    possible = capabilities = Capabilities(dict(items))
    for keyword in ("STARTTLS",) if secured else ("AUTH", "REQUIRETLS"):
        capabilities = capabilities.without(keyword)
    auth_refusal = None
    if "AUTH" not in capabilities:
        auth_refusal = refusals.AUTH_NEEDS_TLS if "AUTH" in possible else refusals.NO_AUTH
    if not utf8:
        capabilities = capabilities.without("SMTPUTF8")
    if "CHUNKING" not in capabilities or "8BITMIME" not in capabilities:  # RFC 3030 section 3
        capabilities = capabilities.without("BINARYMIME")
    longer = sum(octets for name, octets in _LONGER_LINES.items() if name in capabilities)
    _, *lines = capabilities.to_reply("").lines
    wire = Reply(_OK, None, tuple(lines)).wire if lines else b""
    return Offer(Grammar(capabilities, secured=secured), longer, wire, auth_refusal)
