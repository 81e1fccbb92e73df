"""
What a hook may answer.

Haraka's codes map so: CONT is Continue, OK is Accept, DENY is Reject, DENYSOFT is TempFail,
DENYDISCONNECT, DENYSOFTDISCONNECT and DISCONNECT are Disconnect with a reply.
"""

from attrs import frozen

from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.queued import Delivered
from harakatls.smtp.reply import Reply


@frozen
class Continue:
    """No opinion: the next plugin is asked."""


@frozen
class Accept:
    """
    Yes; no further plugin is asked at this stage.

    @ivar reply: a positive reply in place of the stage's own.
    @ivar recipients: at the queue stage alone: the recipients that were taken. None means
        all; otherwise the next queue plugins are asked about the others.
    @ivar delivered: at the queue stage alone: they are in their mailboxes, so whose sender asked
        for that (NOTIFY=SUCCESS, RFC 3461) is told.
    @ivar becomes: at the rcpt stage alone: who gets the mail in place of this recipient; empty for
        nobody. None is the recipient itself.
    @ivar handed_on: at the queue stage alone: what next hops have taken by now. Where one does not
        offer DSN, its recipients' sender is told as well, if that was asked for.
    """

    reply: Reply | None = None
    recipients: frozenset[Address] | None = None
    delivered: bool = False
    becomes: tuple[Recipient, ...] | None = None
    handed_on: tuple[Delivered, ...] = ()


@frozen
class Reject:
    """No, for ever; *reply* (5yz) in place of the stage's own."""

    reply: Reply | None = None


@frozen
class TempFail:
    """Not now; *reply* (4yz) in place of the stage's own. 421 closes the connection as well."""

    reply: Reply | None = None


@frozen
class Disconnect:
    """No, and the connection is closed after *reply* (4yz or 5yz; default 421)."""

    reply: Reply | None = None


Verdict = Continue | Accept | Reject | TempFail | Disconnect

CONTINUE = Continue()
ACCEPT = Accept()


@frozen
class Refusal:
    """
    A no, as the other plugins are told of it.

    @ivar stage: of the hook that said so, such as "mail".
    @ivar plugin: as config/plugins names it.
    @ivar verdict: with its reply, which is None where it is to be the stage's own.
    @ivar recipient: at rcpt and accepted_rcpt, who was refused; else None.
    """

    stage: str
    plugin: str
    verdict: Reject | TempFail | Disconnect
    recipient: Recipient | None = None
