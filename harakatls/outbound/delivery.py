"""
One attempt to deliver a queued message: the hosts in order, an outcome for each recipient.

Which host comes next:

- A host that cannot be reached, breaks off, or says 4yz leaves its recipients to the next one; so
  does one whose greeting or EHLO is 5yz. Where every host said 5yz there, the message fails.
- 5yz to MAIL, RCPT, DATA or the end of data is final for the recipients it is about
  (RFC 5321 section 4.2.1).
- When the connection breaks after the final dot, the host may have the message. At the first
  attempt no other host is asked then; later ones may deliver it twice, which is better than never.
"""

from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol

from attrs import Factory, define, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.connection import TLSSummary
from harakatls.interfaces import ISpool, SpoolDamaged
from harakatls.mail.envelope import Recipient, TLSWish
from harakatls.mail.header import field as header_field
from harakatls.mail.route import BackEndOptions, NextHop
from harakatls.outbound.connector import Opened, Unusable
from harakatls.outbound.host import LONGEST, AtHost, bounded, trial
from harakatls.outbound.log import log_hop, log_unusable
from harakatls.outbound.misses import is_unmet
from harakatls.outbound.reach import other_family
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Failed, Outcome, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.tls.policy import Decision

log = Logger()

MOST_TRIALS = 20  # hosts of one attempt

OURS = Reply.of(451, "4.3.0", "The delivery failed for a reason of this server's own")
TOO_FEW = "allows so few recipients on one connection that the others have to wait"
SHUT_DOWN = Reply.of(451, "4.3.2", "This server is being shut down")


class Opener(Protocol):
    """What is needed of `Connector`."""

    def open(
        self,
        hop: NextHop,
        earlier_attempts: int,
        afresh: bool = False,
        other: NextHop | None = None,
        wish: TLSWish = TLSWish.NONE,
    ) -> Awaitable[Opened | Unusable]: ...
    def leave(self, opened: Opened) -> None: ...
    def forget_failures(self) -> None: ...
    def close(self) -> None: ...


@frozen
class Result:
    """
    What one attempt came to.

    @ivar outcomes: one for each recipient that was pending.
    @ivar trials: in the order of the hosts tried.
    @ivar interrupted: we were told to stop.
    @ivar postponed: nothing was tried, since too much is under way to where it goes.
    @ivar strained: the host that was tried last could not be used, or not for this; None where none
        was tried.
    """

    outcomes: tuple[Outcome, ...]
    trials: tuple[Trial, ...] = ()
    interrupted: bool = False
    postponed: bool = False
    strained: bool | None = None


Admit = Callable[[str], bool]
"""Told to which host a message goes first, says whether there is room for it."""


class Attempts(Protocol):
    """What `Delivery` is for the queue runner."""

    def attempt(self, queued: QueuedMessage, admit: Admit) -> Awaitable[Result]: ...
    def forget_failures(self) -> None: ...
    def close(self) -> None: ...


@frozen
class HeldBack(Result):
    """
    Nothing was tried, since a plugin wants the message to wait.

    @ivar due: until then, in seconds since the epoch.
    """

    due: float = 0.0


@frozen
class Delivery:
    """
    Makes attempts, any number at a time.

    @ivar back_ends: who opens connections to the back ends of plugins, which have rules of their
        own for TLS.
    """

    routing: Routing
    connector: Opener
    spool: ISpool
    settings: OutboundSettings
    me: str
    clock: IReactorTime
    back_ends: Callable[[BackEndOptions], Opener] | None = None

    def opener(self, hop: NextHop) -> Opener:
        """Who opens a connection to *hop*."""
        if hop.back_end is None:
            return self.connector
        assert self.back_ends is not None, "who gives back ends has them"
        return self.back_ends(hop.back_end)

    async def attempt(self, queued: QueuedMessage, admit: Admit = lambda _: True) -> Result:
        """
        Whatever ends it early, what has been settled by then counts.

        @raise SpoolDamaged: the message cannot be read, and nothing has been settled.
        """
        attempt = _Attempt(self, queued, self.clock.seconds(), list(dict.fromkeys(queued.pending)))
        try:
            if not await attempt.run(admit):
                return Result((), postponed=True)
        except CancelledError:
            return attempt.result(SHUT_DOWN, interrupted=True)
        except Exception as problem:
            if not attempt.has_settled:
                raise
            if isinstance(problem, SpoolDamaged):
                log.error("{queue_id}: {problem}", queue_id=queued.id, problem=str(problem))
            else:
                log.failure("the delivery of {queue_id} failed midway", queue_id=queued.id)
            return attempt.result(OURS)
        return attempt.result()

    def close(self) -> None:
        """Nothing is sent any more; connections that wait for a goodbye are cut."""
        self.connector.close()

    def forget_failures(self) -> None:
        """The operator wants everything to be tried now."""
        self.connector.forget_failures()

    def received_field(self) -> bytes:
        """What is put on top of the message as it leaves (Haraka's ``Received: (...)``)."""
        comment = self.settings.received_header
        if comment is None:
            return b""
        return _received_field(comment, int(self.clock.seconds()))


@frozen
class _NotUsed:
    """A host to which nothing was sent, and why; None where no host was found to try."""

    hop: NextHop | None
    reply: Reply
    decision: Decision | None = None
    secured: TLSSummary | None = None


@define
class _Attempt:
    """
    The state of one attempt.

    @ivar began: when, in seconds.
    @ivar left: recipients that are neither delivered nor failed.
    @ivar outcomes: the last one for each recipient.
    @ivar unused: the hosts that could not be used.
    @ivar tried_before_its_turn: the hosts that came in for the other address of theirs.
    @ivar untold: the last of them, as long as it is not known whether another host follows.
    """

    delivery: Delivery
    queued: QueuedMessage
    began: float
    left: list[Recipient]
    outcomes: dict[Recipient, Outcome] = Factory(dict)
    trials: list[Trial] = Factory(list)
    unused: list[_NotUsed] = Factory(list)
    tried_before_its_turn: set[NextHop] = Factory(set)
    untold: _NotUsed | None = None
    strained: bool | None = None

    def _may_go_on(self) -> bool:
        """Not for ever: the next attempt may find other hosts."""
        took = self.delivery.clock.seconds() - self.began
        return len(self.trials) < MOST_TRIALS and took < LONGEST

    async def run(self, admit: Admit) -> bool:
        """@return: it was tried."""
        routing = self.delivery.routing
        route = await routing.route(self.queued)
        if route.destination is not None and not admit(route.destination):
            return False
        if route.refusal is not None:
            self._not_used(_NotUsed(None, route.refusal))
        for group in route.groups:
            found = await routing.addresses(group)
            for skipped in found.skipped:
                self._not_used(_NotUsed(skipped.hop, skipped.reply))
            for number, hop in enumerate(found.hops, 1):
                if hop in self.tried_before_its_turn or not self._may_go_on():
                    continue
                if await self._try(hop, other_family(hop, found.hops[number:])):
                    return True
            if found.ends:
                break
        return True

    @property
    def has_settled(self) -> bool:
        """Some recipients were delivered, or have failed."""
        return any(not isinstance(outcome, Delayed) for outcome in self.outcomes.values())

    def result(self, ended: Reply | None = None, interrupted: bool = False) -> Result:
        """@param ended: why the rest was not tried, where that is no matter of the hosts."""
        undecided = [r for r in self.left if r not in self.outcomes]
        if undecided:
            self._decide(undecided, ended)
        self._tell()
        return Result(
            tuple(self.outcomes.values()),
            tuple(self.trials),
            interrupted,
            strained=None if interrupted else self.strained,
        )

    def _decide(self, recipients: list[Recipient], ended: Reply | None) -> None:
        """No host was asked about these: the reason is that of the hosts, or of ours."""
        passing = [unused for unused in self.unused if not unused.reply.is_permanent]
        if ended is not None or not self.unused:
            passing = [_NotUsed(None, ended or SHUT_DOWN)]
        last = (passing or self.unused)[-1]
        kind = Delayed if passing else Failed
        outcomes = [kind(recipient, last.reply, last.hop) for recipient in recipients]
        self.outcomes.update((outcome.recipient, outcome) for outcome in outcomes)
        if self.untold is last:
            self.untold = None
        self._tell()
        now = self.delivery.clock.seconds()
        log_hop(self.queued, last.hop, outcomes, last.secured, now, last.decision)

    # -- one host -----------------------------------------------------------------------------

    async def _try(self, hop: NextHop, other: NextHop | None) -> bool:
        """
        @param other: the same host by the other address family.
        @return: no further host is to be tried.
        """
        host = await self._at(hop, other)
        if host is not None and host.stale:
            # On a connection that was kept and was dead. That is nothing to tell of.
            host = await self._at(hop, other, afresh=True)
        while host is not None and host.waiting and self._may_go_on():
            # RFC 9422: it has said how much it allows on one connection.
            host = await self._at(hop, other, afresh=True, recipients=host.waiting)
        if host is None:
            return False
        self._still_wait(host)
        # Another host may be asked too early, but not never: this one may break off each time.
        return not self.left or (host.unsettled and not self.queued.attempts)

    async def _at(
        self,
        hop: NextHop,
        other: NextHop | None,
        afresh: bool = False,
        recipients: Sequence[Recipient] = (),
    ) -> AtHost | None:
        """
        @param recipients: not all that are left.
        @return: None where the host could not be used.
        """
        delivery = self.delivery
        connector = delivery.opener(hop)
        wish = self.queued.envelope.tls_wish
        opened = await connector.open(hop, self.queued.attempts, afresh, other, wish)
        if opened.instead is not None:
            self._not_used(_NotUsed(hop, opened.instead.reply))
            hop = opened.instead.hop
            self.tried_before_its_turn.add(hop)
        if isinstance(opened, Unusable):
            reply = bounded(opened.reply)
            self.strained = not is_unmet(reply)
            self._not_used(_NotUsed(hop, reply, opened.decision, opened.secured))
            return None
        self._tell()
        host = AtHost(
            self.queued,
            recipients or self.left,
            hop,
            opened,
            delivery.spool,
            delivery.settings,
            delivery.received_field(),
            connector.leave,
        )
        try:
            await host.run()
        finally:
            if not host.stale:
                self.strained = host.strains
                self._take(host)
        return host

    def _still_wait(self, host: AtHost) -> None:
        """It allows too little to be asked about all in one attempt."""
        reply = bounded(Reply.of(451, "4.5.3", f"{host.hop.name} {TOO_FEW}"))
        opened = host.opened
        waiting = [Delayed(who, reply, host.hop, opened.secured) for who in host.waiting]
        self.outcomes.update((outcome.recipient, outcome) for outcome in waiting)
        now = self.delivery.clock.seconds()
        log_hop(self.queued, host.hop, waiting, opened.secured, now, opened.decision)

    def _take(self, host: AtHost) -> None:
        for outcome in host.outcomes:
            self.outcomes[outcome.recipient] = outcome
        settled = {o.recipient for o in host.outcomes if not isinstance(o, Delayed)}
        self.left = [recipient for recipient in self.left if recipient not in settled]
        self.trials.append(host.trial())
        now = self.delivery.clock.seconds()
        opened = host.opened
        log_hop(
            self.queued,
            host.hop,
            host.outcomes,
            opened.secured,
            now,
            opened.decision,
            opened.earlier,
            # No connection is given out without the login that it was to have.
            logged_in=host.hop.credentials is not None,
        )

    def _not_used(self, unused: _NotUsed) -> None:
        self._tell()
        self.untold = unused
        self.unused.append(unused)
        self.trials.append(trial(unused.hop, str(unused.reply), unused.decision, unused.secured))

    def _tell(self) -> None:
        """A host that was passed over gets a line; the last one that of the outcomes."""
        untold, self.untold = self.untold, None
        if untold is not None:
            log_unusable(self.queued, untold.hop, untold.reply, untold.decision, untold.secured)


@lru_cache(2)
def _received_field(comment: str, now: int) -> bytes:
    return header_field("Received", f"({comment}); {formatdate(now)}")
