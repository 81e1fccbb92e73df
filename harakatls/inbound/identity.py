"""The id of a connection."""

import os

_UUID_FIXED = 0xF << 76 | 0x3 << 62  # the bits that are not random: version and variant
_UUID_VERSION_4 = 0x4 << 76 | 0x2 << 62


def new_id() -> str:
    """A random UUID (RFC 9562 section 5.4). Python's class for them takes four times as long."""
    bits = int.from_bytes(os.urandom(16)) & ~_UUID_FIXED | _UUID_VERSION_4
    text = f"{bits:032X}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
