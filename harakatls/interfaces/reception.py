"""What plugins are asked while a peer gives us mail."""

from zope.interface import Interface

from harakatls.connection import Connection, Hello, Transaction
from harakatls.interfaces.spool import IStagedMessage
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.verdict import Verdict


class IConnectHook(Interface):
    """Asked when a peer has connected, before the greeting."""

    async def connect(connection: Connection) -> Verdict:
        """Reject is answered with 554, TempFail with 421; all further commands likewise."""


class IRelayHook(Interface):
    """Asked once after connecting and again after AUTH: may this peer send to any domain?"""

    async def relaying(connection: Connection) -> bool:
        """One yes is enough."""


class IHelloHook(Interface):
    """Asked at HELO and EHLO."""

    async def hello(connection: Connection, hello: Hello) -> Verdict:
        """*connection* is as it was before this command."""


class ICapabilitiesHook(Interface):
    """Edits what EHLO offers; all are asked, in order."""

    async def capabilities(connection: Connection, offered: Capabilities) -> Capabilities:
        """@return: *offered*, or a changed one."""


class IMailHook(Interface):
    """Asked at MAIL."""

    async def mail(connection: Connection, transaction: Transaction) -> Verdict:
        """The transaction's envelope has no recipients yet."""


class IRcptHook(Interface):
    """
    Asked at RCPT.

    A recipient that nobody accepts is refused (550 5.7.1) unless the transaction is relaying.
    """

    async def rcpt(
        connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """The transaction's envelope holds the recipients accepted before this one."""


class IAcceptedRcptHook(Interface):
    """
    Asked about a recipient that was accepted, by a plugin or since the peer may relay.

    So it has the last word on recipients, wherever its plugin is listed.
    """

    async def accepted_rcpt(
        connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Continue leaves it accepted; Accept does so with a reply of its own."""


class IDataHook(Interface):
    """Asked at DATA, before the message is sent."""

    async def data(connection: Connection, transaction: Transaction) -> Verdict:
        """The envelope is complete."""


class IMessageHook(Interface):
    """Asked when the message is there (Haraka's data_post)."""

    async def message(
        connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """The message may be read with `message.open` and fields put on top of it."""


class IQueueHook(Interface):
    """
    Takes responsibility for a message.

    Asked last, after all message hooks. Accept means that the message is safe: 250 follows.
    The durable queue is asked after all plugins.

    Also asked, and no other hook before it, for a report of ours that mail could not be delivered:
    the peer is 127.0.0.1, port 0, then, and the reverse-path is null.
    """

    async def queue(
        connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """
        Accept with `recipients` takes the message for these alone; the next plugin is then
        asked with a transaction that names the others.
        """


class IDisconnectHook(Interface):
    """Told when a connection is gone, however it ended; all are told."""

    async def disconnected(connection: Connection) -> None:
        """Nothing can be answered any more."""
