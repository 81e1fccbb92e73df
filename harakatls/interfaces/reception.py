"""What plugins are asked while a peer gives us mail."""

from zope.interface import Interface

from harakatls.connection import Connection, Hello, Transaction
from harakatls.interfaces.spool import IStagedMessage
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.verdict import Refusal, Verdict


class IPeerNameHook(Interface):
    """Asked before `IConnectHook`, where nobody has told the peer's name (Haraka's lookup_rdns)."""

    async def peer_name(connection: Connection) -> str | None:
        """
        The peer is greeted when all is known, so this is not to take long.

        @return: a host name in ASCII, to be shown and trusted as the peer's; None where it is not
            known. The first name counts. A hook that fails knows none.
        """


class IConnectHook(Interface):
    """Asked when a peer has connected, before the greeting."""

    async def connect(connection: Connection) -> Verdict:
        """Reject is answered with 554, TempFail with 421; all further commands likewise."""


class IRelayHook(Interface):
    """
    Asked once after connecting: may this peer send to any domain?

    Whoever logs in (AUTH) may, without being asked about.
    """

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
        """
        The transaction's envelope holds the recipients accepted before this one.

        Accept with `becomes` puts others in its place. What they do not say of reports (`notify`,
        `original`) they inherit: to the sender it is the same recipient (RFC 3461 section 5.2.7).
        """


class IAcceptedRcptHook(Interface):
    """
    Asked about a recipient that was accepted, by a plugin or since the peer may relay.

    So it has the last word on recipients, wherever its plugin is listed. Where others are to get
    the mail in its place, it is asked about each of these.
    """

    async def accepted_rcpt(
        connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Continue leaves it accepted; Accept does so with a reply of its own."""


class IDataHook(Interface):
    """Asked at DATA or the first BDAT, before there is a message."""

    async def data(connection: Connection, transaction: Transaction) -> Verdict:
        """The envelope is complete. In chunks (BDAT) it is asked at the first of them."""


class IMessageHook(Interface):
    """Asked when the message is there (Haraka's data_post)."""

    async def message(
        connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """The message may be read with `message.open` and fields put on top of it."""


class ITooLargeHook(Interface):
    """Asked when the message is there, but has more octets than are taken; none is kept."""

    async def too_large(connection: Connection, transaction: Transaction, size: int) -> Verdict:
        """
        It is refused in any case: TempFail does so for now.

        @param size: octets.
        """


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


class IUnrecognizedHook(Interface):
    """Asked at a command that nobody knows."""

    async def unrecognized(
        connection: Connection, transaction: Transaction | None, verb: str, argument: str
    ) -> Verdict:
        """
        Accept with a reply (2yz) answers the command. Continue and Reject are answered with 500.

        @param verb: upper case.
        @param argument: what follows the verb; hostile, as all that a peer says.
        """


class IVerifyHook(Interface):
    """Asked at VRFY. Without an answer it is 252: try it."""

    async def verify(
        connection: Connection, transaction: Transaction | None, argument: str
    ) -> Verdict:
        """
        RFC 5321 section 7.3: who answers truly tells strangers who is here.

        @param argument: whom to verify, as the peer writes it.
        """


class INoopHook(Interface):
    """Asked at NOOP."""

    async def noop(connection: Connection, transaction: Transaction | None) -> Verdict:
        """Whoever waits before he answers keeps the peer waiting."""


class IRsetHook(Interface):
    """Told at RSET, before the answer."""

    async def rset(connection: Connection, transaction: Transaction | None) -> None:
        """The answer is always 250; `IResetHook` is told of the end of the transaction."""


class IQuitHook(Interface):
    """Told at QUIT, before the answer."""

    async def quit(connection: Connection, transaction: Transaction | None) -> None:
        """The answer is always 221."""


class IRefusedHook(Interface):
    """
    Told of each refusal by a plugin, before the peer hears of it (Haraka's deny).

    A hook that failed has refused as well. A recipient that nobody accepted, and what the server
    refuses by itself, are not told of.
    """

    async def refused(
        connection: Connection, transaction: Transaction | None, refusal: Refusal
    ) -> Verdict:
        """
        Accept cancels the refusal: the plugins behind the one that refused are asked as if it had
        said Continue. All else leaves it as it is.
        """


class IResetHook(Interface):
    """
    Told when a transaction is over (Haraka's reset_transaction); all are told.

    However it ended: the message was taken or refused, the sender was refused, RSET, EHLO,
    STARTTLS, or the peer has gone. Where there is an answer, the peer has it already.
    """

    async def reset(connection: Connection, transaction: Transaction) -> None:
        """*transaction* as it was in the end, with its notes."""


class IDisconnectHook(Interface):
    """Told when a connection is gone, however it ended; all are told."""

    async def disconnected(connection: Connection) -> None:
        """Nothing can be answered any more."""
