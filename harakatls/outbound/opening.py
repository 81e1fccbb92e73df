"""
One connection to one host: TCP, the greeting, EHLO, and TLS as far as that was decided.

What it comes to is for `connector`, which knows what else may be tried.
"""

import errno
import os
from collections.abc import Callable
from typing import Protocol as TypingProtocol

from attrs import define
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IOpenSSLClientConnectionCreator, IReactorTime
from twisted.internet.protocol import Factory

from harakatls.connection import TLSSummary
from harakatls.interfaces import HasHandle
from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.broken import ConnectionBroken
from harakatls.outbound.dead_hosts import DeadHosts
from harakatls.outbound.login import log_in
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.tcp import Connect
from harakatls.smtp.client import ClientSession
from harakatls.smtp.events import Asked
from harakatls.smtp.reply import Reply
from harakatls.tls.policy import Decision, SecurityLevel

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Why there is no connection, though the host may well be there."""


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
    @ivar made: told of each connection that is begun.
    @ivar gone: told of each that is gone.
    """

    connect: Connect
    settings: OutboundSettings
    me: str
    clock: IReactorTime
    tls: TLSClient
    dead: DeadHosts
    made: Callable[[OutboundProtocol], object]
    gone: Callable[[OutboundProtocol], object]

    async def open(
        self, hop: NextHop, decision: Decision, resume: bool = True
    ) -> tuple[OutboundProtocol, TLSSummary | None]:
        """
        @param resume: a TLS session, where there is one.
        @raise ConnectionBroken: with `securing` where that was TLS, `unsecured` right before.
        @raise HostRefused: the host said no.
        """
        protocol = await self._connected(hop)
        try:
            await self._greeted(protocol, hop)
            secured = await self._secured(protocol, hop, decision, resume)
            refusal = await log_in(protocol, hop, secured, self.settings.command_timeout)
            if refusal is not None:
                raise HostRefused(refusal, secured)
        except HostRefused:
            protocol.quit()
            raise
        except BaseException:
            protocol.abort()
            raise
        return protocol, secured

    async def _connected(self, hop: NextHop) -> OutboundProtocol:
        seconds = self.settings.connect_timeout
        session = ClientSession(lmtp=hop.protocol == LMTP)
        protocol = OutboundProtocol(session, self.clock, self.gone)
        self.made(protocol)
        connected = False
        try:
            await self.connect(hop.host, hop.port, _Once(protocol), seconds, hop.bind)
            connected = True
        except ConnectTimeout:
            problem = f"no connection within {seconds:g} seconds"
            self.dead.failed(hop.host, hop.port, problem)
            raise ConnectionBroken(problem, status="4.4.1") from None
        except (ConnectError, OSError) as error:
            problem = f"no connection: {_in_words(error)}"
            if _number(error) not in _OURS:
                self.dead.failed(hop.host, hop.port, problem)
            raise ConnectionBroken(problem, status="4.4.1") from None
        finally:
            if not connected:
                self.gone(protocol)
        return protocol

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
            text = f"TLS is required, but {hop.name} {refusal}"
            raise HostRefused(Reply.of(451, "4.7.4", text))
        return None

    async def _asked_for_tls(self, protocol: OutboundProtocol) -> str | None:
        """@return: None where the handshake may begin, else why not."""
        if "STARTTLS" not in protocol.session.capabilities:
            return "does not offer STARTTLS"
        protocol.send(protocol.session.start_tls())
        try:
            reply = await protocol.answer(Asked.STARTTLS, self.settings.command_timeout)
        except ConnectionBroken as problem:
            raise ConnectionBroken(str(problem), unsecured=not problem.injected) from None
        if reply.closes:
            raise HostRefused(reply)
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
        except HostRefused as problem:
            raise HostRefused(problem.reply, secured) from None
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


def _in_words(problem: Exception) -> str:
    number = _number(problem)
    return str(problem) if number is None else os.strerror(number)


def _number(problem: Exception) -> int | None:
    number = getattr(problem, "osError", None) or getattr(problem, "errno", None)
    return number if isinstance(number, int) else None
