"""The files that tls.ini names, read."""

from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError, shown
from harakatls.config.section import Section
from harakatls.tls.dhparams import FFDHE2048, DHGroup, GroupRefused, read_group
from harakatls.tls.parameters import Role
from harakatls.tls.pem import read_pem

DEFAULT_GROUP = "dhparams.pem"
_DIRECTORY = "tls"


@frozen
class PEMFile:
    """
    A file that tls.ini names.

    @ivar name: as tls.ini writes it.
    @ivar content: None where it could not be read.
    @ivar problem: why not.
    @ivar is_anchor: C{ca} names it, so that it need not belong to a certificate of ours.
    """

    name: str
    content: bytes | None = field(repr=False)  # may be a private key
    problem: str | None = None
    is_anchor: bool = False

    @classmethod
    def read(cls, config: ConfigDirectory, name: str) -> "PEMFile":
        """Never raises: a wrong file does not stop the server."""
        try:
            content = config.content(name)
        except ConfigError as error:
            return cls(name, None, error.problem)
        if content is None:
            return cls(name, None, "there is no such file")
        if not content.strip():
            return cls(name, None, "the file is empty")
        return cls(name, content)


@frozen
class GroupFile:
    """
    The file that dhparam names.

    @ivar path: absolute.
    @ivar group: what is in it; where that cannot be used, the one of RFC 7919.
    @ivar missing: there is no such file, or an empty one, so that one is to be made.
    @ivar problem: why what is in it cannot be used.
    """

    name: str = DEFAULT_GROUP
    path: Path = field(default=Path(DEFAULT_GROUP), eq=False)
    group: DHGroup = FFDHE2048
    missing: bool = field(default=True, eq=False)  # what will be made is what is used by now
    problem: str | None = None

    @classmethod
    def read(cls, config: ConfigDirectory, name: str) -> "GroupFile":
        """Never raises: there is always a group to use."""
        path = config.resolve(name)
        group, problem = FFDHE2048, None
        try:
            content = (config.content(name) or b"").strip()
            if content:
                group = read_group(content)
        except ConfigError as error:
            return cls(name, path, group, False, error.problem)
        except GroupRefused as refusal:
            problem = str(refusal)
        return cls(name, path, group, not content, problem)


def files_of_directory(
    config: ConfigDirectory, for_clients: Sequence[Section], for_all: Sequence[Section]
) -> tuple[PEMFile, ...]:
    """
    All in config/tls, and below it, but for groups that C{dhparam} names.

    @param for_clients: the sections in which C{dhparam} has a meaning.
    @param for_all: those in which C{ca} has one.
    """
    groups = {config.resolve(_group_name(s)) for s in for_clients if "dhparam" in s}
    anchors = {config.resolve(name) for s in for_all if "ca" in s for name in _file_names(s, "ca")}
    try:
        names = config.tree(_DIRECTORY)
    except ConfigError as error:
        return (PEMFile(error.file, None, error.problem),)
    files = []
    for name in names:
        path = config.resolve(name)
        file = evolve(PEMFile.read(config, name), is_anchor=path in anchors)
        if path not in groups or _has_more_than_a_group(file):
            files.append(file)
    return tuple(files)


def _has_more_than_a_group(file: PEMFile) -> bool:
    """Some keep the group in the file of their key and certificate."""
    contents = read_pem(file.content or b"")
    return bool(contents.private_keys or contents.certificates)


def named_files(
    role: Role, config: ConfigDirectory, key: str, default: str | None
) -> tuple[PEMFile, ...]:
    """
    What *key* names.

    @param default: the name of the file where the key is nowhere.
    """
    names = role.get(key, lambda section: _file_names(section, key))
    if names is None:
        names = () if default is None else (default,)
    return tuple(PEMFile.read(config, name) for name in names)


def _file_names(section: Section, key: str) -> tuple[str, ...]:
    names = section.texts(key)
    if not names:
        raise section.error(key, "names no file")
    for name in names:
        if not name.isprintable():
            raise section.error(key, f"{shown(name)} is not the name of a file")
    return names


def group_file(role: Role, config: ConfigDirectory) -> GroupFile:
    """What dhparam names."""
    return GroupFile.read(config, role.get("dhparam", _group_name) or DEFAULT_GROUP)


def _group_name(section: Section) -> str:
    name = section.text("dhparam", "")
    if not name or not name.isprintable():
        raise section.error("dhparam", f"{shown(name)} is not the name of a file")
    return name
