"""
An 8-bit or binary message as one of 7 bits, for servers that take no other (RFC 6152 section 3, RFC
3030 section 3).
"""

import quopri
import re
from base64 import encodebytes
from email import policy
from email.generator import BytesGenerator
from email.message import Message
from email.parser import BytesParser
from io import BytesIO

# Lines of the header are left as long as they are; what is not ASCII in it becomes encoded words.
_POLICY = policy.compat32.clone(cte_type="7bit", linesep="\r\n", max_line_length=None)
# What makes octets binary: CR and LF that are no line end, NUL, lines that are too long (RFC 5322
# section 2.1.1).
_NO_TEXT = re.compile(r"\r(?!\n)|(?<!\r)\n|\0|[^\r\n]{999}")
_WIDE = frozenset({"8bit", "binary"})


def to_seven_bit(message: bytes) -> bytes | None:
    """
    The same content with its 8-bit and binary parts in quoted-printable or base64.

    Signatures of the message (DKIM) do not survive it, as RFC 6376 section 5.3 warns signers.

    @return: in wire form; None where it cannot be done (a malformed message).
    """
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
