"""auth_flat_file.ini: users, what is kept of their passwords, and whose certificates are whose."""

import re
from collections import Counter
from collections.abc import Mapping

from attrs import field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import shown
from harakatls.config.hosts import host_name
from harakatls.config.section import Section
from harakatls.connection import TLSSummary
from harakatls.smtp.scram import ScramKeys, prepared
from harakatls.users.stored import (
    SCRAM_MECHANISMS,
    ScramPassword,
    StoredPassword,
    parse,
)

FILE = "auth_flat_file.ini"
METHODS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")  # PLUS goes with the last

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@frozen
class UsersFile:
    """
    @ivar methods: the mechanisms to be offered, EXTERNAL aside.
    @ivar usual: one of the kind that most have: what a user who is not there is checked with.
    @ivar certificates: by fingerprint (SHA-256, in hexadecimal) or DNS name, the user.
    """

    users: Mapping[str, StoredPassword] = field(factory=dict, repr=False)
    methods: frozenset[str] = frozenset()
    certificates: Mapping[str, str] = field(factory=dict)
    constrain_sender: bool = True
    usual: StoredPassword | None = field(init=False, repr=False)

    @usual.default
    def _usual(self) -> StoredPassword | None:
        if not self.users:
            return None
        ((kind, _),) = Counter(stored.kind for stored in self.users.values()).most_common(1)
        return next(stored for stored in self.users.values() if stored.kind == kind)

    @classmethod
    def load(cls, config: ConfigDirectory) -> "UsersFile":
        """@raise ConfigError: it cannot be used."""
        ini = config.ini(FILE)
        core = ini.section("core")
        users = _users(ini.section("users"))
        certificates = _certificates(ini.section("certificates"))
        constrain_sender = core.boolean("constrain_sender", True)
        return cls(users, _methods(core, users), certificates, constrain_sender)

    def pretended_keys(self, user: str, key: bytes) -> ScramKeys | None:
        """
        As of one of the users: what one who is not there is asked with.

        @param key: of this process, known to nobody.
        """
        for stored in self.users.values():
            if isinstance(stored, ScramPassword):
                like = stored.keys
                return ScramKeys.pretended(user, key, len(like.salt), like.iterations)
        return None

    def user_of(self, summary: TLSSummary) -> str | None:
        """Whose the certificate is, if it is verified and anybody's."""
        if not summary.verified:
            return None
        found = self.certificates.get(summary.fingerprint)
        names = (self.certificates.get(name.lower()) for name in summary.peer_names)
        return found or next(filter(None, names), None)


def _users(section: Section) -> dict[str, StoredPassword]:
    users: dict[str, StoredPassword] = {}
    plain = 0
    for key in section.names():
        try:
            name = prepared(key)
            stored = parse(section.text(key, ""))
        except ValueError as problem:
            raise section.error(key, str(problem)) from None
        if name in users:
            raise section.error(key, "is there twice, in two spellings")
        users[name] = stored
        plain += stored.kind == "plain"
    if plain:
        count = "1 password is" if plain == 1 else f"{plain} passwords are"
        section.warn(None, f"{count} kept in the clear; 'harakatls passwd USER' makes keys of it")
    return users


def _certificates(section: Section) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in section.names():
        fingerprint = key.replace(":", "").lower()
        if not _FINGERPRINT.fullmatch(fingerprint):
            try:
                fingerprint = host_name(key)
            except ValueError:
                expected = "neither a SHA-256 fingerprint in hexadecimal nor a DNS name"
                raise section.error(key, f"is {expected}") from None
        user = section.text(key, "")
        try:
            found[fingerprint] = prepared(user)
        except ValueError:
            raise section.error(key, f"{shown(user)} is not the name of a user") from None
    return found


def _methods(core: Section, users: Mapping[str, StoredPassword]) -> frozenset[str]:
    """Where none are named: those that all users can use. A client that can have it so is asked."""
    able = Counter(name for stored in users.values() for name in stored.mechanisms)
    text = core.text("methods")
    if text is None:
        return frozenset(name for name, count in able.items() if count == len(users))
    methods: set[str] = set()
    for word in re.split(r"[,\s]+", text.strip(" ,\t;")):
        name = word.upper().removesuffix("-PLUS")
        if name not in METHODS:
            raise core.error("methods", f"{shown(word)} is not one of {', '.join(METHODS)}")
        missing = len(users) - able[name]
        if missing:
            those = "no user" if not able[name] else f"{missing} of {len(users)} users not"
            core.warn("methods", f"{name}: {those}, for want of what is kept of the password")
        if able[name]:
            methods |= SCRAM_MECHANISMS if name in SCRAM_MECHANISMS else {name}
    return frozenset(methods)
