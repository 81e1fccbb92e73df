"""
From a next hop to an open, greeted and perhaps secured connection.

Where TLS is a may and its handshake fails, the mail is not given up: from the message's second
attempt on the host is asked once more on a new connection, in the clear. Not at the first, so that
a passing fault (or somebody who cuts one connection) does not lay mail open; and never where the
certificate has to be valid.
"""

import os
from typing import Protocol as TypingProtocol

from attrs import define, evolve, field, frozen
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from harakatls.connection import TLSSummary
from harakatls.interfaces import HasHandle, ITLSMemory
from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.login import log_in
from harakatls.outbound.pool import Line, LineKey, Pool
from harakatls.outbound.protocol import ConnectionBroken, OutboundProtocol
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.tcp import Connect
from harakatls.smtp.client import ClientSession
from harakatls.smtp.events import Asked
from harakatls.smtp.reply import Reply
from harakatls.smtp.states import READY
from harakatls.tls.policy import Decision, SecurityLevel, moment, outbound_decision
from harakatls.tls.settings import NoGoSettings, OutboundTLS

log = Logger()


class TLSClient(TypingProtocol):
    """What is needed of `tls.client.ClientTLS`."""

    def identified(self, hop: NextHop, decision: Decision) -> Decision: ...

    def connection_creator(
        self, decision: Decision, hop: NextHop | None
    ) -> IOpenSSLClientConnectionCreator: ...

    def summary(self, transport: HasHandle, decision: Decision) -> TLSSummary: ...

    def keep_session(self, transport: HasHandle) -> None: ...


@frozen
class Opened:
    """
    A connection on which MAIL may be said.

    @ivar decision: for this message; another one's may have made the connection.
    @ivar secured: None in the clear.
    @ivar line: None where the connection is for this one message.
    @ivar earlier: how many messages had been on it before.
    """

    protocol: OutboundProtocol
    decision: Decision
    secured: TLSSummary | None
    line: Line | None = None
    earlier: int = 0


@frozen
class Unusable:
    """
    A host that does not take mail now.

    @ivar reply: its words, or ours (4yz) where it said none.
    """

    reply: Reply
    decision: Decision
    secured: TLSSummary | None = None


class _Unusable(Exception):
    """Ends an attempt to open; becomes an `Unusable`."""

    def __init__(self, reply: Reply, secured: TLSSummary | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.secured = secured


@define(eq=False)
class Connector:
    """
    @ivar tls_settings: see `take_on`.
    @ivar memory: hosts with which TLS failed lately; None to remember nothing.
    @ivar me: our name, for EHLO.
    """

    connect: Connect
    settings: OutboundSettings
    me: str
    clock: IReactorTime
    tls: TLSClient
    tls_settings: OutboundTLS
    nogo: NoGoSettings = field(factory=NoGoSettings)
    memory: ITLSMemory | None = None
    _open: set[OutboundProtocol] = field(init=False, factory=set)
    _pool: Pool = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self._pool = Pool(self.clock, settings.pool_timeout, settings.concurrency_max)

    async def open(
        self, hop: NextHop, earlier_attempts: int, afresh: bool = False
    ) -> Opened | Unusable:
        """
        A connection that was kept, or a new one. It is to be given back with `leave`, where
        nothing has gone wrong with it.

        @param hop: with an IP address for its host.
        @param earlier_attempts: how often the message has been tried before.
        @param afresh: none that was kept.
        """
        decision = self.tls.identified(hop, await self._decide(hop))
        if decision.refusal is not None:
            return Unusable(Reply.of(451, "4.7.4", decision.refusal), decision)
        line = None if afresh else await self._kept(LineKey.of(hop, decision, self.me))
        if line is not None:
            return Opened(line.protocol, decision, line.secured, line, line.messages)
        try:
            return await self._open_afresh(hop, decision)
        except ConnectionBroken as problem:
            if not problem.securing:
                return _broken(hop, problem, decision)
            return await self._without_tls(hop, decision, str(problem), earlier_attempts)
        except _Unusable as problem:
            return Unusable(problem.reply, decision, problem.secured)

    def leave(self, opened: Opened) -> None:
        """The message is through. The connection is kept, or ended with QUIT."""
        if opened.line is None:
            opened.protocol.quit()
        else:
            self._pool.keep(opened.line)

    def take_on(self, tls_settings: OutboundTLS) -> None:
        """Other settings count from the next delivery on, for which connections are made anew."""
        self.tls_settings = tls_settings
        self._pool.clear()

    def close(self) -> None:
        """Give up every connection that is still open, those included that were left with QUIT."""
        self._pool.clear()
        for protocol in tuple(self._open):
            protocol.close()

    async def _kept(self, key: LineKey) -> Line | None:
        """One that a transaction can begin on."""
        while (line := self._pool.take(key)) is not None:
            protocol = line.protocol
            if protocol.session.state is READY:
                return line
            # The last transaction did not end with a message.
            try:
                protocol.send(protocol.session.reset())
                reply = await protocol.answer(Asked.RSET, self.settings.command_timeout)
            except ConnectionBroken:
                reply = None
            except BaseException:
                protocol.abort()
                raise
            if reply is not None and reply.accepts:
                return line
            protocol.quit()
        return None

    def _gone(self, protocol: OutboundProtocol) -> None:
        self._open.discard(protocol)
        self._pool.forget(protocol)

    # -- how much TLS -------------------------------------------------------------------------

    async def _decide(self, hop: NextHop) -> Decision:
        enabled = self.settings.enable_tls
        decision = outbound_decision(hop, self.tls_settings, None, enabled)
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
        return outbound_decision(hop, self.tls_settings, failed_at, enabled)

    async def _without_tls(
        self, hop: NextHop, decision: Decision, problem: str, earlier_attempts: int
    ) -> Opened | Unusable:
        """After a handshake that failed: the fallback, where there is one."""
        if not decision.may_fall_back:
            return _insecure(hop, decision, problem)
        await self._remember_failure(hop)
        if not earlier_attempts:
            return _insecure(hop, decision, problem)
        reason = f"in the clear, since TLS failed just now: {problem}"
        decision = evolve(decision, level=SecurityLevel.NONE, reasons=(*decision.reasons, reason))
        try:
            # The next message is to have TLS again, so the connection is not kept.
            return evolve(await self._open_once(hop, decision), line=None)
        except ConnectionBroken as broken:
            return _broken(hop, broken, decision)
        except _Unusable as unusable:
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

    async def _open_afresh(self, hop: NextHop, decision: Decision) -> Opened:
        """
        Where a session could not be resumed, on a second connection, since that says nothing about
        TLS with this host. Raises as `_open_once` does.
        """
        try:
            return await self._open_once(hop, decision)
        except ConnectionBroken as problem:
            if not problem.resuming:
                raise
            log.info(
                "could not resume a TLS session with {host}: {problem}",
                host=_name(hop),
                problem=str(problem),
            )
        return await self._open_once(hop, decision, resume=False)

    async def _open_once(self, hop: NextHop, decision: Decision, resume: bool = True) -> Opened:
        """
        @raise ConnectionBroken: with `securing` where that was TLS.
        @raise _Unusable: the host said no.
        """
        generation = self._pool.generation
        protocol = await self._connected(hop)
        try:
            await self._greeted(protocol, hop)
            secured = await self._secured(protocol, hop, decision, resume)
            refusal = await log_in(protocol, hop, secured, self.settings.command_timeout)
            if refusal is not None:
                raise _Unusable(refusal, secured)
        except _Unusable:
            protocol.quit()
            raise
        except BaseException:
            protocol.abort()
            raise
        line = self._pool.made(protocol, LineKey.of(hop, decision, self.me), secured, generation)
        return Opened(protocol, decision, secured, line)

    async def _connected(self, hop: NextHop) -> OutboundProtocol:
        seconds = self.settings.connect_timeout
        session = ClientSession(lmtp=hop.protocol == LMTP)
        protocol = OutboundProtocol(session, self.clock, self._gone)
        self._open.add(protocol)
        connected = False
        try:
            await self.connect(hop.host, hop.port, _Once(protocol), seconds, hop.bind)
            connected = True
        except ConnectTimeout:
            problem = f"no connection within {seconds:g} seconds"
            raise ConnectionBroken(problem, status="4.4.1") from None
        except (ConnectError, OSError) as error:
            problem = f"no connection: {_in_words(error)}"
            raise ConnectionBroken(problem, status="4.4.1") from None
        finally:
            if not connected:
                self._open.discard(protocol)
        return protocol

    async def _greeted(self, protocol: OutboundProtocol, hop: NextHop) -> None:
        greeting = await protocol.answer(Asked.GREETING, self.settings.greeting_timeout)
        if not greeting.accepts:
            raise _Unusable(greeting)
        await self._hello(protocol, hop)

    async def _hello(self, protocol: OutboundProtocol, hop: NextHop) -> None:
        """EHLO; HELO for those who do not know it (RFC 5321 section 3.2). LMTP has LHLO alone."""
        lmtp = protocol.session.lmtp
        for extended in (True,) if lmtp else (True, False):
            protocol.send(protocol.session.hello(hop.bind_helo or self.me, extended))
            reply = await protocol.answer(Asked.HELLO, self.settings.command_timeout)
            if reply.accepts:
                return
            if not reply.is_permanent:
                break
        if lmtp and reply.is_permanent:
            # A mistake in the configuration, which is no reason to return all mail.
            raise _Unusable(Reply.of(451, "4.5.1", f"LHLO was refused, so it is no LMTP: {reply}"))
        raise _Unusable(reply)

    async def _secured(
        self, protocol: OutboundProtocol, hop: NextHop, decision: Decision, resume: bool
    ) -> TLSSummary | None:
        """TLS, as far as the host has it; all of *decision* holds afterwards."""
        if decision.level is SecurityLevel.NONE:
            return None
        refusal = await self._asked_for_tls(protocol)
        if refusal is None:
            creator = self.tls.connection_creator(decision, hop if resume else None)
            try:
                return await self._handshake(protocol, hop, creator, decision)
            except ConnectionBroken as problem:
                raise _explained(problem, creator) from None
        if decision.level > SecurityLevel.MAY:
            text = f"TLS is required, but {_name(hop)} {refusal}"
            raise _Unusable(Reply.of(451, "4.7.4", text))
        return None

    async def _asked_for_tls(self, protocol: OutboundProtocol) -> str | None:
        """@return: None where the handshake may begin, else why not."""
        if "STARTTLS" not in protocol.session.capabilities:
            return "does not offer STARTTLS"
        protocol.send(protocol.session.start_tls())
        reply = await protocol.answer(Asked.STARTTLS, self.settings.command_timeout)
        if reply.code == 421:  # it closes the connection (RFC 5321 section 4.2.2)
            raise _Unusable(reply)
        return None if reply.code == 220 else f"refused STARTTLS: {reply}"

    async def _handshake(
        self,
        protocol: OutboundProtocol,
        hop: NextHop,
        creator: IOpenSSLClientConnectionCreator,
        decision: Decision,
    ) -> TLSSummary:
        layer = await protocol.start_tls(creator, self.settings.handshake_timeout)
        secured = self.tls.summary(layer, decision)
        if decision.authenticated and not secured.verified:
            # The handshake itself should have failed; nothing is left to a mistake there.
            raise ConnectionBroken(secured.verify_error or "not verified", securing=True)
        protocol.session.tls_started()
        try:
            await self._hello(protocol, hop)
        except ConnectionBroken as problem:
            if protocol.given_up:  # a host that is slow, or does not keep to SMTP, can do TLS
                raise
            # In TLS 1.3 a server may object to our side of the handshake only now.
            raise ConnectionBroken(f"right after the handshake: {problem}", securing=True) from None
        except _Unusable as problem:
            raise _Unusable(problem.reply, secured) from None
        self.tls.keep_session(layer)
        return secured


def _explained(
    problem: ConnectionBroken, creator: IOpenSSLClientConnectionCreator
) -> ConnectionBroken:
    """What is known of a handshake that failed, if it was that."""
    if not problem.securing:
        return problem
    words = getattr(creator, "failure", None) or str(problem)
    remark = getattr(creator, "remark", None)
    if remark is not None:
        words = f"{words}; {remark}"
    resuming = getattr(creator, "resuming", False)
    return ConnectionBroken(words, securing=True, resuming=resuming)


class _Once(Factory):
    """Gives one protocol, made before."""

    noisy = False

    def __init__(self, protocol: OutboundProtocol) -> None:
        self._made = protocol

    def buildProtocol(self, addr: IAddress | None) -> OutboundProtocol:
        return self._made


def _broken(hop: NextHop, problem: ConnectionBroken, decision: Decision) -> Unusable:
    return Unusable(Reply.of(451, problem.status, f"{_name(hop)}: {problem}"), decision)


def _insecure(hop: NextHop, decision: Decision, problem: str) -> Unusable:
    required = "TLS is required, but it" if decision.authenticated else "TLS"
    text = f"{required} failed with {_name(hop)}: {problem}"
    return Unusable(Reply.of(451, "4.7.5", text), decision)


def _name(hop: NextHop) -> str:
    return hop.mx_name or hop.host


def _in_words(problem: Exception) -> str:
    number = getattr(problem, "osError", None) or getattr(problem, "errno", None)
    return os.strerror(number) if isinstance(number, int) else str(problem)
