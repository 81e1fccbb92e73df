"""All settings of one instance, read at once."""

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from harakatls.config.directory import ConfigDirectory, Stamp, queue_directory
from harakatls.config.errors import MAIN, ConfigError, shown
from harakatls.inbound.settings import InboundSettings
from harakatls.outbound.settings import OutboundSettings
from harakatls.service.logs import LogSettings
from harakatls.tls.settings import TLSSettings


@frozen(kw_only=True)
class Settings:
    """
    What the core reads; plugins read their own files when they are loaded.

    @ivar tls_stamps: of the files that *tls* comes from, see L{ConfigDirectory.stamps}.
    @ivar plugins: names in the order of asking.
    @ivar own_plugins: the directory of the operator's own plugins.
    """

    config: ConfigDirectory
    me: str
    inbound: InboundSettings
    outbound: OutboundSettings
    tls: TLSSettings
    tls_stamps: Mapping[Path, Stamp | None]
    log: LogSettings
    queue: Path
    plugins: tuple[str, ...]
    own_plugins: Path

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> "Settings":
        """@raise ConfigError: a file cannot be read or used."""
        config = ConfigDirectory(directory)
        tls = TLSSettings.load(config)
        tls_stamps = config.stamps  # nobody else has asked for a file yet
        return cls(
            config=config,
            me=config.me,
            inbound=InboundSettings.load(config),
            outbound=OutboundSettings.load(config),
            tls=tls,
            tls_stamps=tls_stamps,
            log=LogSettings.load(config),
            queue=queue_directory(config),
            plugins=config.lines("plugins"),
            own_plugins=config.resolve("../plugins"),
        )


def account(settings: InboundSettings) -> tuple[int | None, int | None]:
    """
    The uid and gid to take on.

    @return: None for those that stay as they are.
    @raise ConfigError: there is no such account or group, or it cannot be taken on.
    """
    uid = gid = None
    if settings.user is not None:
        try:
            entry = pwd.getpwnam(settings.user)
        except KeyError:
            raise _wrong("user", f"there is no account {shown(settings.user)}") from None
        uid, gid = entry.pw_uid, entry.pw_gid
    if settings.group is not None:
        try:
            gid = grp.getgrnam(settings.group).gr_gid
        except KeyError:
            raise _wrong("group", f"there is no group {shown(settings.group)}") from None
    if uid in (None, os.geteuid()) and gid in (None, os.getegid()):
        return None, None
    if os.geteuid() != 0:
        key = "group" if settings.user is None else "user"
        raise _wrong(key, "only root can take on the rights of another; start the server as root")
    return uid, gid


def _wrong(key: str, problem: str) -> ConfigError:
    return ConfigError("smtp.ini", MAIN, key, problem)
