"""Delivers mail for our own domains into one Maildir on this machine."""

import errno
import mailbox
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IMessageBody, IQueueHook, IStagedMessage, Site
from harakatls.mail import header
from harakatls.plugins.host_list import LocalDomains
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Accept, TempFail, Verdict

log = Logger()

CHUNK = 256 * 1024  # octets of a message that stand in memory at once
SUBDIRECTORIES = ("tmp", "new", "cur")
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_SPACE = Reply.of(452, "4.3.1", "Insufficient system storage, try later")
NOT_WRITTEN = Reply.of(451, "4.3.0", "The mailbox cannot be written, try later")


def load(site: Site) -> "MaildirDelivery":
    """From maildir.ini and host_list; the directory is made at the first delivery."""
    directory = maildir_path(site.config)
    return MaildirDelivery(directory, LocalDomains.load(site.config), site.call_in_thread)


def maildir_path(config: ConfigDirectory) -> Path:
    """
    ``path`` in maildir.ini, relative to the config directory; else ``mail`` beside it.

    @raise ConfigError: there is something else at that place.
    """
    main = config.ini("maildir.ini").main
    path = config.resolve(main.text("path") or "../mail")
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise main.error("path", f"{path} is not a directory")
    except FileNotFoundError:
        pass
    except OSError as problem:
        raise main.error("path", f"{path} cannot be used: {problem.strerror}") from None
    return path


@implementer(IQueueHook)
@frozen
class MaildirDelivery:
    """
    Takes the recipients in our own domains and leaves the others to the next plugin.

    Each message becomes one file, synced to the disk before the peer hears of it.
    """

    directory: Path
    domains: LocalDomains
    call_in_thread: Callable[..., Awaitable[Any]]

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """A Maildir that cannot be written asks the sender to come back."""
        addresses = [recipient.address for recipient in transaction.envelope.recipients]
        local = [address for address in addresses if address.domain in self.domains]
        if not local:
            return CONTINUE
        fields = header.field("Return-Path", f"<{transaction.envelope.reverse_path or ''}>")
        for address in local:
            fields += header.field("Delivered-To", str(address))
        body = message.open()
        try:
            file = await self._deliver(fields, body, transaction.envelope.parameters.is_binary)
        except OSError as problem:
            log.error(
                "{id} cannot be written into {directory}: {problem}",
                id=transaction.id,
                directory=str(self.directory),
                problem=problem.strerror or str(problem),
            )
            return TempFail(NO_SPACE if problem.errno in FULL else NOT_WRITTEN)
        finally:
            body.close()
        log.info(
            "{id} for {recipients} is in {directory}/new/{file}",
            id=transaction.id,
            recipients=", ".join(map(str, local)),
            directory=str(self.directory),
            file=file,
        )
        return Accept(recipients=frozenset(local), delivered=True)

    async def _deliver(self, fields: bytes, body: IMessageBody, binary: bool) -> str:
        """
        @param binary: CR and LF are octets like others, which no reader may miss or find changed.
        @return: the name of the new file.
        """
        if body.size <= CHUNK:
            parts = [fields]
            while chunk := await body.read(CHUNK):
                parts.append(chunk)
            message = b"".join(parts)
            if not binary:
                message = message.replace(b"\r\n", b"\n")
            return str(await self.call_in_thread(add_message, self.directory, message))
        # mailbox wants to be handed the message as a whole: a large one as a file.
        with await self.call_in_thread(open_nameless, self.directory) as wire:
            wire.write(fields)
            while chunk := await body.read(CHUNK):
                await self.call_in_thread(wire.write, chunk)
            lines = UnixLines(wire, binary)
            return str(await self.call_in_thread(add_message, self.directory, lines))


# ------------------------------------------------------------------------ done in a thread


class UnixLines:
    """
    A message in wire form, read with the line ends that readers of a Maildir expect.

    mailbox copies what `readline` gives, so that is a large piece and not a line.
    """

    def __init__(self, wire: IO[bytes], binary: bool = False) -> None:
        """
        @param wire: is read from its start.
        @param binary: as it is.
        """
        wire.seek(0)
        self._wire = wire
        self._binary = binary
        self._held = b""  # a CR whose LF may follow

    def read(self) -> bytes:
        """A piece; b"" at the end."""
        if self._binary:
            return self._wire.read(CHUNK)
        while chunk := self._wire.read(CHUNK):
            piece = self._held + chunk
            self._held = b"\r" if piece.endswith(b"\r") else b""
            piece = piece.removesuffix(b"\r").replace(b"\r\n", b"\n")
            if piece:
                return piece
        piece, self._held = self._held, b""
        return piece

    readline = read


def open_nameless(directory: Path) -> IO[bytes]:
    """A file that is gone when it is closed, on the file system of the Maildir."""
    make_maildir(directory)
    return tempfile.TemporaryFile(dir=directory / "tmp")


class _Maildir(mailbox.Maildir):
    """Knows the file that is being written: `add` forgets it when the disk is full."""

    unfinished: IO[bytes] | None = None

    def _create_tmp(self) -> IO[bytes]:
        made: IO[bytes] = super()._create_tmp()  # type: ignore[misc]  # has no public name
        self.unfinished = made
        os.fchmod(made.fileno(), 0o600)  # the directories may be older than we, and open
        return made

    def _dump_message(self, message: Any, target: Any, mangle_from_: bool = False) -> None:
        if not isinstance(message, UnixLines):
            super()._dump_message(message, target, mangle_from_)
            return
        while piece := message.read():  # mailbox would look for line ends in a binary one
            target.write(piece)

    def remove_unfinished(self) -> None:
        """After a failure."""
        if self.unfinished is None:
            return
        try:
            os.unlink(self.unfinished.name)
        except OSError:
            pass
        try:
            self.unfinished.close()
        except OSError:  # what is in its buffer cannot be written either
            pass


def add_message(directory: Path, message: bytes | UnixLines) -> str:
    """
    Write one message and wait until it is on the disk.

    @return: the name of the new file.
    @raise OSError: it is not there, or not surely.
    """
    make_maildir(directory)
    maildir = _Maildir(directory, create=False)
    try:
        name = maildir.add(message)  # type: ignore[arg-type]  # any object with readline will do
    except BaseException as problem:
        maildir.remove_unfinished()
        if isinstance(problem, mailbox.Error):  # two names clash; nothing is ever overwritten
            raise OSError(errno.EEXIST, str(problem)) from None
        raise
    _sync(directory / "new")  # add has synced the file, but not its name
    return name


def make_maildir(directory: Path) -> None:
    """Where a part of it is missing."""
    if all((directory / name).is_dir() for name in SUBDIRECTORIES):
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in SUBDIRECTORIES:
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    _sync(directory)
    _sync(directory.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
