"""Refuses messages that hold a known text (Haraka's data.signatures)."""

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IMessageHook, IStagedMessage, Site
from harakatls.plugins.contents import Contents
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Reject, Verdict

log = Logger()

FILE = "data.signatures"
KNOWN = Reject(Reply.of(550, "5.7.1", "Mail matches a known spam signature"))


def load(site: Site) -> "Signatures":
    """From data.signatures, one text a line."""
    lines = site.config.lines(FILE)
    return Signatures(tuple(line.encode() for line in lines), Contents(site.call_in_thread))


@implementer(IMessageHook)
@frozen
class Signatures:
    """The texts are looked for in the message as it came, and in its parts without encoding."""

    signatures: tuple[bytes, ...]
    contents: Contents

    async def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """Case and line ends count."""
        if not self.signatures:
            return CONTINUE
        found = await self.contents.ask(message, self._find)
        if found is None:
            return CONTINUE
        log.info(
            "{id} holds the signature {signature!r} of data.signatures",
            id=transaction.id,
            signature=found.decode(),
        )
        return KNOWN

    def _find(self, texts: list[bytes]) -> bytes | None:
        for signature in self.signatures:
            if any(signature in text for text in texts):
                return signature
        return None
