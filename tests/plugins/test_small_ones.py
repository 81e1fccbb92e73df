"""Tests of the plugins tls, queue/discard and queue/spool, and of what announces them all."""

import os
from typing import Any, cast

from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.connection import TLSSummary
from harakatls.interfaces import (
    ICapabilitiesHook,
    IPluginFactory,
    IQueueHook,
    IServerTLS,
    Site,
    SpoolFull,
)
from harakatls.plugins import discard, spool, tls
from harakatls.plugins.factory import PluginFactory
from harakatls.smtp.capabilities import Capabilities
from harakatls.verdict import ACCEPT, CONTINUE, TempFail
from tests.plugins.support import (
    Message,
    connection_from,
    result_of,
    site_of,
    staged,
    transaction_for,
)


class StartTLSOfferTests(SynchronousTestCase):
    def offered(self, willing: bool, secured: TLSSummary | None = None) -> list[str]:
        class Willing:
            async def offers(self, connection: object) -> bool:
                return willing

        plugin = tls.load(site_of(self, {}, cast(IServerTLS, Willing())))
        verifyObject(ICapabilitiesHook, plugin)
        asked = plugin.capabilities(connection_from(secured=secured), Capabilities.of("SIZE 1000"))
        return list(result_of(self, asked))

    def test_offered(self) -> None:
        """A client sees STARTTLS exactly where the settings of TLS allow it."""
        self.assertEqual(self.offered(True), ["SIZE", "STARTTLS"])
        self.assertEqual(self.offered(False), ["SIZE"])

    def test_not_twice(self) -> None:
        """Inside of TLS no client is invited to start it again."""
        self.assertEqual(self.offered(True, TLSSummary("TLSv1.3", "x", 256)), ["SIZE"])


class DiscardTests(SynchronousTestCase):
    def verdict(self, where: str = "", key: str = "", value: Any = None) -> object:
        plugin = discard.load(site_of(self, {}))
        verifyObject(IQueueHook, plugin)
        connection, transaction = connection_from(), transaction_for("a@example.com")
        {"connection": connection.notes, "transaction": transaction.notes}.get(where, {})[key] = (
            value
        )
        return result_of(self, plugin.queue(connection, transaction, staged(Message())))

    def test_unmarked(self) -> None:
        """Mail that nobody marked is never lost here."""
        self.assertEqual(self.verdict(), CONTINUE)
        self.assertEqual(self.verdict("transaction", "queue.wants", "outbound"), CONTINUE)
        self.assertEqual(self.verdict("connection", "discard", False), CONTINUE)

    def test_marked(self) -> None:
        """A plugin can mark a message, or all of a connection."""
        self.assertEqual(self.verdict("connection", "discard", True), ACCEPT)
        self.assertEqual(self.verdict("transaction", "discard", 1), ACCEPT)
        self.assertEqual(self.verdict("transaction", "queue.wants", "discard"), ACCEPT)

    def test_environment(self) -> None:
        """Haraka's variable for load tests discards everything."""
        self.patch(os, "environ", {"YES_REALLY_DO_DISCARD": "1"})
        self.assertEqual(self.verdict(), ACCEPT)


class DurableQueueTests(SynchronousTestCase):
    def test_committed(self) -> None:
        """Accept comes after the commit, for the recipients of the transaction."""
        plugin, message = spool.load(site_of(self, {})), Message()
        verifyObject(IQueueHook, plugin)
        transaction = transaction_for("a@example.com", "b@example.org")
        verdict = result_of(self, plugin.queue(connection_from(), transaction, staged(message)))
        self.assertEqual(verdict, ACCEPT)
        self.assertEqual(message.committed, [transaction.envelope])

    def test_full(self) -> None:
        """A full disk is the sender's cue to come back, with the code for it."""
        plugin, message = spool.load(site_of(self, {})), Message()
        message.failure = SpoolFull()
        verdict = result_of(
            self, plugin.queue(connection_from(), transaction_for("a@b.example"), staged(message))
        )
        assert isinstance(verdict, TempFail)
        self.assertTrue(str(verdict.reply).startswith("452 4.3.1 "))


def make_something(site: Site) -> tuple[str, Site]:
    """For `PluginFactoryTests`."""
    return "made", site


class PluginFactoryTests(SynchronousTestCase):
    def test_both_ways(self) -> None:
        """A plugin is made by a function, or by the name of one."""
        site = site_of(self, {})
        for maker in (make_something, f"{__name__}:make_something"):
            self.assertEqual(PluginFactory("x", maker).load(site), ("made", site))

    def test_shipped(self) -> None:
        """Every shipped plugin is announced under its familiar name, and can be loaded."""
        site = site_of(self, {"host_list": "example.com\n"})
        found = {factory.name: factory for factory in getPlugins(IPluginFactory)}
        names = "tls relay rcpt_to.in_host_list queue/discard queue/maildir queue/spool"
        for name in names.split():
            verifyObject(IPluginFactory, found[name])
            self.assertTrue(found[name].load(site))
