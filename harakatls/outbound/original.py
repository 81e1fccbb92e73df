"""What a report returns of the message it is about; pure but for `returned`, which reads it."""

from base64 import encodebytes

from attrs import frozen

from harakatls.interfaces import IMessageBody
from harakatls.mail.header import header_length

HEADER_OCTETS = 32768  # of the original; what is longer is cut off at a line's end
# RET=FULL asks for all of it. A larger message comes back with its header alone (RFC 3461 section
# 4.3 allows it): a forged sender must not become a way to have somebody sent much.
FULL_OCTETS = 262144


@frozen
class Original:
    """@ivar content: the header, or with *whole* the message."""

    content: bytes = b""
    whole: bool = False

    @property
    def header(self) -> bytes:
        """Its header, whatever else there is."""
        return original_header(self.content) if self.whole else self.content


async def returned(body: IMessageBody, full: bool) -> Original:
    """
    @param full: all of it is wanted, if it is not too much.
    @raise SpoolDamaged: it cannot be read.
    """
    whole = full and body.size <= FULL_OCTETS
    wanted = body.size if whole else HEADER_OCTETS
    pieces: list[bytes] = []
    size = 0
    while size < wanted:
        chunk = await body.read(wanted - size)
        if not chunk:
            break
        pieces.append(chunk)
        size += len(chunk)
    start = b"".join(pieces)
    return Original(start, True) if whole else Original(original_header(start))


def original_header(start: bytes) -> bytes:
    """
    The header to be sent back.

    @param start: the first octets of the message, `HEADER_OCTETS` or all of it.
    """
    length = header_length(start)
    if length is not None and length <= HEADER_OCTETS:
        return start[:length]
    cut = start.rfind(b"\r\n", 0, HEADER_OCTETS)
    return start[: cut + 2] if cut >= 0 else b""


def as_part(original: Original) -> bytes:
    """
    The last part of the report (RFC 6522 section 3), its header included.

    Of 7-bit octets, but for a whole message with an 8-bit body and an ASCII header: that can be
    nothing but message/rfc822, which must not be encoded (RFC 2046 section 5.2.1).
    """
    content = original.content
    if original.whole:
        described = b"Content-Description: Undelivered message\r\n"
        ascii_kind, utf8_kind = b"message/rfc822", b"message/global"
    else:
        described = b"Content-Description: Header of the message\r\n"
        ascii_kind, utf8_kind = b"text/rfc822-headers", b"message/global-headers"
    if content.isascii() or (original.whole and original.header.isascii()):
        encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        return b"Content-Type: " + ascii_kind + b"\r\n" + encoding + described + b"\r\n" + content
    # RFC 6533 section 5; encoded, for hosts without 8BITMIME (RFC 6532 section 3.7).
    encoded = encodebytes(content).replace(b"\n", b"\r\n")
    return (
        b"Content-Type: "
        + utf8_kind
        + b"\r\nContent-Transfer-Encoding: base64\r\n"
        + described
        + b"\r\n"
        + encoded
    )
