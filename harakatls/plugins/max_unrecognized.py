"""Ends connections with too many unknown commands (Haraka's max_unrecognized_commands)."""

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IUnrecognizedHook, Site
from harakatls.plugins.numbers import whole_number
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Disconnect, Verdict

FILE = "max_unrecognized_commands"
DEFAULT = 10
NOTE = "unrecognized_commands"

TOO_MANY = Disconnect(Reply.of(521, "5.5.1", "Too many unrecognized commands"))


def load(site: Site) -> "MaxUnrecognized":
    """From max_unrecognized_commands."""
    return MaxUnrecognized(whole_number(site.config, FILE, DEFAULT))


@implementer(IUnrecognizedHook)
@frozen
class MaxUnrecognized:
    """Counts in the notes of the connection."""

    most: int

    async def unrecognized(
        self, connection: Connection, transaction: Transaction | None, verb: str, argument: str
    ) -> Verdict:
        """Plugins with commands of their own are to be listed before."""
        count = connection.notes[NOTE] = connection.notes.get(NOTE, 0) + 1
        return TOO_MANY if count > self.most else CONTINUE
