"""The console script ``harakatls``: what an operator does beside running the server."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harakatls.config.errors import ConfigError
from harakatls.service.command_failure import CommandFailure
from harakatls.service.instance import InstanceError, make_instance
from harakatls.spool.errors import SpoolUnusable

EXPECTED = (CommandFailure, ConfigError, InstanceError, SpoolUnusable)
COMMANDS = ("plugins", "queue", "tls", "nogo", "passwd")  # each in a module of its own


def main(arguments: Sequence[str] | None = None) -> int:
    """@return: the exit status: 0, or 1 or (misuse) 2 with one line of explanation on stderr."""
    options = _parser(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
    status = None
    try:
        status = options.run(options)
        sys.stdout.flush()
    except EXPECTED as problem:
        print(f"harakatls: {problem}", file=sys.stderr)
        return problem.status if isinstance(problem, CommandFailure) else 1
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return status or 0


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harakatls",
        description="Looks after an instance of the harakatls SMTP server. "
        "The server itself is started with: twistd -n harakatls --config DIR",
    )
    parser.add_argument("--version", action="version", version=f"harakatls {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_init(commands)
    # Most of the time of a short command goes to loading what others need.
    wanted = [name for name in COMMANDS if name in arguments[:1]] or COMMANDS
    for name in wanted:
        import_module(f"harakatls.service.command_{name}").add_to(commands)
    return parser


def _version() -> str:
    try:
        return version("harakatls")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "(not installed)"


def _add_init(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Make a new instance: config, queue, plugins and mail in one directory."
    parser = commands.add_parser("init", help=text, description=text)
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument(
        "--host", metavar="NAME", help="the name of the server; the system's if not given"
    )
    parser.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> None:
    name = make_instance(options.directory, options.host)
    config = options.directory / "config"
    print(f"made {options.directory} for {name}, with a self-signed certificate")
    print(f"start it with: twistd -n harakatls --config {config}")
