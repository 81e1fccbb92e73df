"""xtext: how the values of DSN parameters are written (RFC 3461 section 4, RFC 6533 section 3)."""

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_UTF8_XTEXT = re.compile(r"(?:[!-*,-<>-~\u0080-\U0010ffff]|\+[0-9A-F]{2})*\Z")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_TO_ESCAPE = re.compile(r"[^!-*,-<>-~]")


class XtextError(ValueError):
    """It is no xtext, or of what must not be in it; says what was expected, in ASCII."""


def decode(text: str, utf8: bool = False) -> str:
    """
    The value that *text* stands for.

    @param utf8: characters beyond ASCII may stand for themselves (RFC 6533 section 3,
        utf-8-addr-unitext).
    @return: printable ASCII with spaces, and what *utf8* lets through: what comes out is written
        into header fields, so no "+0D+0A" may end one.
    @raise XtextError: *text* is something else.
    """
    if not (_UTF8_XTEXT if utf8 else _XTEXT).match(text):
        raise XtextError("xtext (RFC 3461 section 4)")
    value = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), text) if "+" in text else text
    if not value.isprintable() or (not utf8 and not value.isascii()):
        raise XtextError("xtext of printable characters")
    return value


def encode(value: str) -> str:
    """
    *value* as xtext, all of it ASCII.

    @param value: what lies beyond ASCII is part of an address of the type utf-8, and written as
        ``\\x{F6}``, which is xtext of its own (RFC 6533 section 3).
    """
    return _TO_ESCAPE.sub(_escaped, value)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"+{number:02X}" if number < 0x80 else f"\\x{{{number:X}}}"
