"""What plugins are asked, and told, while mail is delivered."""

from zope.interface import Interface

from harakatls.mail.route import NextHop
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.smtp.reply import Reply


class IRouteHook(Interface):
    """Says where mail for a domain goes (Haraka's get_mx)."""

    async def route(domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        """@return: hosts in the order of trying; None leaves it to the next plugin, then to DNS."""


class ISendHook(Interface):
    """Asked before each attempt to deliver a message (Haraka's send_email)."""

    async def send(queued: QueuedMessage) -> float | None:
        """
        @return: seconds until it is asked about again; the attempt is not made, and not counted.
            None lets it go: the next plugin is asked.
        """


class IDelayHook(Interface):
    """Asked behind an attempt after which some of a message is to wait (Haraka's deferred)."""

    async def delay(queued: QueuedMessage, delayed: tuple[Delayed, ...]) -> float | Reply | None:
        """
        @param queued: as it will be recorded, to be tried again at C{queued.due}.
        @return: seconds until it is tried again, in place of those; or, to give these recipients
            up, a reply (5yz) which their sender is told. None leaves it to the next plugin, then
            to temp_fail_intervals. There is no way to drop mail without a word.
        """


class IBounceHook(Interface):
    """Asked before a sender is told that mail has failed (Haraka's bounce)."""

    async def bounce(queued: QueuedMessage, failed: tuple[Failed, ...]) -> bool:
        """
        @return: the sender is to be told. One no is enough; who fails to answer has not said no.
        """


class IDeliveryObserver(Interface):
    """Told what became of each recipient of a queued message."""

    async def delivered(queued: QueuedMessage, outcome: Delivered) -> None:
        """A next hop has it."""

    async def delayed(queued: QueuedMessage, outcome: Delayed) -> None:
        """It will be tried again at `queued.due`."""

    async def failed(queued: QueuedMessage, outcome: Failed) -> None:
        """It is given up; the sender is told, unless the reverse-path is null."""
