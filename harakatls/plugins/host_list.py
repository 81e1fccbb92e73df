"""Accepts recipients in our own domains (Haraka's rcpt_to.in_host_list)."""

import re

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError, shown
from harakatls.config.section import Section
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IMailHook, IRcptHook, Site
from harakatls.mail.address import AddressError, to_a_label
from harakatls.mail.envelope import Recipient
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict

log = Logger()


@frozen
class LocalDomains:
    """
    The domains in host_list and host_list_regex; ``in`` takes a domain as A-labels.

    The empty domain, that of ``RCPT TO:<postmaster>``, is always ours (RFC 5321 section 4.5.1).
    """

    names: frozenset[str]
    patterns: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def load(cls, config: ConfigDirectory) -> "LocalDomains":
        """@raise ConfigError: a line is no domain, or no regular expression."""
        names = {""}
        for line in config.lines("host_list"):
            try:
                names.add(to_a_label(line.removesuffix(".")))
            except AddressError:
                problem = f"{shown(line)} is not a domain such as example.com"
                raise ConfigError("host_list", None, None, problem) from None
        return cls(frozenset(names), _patterns(config.lines("host_list_regex")))

    def __contains__(self, domain: str) -> bool:
        if domain in self.names:
            return True
        return any(pattern.fullmatch(domain) for pattern in self.patterns)


def _patterns(lines: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """One for each line: in one for all, their groups would get in each other's way."""
    patterns: list[re.Pattern[str]] = []
    for line in lines:
        try:
            patterns.append(re.compile(line, re.IGNORECASE))
        except re.error as problem:
            text = f"{shown(line)} is not a regular expression: {problem}"
            raise ConfigError("host_list_regex", None, None, text) from None
    return tuple(patterns)


def load(site: Site) -> "InHostList":
    """From host_list, host_list_regex and host_list.anti_spoof."""
    domains = LocalDomains.load(site.config)
    if domains.names == {""} and not domains.patterns:
        log.warn("host_list names no domain: no recipient here is local but postmaster")
    anti_spoof = site.config.value("host_list.anti_spoof")
    if anti_spoof is None:
        return InHostList(domains)
    words = Section("host_list.anti_spoof", "main", {"anti_spoof": anti_spoof})
    kind = AntiSpoof if words.boolean("anti_spoof", False) else InHostList
    return kind(domains)


@implementer(IRcptHook)
@frozen(slots=False)
class InHostList:
    """Accepts recipients in our domains; has no opinion on others."""

    domains: LocalDomains

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Whether the mailbox exists is for others to say."""
        return ACCEPT if recipient.address.domain in self.domains else CONTINUE


@implementer(IMailHook)
@frozen(slots=False)
class AntiSpoof(InHostList):
    """Also refuses senders in our domains who may not relay (host_list.anti_spoof)."""

    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        """The null reverse-path is nobody's domain."""
        sender = transaction.envelope.reverse_path
        if sender is None or transaction.relaying or sender.domain not in self.domains:
            return CONTINUE
        text = f"Mail from domain '{sender.domain}' is not allowed from your host"
        return Reject(Reply.of(550, "5.7.1", text))
