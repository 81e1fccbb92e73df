"""Puts other recipients in the place of one, or nobody (Haraka's aliases)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError, shown
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IRcptHook, Site
from harakatls.mail.address import Address, AddressError, parse_address, to_a_label
from harakatls.mail.envelope import Recipient
from harakatls.plugins.host_list import LocalDomains
from harakatls.verdict import CONTINUE, Accept, Verdict

log = Logger()

FILES = ("aliases", "aliases.json")
WANTS = "queue.wants"
_ANYBODY = "*"
_EXPECTED = (
    'expected {"action": "drop"}, or {"action": "alias", "to": "sales@example.com"}, '
    "or several in a list"
)
_DETAIL = re.compile(r"[-+]")


@frozen
class Alias:
    """
    Who gets the mail; nobody where it is dropped.

    @ivar to: addresses, or local parts alone, which keep the domain.
    """

    to: tuple[Address | str, ...] = ()

    def recipients(self, domain: str) -> tuple[Recipient, ...]:
        """@param domain: of the one in whose place they are."""
        return tuple(
            Recipient(one if isinstance(one, Address) else Address(one, domain)) for one in self.to
        )


def read_aliases(config: ConfigDirectory) -> Mapping[str, Alias]:
    """
    From ``aliases`` or ``aliases.json``, which are the same; keys are in lower case.

    @raise ConfigError: with the key, if it is about one.
    """
    there = [name for name in FILES if config.exists(name)]
    if len(there) == 2:
        config.warn(there[1], f"has no effect, since there is {there[0]} as well")
    name = there[0] if there else FILES[0]
    lines = config.lines(name)  # without comments, which JSON does not have
    if not lines:
        return {}
    try:
        found: Any = json.loads("\n".join(lines), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as problem:
        raise ConfigError(name, None, None, f"is not JSON: {problem}") from None
    if not isinstance(found, _Object):
        raise ConfigError(name, None, None, 'is not a JSON object; expected {"name": {...}}')
    aliases: dict[str, Alias] = {}
    for key, value in found.pairs:
        folded = _key(name, key)
        if folded in aliases:
            raise ConfigError(name, None, key, "is there twice; expected it once, in any case")
        aliases[folded] = _alias(name, key, value)
    return aliases


class _Object(dict[str, Any]):
    """One of JSON that knows what was in it twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _key(file: str, key: str) -> str:
    local, at, domain = key.rpartition("@")
    try:
        if not at:
            return key.lower()
        return f"{local.lower()}@{to_a_label(domain)}"
    except AddressError as problem:
        raise ConfigError(file, None, key, str(problem)) from None


def _alias(file: str, key: str, value: Any) -> Alias:
    def wrong(problem: str) -> ConfigError:
        return ConfigError(file, None, key, problem)

    if not isinstance(value, dict):
        raise wrong(f"{shown(json.dumps(value))} is not a JSON object; {_EXPECTED}")
    action = value.get("action")
    if action == "drop":
        return Alias()
    if action != "alias":
        raise wrong(f"the action {shown(json.dumps(action))} is not known; {_EXPECTED}")
    to = value.get("to")
    names = [to] if isinstance(to, str) else to
    if not isinstance(names, list) or not names:
        raise wrong(f"'to' names nobody; {_EXPECTED}")
    return Alias(tuple(_target(name, wrong) for name in names))


def _target(name: object, wrong: Callable[[str], ConfigError]) -> Address | str:
    if not isinstance(name, str):
        raise wrong(f"{shown(json.dumps(name))} is not an address; {_EXPECTED}")
    try:
        if "@" in name:
            return parse_address(name)
        return parse_address(f"{name}@example.com").local_part
    except AddressError as problem:
        raise wrong(str(problem)) from None


def load(site: Site) -> "Aliases":
    """From aliases or aliases.json; the domains of host_list are ours."""
    return Aliases(read_aliases(site.config), LocalDomains.load(site.config))


@implementer(IRcptHook)
@frozen
class Aliases:
    """
    Asked once about each recipient; those in its place are not looked up again.

    Keys without a domain count in our own domains alone: a client that may relay to the world
    does not mean our C{info}.
    """

    aliases: Mapping[str, Alias]
    domains: LocalDomains

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """The first key that is there decides."""
        address = recipient.address
        key = next((key for key in self._keys(address) if key in self.aliases), None)
        if key is None:
            return CONTINUE
        others = self.aliases[key].recipients(address.domain)
        log.info(
            "{id} mail for <{recipient}> goes to {others}, by the alias {key}",
            id=transaction.id,
            recipient=str(address),
            others=", ".join(f"<{other.address}>" for other in others) or "nobody",
            key=key,
        )
        if any(other.address.domain != address.domain for other in others):
            transaction.notes.setdefault(WANTS, "outbound")
        return Accept(becomes=others)

    def _keys(self, address: Address) -> Iterator[str]:
        user, domain = address.local_part.lower(), address.domain
        ours = domain in self.domains
        prefix = _DETAIL.split(user, maxsplit=1)[0]
        yield f"{user}@{domain}"
        if ours:
            yield user
        if prefix and prefix != user:
            yield f"{prefix}@{domain}"
            if ours:
                yield prefix
        yield f"@{domain}"
        if ours:
            yield _ANYBODY
