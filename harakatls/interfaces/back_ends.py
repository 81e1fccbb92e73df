"""Servers that plugins hand mail on to while the client waits."""

from collections.abc import Mapping

from zope.interface import Interface

from harakatls.interfaces.spool import IStagedMessage
from harakatls.mail.envelope import Envelope, Recipient, TLSWish
from harakatls.mail.route import BackEndOptions, NextHop
from harakatls.queued import Delivered, Outcome
from harakatls.smtp.reply import Reply


class BackEndFailed(Exception):
    """
    The conversation with a back end ended without an answer that could be passed on.

    @ivar reply: for the client, 4yz; 5yz where nothing is wrong with the back end, but it must not
        have this message (RFC 8689). It does not tell who or where the back end is.
    @ivar reached: it was there, and has refused no mail from us as a whole.
    """

    def __init__(self, reply: Reply, reached: bool) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.reached = reached


class IBackEnd(Interface):
    """
    A connection to a back end on which MAIL may be said, step by step. Its answers are the back
    end's own.

    All methods that ask raise `BackEndFailed` when it breaks; then there is nothing more to ask.
    """

    async def mail(envelope: Envelope) -> Reply:
        """Ends a transaction that was begun before."""

    async def rcpt(recipient: Recipient) -> Reply:
        """Of the transaction that was begun."""

    async def message(message: IStagedMessage) -> Reply:
        """The message; 2yz makes it the back end's, for all recipients that it has accepted."""

    def taken(recipient: Recipient, reply: Reply) -> Delivered:
        """What its 2yz to a message means for one of the recipients."""

    def leave() -> None:
        """Say goodbye. May be called at any time, and twice."""


class IBackEnds(Interface):
    """Servers that plugins hand mail on to while the client waits."""

    def prepare(section: str) -> None:
        """
        Get the TLS of a section of tls.ini ready.

        @raise ConfigError: OpenSSL refuses a value in it.
        """

    async def knows(hop: NextHop, options: BackEndOptions) -> bool:
        """
        Whether the login of *hop* is right there. Nothing is remembered of it.

        @raise BackEndFailed: that cannot be found out now.
        """

    async def open(hop: NextHop, options: BackEndOptions, wish: TLSWish = TLSWish.NONE) -> IBackEnd:
        """
        Connected, greeted, with TLS and logged in, as *hop* and *options* want it.

        @param wish: of the messages it is for. Where it has been opened without C{REQUIRED}, MAIL
            with REQUIRETLS raises C{BackEndFailed}, and the other way round.
        @raise BackEndFailed: no mail can be sent there.
        """

    async def deliver(
        hop: NextHop, options: BackEndOptions, envelope: Envelope, message: IStagedMessage
    ) -> Mapping[Recipient, Outcome]:
        """
        One transaction. Nothing is sent if one of the recipients is refused.

        @return: what became of each recipient that there is an answer for.
        @raise BackEndFailed: and it has answered for nobody.
        """
