"""``harakatls nogo``: hosts that get by without TLS, since it failed with them."""

import argparse
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure as Problem

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.redis.link import RedisAway, RedisLink, redis_link
from harakatls.redis.settings import RedisSettings
from harakatls.service.command_failure import CommandFailure, warn
from harakatls.service.logs import printable
from harakatls.service.nogo import file_of
from harakatls.tls.nogo import Direction, parse_key
from harakatls.tls.nogo_file import Failure, clear_in, failures_in
from harakatls.tls.nogo_redis import clear_of, failures_of
from harakatls.tls.settings import NoGoSettings, TLSSettings

T = TypeVar("T")

_ANSWER_LIMIT = 5.0  # seconds; the operator can wait longer than mail can
_MOST_OCTETS = 1 << 26


class NoGoUnreadable(CommandFailure):
    """A memory cannot be read or changed."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command, its verbs and their options."""
    text = "Look at, or clear, the memory of hosts with which TLS failed."
    parser = commands.add_parser("nogo", help=text, description=text)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    text = "List the hosts that get by without TLS; the server may be running."
    listed = verbs.add_parser("list", help=text, description=text)
    listed.add_argument("--config", "-c", metavar="DIR", default="./config")
    listed.add_argument("--json", action="store_true", help="one JSON object a line")
    listed.set_defaults(run=list_hosts)
    text = "Forget them, so that TLS is tried again at once; the server may be running."
    cleared = verbs.add_parser("clear", help=text, description=text)
    cleared.add_argument("address", nargs="?", metavar="ADDRESS", help="this one; else all")
    cleared.add_argument("--config", "-c", metavar="DIR", default="./config")
    cleared.set_defaults(run=clear_hosts)


def list_hosts(options: argparse.Namespace) -> None:
    """What is in Redis, then what is in the file beside the queue."""
    memories = _Memories.of(options.config)
    now = time.time()
    for failure in memories.from_file(lambda path: list(failures_in(path, now))):
        _print(failure, "file", options.json)
    found = memories.from_redis(lambda link: _all_of(link, now))
    for failure in sorted(found or (), key=lambda f: (-(f.failed_at or 0), f.key)):
        _print(failure, "redis", options.json)


def clear_hosts(options: argparse.Namespace) -> None:
    """Of both directions."""
    memories = _Memories.of(options.config)
    keys = None
    if options.address is not None:
        keys = tuple(direction.key(options.address) for direction in Direction)
    cleared = memories.from_file(lambda path: clear_in(path, keys))
    in_redis = memories.from_redis(lambda link: clear_of(link, keys))
    cleared += in_redis or 0
    print(f"{cleared} {'entry' if cleared == 1 else 'entries'} cleared")


@frozen
class _Memories:
    settings: NoGoSettings
    file: Any

    @classmethod
    def of(cls, directory: str) -> "_Memories":
        config = ConfigDirectory(directory)
        settings = TLSSettings.load(config).nogo
        if not settings.enabled:
            warn("disable_for_failed_hosts is off in tls.ini: the server remembers no failures")
        return cls(settings, file_of(queue_directory(config)))

    def from_file(self, ask: Callable[[Any], T]) -> T:
        try:
            return ask(self.file)
        except (sqlite3.Error, OSError) as problem:
            raise NoGoUnreadable(f"{self.file}: {problem}") from None

    def from_redis(self, ask: Callable[[RedisLink], Awaitable[T]]) -> T | None:
        """@return: None where there is none."""
        redis = self.settings.redis
        if redis is None:
            return None
        try:
            return _in_reactor(redis, ask)
        except RedisAway as problem:
            raise NoGoUnreadable(f"Redis at {redis}: {problem}") from None


async def _all_of(link: RedisLink, now: float) -> list[Failure]:
    return [failure async for failure in failures_of(link, now)]


def _in_reactor(redis: RedisSettings, ask: Callable[[RedisLink], Awaitable[T]]) -> T:
    from twisted.internet import reactor

    running: Any = reactor
    ended: list[T | Problem] = []

    async def asking() -> T:
        link = redis_link(redis, running, limit=_ANSWER_LIMIT, most_octets=_MOST_OCTETS)
        try:
            return await ask(link)
        finally:
            link.close()

    def start() -> None:
        Deferred.fromCoroutine(asking()).addBoth(end)

    def end(result: T | Problem) -> None:
        ended.append(result)
        running.stop()

    running.callWhenRunning(start)
    running.run()
    if not ended:
        raise KeyboardInterrupt
    (result,) = ended
    if isinstance(result, Problem):
        result.raiseException()
    return result


def _print(failure: Failure, where: str, as_json: bool) -> None:
    parsed = parse_key(failure.key)
    if parsed is None:
        return
    host, direction = parsed
    if as_json:
        facts = {
            "address": host,
            "direction": direction.name.lower(),
            "failed_at": failure.failed_at,
            "expires": failure.expires,
            "kept_in": where,
        }
        print(json.dumps(facts))
        return
    since, until = _when(failure.failed_at), _when(failure.expires)
    print(printable(f"{host}  {direction.name.lower()}  failed {since}, until {until} ({where})"))


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
