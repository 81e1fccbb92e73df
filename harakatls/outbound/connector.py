"""
From a next hop to an open, greeted and perhaps secured connection.

Where TLS is a may and its handshake fails, or STARTTLS has no answer, the mail is not given up:
from the message's second attempt on the host is asked once more on a new connection, in the clear.
Not at the first, so that a passing fault (or somebody who cuts one connection) does not lay mail
open; and never where the certificate has to be valid.
"""

from attrs import Factory, define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from harakatls.connection import TLSSummary
from harakatls.interfaces import ITLSMemory
from harakatls.mail.envelope import TLSWish
from harakatls.mail.route import NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.dead_hosts import DeadHosts
from harakatls.outbound.introducing import Introduced
from harakatls.outbound.misses import Miss, missed, needed
from harakatls.outbound.opening import HostRefused, Opening, TLSClient
from harakatls.outbound.pool import Line, LineKey, Pool
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.reach import Reach, Reached
from harakatls.outbound.refused_logins import RefusedLogins
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.tcp import Connect
from harakatls.smtp.reply import Reply
from harakatls.tls.policy import Decision, SecurityLevel, moment
from harakatls.tls.settings import NoGoSettings, OutboundTLS
from harakatls.tls.wishes import decision_for

log = Logger()


@frozen
class Instead:
    """
    The same host by its other address, which was faster.

    @ivar reply: what is told of the address that was asked for, in our words (4yz).
    """

    hop: NextHop
    reply: Reply


@frozen
class Opened:
    """
    A connection on which MAIL may be said.

    @ivar decision: for this message; another one's may have made the connection.
    @ivar secured: None in the clear.
    @ivar line: None where the connection is for this one message.
    @ivar earlier: how many messages had been on it before.
    @ivar instead: where it is not to the next hop that was asked for.
    """

    protocol: OutboundProtocol
    decision: Decision
    secured: TLSSummary | None
    line: Line | None = None
    earlier: int = 0
    instead: Instead | None = None


@frozen
class Unusable:
    """
    A host that does not take mail now.

    @ivar reply: its words, or ours (4yz) where it said none.
    @ivar instead: where it is not the next hop that was asked for.
    """

    reply: Reply
    decision: Decision
    secured: TLSSummary | None = None
    instead: Instead | None = None


@define(eq=False)
class Connector:
    """
    @ivar tls_settings: see `take_on`.
    @ivar memory: hosts with which TLS failed lately; None to remember nothing.
    @ivar me: our name, for EHLO.
    @ivar logins: those that were refused lately, for all connectors together.
    """

    connect: Connect
    settings: OutboundSettings
    me: str
    clock: IReactorTime
    tls: TLSClient
    tls_settings: OutboundTLS
    nogo: NoGoSettings = field(factory=NoGoSettings)
    memory: ITLSMemory | None = None
    logins: RefusedLogins = field(
        default=Factory(lambda self: RefusedLogins(self.clock.seconds), takes_self=True)
    )
    _open: set[OutboundProtocol] = field(init=False, factory=set)
    _pool: Pool = field(init=False)
    _dead: DeadHosts = field(init=False)
    _reach: Reach = field(init=False)
    _opening: Opening = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self._dead = DeadHosts(settings.dead_host_retry, self.clock.seconds)
        self._pool = Pool(self.clock, settings.pool_timeout, settings.concurrency_max)
        self._reach = Reach(
            self.connect,
            settings.connect_timeout,
            self.clock,
            self._dead,
            self._open.add,
            self._gone,
        )
        self._opening = Opening(self._reach, settings, self.me, self.tls, self._dead, self.logins)

    async def open(
        self,
        hop: NextHop,
        earlier_attempts: int,
        afresh: bool = False,
        other: NextHop | None = None,
        wish: TLSWish = TLSWish.NONE,
    ) -> Opened | Unusable:
        """
        A connection that was kept, or a new one. It is to be given back with `leave`, where
        nothing has gone wrong with it.

        @param hop: with an IP address for its host.
        @param earlier_attempts: how often the message has been tried before.
        @param afresh: none that was kept.
        @param other: the same host by the other address family, for a connection that takes long.
        @param wish: what the sender of the message wants of TLS.
        """
        decision = await self._decide(hop, wish)
        if decision.refusal is not None:
            return Unusable(missed(decision, Miss.FORBIDDEN, decision.refusal), decision)
        line = None if afresh else await self._kept(LineKey.of(hop, decision, self.me))
        if line is not None:
            return Opened(line.protocol, decision, line.secured, line, line.messages)
        dead = self._dead.problem(hop.host, hop.port)
        if dead is not None:
            return Unusable(Reply.of(451, "4.4.1", f"{hop.name}: {dead}"), decision)
        refused = self.logins.problem(hop)
        if refused is not None:
            return Unusable(Reply.of(451, "4.7.8", f"{hop.name}: {refused}"), decision)
        if other is None or self._dead.problem(other.host, other.port) is not None:
            return await self._new(hop, decision, earlier_attempts)
        try:
            reached = await self._reach.either(hop, other)
        except ConnectionBroken as problem:
            return _broken(hop, problem, decision)
        if reached.problem is None:
            return await self._new(hop, decision, earlier_attempts, reached.protocol)
        reply = Reply.of(451, "4.4.1", f"{hop.name}: {reached.problem}")
        there = await self._at_other(reached, earlier_attempts, wish)
        return evolve(there, instead=Instead(other, reply))

    async def _at_other(
        self, reached: Reached, earlier_attempts: int, wish: TLSWish
    ) -> Opened | Unusable:
        """What is decided by address is decided for this one."""
        hop, protocol = reached.hop, reached.protocol
        try:
            decision = await self._decide(hop, wish)
        except BaseException:
            protocol.abort()
            raise
        if decision.refusal is not None:
            protocol.abort()
            return Unusable(missed(decision, Miss.FORBIDDEN, decision.refusal), decision)
        return await self._new(hop, decision, earlier_attempts, protocol)

    async def _new(
        self,
        hop: NextHop,
        decision: Decision,
        earlier_attempts: int,
        protocol: OutboundProtocol | None = None,
    ) -> Opened | Unusable:
        """@param protocol: as for `Opening.open`."""
        try:
            return await self._open_afresh(hop, decision, protocol)
        except ConnectionBroken as problem:
            if not (problem.securing or problem.unsecured):
                return _broken(hop, problem, decision)
            return await self._without_tls(hop, decision, problem, earlier_attempts)
        except HostRefused as problem:
            return Unusable(problem.reply, decision, problem.secured)

    def leave(self, opened: Opened) -> None:
        """The message is through. The connection is kept, or ended with QUIT."""
        if opened.line is None:
            opened.protocol.quit()
        else:
            self._pool.keep(opened.line)

    def take_on(self, tls_settings: OutboundTLS) -> None:
        """Other settings count from the next delivery on; for these connections are made anew."""
        self.tls_settings = tls_settings
        self._pool.clear()

    def forget_failures(self) -> None:
        """Ask every host again, also those that could not be reached, or refused us, just now."""
        self._dead.forget()
        self.logins.forget()

    def close(self) -> None:
        """Give up every connection that is still open, those included that were left with QUIT."""
        self._pool.clear()
        for protocol in tuple(self._open):
            protocol.close()

    async def _kept(self, key: LineKey) -> Line | None:
        """One that a transaction can begin on."""
        while (line := self._pool.take(key)) is not None:
            try:
                await line.protocol.reset(self.settings.command_timeout)
            except ConnectionBroken:
                line.protocol.quit()
            except BaseException:
                line.protocol.abort()
                raise
            else:
                return line
        return None

    def _gone(self, protocol: OutboundProtocol) -> None:
        self._open.discard(protocol)
        self._pool.forget(protocol)

    # -- how much TLS -------------------------------------------------------------------------

    async def _decide(self, hop: NextHop, wish: TLSWish) -> Decision:
        return self.tls.identified(hop, await self._level(hop, wish))

    async def _level(self, hop: NextHop, wish: TLSWish) -> Decision:
        enabled = self.settings.enable_tls
        decision = decision_for(wish, hop, self.tls_settings, None, enabled)
        if self.memory is None or not self.nogo.enabled or not decision.may_forgo:
            return decision
        failed_at = await self.memory.failed_at(hop.host)
        if failed_at is None:
            return decision
        log.info(
            "TLS disabled for {host} because it was marked as non-TLS on {when}",
            host=hop.host,
            mx=hop.mx_name,
            when=moment(failed_at),
        )
        return decision_for(wish, hop, self.tls_settings, failed_at, enabled)

    async def _without_tls(
        self,
        hop: NextHop,
        decision: Decision,
        failed: ConnectionBroken,
        earlier_attempts: int,
    ) -> Opened | Unusable:
        """After a handshake that failed, or could not begin: the fallback, where there is one."""
        problem = str(failed)
        if not decision.may_fall_back:
            return _insecure(hop, decision, failed)
        if failed.securing:
            await self._remember_failure(hop)
        if not earlier_attempts:
            return _insecure(hop, decision, failed)
        reason = f"in the clear, since TLS failed just now: {problem}"
        decision = evolve(decision, level=SecurityLevel.NONE, reasons=(*decision.reasons, reason))
        try:
            # The next message is to have TLS again, so the connection is not kept.
            return evolve(await self._open_once(hop, decision), line=None)
        except ConnectionBroken as broken:
            return _broken(hop, broken, decision)
        except HostRefused as unusable:
            return Unusable(unusable.reply, decision)

    async def _remember_failure(self, hop: NextHop) -> None:
        if self.memory is None or not self.nogo.enabled:
            return
        log.warn(
            "TLS connection failed. Marking {host} as non-TLS for {seconds:g} seconds",
            host=hop.host,
            mx=hop.mx_name,
            seconds=self.nogo.expiry,
        )
        await self.memory.remember_failure(hop.host, self.nogo.expiry)

    # -- one connection -----------------------------------------------------------------------

    async def _open_afresh(
        self, hop: NextHop, decision: Decision, protocol: OutboundProtocol | None
    ) -> Opened:
        """
        Where a session could not be resumed, on a second connection, since that says nothing about
        TLS with this host. Raises as `_open_once` does.
        """
        try:
            return await self._open_once(hop, decision, protocol=protocol)
        except ConnectionBroken as problem:
            if not problem.resuming:
                raise
            log.info(
                "could not resume a TLS session with {host}: {problem}",
                host=hop.name,
                problem=str(problem),
            )
        return await self._open_once(hop, decision, resume=False)

    async def _open_once(
        self,
        hop: NextHop,
        decision: Decision,
        resume: bool = True,
        protocol: OutboundProtocol | None = None,
    ) -> Opened:
        """Raises as `Opening.open` does."""
        generation = self._pool.generation
        opening = self._opening.open(hop, decision, resume, protocol)
        protocol, secured, introduced = await opening
        if introduced is not Introduced.NOT_OFFERED:
            # It is the client's own: the next one's mail must not be taken for its.
            return Opened(protocol, decision, secured)
        line = self._pool.made(protocol, LineKey.of(hop, decision, self.me), secured, generation)
        return Opened(protocol, decision, secured, line)


def _broken(hop: NextHop, problem: ConnectionBroken, decision: Decision) -> Unusable:
    return Unusable(Reply.of(451, problem.status, f"{hop.name}: {problem}"), decision)


def _insecure(hop: NextHop, decision: Decision, problem: ConnectionBroken) -> Unusable:
    required = "TLS" if decision.may_fall_back else f"{needed(decision)}, but it"
    text = f"{required} failed with {hop.name}: {problem}"
    miss = Miss.CERTIFICATE if problem.untrusted else Miss.HANDSHAKE
    return Unusable(missed(decision, miss, text), decision)
