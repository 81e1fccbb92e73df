"""
What a server without 8BITMIME is given in place of an 8-bit message, and one without BINARYMIME in
place of a binary one.

RFC 6152 section 3 and RFC 3030 section 3 leave two ways: to convert it, or to return it. Converted
it arrives, so that is done, as in Postfix; the price is a signature (DKIM), which nobody misses as
much as the mail.
"""

from collections.abc import Callable

from harakatls.interfaces import IMessageBody
from harakatls.mail.seven_bit import to_seven_bit
from harakatls.smtp.reply import Reply
from harakatls.spool.bodies import BytesBody

# Larger ones are returned: to convert one takes memory, and time that nobody else gets meanwhile.
CONVERTED_OCTETS = 1 << 20
_CHUNK = 1 << 16

_BINARY = Reply.of(
    554, "5.6.3", "The message is binary, the server takes text alone, and it cannot be converted"
)
_NOT_CONVERTED = Reply.of(
    554, "5.6.3", "The message is 8-bit, the server takes 7-bit alone, and it cannot be converted"
)


async def seven_bit(
    open_body: Callable[[], IMessageBody], binary: bool = False
) -> IMessageBody | Reply:
    """
    @param binary: it was announced as BINARYMIME, so that its lines may be none.
    @return: the message from its start, as it is where it is 7-bit; or why it cannot be sent.
    @raise SpoolDamaged: it cannot be read.
    """
    body = open_body()
    try:
        pieces, is_ascii = [], not binary
        while is_ascii or body.size <= CONVERTED_OCTETS:
            chunk = await body.read(_CHUNK)
            if not chunk:
                break
            is_ascii = is_ascii and chunk.isascii()
            if body.size <= CONVERTED_OCTETS:
                pieces.append(chunk)
    finally:
        body.close()
    if is_ascii:
        return open_body()
    converted = to_seven_bit(b"".join(pieces)) if body.size <= CONVERTED_OCTETS else None
    if converted is None:
        return _BINARY if binary else _NOT_CONVERTED
    return BytesBody(converted)
