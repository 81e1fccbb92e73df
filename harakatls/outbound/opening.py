"""
One connection to one host: the greeting, EHLO, and TLS as far as that was decided.

What it comes to is for `connector`, which knows what else may be tried.
"""

from typing import Protocol as TypingProtocol

from attrs import define, field
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from harakatls.connection import TLSSummary
from harakatls.interfaces import HasHandle
from harakatls.mail.route import NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.dead_hosts import DeadHosts
from harakatls.outbound.introducing import Introduced, Introductions
from harakatls.outbound.login import log_in
from harakatls.outbound.misses import Miss, missed, needed
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.reach import Reach
from harakatls.outbound.refused_logins import RefusedLogins
from harakatls.outbound.settings import OutboundSettings
from harakatls.smtp.events import Asked
from harakatls.smtp.reply import Reply
from harakatls.smtp.xclient import hello_name
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.requiretls import RequireTLS


class TLSClient(TypingProtocol):
    """What is needed of `tls.client.ClientTLS`."""

    def identified(self, hop: NextHop, decision: Decision) -> Decision: ...

    def connection_creator(
        self, decision: Decision, hop: NextHop | None
    ) -> IOpenSSLClientConnectionCreator: ...

    def summary(self, transport: HasHandle, decision: Decision) -> TLSSummary: ...

    def keep_session(self, transport: HasHandle) -> None: ...


class HostRefused(Exception):
    """The host said no to us. @ivar secured: inside of TLS."""

    def __init__(self, reply: Reply, secured: TLSSummary | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.secured = secured


@define(eq=False)
class Opening:
    """
    @ivar me: our name, for EHLO.
    @ivar dead: the hosts that could not be reached lately.
    @ivar logins: those that were refused lately.
    """

    reach: Reach
    settings: OutboundSettings
    me: str
    tls: TLSClient
    dead: DeadHosts
    logins: RefusedLogins
    _introductions: Introductions = field(init=False, factory=Introductions)

    async def open(
        self,
        hop: NextHop,
        decision: Decision,
        resume: bool = True,
        protocol: OutboundProtocol | None = None,
    ) -> tuple[OutboundProtocol, TLSSummary | None, Introduced]:
        """
        @param resume: a TLS session, where there is one.
        @param protocol: on a connection on which nothing has been said; None to make one.
        @return: with what its TLS came to, and whether it is for one client alone.
        @raise ConnectionBroken: with `securing` where that was TLS, `unsecured` right before.
        @raise HostRefused: the host said no.
        """
        if protocol is None:
            protocol = await self.reach.to(hop)
        try:
            await self._greeted(protocol, hop)
            secured = await self._secured(protocol, hop, decision, resume)
            introduced = await self._introduced(protocol, hop, secured)
            if decision.requiretls is RequireTLS.ENFORCE:
                _demand_requiretls(protocol, hop, decision, secured)
            refusal = await log_in(
                protocol, hop, secured, self.settings.command_timeout, self.logins
            )
            if refusal is not None:
                raise HostRefused(refusal, secured)
        except HostRefused:
            protocol.quit()
            raise
        except BaseException:
            protocol.abort()
            raise
        return protocol, secured, introduced

    async def _greeted(self, protocol: OutboundProtocol, hop: NextHop) -> None:
        try:
            greeting = await protocol.answer(Asked.GREETING, self.settings.greeting_timeout)
        except ConnectionBroken as problem:
            self.dead.failed(hop.host, hop.port, str(problem))
            raise
        self.dead.answered(hop.host, hop.port)
        if not greeting.accepts:
            raise HostRefused(greeting)
        await self._hello(protocol, hop)

    async def _hello(
        self, protocol: OutboundProtocol, hop: NextHop, name: str | None = None
    ) -> None:
        """
        EHLO; HELO for those who do not know it (RFC 5321 section 3.2). LMTP has LHLO alone.

        @param name: None is ours.
        """
        lmtp = protocol.session.lmtp
        name = name or hop.bind_helo or self.me
        for extended in (True,) if lmtp else (True, False):
            protocol.send(protocol.session.hello(name, extended))
            reply = await protocol.answer(Asked.HELLO, self.settings.command_timeout)
            if reply.accepts:
                return
            if not reply.is_permanent:
                break
        if lmtp and reply.is_permanent:
            # A mistake in the configuration, which is no reason to return all mail.
            raise HostRefused(
                Reply.of(451, "4.5.1", f"LHLO was refused, so it is no LMTP: {reply}")
            )
        raise HostRefused(reply)

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
            miss, what = refusal
            raise HostRefused(missed(decision, miss, f"{needed(decision)}, but {hop.name} {what}"))
        return None

    async def _introduced(
        self, protocol: OutboundProtocol, hop: NextHop, secured: TLSSummary | None
    ) -> Introduced:
        """Before our own login, since that is gone with it."""
        seconds = self.settings.command_timeout
        introduced = await self._introductions.made(protocol, hop, seconds)
        if introduced is Introduced.TOLD:
            try:
                await self._hello_of_client(protocol, hop)
            except HostRefused as problem:
                raise HostRefused(problem.reply, secured) from None
        return introduced

    async def _hello_of_client(self, protocol: OutboundProtocol, hop: NextHop) -> None:
        """In its own name, since this counts more than the attribute HELO; else in ours."""
        name = hello_name(hop.client)
        if name is not None:
            try:
                await self._hello(protocol, hop, name)
                return
            except HostRefused as problem:
                if problem.reply.closes:
                    raise
        await self._hello(protocol, hop)

    async def _asked_for_tls(self, protocol: OutboundProtocol) -> tuple[Miss, str] | None:
        """@return: None where the handshake may begin, else why not."""
        if "STARTTLS" not in protocol.session.capabilities:
            return Miss.NO_STARTTLS, "does not offer STARTTLS"
        protocol.send(protocol.session.start_tls())
        try:
            reply = await protocol.answer(Asked.STARTTLS, self.settings.command_timeout)
        except ConnectionBroken as problem:
            raise ConnectionBroken(str(problem), unsecured=not problem.injected) from None
        if reply.closes:
            raise HostRefused(reply)
        return None if reply.code == 220 else (Miss.STARTTLS_REFUSED, f"refused STARTTLS: {reply}")

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
            problem = secured.verify_error or "not verified"
            raise ConnectionBroken(problem, securing=True, untrusted=True)
        protocol.session.tls_started()
        try:
            await self._hello(protocol, hop)
        except ConnectionBroken as problem:
            if protocol.given_up:  # a host that is slow, or does not keep to SMTP, can do TLS
                raise
            # In TLS 1.3 a server may object to our side of the handshake only now.
            raise ConnectionBroken(f"right after the handshake: {problem}", securing=True) from None
        except HostRefused as problem:
            raise HostRefused(problem.reply, secured) from None
        self.tls.keep_session(layer)
        return secured


def _demand_requiretls(
    protocol: OutboundProtocol, hop: NextHop, decision: Decision, secured: TLSSummary | None
) -> None:
    """
    RFC 8689 section 4.2.1: in the answer to the EHLO within TLS.

    @raise HostRefused: it is not there.
    """
    if secured is None or "REQUIRETLS" not in protocol.session.capabilities:
        text = f"REQUIRETLS is required, but {hop.name} does not offer it"
        raise HostRefused(missed(decision, Miss.NO_REQUIRETLS, text), secured)


def _explained(
    problem: ConnectionBroken, creator: IOpenSSLClientConnectionCreator
) -> ConnectionBroken:
    """What is known of a handshake that failed, if it was that."""
    if not problem.securing:
        return problem
    failure = getattr(creator, "failure", None)
    words = failure or str(problem)
    remark = getattr(creator, "remark", None)
    if remark is not None:
        words = f"{words}; {remark}"
    resuming = getattr(creator, "resuming", False)
    untrusted = problem.untrusted or failure is not None
    return ConnectionBroken(words, securing=True, resuming=resuming, untrusted=untrusted)
