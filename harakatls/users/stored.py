"""
What is kept of a password, as a line of text, and what can be done with it.

========================================  =========================================================
``$argon2id$v=19$m=...``                  Argon2 (RFC 9106) in the usual form: PLAIN and LOGIN
``SCRAM-SHA-256$<count>:<salt>$<keys>``   the keys of SCRAM (RFC 5803): PLAIN, LOGIN and SCRAM
anything else                             the password itself: all mechanisms
========================================  =========================================================
"""

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Protocol

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError
from attrs import field, frozen

from harakatls.smtp.scram import (
    FEWEST_ITERATIONS,
    KEY_OCTETS,
    MOST_ITERATIONS,
    SALT_OCTETS,
    ScramKeys,
    prepared,
)

PASSWORD_MECHANISMS = frozenset({"PLAIN", "LOGIN"})
SCRAM_MECHANISMS = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"})

_SCRAM_PREFIX = "SCRAM-SHA-256$"
_SCRAM = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([^$:]+)\$([^$:]+):([^$:]+)")
_ARGON2_PREFIX = "$argon2"
_FEWEST_SALT = 8  # octets; RFC 5802 knows no minimum, and others' files have short ones


class StoredPassword(Protocol):
    """
    @ivar kind: in a word.
    @ivar mechanisms: for which it is enough.
    """

    @property
    def kind(self) -> str: ...

    @property
    def mechanisms(self) -> frozenset[str]: ...

    def fits(self, password: str) -> bool:
        """Is it that one, prepared? May take long, on purpose: to be called in a thread."""

    def scram_keys(self, key: bytes, user: str) -> ScramKeys | None:
        """
        None where there are none. May take long, too.

        @param key: of this process: with *user* it makes a salt that is always the same.
        """

    @property
    def as_text(self) -> str:
        """As `parse` reads it."""


@frozen
class Argon2Password:
    """The strongest, but of no use for SCRAM."""

    text: str = field(repr=False)
    kind = "argon2"
    mechanisms = PASSWORD_MECHANISMS

    def fits(self, password: str) -> bool:
        try:
            return argon2.PasswordHasher().verify(self.text, password)
        except (Argon2Error, InvalidHashError):
            return False

    def scram_keys(self, key: bytes, user: str) -> ScramKeys | None:
        return None

    @property
    def as_text(self) -> str:
        return self.text


@frozen
class ScramPassword:
    """Good for PLAIN and LOGIN as well: whoever tells the password can be checked by its keys."""

    keys: ScramKeys
    kind = "scram"
    mechanisms = PASSWORD_MECHANISMS | SCRAM_MECHANISMS

    def fits(self, password: str) -> bool:
        return self.keys.fit(password)

    def scram_keys(self, key: bytes, user: str) -> ScramKeys | None:
        return self.keys

    @property
    def as_text(self) -> str:
        keys = self.keys
        salt, stored, server = (
            b64encode(octets).decode() for octets in (keys.salt, keys.stored_key, keys.server_key)
        )
        return f"{_SCRAM_PREFIX}{keys.iterations}:{salt}${stored}:{server}"


@frozen
class PlainPassword:
    """Whoever reads the file has it. CRAM-MD5 needs it so."""

    password: str = field(repr=False)
    kind = "plain"
    mechanisms = PASSWORD_MECHANISMS | SCRAM_MECHANISMS | {"CRAM-MD5"}

    def fits(self, password: str) -> bool:
        return hmac.compare_digest(prepared(self.password).encode(), password.encode())

    def scram_keys(self, key: bytes, user: str) -> ScramKeys | None:
        return ScramKeys.of(self.password, ScramKeys.pretended(user, key).salt)

    @property
    def as_text(self) -> str:
        return self.password


def parse(text: str) -> StoredPassword:
    """@raise ValueError: it is none; the text does not repeat it."""
    if text.startswith(_SCRAM_PREFIX):
        return ScramPassword(_scram_keys(text))
    if text.startswith(_ARGON2_PREFIX):
        try:
            argon2.extract_parameters(text)
        except InvalidHashError:
            raise ValueError("is no hash of Argon2, although it begins like one") from None
        return Argon2Password(text)
    try:
        prepared(text)
    except ValueError as problem:
        raise ValueError(f"is no password: {problem}") from None
    return PlainPassword(text)


def _scram_keys(text: str) -> ScramKeys:
    found = _SCRAM.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        salt, stored, server = (b64decode(part, validate=True) for part in found.groups()[1:])
    except ValueError:
        raise ValueError(
            "has not the form SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>"
        ) from None
    iterations = int(found[1])
    if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise ValueError(f"has not {FEWEST_ITERATIONS} to {MOST_ITERATIONS} iterations")
    if len(salt) < _FEWEST_SALT or len(stored) != KEY_OCTETS or len(server) != KEY_OCTETS:
        raise ValueError("has a salt or keys of the wrong length")
    return ScramKeys(salt, iterations, stored, server)


# -- new ones -----------------------------------------------------------------------------------


def _new_scram(password: str) -> StoredPassword:
    return ScramPassword(ScramKeys.of(password, os.urandom(SALT_OCTETS)))


def _new_argon2(password: str) -> StoredPassword:
    return Argon2Password(argon2.PasswordHasher().hash(prepared(password)))


def _new_plain(password: str) -> StoredPassword:
    if isinstance(found := parse(password), PlainPassword):
        return found
    raise ValueError("begins as a hash does, so it cannot be kept as it is")


KINDS: Mapping[str, Callable[[str], StoredPassword]] = {
    "scram": _new_scram,
    "argon2": _new_argon2,
    "plain": _new_plain,
}
"""By name, what makes a new one of a password. @raise ValueError: it cannot be a password."""
