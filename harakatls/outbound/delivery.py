"""
One attempt to deliver a queued message: the hosts in order, an outcome for each recipient.

Which host comes next:

- A host that cannot be reached, breaks off, or says 4yz leaves its recipients to the next one; so
  does one whose greeting or EHLO is 5yz. Where every host said 5yz there, the message fails.
- 5yz to MAIL, RCPT, DATA or the end of data is final for the recipients it is about
  (RFC 5321 section 4.2.1).
- When the connection breaks after the final dot, the host may have the message. No other host is
  asked in this attempt; the next attempt may deliver it twice, which is better than never.
"""

from collections.abc import Awaitable
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol

from attrs import Factory, define, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from harakatls.connection import TLSSummary
from harakatls.interfaces import ISpool
from harakatls.mail.envelope import Recipient
from harakatls.mail.header import field as header_field
from harakatls.mail.route import NextHop
from harakatls.outbound.connector import Opened, Unusable
from harakatls.outbound.host import AtHost, bounded, trial
from harakatls.outbound.log import log_hop, log_unusable
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Failed, Outcome, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.tls.policy import Decision

MOST_TRIALS = 20  # hosts of one attempt

SHUT_DOWN = Reply.of(451, "4.3.2", "This server is being shut down")


class Opener(Protocol):
    """What is needed of `Connector`."""

    def open(self, hop: NextHop, earlier_attempts: int) -> Awaitable[Opened | Unusable]: ...
    def close(self) -> None: ...


@frozen
class Result:
    """
    What one attempt came to.

    @ivar outcomes: one for each recipient that was pending.
    @ivar trials: in the order of the hosts tried.
    @ivar interrupted: we were told to stop.
    """

    outcomes: tuple[Outcome, ...]
    trials: tuple[Trial, ...] = ()
    interrupted: bool = False


@frozen
class Delivery:
    """Makes attempts, any number at a time."""

    routing: Routing
    connector: Opener
    spool: ISpool
    settings: OutboundSettings
    me: str
    clock: IReactorTime

    async def attempt(self, queued: QueuedMessage) -> Result:
        """
        Cancelling ends it early; what has been settled by then counts.

        @raise SpoolDamaged: the message cannot be read.
        """
        attempt = _Attempt(self, queued, list(dict.fromkeys(queued.pending)))
        interrupted = False
        try:
            await attempt.run()
        except CancelledError:
            interrupted = True
        return attempt.result(interrupted)

    def close(self) -> None:
        """Nothing is sent any more; connections that wait for a goodbye are cut."""
        self.connector.close()

    def received_field(self) -> bytes:
        """What is put on top of the message as it leaves (Haraka's ``Received: (...)``)."""
        comment = self.settings.received_header
        if comment is None:
            return b""
        return _received_field(comment, int(self.clock.seconds()))


@define
class _Attempt:
    """
    The state of one attempt.

    @ivar left: recipients that are neither delivered nor failed.
    @ivar outcomes: the last one for each recipient.
    @ivar unusable: for each host that could not be used, why.
    """

    delivery: Delivery
    queued: QueuedMessage
    left: list[Recipient]
    outcomes: dict[Recipient, Outcome] = Factory(dict)
    trials: list[Trial] = Factory(list)
    unusable: list[tuple[NextHop | None, Reply]] = Factory(list)

    async def run(self) -> None:
        routing = self.delivery.routing
        route = await routing.route(self.queued)
        if route.refusal is not None:
            self._not_used(None, route.refusal)
        for group in route.groups:
            found = await routing.addresses(group)
            for skipped in found.skipped:
                self._not_used(skipped.hop, skipped.reply)
            for hop in found.hops:
                if len(self.trials) < MOST_TRIALS and await self._try(hop):
                    return
            if found.ends:
                return

    def result(self, interrupted: bool) -> Result:
        """@param interrupted: the rest was not tried for that reason."""
        undecided = [
            self._undecided(recipient, interrupted)
            for recipient in self.left
            if recipient not in self.outcomes
        ]
        if undecided:
            self.outcomes.update((outcome.recipient, outcome) for outcome in undecided)
            now = self.delivery.clock.seconds()
            log_hop(self.queued, undecided[0].next_hop, undecided, None, now)
        return Result(tuple(self.outcomes.values()), tuple(self.trials), interrupted)

    def _undecided(self, recipient: Recipient, interrupted: bool) -> Delayed | Failed:
        """No host was asked about the recipient: the reason is that of the hosts."""
        if interrupted or not self.unusable:
            return Delayed(recipient, SHUT_DOWN)
        passing = [(hop, reply) for hop, reply in self.unusable if not reply.is_permanent]
        if passing:
            hop, reply = passing[-1]
            return Delayed(recipient, reply, hop)
        hop, reply = self.unusable[-1]
        return Failed(recipient, reply, hop)

    # -- one host -----------------------------------------------------------------------------

    async def _try(self, hop: NextHop) -> bool:
        """@return: no further host is to be tried."""
        delivery = self.delivery
        opened = await delivery.connector.open(hop, self.queued.attempts)
        if isinstance(opened, Unusable):
            self._not_used(hop, bounded(opened.reply), opened.decision, opened.secured)
            return False
        top = delivery.received_field()
        host = AtHost(self.queued, self.left, hop, opened, delivery.spool, delivery.settings, top)
        try:
            await host.run()
        finally:
            self._take(host)
        return not self.left or host.unsettled

    def _take(self, host: AtHost) -> None:
        for outcome in host.outcomes:
            self.outcomes[outcome.recipient] = outcome
        settled = {o.recipient for o in host.outcomes if not isinstance(o, Delayed)}
        self.left = [recipient for recipient in self.left if recipient not in settled]
        self.trials.append(host.trial())
        now = self.delivery.clock.seconds()
        log_hop(self.queued, host.hop, host.outcomes, host.opened.secured, now)

    def _not_used(
        self,
        hop: NextHop | None,
        reply: Reply,
        decision: Decision | None = None,
        secured: TLSSummary | None = None,
    ) -> None:
        self.unusable.append((hop, reply))
        log_unusable(self.queued, hop, reply, decision, secured)
        self.trials.append(trial(hop, str(reply), decision, secured))


@lru_cache(2)
def _received_field(comment: str, now: int) -> bytes:
    return header_field("Received", f"({comment}); {formatdate(now)}")
