"""``harakatls passwd``: users and their passwords in auth_flat_file.ini."""

import argparse
import getpass
import re
import sys

from harakatls.config.directory import ConfigDirectory
from harakatls.config.edit import alone, replace_private, with_key
from harakatls.config.ini import is_key
from harakatls.service.command_failure import CommandFailure, warn
from harakatls.smtp.scram import prepared
from harakatls.users.file import FILE
from harakatls.users.stored import KINDS, StoredPassword

SECTION = "users"
PLUGIN = "auth/flat_file"

# What the grammar of ini files would not give back: comments, and lines that go on.
_NOT_IN_INI = re.compile(r"\A\s|\s\Z|\s;|\\\Z|[\r\n]")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command and its options."""
    text = f"Set, or remove, the password of a user of the plugin {PLUGIN}."
    parser = commands.add_parser(
        "passwd",
        help=text,
        description=f"{text} It is asked for twice, or read from a line of the standard input. "
        "The server takes it on by itself.",
    )
    parser.add_argument("user", metavar="USER", help="for example bob@example.com")
    parser.add_argument("--config", "-c", metavar="DIR", default="./config")
    parser.add_argument(
        "--kind",
        choices=tuple(KINDS),
        default="scram",
        help="what is kept: keys for SCRAM (which do for PLAIN and LOGIN, too), a hash of Argon2 "
        "(for PLAIN and LOGIN alone), or the password itself (CRAM-MD5 needs it)",
    )
    parser.add_argument("--remove", action="store_true", help="remove the user")
    parser.set_defaults(run=change)


def change(options: argparse.Namespace) -> None:
    """Write the line of the user."""
    user: str = options.user
    config = ConfigDirectory(options.config)
    _check_name(user)
    if options.remove:
        _write(config, user, None)
        print(f"{user} is removed from {FILE}")
        return
    stored = _stored(options.kind, _password())
    _write(config, user, stored.as_text)
    print(f"{user} can log in by {', '.join(sorted(stored.mechanisms))}")
    if PLUGIN not in config.lines("plugins"):
        warn(f"config/plugins does not list {PLUGIN}, so nobody logs in by {FILE}")


def _check_name(user: str) -> None:
    try:
        fits = is_key(user) and not user.endswith("[]") and prepared(user) == user
    except ValueError:
        fits = False
    if not fits:
        expected = "letters, digits and _ @ : . + - / [ ] *"
        raise CommandFailure(f"{user!r} cannot be the name of a user, which is made of {expected}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandFailure("these are two different passwords; nothing was changed")
    return password


def _stored(kind: str, password: str) -> StoredPassword:
    try:
        stored = KINDS[kind](password)
    except ValueError as problem:
        raise CommandFailure(f"the password {problem}" if password else "no password") from None
    if _NOT_IN_INI.search(stored.as_text):
        raise CommandFailure(
            "a password that is kept as it is must not begin or end with a blank, end with a "
            "backslash, or hold a blank before a semicolon"
        )
    return stored


def _write(config: ConfigDirectory, user: str, text: str | None) -> None:
    file = config.path / FILE
    try:
        with alone(config.path):
            before = file.read_text("utf-8") if file.exists() else ""
            after = with_key(before, SECTION, user, text)
            if text is None and user not in config.ini(FILE).section(SECTION).names():
                raise CommandFailure(f"{FILE} has no user {user}")
            replace_private(file, after)
    except ValueError as problem:
        raise CommandFailure(f"{file}: {user} {problem}") from None
    except OSError as problem:
        raise CommandFailure(f"{file}: {problem.strerror or problem}") from None
