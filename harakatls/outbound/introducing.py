"""Tells a back end for which client it is spoken to (XCLIENT), where it wants to know."""

from enum import Enum

from attrs import define, field
from twisted.logger import Logger

from harakatls.mail.route import NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.smtp.events import Asked
from harakatls.smtp.xclient import introduction

log = Logger()


class Introduced(Enum):
    """What became of it."""

    NOT_OFFERED = "there is no client, or the host does not want to know: all is in our own name"
    TOLD = "the connection is the client's, and begins anew with EHLO"
    REFUSED = "it is not to be known whose the connection is for the host"


@define(eq=False)
class Introductions:
    """@ivar _refused: the hosts and ports of which it has been said that they refuse."""

    _refused: set[tuple[str, int]] = field(init=False, factory=set)

    async def made(self, protocol: OutboundProtocol, hop: NextHop, seconds: float) -> Introduced:
        """
        @param protocol: a conversation that may begin a transaction.
        @param seconds: for the answer.
        @raise ConnectionBroken: the server is gone, or too slow.
        """
        session = protocol.session
        if hop.client is None:
            return Introduced.NOT_OFFERED
        argument = introduction(hop.client, session.capabilities.parameters("XCLIENT"))
        if argument is None:
            return Introduced.NOT_OFFERED
        protocol.send(session.introduce(argument))
        reply = await protocol.answer(Asked.XCLIENT, seconds)
        if reply.closes:
            raise ConnectionBroken(f"it left when it was told of the client: {reply}")
        if reply.accepts:
            self._refused.discard((hop.host, hop.port))
            return Introduced.TOLD
        if (hop.host, hop.port) not in self._refused:
            self._refused.add((hop.host, hop.port))
            log.warn(
                "{host} offers XCLIENT and refuses it: {reply}. Mail goes there without it",
                host=hop.name,
                reply=str(reply),
            )
        return Introduced.REFUSED
