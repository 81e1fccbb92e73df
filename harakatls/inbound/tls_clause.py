"""The clause of the Received field that tells of TLS (RFC 8314 section 4.3), and its comment."""

import re

from harakatls.connection import TLSSummary
from harakatls.tls.suites import registered_name

_WIDTH = 78  # RFC 5322 section 2.1.1: what a line should not be longer than
_MOST_NAMES = 3
_LONGEST_NAME = 60  # so that it fits in a line
_LONGEST_REASON = 120
_NOT_IN_WORD = re.compile(r"[^A-Za-z0-9._:*@-]")  # "=" neither: no name is to look like a fact
_NOT_IN_REASON = re.compile(r"[^\x20-\x7e]")
_SPECIAL = re.compile(r"([()\\])")


def tls_clause(secured: TLSSummary) -> str:
    r"""
    With the folding before it, and in it::

        tls TLS_AES_256_GCM_SHA384 (TLSv1.3 X25519 sni=mx.example
        cert="self-signed certificate \(18\)" names=client.example
        sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08)

    C{cert} and what follows is about the client's certificate, if it has shown one: C{verified}, or
    why it is not. A client may write what it likes into its names: they stay within the comment,
    and what no host name has shows as C{?}.
    """
    facts = [_word(secured.protocol), _word(secured.group or "")]
    if secured.server_name is not None:
        facts.append(f"sni={_word(secured.server_name)}")
    if secured.fingerprint:
        facts += _certificate(secured).split(" ")
    facts = [fact for fact in facts if fact]
    facts[0] = f"({facts[0]}"
    facts[-1] += ")"
    return _folded([f"tls {_word(registered_name(secured.cipher))}", *facts])


def _certificate(secured: TLSSummary) -> str:
    names = [_name(name) for name in secured.peer_names[:_MOST_NAMES]]
    more = len(secured.peer_names) - len(names)
    shown = ", ".join(names) + (f" and {more} more" if more > 0 else "")
    facts = [f"cert={'verified' if secured.verified else _reason(secured)}"]
    facts += [f"names={shown}"] if shown else []
    return " ".join((*facts, f"sha256={_word(secured.fingerprint)}"))


def _reason(secured: TLSSummary) -> str:
    reason = (secured.verify_error or "not verified")[:_LONGEST_REASON].replace('"', "'")
    quoted = _SPECIAL.sub(r"\\\1", _NOT_IN_REASON.sub("?", reason))
    return f'"{quoted}"'


def _name(name: str) -> str:
    """What was cut is no name of a host any more."""
    return _word(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}...")


def _word(text: str) -> str:
    return _NOT_IN_WORD.sub("?", text)


def _folded(words: list[str]) -> str:
    """Lines of up to 78 octets, but for a word that alone is longer; the last has a ";" behind."""
    lines = [""]
    for word in words:
        if len(lines) == 1 or len(lines[-1]) + len(word) + 2 > _WIDTH:
            lines.append(f"\t{word}")
        else:
            lines[-1] += f" {word}"
    return "\r\n".join(lines)
