"""
Puts off what other plugins refuse early until a recipient is accepted (Haraka's delay_deny).

So the log names sender and recipient of what was refused, and whoever may relay, as after a login,
is not refused for where he connects from.
"""

import re
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.section import Section
from harakatls.connection import Connection, Hello, Transaction
from harakatls.interfaces import (
    IAcceptedRcptHook,
    IDataHook,
    IHelloHook,
    IRcptHook,
    IRefusedHook,
    Site,
)
from harakatls.mail.envelope import Recipient
from harakatls.verdict import ACCEPT, CONTINUE, Disconnect, Refusal, Verdict

log = Logger()

NAME = "delay_deny"
FILE = "delay_deny.ini"
NOTE = "delay_deny_pre"  # as Haraka's, in the notes of connection and transaction

# Haraka's names of the hooks, by ours. What is refused at accepted_rcpt needs no delay.
_DELAYED = {
    "connect": ("connect", "lookup_rdns"),
    "hello": ("helo", "ehlo"),
    "mail": ("mail",),
    "rcpt": ("rcpt",),
}
_HOOKS = frozenset({*_DELAYED, *(name for names in _DELAYED.values() for name in names), "rcpt_ok"})


Entries = frozenset[tuple[str, str]]
"""Plugins and hooks; without a hook it is all of a plugin's, ""."""


def load(site: Site) -> "DelayDeny":
    """From delay_deny.ini."""
    included, excluded = read_entries(site.config)
    return DelayDeny(included or excluded, bool(included))


def read_entries(config: ConfigDirectory) -> tuple[Entries, Entries]:
    """Whose refusals are put off, and whose are not; one of the two is empty."""
    main = config.ini(FILE).main
    included = _entries(main, "included_plugins")
    excluded = _entries(main, "excluded_plugins")
    if included and excluded:
        raise main.error(
            "excluded_plugins",
            "cannot be used together with included_plugins; expected one of them",
        )
    return included, excluded


def _entries(main: Section, key: str) -> Entries:
    found = set()
    for entry in filter(None, re.split(r"[\s,;]+", main.text(key) or "")):
        plugin, _, rest = entry.partition(":")
        hook, _, function = rest.partition(":")
        if not plugin or (rest and hook not in _HOOKS):
            expected = f"expected plugin or plugin:hook with a hook of {', '.join(sorted(_HOOKS))}"
            raise main.error(key, f"{entry!r} is none; {expected}")
        if function:
            main.warn(key, f"{entry!r} names a function; here a plugin has one for each hook")
        found.add((plugin.removeprefix("haraka-plugin-"), hook))
    return frozenset(found)


@implementer(IRefusedHook, IHelloHook, IRcptHook, IAcceptedRcptHook, IDataHook)
@frozen
class DelayDeny:
    """
    To be listed before all plugins whose refusals it is to put off.

    @ivar entries: (plugin, hook): whose refusals are put off, or whose are not.
    @ivar included: they are put off.
    """

    entries: Entries
    included: bool

    async def refused(
        self, connection: Connection, transaction: Transaction | None, refusal: Refusal
    ) -> Verdict:
        """
        Kept in the notes, and cancelled. But not what ends the connection at a recipient: whoever
        guesses names may never hit on one that is accepted.
        """
        if refusal.plugin == NAME or not self._delays(refusal):
            return CONTINUE
        ends = refusal.recipient is not None and isinstance(refusal.verdict, Disconnect)
        if ends and not _may_relay(connection, transaction):
            return CONTINUE
        if refusal.stage in ("connect", "hello"):
            notes = connection.notes
        elif transaction is not None:
            notes = transaction.notes
            _keep(notes, _may_be_about(refusal.recipient))
        else:
            return CONTINUE
        kept = notes.setdefault(NOTE, [])
        if refusal not in kept:  # a client may say the same again and again
            kept.append(refusal)
        log.info(
            "{id}: what {plugin} refuses at {stage} is put off",
            id=transaction.id if transaction is not None else connection.id,
            plugin=refusal.plugin,
            stage=refusal.stage,
        )
        return ACCEPT

    def _delays(self, refusal: Refusal) -> bool:
        names = _DELAYED.get(refusal.stage)
        if names is None:
            return False
        if not self.entries:
            return True
        hooks = ("", refusal.stage, *names)
        named = any((refusal.plugin, hook) in self.entries for hook in hooks)
        return named is self.included

    async def hello(self, connection: Connection, hello: Hello) -> Verdict:
        """Of several the last one counts."""
        _keep(connection.notes, lambda refusal: refusal.stage != "hello")
        return CONTINUE

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """What was put off about another recipient is not about this one."""
        _keep(transaction.notes, _may_be_about(recipient))
        return CONTINUE

    async def accepted_rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Now it is said, unless the peer may relay."""
        return self._said(connection, transaction)

    async def data(self, connection: Connection, transaction: Transaction) -> Verdict:
        """Another plugin's yes to the recipient may have come before it could be said."""
        return self._said(connection, transaction)

    def _said(self, connection: Connection, transaction: Transaction) -> Verdict:
        refusals = [*connection.notes.get(NOTE, ()), *transaction.notes.get(NOTE, ())]
        if not refusals:
            return CONTINUE
        first: Refusal = refusals[0]
        if _may_relay(connection, transaction):
            log.info(
                "{id} may relay, so it is not refused by {plugins}",
                id=transaction.id,
                plugins=" ".join(dict.fromkeys(r.plugin for r in refusals)),
            )
            return CONTINUE
        log.info(
            "{id} is refused by {plugin} at {stage}, put off until now",
            id=transaction.id,
            plugin=first.plugin,
            stage=first.stage,
        )
        return first.verdict


def _may_relay(connection: Connection, transaction: Transaction | None) -> bool:
    return connection.relaying or (transaction is not None and transaction.relaying)


def _keep(notes: dict[str, Any], wanted: Callable[[Refusal], bool]) -> None:
    kept = notes.get(NOTE)
    if kept:
        kept[:] = filter(wanted, kept)


def _may_be_about(recipient: Recipient | None) -> Callable[[Refusal], bool]:
    return lambda refusal: refusal.recipient is None or refusal.recipient == recipient
