"""Ends a transaction that names too many recipients, good or bad (Haraka's rcpt_to.max_count)."""

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IRcptHook, Site
from harakatls.mail.envelope import Recipient
from harakatls.plugins.numbers import whole_number
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Disconnect, Verdict

FILE = "rcpt_to.max_count"
DEFAULT = 40
NOTE = "rcpt_to_count"

TOO_MANY = Disconnect(Reply.of(550, "5.7.1", "Too many recipient attempts"))


def load(site: Site) -> "MaxCount":
    """From rcpt_to.max_count."""
    return MaxCount(whole_number(site.config, FILE, DEFAULT))


@implementer(IRcptHook)
@frozen
class MaxCount:
    """Counts in the notes of the transaction, so it is to be listed before others that answer."""

    most: int

    async def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Whoever tries names until one is right is sent away."""
        count = transaction.notes[NOTE] = transaction.notes.get(NOTE, 0) + 1
        return TOO_MANY if count > self.most else CONTINUE
