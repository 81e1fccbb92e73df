"""Hands mail on with the login of the client that sends it (Haraka's queue/smtp_bridge)."""

from attrs import evolve, frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import BackEndFailed, IBackEnds, IQueueHook, IStagedMessage, Site
from harakatls.plugins.answers import refused
from harakatls.plugins.back_end_settings import ready_back_ends
from harakatls.plugins.bridge import SECTION, BridgeSettings, read_bridge
from harakatls.queued import Delivered
from harakatls.verdict import CONTINUE, Accept, Verdict

log = Logger()


def load(site: Site) -> "SMTPBridge":
    """From smtp_bridge.ini."""
    settings = read_bridge(site.config)
    return SMTPBridge(settings, ready_back_ends(site, SECTION))


@implementer(IQueueHook)
@frozen
class SMTPBridge:
    """
    The message goes on while the client waits, and the server's answer is the client's: a login
    that would have to wait in the queue would have to be written down.
    """

    settings: BridgeSettings
    back_ends: IBackEnds

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """Only of those who have logged in so that we have seen the password (PLAIN, LOGIN)."""
        user, password = connection.authenticated_as, connection.password
        if user is None or password is None:
            return CONTINUE
        hop = self.settings.hop_for(user, password)
        try:
            outcomes = await self.back_ends.deliver(
                hop, self.settings.options, transaction.envelope, message
            )
        except BackEndFailed as problem:
            return refused([problem.reply])
        delivered = tuple(one for one in outcomes.values() if isinstance(one, Delivered))
        if len(delivered) < len(transaction.envelope.recipients):
            return refused([outcome.reply for outcome in outcomes.values()])
        log.info("{id} was handed on to {host}", id=transaction.id, host=hop.name)
        return Accept(evolve(delivered[-1].reply, code=250), handed_on=delivered)
