"""Has mail delivered to a mail store over LMTP, from the queue (Haraka's queue/lmtp)."""

from collections.abc import Mapping

from attrs import evolve, frozen
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import MAIN
from harakatls.config.hosts import is_address
from harakatls.config.section import HIGHEST_PORT, Section
from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IQueueHook, IRouteHook, IStagedMessage, Site
from harakatls.mail.address import AddressError, to_a_label
from harakatls.mail.route import LMTP, LMTP_PORT, NextHop
from harakatls.plugins.host_list import LocalDomains
from harakatls.plugins.next_hops import read_host, socket_hop
from harakatls.queued import QueuedMessage
from harakatls.verdict import ACCEPT, CONTINUE, Verdict

FILE, NAME = "lmtp.ini", "lmtp"
HOST = "127.0.0.1"


def load(site: Site) -> "LMTPDelivery":
    """From lmtp.ini, and the lists of our own domains."""
    return LMTPDelivery(read_stores(site.config), LocalDomains.load(site.config))


def read_stores(config: ConfigDirectory) -> Mapping[str, NextHop]:
    """
    The mail stores by domain, and by "" that of all others.

    @raise ConfigError: a value cannot be used.
    """
    ini = config.ini(FILE)
    stores = {"": _store(ini.main, ini.main)}
    for name in ini.sections():
        if name == MAIN:
            continue
        section = ini.section(name)
        try:
            domain = to_a_label(name.removesuffix("."))
        except AddressError:
            raise section.error(None, "is not a domain") from None
        if domain in stores:
            raise section.error(None, "is about the same domain as another section")
        stores[domain] = _store(section, ini.main)
    return stores


def _store(section: Section, main: Section) -> NextHop:
    # Another host has its own port.
    place = section if "host" in section or "path" in section else main
    path = place.text("path")
    if path:
        for key in ("host", "port"):
            if key in place:
                place.warn(key, "has no effect: path is there, too")
        try:
            return socket_hop(path)
        except ValueError as problem:
            raise place.error("path", str(problem)) from None
    name = read_host(place, HOST)
    port = (section if "port" in section else place).integer("port", LMTP_PORT, 1, HIGHEST_PORT)
    known_as = None if is_address(name) else name
    return NextHop(name, "", port, mx_name=known_as, source="route", protocol=LMTP)


@implementer(IQueueHook, IRouteHook)
@frozen
class LMTPDelivery:
    """
    Takes mail that comes in for us, unless another queue is wanted for it, into the durable queue;
    each recipient then has an outcome of its own.

    @ivar stores: by domain; by "" that of all others.
    @ivar domains: those that are ours.
    """

    stores: Mapping[str, NextHop]
    domains: LocalDomains

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """Mail of clients that may relay goes its own way, unless it is asked for by name."""
        wanted = transaction.notes.get("queue.wants")
        if wanted not in (None, NAME) or (transaction.relaying and wanted != NAME):
            return CONTINUE
        await message.commit(evolve(transaction.envelope, route=NAME))
        return ACCEPT

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        """
        What was taken here goes to the mail store of its domain; and so does what our own clients
        send to each other, and reports to them: an MX would lead back here.
        """
        taken = queued.envelope.route
        if taken != NAME and (taken or not (domain in self.stores or domain in self.domains)):
            return None
        store = self.stores.get(domain) or self.stores[""]
        return (evolve(store, domain=domain),)
