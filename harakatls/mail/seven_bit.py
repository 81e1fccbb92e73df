"""
An 8-bit or binary message as one of 7 bits, for servers that take no other (RFC 6152 section 3, RFC
3030 section 3).
"""

import quopri
import re
from base64 import b64encode, encodebytes
from email import policy
from email.generator import BytesGenerator
from email.message import Message
from email.parser import BytesParser
from io import BytesIO

# What makes octets binary: CR and LF that are no line end, NUL, lines that are too long (RFC 5322
# section 2.1.1).
_NO_TEXT = re.compile(r"\r(?!\n)|(?<!\r)\n|\0|(?<![^\n])[^\r\n]{999}")
_WIDE = frozenset({"8bit", "binary"})
# Everything else waits while a message is converted. Each line is compared with the end of each
# part that it may be in.
_COMPARISONS = 1_000_000
_PARTS = 5000
# RFC 2047 section 2: an encoded word has 75 characters; of base64, 56 are left.
_BEFORE_WORD, _BEHIND_WORD, _WORD_OCTETS = b"=?unknown-8bit?b?", b"?=", 42
_LINE_END = re.compile(rb"\r\n|\r|\n")
_WIDE_WORDS = re.compile(rb"[^\s]*[\x80-\xff][^\s]*(?:\s+[^\s]*[\x80-\xff][^\s]*)*")


class _Policy(policy.Compat32):
    """
    Lines of the header are left as long as they are; what is not ASCII in it becomes encoded words.

    The library would take half a minute for a field of 64 KiB.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        """As `email.policy.Policy.fold_binary`."""
        field = f"{name}: {value}".encode("ascii", "surrogateescape")
        field = _LINE_END.sub(b"\r\n", field)
        return (field if field.isascii() else _WIDE_WORDS.sub(_encoded_words, field)) + b"\r\n"


def _encoded_words(found: "re.Match[bytes]") -> bytes:
    octets, words = found[0].replace(b"\r\n", b""), []
    while octets:
        # No character is cut in two, if they are of UTF-8.
        end = len(octets[:_WORD_OCTETS])
        while _WORD_OCTETS - 3 < end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        words.append(_BEFORE_WORD + b64encode(octets[:end]) + _BEHIND_WORD)
        octets = octets[end:]
    return b"\r\n ".join(words)


_POLICY = _Policy(cte_type="7bit", linesep="\r\n", max_line_length=None)


def to_seven_bit(message: bytes) -> bytes | None:
    """
    The same content with its 8-bit and binary parts in quoted-printable or base64.

    Signatures of the message (DKIM) do not survive it, as RFC 6376 section 5.3 warns signers.

    @return: in wire form; None where it cannot be done (a malformed message), or would take long.
    """
    if _is_costly(message):
        return None
    try:
        parsed = BytesParser(policy=policy.compat32).parsebytes(message)
        _complete(parsed)
        for part in parsed.walk():
            _encode(part)
        out = BytesIO()
        BytesGenerator(out, mangle_from_=False, policy=_POLICY).flatten(parsed)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # what is not MIME can be wrong in ways that the library does not foresee
    converted = out.getvalue()
    return converted if converted.isascii() else None


def _is_costly(message: bytes) -> bool:
    """Hardly any message that was not made to be so."""
    multiparts = message.lower().count(b"multipart/")
    if multiparts and message.count(b"\n--") > _PARTS:
        return True
    return multiparts > 0 and message.count(b"\n") * multiparts > _COMPARISONS


def _complete(parsed: "Message[str, str]") -> None:
    """An encoding counts only in a message of MIME."""
    if parsed["MIME-Version"] is None:
        parsed["MIME-Version"] = "1.0"
        if parsed["Content-Type"] is None:
            parsed["Content-Type"] = "text/plain; charset=unknown-8bit"  # RFC 1428 section 3


def _encode(part: "Message[str, str]") -> None:
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if part.is_multipart():
        if encoding in _WIDE:
            part.replace_header("Content-Transfer-Encoding", "7bit")
        return
    shown, octets = part.get_payload(), part.get_payload(decode=True)
    if not isinstance(shown, str) or not isinstance(octets, bytes):
        return
    is_text = not _NO_TEXT.search(shown)
    if is_text and shown.isascii():
        if encoding == "binary":
            part.replace_header("Content-Transfer-Encoding", "7bit")
        return
    del part["Content-Transfer-Encoding"]
    if is_text and part.get_content_maintype() == "text":
        part["Content-Transfer-Encoding"] = "quoted-printable"
        part.set_payload(quopri.encodestring(octets.replace(b"\r\n", b"\n")).decode("ascii"))
    else:
        part["Content-Transfer-Encoding"] = "base64"
        part.set_payload(encodebytes(octets).decode("ascii"))
