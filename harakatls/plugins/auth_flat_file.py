"""Users in a file (Haraka's auth/flat_file)."""

import os
import stat
from pathlib import Path

from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory, stamp
from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import ICertificateHook, IMailHook, IPasswordHook, ISecretHook, Site
from harakatls.plugins.few_threads import FewThreads
from harakatls.plugins.files import CallInThread
from harakatls.plugins.sender_constraint import constrain_sender
from harakatls.smtp.scram import ScramKeys
from harakatls.users.file import FILE, UsersFile
from harakatls.users.stored import (
    PASSWORD_MECHANISMS,
    SCRAM_MECHANISMS,
    PlainPassword,
)
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict

log = Logger()

AT_A_TIME = 4  # checks of passwords; Argon2 takes 64 MiB for each
_KEY = os.urandom(32)  # see StoredPassword.scram_keys
_WRONG = Reject()


def load(site: Site) -> "FlatFile":
    """From auth_flat_file.ini."""
    return FlatFile(site.config, site.call_in_thread)


@implementer(IPasswordHook, ISecretHook, ICertificateHook, IMailHook)
class FlatFile:
    """The file is read again when it has changed, at the next EHLO inside of TLS."""

    def __init__(self, config: ConfigDirectory, call_in_thread: CallInThread) -> None:
        """@raise ConfigError: the file cannot be used."""
        self._directory = config.path
        self._stamp = stamp(self._directory / FILE)
        self._file = UsersFile.load(config)
        config.watched(FILE)
        self._threads = FewThreads(call_in_thread, AT_A_TIME)
        self._scram_keys: dict[str, ScramKeys] = {}  # of passwords in the clear
        if not self._file.users and not self._file.certificates:
            log.warn("{file} names no users: nobody can log in by it", file=FILE)
        elif _is_open_to_all(self._directory / FILE):
            log.warn("{file} may be read or changed by all on this machine", file=FILE)

    async def mechanisms(self, connection: Connection) -> tuple[str, ...]:
        """Those of the file, and EXTERNAL for whose certificate is in it."""
        self._refresh()
        secured = connection.secured
        known = secured is not None and self._file.user_of(secured) is not None
        return (*self._file.methods, *(("EXTERNAL",) if known else ()))

    async def password(self, connection: Connection, user: str, password: str) -> Verdict:
        """Who is not there is checked like the others, and takes as long."""
        file = self._file
        if not file.methods & PASSWORD_MECHANISMS:
            return CONTINUE
        stored = file.users.get(user)
        like = stored or file.usual
        if like is None:
            return CONTINUE
        fits = await self._threads.call(like.fits, password)
        if stored is None:
            return CONTINUE
        return ACCEPT if fits else _WRONG

    async def secret(
        self, connection: Connection, mechanism: str, user: str
    ) -> ScramKeys | str | None:
        """As far as what is kept of the password allows."""
        file = self._file
        if mechanism not in file.methods:
            return None
        stored = file.users.get(user)
        if mechanism not in SCRAM_MECHANISMS:
            return stored.password if isinstance(stored, PlainPassword) else None
        if not isinstance(stored, PlainPassword):
            keys = None if stored is None else stored.scram_keys(_KEY, user)
            return keys or file.pretended_keys(user, _KEY)
        of_file = self._scram_keys  # which may have changed by the time they are made
        keys = of_file.get(user)
        if keys is None:
            keys = await self._threads.call(stored.scram_keys, _KEY, user)
            assert keys is not None, "a password is enough to make keys of it"
            of_file[user] = keys
        return keys

    async def certificate(self, connection: Connection) -> str | None:
        """By its fingerprint, else by a name in it."""
        secured = connection.secured
        return None if secured is None else self._file.user_of(secured)

    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        """With constrain_sender: its own users send from their own domains."""
        file, user = self._file, connection.authenticated_as
        if not file.constrain_sender or user is None:
            return CONTINUE
        if user not in file.users and user not in file.certificates.values():
            return CONTINUE
        return constrain_sender(connection, transaction)

    def _refresh(self) -> None:
        found = stamp(self._directory / FILE, self._stamp)
        if found == self._stamp:
            return
        self._stamp = found
        try:
            config = ConfigDirectory(self._directory)
            file = UsersFile.load(config)
        except ConfigError as problem:
            log.error("{problem}; the users from before stay", problem=str(problem))
            return
        self._file = file
        self._scram_keys = {}
        for warning in config.ini(FILE).warnings:
            log.warn("{problem}", problem=warning)
        log.info("{file} has changed: {count} users", file=FILE, count=len(file.users))


def _is_open_to_all(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IRWXO)
    except OSError:
        return False
