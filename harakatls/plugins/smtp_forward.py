"""Hands messages on to a back end while the client waits (Haraka's queue/smtp_forward)."""

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.section import Section
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import (
    BackEndFailed,
    IBackEnds,
    IMailHook,
    IQueueHook,
    IRcptHook,
    IRouteHook,
    ISpool,
    IStagedMessage,
    Site,
)
from harakatls.mail.address import Address, AddressError, parse_address, to_a_label
from harakatls.mail.envelope import RECIPIENTS, Envelope, Recipient
from harakatls.mail.route import NextHop
from harakatls.plugins.answers import refused
from harakatls.plugins.back_end_settings import BackEndSettings, read_back_end, ready_back_ends
from harakatls.plugins.host_list import LocalDomains
from harakatls.plugins.host_pool import HostPool
from harakatls.queued import Delivered, Outcome, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Reject, TempFail, Verdict

log = Logger()

FILE, NAME = "smtp_forward.ini", "smtp_forward"
SPOOFED = Reject(Reply.of(550, "5.7.1", "Spoofed MAIL FROM"))
SPLIT = TempFail(Reply.of(450, "4.3.0", "Split transaction, retry soon"))
RCPT_TO, MAIL_FROM = "rcpt_to", "mail_from"
CHUNK = 1 << 18  # octets of a message that are copied at once


@frozen
class ForwardSettings:
    """
    @ivar usual: the back end of whoever has no section.
    @ivar domains: by domain as A-labels, and by whole address.
    @ivar by_sender: the sender says which section counts, not the recipient.
    """

    usual: BackEndSettings
    domains: Mapping[str, BackEndSettings]
    by_sender: bool = False
    check_sender: bool = False
    check_recipient: bool = False

    @classmethod
    def load(cls, config: ConfigDirectory) -> "ForwardSettings":
        """@raise ConfigError: a value cannot be used."""
        ini = config.ini(FILE)
        main = ini.main
        domains: dict[str, BackEndSettings] = {}
        for name in ini.sections():
            if name == main.name:
                continue
            section = ini.section(name)
            key = _section_key(section)
            if key in domains:
                raise section.error(None, "is about the same domain as another section")
            domains[key] = read_back_end(NAME, main, section, False)
        selector = main.choice("domain_selector", (RCPT_TO, MAIL_FROM), RCPT_TO)
        return cls(
            read_back_end(NAME, main, None, False),
            domains,
            selector == MAIL_FROM,
            main.boolean("check_sender", False),
            main.boolean("check_recipient", False),
        )

    def section_for(self, sender: Address | None, recipient: Address) -> BackEndSettings | None:
        """That of the whole address before that of its domain; None where there is none."""
        address = sender if self.by_sender else recipient
        if address is None:
            return None
        return self.domains.get(str(address)) or self.domains.get(address.domain)

    def back_end_for(self, sender: Address | None, recipient: Address) -> BackEndSettings:
        """Somebody takes it."""
        return self.section_for(sender, recipient) or self.usual


def _section_key(section: Section) -> str:
    try:
        if "@" in section.name:
            return str(parse_address(section.name))
        return to_a_label(section.name.removesuffix("."))
    except AddressError:
        raise section.error(None, "is neither a domain nor an address") from None


def load(site: Site) -> "SMTPForward":
    """From smtp_forward.ini."""
    settings = ForwardSettings.load(site.config)
    back_ends = ready_back_ends(site, NAME)
    pools = {
        back_end: HostPool(back_end.hops, site.clock.seconds, back_end.retry)
        for back_end in dict.fromkeys((settings.usual, *settings.domains.values()))
    }
    domains = LocalDomains.load(site.config)
    return SMTPForward(settings, back_ends, pools, domains, site.spool)


@implementer(IMailHook, IRcptHook, IQueueHook, IRouteHook)
@frozen
class SMTPForward:
    """
    The back end's answer is the client's, and its yes ours: until then nothing is ours.

    @ivar pools: of the hosts of each back end.
    @ivar domains: those that are ours.
    @ivar spool: where what waits is copied to, if other plugins take the message itself.
    """

    settings: ForwardSettings
    back_ends: IBackEnds
    pools: Mapping[BackEndSettings, HostPool]
    domains: LocalDomains
    spool: ISpool

    # -- MAIL and RCPT ------------------------------------------------------------------------

    async def mail(self, connection: Connection, transaction: Transaction) -> Verdict:
        """check_sender: nobody but those who may relay sends as one of our domains."""
        sender = transaction.envelope.reverse_path
        if not self.settings.check_sender or sender is None:
            return CONTINUE
        if sender.domain not in self.settings.domains:
            return CONTINUE
        transaction.notes["local_sender"] = True
        return CONTINUE if transaction.relaying else SPOOFED

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """check_recipient: domains with a section are ours, one destination at a time."""
        if not self.settings.check_recipient or not recipient.address.domain:
            return CONTINUE
        notes = transaction.notes
        if transaction.relaying and notes.get("local_sender"):
            notes.setdefault("queue.wants", "outbound")
            return ACCEPT
        if recipient.address.domain not in self.settings.domains:
            return CONTINUE
        sender = transaction.envelope.reverse_path
        back_end = self.settings.back_end_for(sender, recipient.address)
        for other in transaction.envelope.recipients[:1]:
            if self.settings.back_end_for(sender, other.address) != back_end:
                return SPLIT
        if back_end.queue:
            notes.setdefault("queue.wants", back_end.queue)
        return ACCEPT

    # -- the message --------------------------------------------------------------------------

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """
        Each back end gets the message for its recipients; where one of these is refused, for none.

        What one has taken stays taken. If another one then refuses its part, or is gone, that part
        becomes our responsibility and waits in the queue for the same back end.
        """
        if transaction.notes.get("queue.wants", NAME) != NAME:
            return CONTINUE
        ours = self._ours(transaction)
        if not ours:
            return CONTINUE
        taken: dict[Recipient, Delivered] = {}
        for back_end, recipients in ours.items():
            for batch in _batches(back_end, recipients):
                part = evolve(transaction.envelope, recipients=batch)
                try:
                    outcomes = await self._hand_on(connection, back_end, part, message)
                except BackEndFailed as problem:
                    if not taken:
                        return refused([problem.reply])
                    outcomes = {}
                taken |= {who: o for who, o in outcomes.items() if isinstance(o, Delivered)}
                if not taken and outcomes:
                    return refused([outcome.reply for outcome in outcomes.values()])
                if any(recipient not in taken for recipient in batch):
                    log.warn("{id}: a part waits in the queue", id=transaction.id)
                    break
        return await self._taken(transaction, message, ours, taken)

    def _ours(self, transaction: Transaction) -> dict[BackEndSettings, list[Recipient]]:
        found: dict[BackEndSettings, list[Recipient]] = {}
        sender = transaction.envelope.reverse_path
        for recipient in transaction.envelope.recipients:
            back_end = self.settings.back_end_for(sender, recipient.address)
            if back_end.queue not in ("", NAME):
                continue
            if back_end.enable_outbound or not transaction.relaying:
                found.setdefault(back_end, []).append(recipient)
        return found

    async def _taken(
        self,
        transaction: Transaction,
        message: IStagedMessage,
        ours: Mapping[BackEndSettings, Sequence[Recipient]],
        taken: Mapping[Recipient, Delivered],
    ) -> Verdict:
        """@raise SpoolFull: a part cannot be queued; the client comes back with all of it."""
        if not taken:
            return CONTINUE
        rest = [who for who in transaction.envelope.recipients if who not in taken]
        handed_on = tuple(taken.values())
        of_back_ends = {who for some in ours.values() for who in some}
        mine = [who for who in rest if who in of_back_ends]
        if mine:
            waiting = evolve(transaction.envelope, recipients=tuple(mine), route=NAME)
            if len(mine) == len(rest):
                await message.commit(waiting)
                return Accept(handed_on=handed_on)
            await self._copy(message, waiting)
        if rest:
            settled = frozenset(who.address for who in (*taken, *mine))
            return Accept(recipients=settled, handed_on=handed_on)
        return Accept(evolve(handed_on[-1].reply, code=250), handed_on=handed_on)

    async def _copy(self, message: IStagedMessage, envelope: Envelope) -> None:
        """The message itself is for plugins behind this one. Raises as `IStagedMessage.commit`."""
        copy = await self.spool.stage(f"{message.id}.{NAME}")
        body = message.open()
        try:
            while chunk := await body.read(CHUNK):
                await copy.write(chunk)
            await copy.commit(envelope)
        finally:
            body.close()
            await copy.abort()

    async def _hand_on(
        self,
        connection: Connection,
        back_end: BackEndSettings,
        envelope: Envelope,
        message: IStagedMessage,
    ) -> Mapping[Recipient, Outcome]:
        """
        To the first host that is there.

        @raise BackEndFailed: none has it.
        """
        pool = self.pools[back_end]
        failure = None
        for hop in pool.hosts():
            try:
                outcomes = await self.back_ends.deliver(
                    back_end.hop_for(hop, connection), back_end.options, envelope, message
                )
            except BackEndFailed as problem:
                if problem.reply.is_transient:
                    pool.failed(hop)
                if failure is None or failure.reply.is_permanent:
                    failure = problem
                if problem.reached:
                    break  # it may have the message
            else:
                pool.worked(hop)
                return outcomes
        assert failure is not None, "no pool is empty"
        raise failure

    # -- from the queue -----------------------------------------------------------------------

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        """
        Mail for domains with a section, or that are ours, goes to their back end from the queue as
        well, under the same rules for TLS: what our own clients send to each other, and reports to
        them.
        """
        wanted, sender = queued.envelope.route, queued.envelope.reverse_path
        recipient = queued.envelope.recipients[0].address
        if wanted == NAME:
            back_end = self.settings.back_end_for(sender, recipient)
        else:
            section = self.settings.section_for(sender, recipient)
            if section is None and domain in self.domains:
                section = self.settings.usual
            if wanted or section is None or section.queue not in ("", NAME):
                return None
            back_end = section
        hops = self.pools[back_end].hosts()
        return tuple(evolve(hop, domain=domain, back_end=back_end.options) for hop in hops)


def _batches(
    back_end: BackEndSettings, recipients: Sequence[Recipient]
) -> list[tuple[Recipient, ...]]:
    size = 1 if back_end.one_message_per_rcpt else RECIPIENTS
    return [tuple(recipients[at : at + size]) for at in range(0, len(recipients), size)]
