"""Writes the envelope into the header (Haraka's record_envelope_addresses)."""

from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IMessageHook, IStagedMessage, Site
from harakatls.mail.header import field
from harakatls.verdict import CONTINUE, Verdict


def load(_site: Site) -> "RecordEnvelope":
    """There is nothing to configure."""
    return RecordEnvelope()


@implementer(IMessageHook)
class RecordEnvelope:
    """Adds X-Envelope-From, and X-Envelope-To for each recipient that was accepted."""

    async def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """Whom an alias stands for is written, too; who got a blind copy as well."""
        envelope = transaction.envelope
        sender = str(envelope.reverse_path) if envelope.reverse_path is not None else "<>"
        fields = [field("X-Envelope-From", sender)]
        fields += [field("X-Envelope-To", str(r.address)) for r in envelope.recipients]
        message.prepend(b"".join(fields))
        return CONTINUE
