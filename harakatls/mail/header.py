"""Header fields of a message (RFC 5322 section 2.2)."""

import re
from collections.abc import Iterator
from typing import Protocol

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)")
FOLD_AT = 78  # RFC 5322 section 2.1.1
LONGEST_VALUE = 900  # RFC 5322 section 2.1.1: no line beyond 998
HEADER_OCTETS = 65536  # of a message are looked at where its header is asked about


class Body(Protocol):
    """What is needed of `interfaces.IMessageBody`."""

    async def read(self, length: int) -> bytes: ...

    def close(self) -> None: ...


async def read_start(body: Body) -> bytes:
    """The first octets: all of the header, where that has no more than `HEADER_OCTETS`."""
    start = b""
    try:
        while len(start) < HEADER_OCTETS and header_length(start) is None:
            chunk = await body.read(HEADER_OCTETS - len(start))
            if not chunk:
                break
            start += chunk
    finally:
        body.close()
    return start


def header_length(message: bytes) -> int | None:
    """
    Octets of the header, with the CRLF of its last field but without the empty line.

    None where no empty line has been seen, so that more of the message is needed.
    """
    if message.startswith(b"\r\n"):
        return 0
    end = message.find(b"\r\n\r\n")
    return None if end < 0 else end + 2


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """
    Each field as (name, value) in order: the name as written, the value unfolded and stripped.

    What is not a field is passed over.
    """
    position = 0
    while position < len(header):
        found = _FIELD.match(header, position)
        if found is None:
            line_end = header.find(b"\r\n", position)
            if line_end < 0:
                return
            position = line_end + 2
            continue
        yield found[1], found[2].replace(b"\r\n", b"").strip()
        position = found.end()


def first_value(header: bytes, name: bytes) -> bytes | None:
    """The value of the first field called *name*, whatever its case; None without one."""
    wanted = name.lower()
    return next((value for key, value in fields(header) if key.lower() == wanted), None)


def count(header: bytes, name: bytes) -> int:
    """How many fields are called *name*, whatever its case (RFC 5321 section 6.3: loops)."""
    # Once for each message: plain searching is ten times as fast as a pattern that ignores case.
    text = b"\r\n" + header.lower()
    start = b"\r\n" + name.lower()
    total = text.count(start + b":")
    if start + b" " in text or start + b"\t" in text:  # obsolete, RFC 5322 section 4.5
        total += len(re.findall(re.escape(start) + rb"[ \t]+:", text))
    return total


def field(name: str, value: str) -> bytes:
    """
    One header field with its CRLF, folded between words where it would pass 78 octets.

    Control characters in *value* become spaces, so that no value can start another field.
    """
    words = "".join(c if c >= " " and c != "\x7f" else " " for c in value).split()
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > FOLD_AT and lines[-1].strip() != f"{name}:":
            lines.append("")
        lines[-1] += " " + word
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n"
