"""What is said: every event of the session gets its answer, after the hooks were asked."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import evolve

from harakatls.connection import Connection, Hello
from harakatls.hooks.chain import HookChain
from harakatls.inbound import replies
from harakatls.inbound.authentication import Authentication, LoginAnswer
from harakatls.inbound.channel import Channel, HandshakeFailed
from harakatls.inbound.log import NOT_A_PROXY, log_secured
from harakatls.inbound.manners import Manners, Patience, tiring
from harakatls.inbound.offered import offered_always
from harakatls.inbound.reception import YES, Reception
from harakatls.inbound.settings import InboundSettings
from harakatls.inbound.xclient import told_by_xclient
from harakatls.interfaces import IServerTLS
from harakatls.smtp.capabilities import NO_EXTENSIONS
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    NEED_DATA,
    AuthReceived,
    BodyEnded,
    BodyReceived,
    ChunkEnded,
    ChunkReceived,
    DataReceived,
    HelloReceived,
    HelpReceived,
    MailReceived,
    NoopReceived,
    Pause,
    QuitReceived,
    RcptReceived,
    ResetReceived,
    ResponseReceived,
    StartTLSReceived,
    UnrecognizedReceived,
    VerifyReceived,
    XClientReceived,
)
from harakatls.smtp.refusals import TLS_FIRST, is_error
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.verdict import Disconnect, Verdict

TURN = 100  # events after which other connections have their turn


class Dialogue(Manners):
    """
    Questions the session's events put to the hooks, and the replies.

    @ivar connection: what is known of the peer by now.
    @ivar closing: nothing more is answered, and the connection is to be closed.
    @ivar linger: the peer may still be sending when it is closed.
    @ivar outcome: how it ended, for the log.
    @ivar stopping: the server is shutting down, so no new transaction is begun.
    @ivar resting: it is the peer, or the others' turn, that is waited for.
    @ivar must_wait: the peer has not been offered PIPELINING, so each answer has to be waited for.
    @ivar telling: what is under way must not be cancelled, although the peer has gone.
    """

    def __init__(
        self,
        session: ServerSession,
        chain: HookChain,
        connection: Connection,
        settings: InboundSettings,
        reception: Reception,
        authentication: Authentication,
        tls: IServerTLS | None,
        channel: Channel,
    ) -> None:
        self.connection = connection
        self.closing = self.linger = self.stopping = self.resting = self.telling = False
        self.must_wait = True
        self.outcome = "the peer left"
        self._session = session
        self._chain = chain
        self._settings = settings
        self._reception = reception
        self._authentication = authentication
        self._offered = NO_EXTENSIONS
        self._tls = tls
        self._channel = channel
        self._replies: list[bytes] = []
        self._patience = Patience(settings.peers, settings.max_recipients)

    async def open(self) -> None:
        """From the connection to the greeting, and what the peer may have said meanwhile."""
        if self.connection.implicit_tls and not await self._secure():
            return
        self._replies.append(self._session.greet(await self._greeting()))
        await self.answer()

    async def _greeting(self) -> Reply:
        """What the hooks make of who has come."""
        if "peer_name" in self._chain.hooked:
            name = await self._chain.peer_name(self.connection)
            self.connection = evolve(self.connection, peer_name=name)
        connection = self.connection
        required = self._tls is not None and self._tls.requires(connection)
        # Without a certificate it is our fault: then no mail is to be returned to its sender.
        ready = self._tls is not None and self._tls.ready()
        first = TLS_FIRST if ready else replies.TLS_NOT_AVAILABLE
        self._session.tls_first = first if required else None
        verdict = await self._chain.connect(connection)
        if isinstance(verdict, YES):
            relaying = await self._chain.relaying(connection)
            if relaying:
                self.connection = evolve(self.connection, relaying=True)
            if not self._is_refused_as_early():
                return replies.banner(self._settings, connection.id)
            self.end(None, "early talker")
            return replies.TALKS_TOO_SOON
        if isinstance(verdict, Disconnect):
            self.end(None, "refused")
        # The session gives it again in answer to all that follows, but QUIT.
        return replies.reply_to("connect", verdict)

    async def answer(self) -> None:
        """Answer all that the session has received."""
        session = self._session
        left = TURN
        while not self.closing:
            try:
                event = session.next_event()
            except RemoteProtocolError as problem:
                self._object(problem)
            else:
                if event is NEED_DATA:
                    return
                if isinstance(event, Pause):
                    raise LocalProtocolError("an event was left without an answer")
                if self.must_wait and self._has_to_go(event):
                    return
                await _ANSWERS[event.__class__](self, event)
            left -= 1
            if not left:
                left = TURN
                await self._let_others()

    def end(self, reply: Reply | None, outcome: str, linger: bool = True) -> None:
        """
        The last word.

        @param reply: answers nothing that was asked; None where the answer has been given.
        """
        if reply is not None:
            self._replies.append(reply.wire)
        self.closing, self.linger, self.outcome = True, linger, outcome

    def flush(self) -> None:
        """Send the replies that are ready, all at once."""
        octets = self.take_replies()
        if octets:
            self._channel.write(octets)

    def take_replies(self) -> bytes:
        """The replies that are ready, for somebody else to send."""
        octets = b"".join(self._replies)
        self._replies.clear()
        return octets

    async def _let_others(self) -> None:
        self.resting = True
        try:
            await self._channel.rest()
        finally:
            self.resting = False

    # -- answers ----------------------------------------------------------------------------

    def _say(self, reply: Reply) -> None:
        self._replies.append(self._session.reply(reply))

    def _say_verdict(self, stage: str, verdict: Verdict, about: str = "") -> Reply:
        reply = replies.reply_to(stage, verdict, about)
        self._say(reply)
        if isinstance(verdict, Disconnect) or reply.closes:
            self.end(None, "refused")
        return reply

    def _answer(self, reply: Reply, recipient: bool | None = None) -> None:
        """
        Of the reception.

        @param recipient: see `tire`; None where a no is not counted.
        """
        self._replies.append(self._session.reply(reply))
        if self._reception.disconnecting:
            self.end(None, "refused")
        if reply.code >= 400 and recipient is not None:
            self.tire(recipient)

    def _object(self, problem: RemoteProtocolError) -> None:
        """The session refused what it could not read, or what is not legal now."""
        self._count_error()
        self._authentication.forget()
        if problem.fatal:
            self.end(problem.reply, f"protocol error: {problem}")
        elif problem.reply is not None:
            self._replies.append(problem.reply.wire)
            if not is_error(problem.reply):  # else the session counts it
                # Who pipelines has said as much before the first refusal comes.
                self.tire(recipient=True)

    def _count_error(self) -> None:
        self.connection = evolve(self.connection, errors=self.connection.errors + 1)

    async def _hello(self, event: HelloReceived) -> None:
        hello = Hello(event.name, event.extended)
        verdict = await self._chain.hello(self.connection, hello)
        if not isinstance(verdict, YES):
            self._say_verdict("hello", verdict, "EHLO" if event.extended else "HELO")
            return
        # RFC 5321 section 4.1.4: a second EHLO does what RSET does.
        await self._reception.forget()
        self.connection = self.connection.after_hello(hello)
        offered = NO_EXTENSIONS
        if event.extended:
            always = offered_always(self._settings)
            always = await self._authentication.offer(self.connection, always)
            offered = await self._chain.capabilities(self.connection, always)
        self._offered = offered
        self.must_wait = "PIPELINING" not in offered
        greeting = replies.welcome(self._settings, self.connection)
        self._replies.append(self._session.accept_hello(greeting, offered))

    async def _start_tls(self, event: StartTLSReceived) -> None:
        if self._tls is None or not self._tls.ready():
            self._say(replies.TLS_NOT_AVAILABLE)
            return
        self._say(replies.READY_FOR_TLS)
        self.flush()
        if await self._secure():
            self._session.tls_started()

    async def _secure(self) -> bool:
        """
        The handshake. What the peer said in the clear is forgotten (RFC 3207 section 4.2).

        @return: whether the conversation goes on.
        """
        tls = self._tls
        if tls is None or not tls.ready():
            self.end(None, "there is no certificate", linger=False)
            return False
        try:
            summary = await self._channel.secure(self.connection)
        except HandshakeFailed as problem:
            # A client of TLS 1.3 may be speaking already; its alert is not to be overtaken.
            self.end(None, f"TLS handshake failed: {problem}")
            if self.stopping or problem.ours:  # it is we who broke off
                return False
            self.telling = True
            try:
                await tls.handshake_failed(self.connection, str(problem))
            finally:
                self.telling = False
            return False
        await self._reception.forget()
        self.must_wait = True
        self.connection = self.connection.after_handshake(summary)
        if summary.fingerprint:  # else the line of the connection tells all there is
            log_secured(self.connection, summary)
        return True

    async def _mail(self, event: MailReceived) -> None:
        if self.stopping:
            self._say(replies.SHUTTING_DOWN)
            self.end(None, "shutdown")
            return
        self._answer(await self._reception.mail(self.connection, event), recipient=False)
        if self._reception.untold is not None:
            await self._reception.tell()

    async def _rcpt(self, event: RcptReceived) -> None:
        self._answer(await self._reception.rcpt(self.connection, event), recipient=True)

    async def _data(self, event: DataReceived) -> None:
        self._answer(await self._reception.data(self.connection), recipient=False)

    async def _chunk(self, event: ChunkReceived) -> None:
        reply = await self._reception.chunk(self.connection, event)
        if reply is None:
            self._session.accept_chunk()
        else:
            self._answer(reply, recipient=False)

    async def _chunk_ended(self, event: ChunkEnded) -> None:
        self._answer(await self._reception.chunk_end(self.connection, event))
        if not event.size:  # so it was not a part of a message
            self.tire()

    async def _body(self, event: BodyReceived) -> None:
        await self._reception.body(event.chunk)

    async def _body_ended(self, event: BodyEnded) -> None:
        self._answer(await self._reception.end(self.connection, event))
        if self._reception.untold is not None:
            await self._reception.tell()

    async def _reset(self, event: ResetReceived) -> None:
        if "rset" in self._chain.hooked:
            await self._chain.rset(self.connection, self._reception.transaction)
        self._say(replies.OK)
        await self._reception.forget()

    async def _noop(self, event: NoopReceived) -> None:
        transaction = self._reception.transaction
        self._say_verdict("noop", await self._chain.noop(self.connection, transaction))

    async def _verify(self, event: VerifyReceived) -> None:
        if event.expand:
            self._say(replies.NOT_EXPANDED)
            return
        about = self.connection, self._reception.transaction, event.argument
        self._say_verdict("verify", await self._chain.verify(*about))

    async def _help(self, event: HelpReceived) -> None:
        self._say(replies.commands(self._session.offered))

    async def _authenticate(self, event: AuthReceived) -> None:
        offered = frozenset(self._offered.parameters("AUTH").split())
        self._log_in(await self._authentication.begin(self.connection, event, offered))

    async def _respond(self, event: ResponseReceived) -> None:
        self._log_in(await self._authentication.respond(self.connection, event))

    def _log_in(self, answer: LoginAnswer) -> None:
        if answer.connection is not None:
            self.connection = answer.connection
        if is_error(answer.reply):
            self._count_error()
        self._say(answer.reply)
        if answer.reply.closes:
            self.end(None, "refused")

    async def _xclient(self, event: XClientReceived) -> None:
        """Who has come is somebody else: hooks are asked as for a new connection."""
        await self._reception.begin_anew()
        await self._chain.disconnected(self.connection)
        self.connection = told_by_xclient(self.connection, event)
        self._authentication.begin_anew()
        self._patience = Patience(self._settings.peers, self._settings.max_recipients)
        self._offered, self.must_wait = NO_EXTENSIONS, True
        greeting = self._channel.now_from(event.host)
        if greeting is None:
            greeting = await self._greeting()
        else:
            self.end(None, "turned away")
        self._replies.append(self._session.greet_again(greeting, event.login is not None))

    async def _unrecognized(self, event: UnrecognizedReceived) -> None:
        if event.verb == "PROXY":
            self._say(replies.proxy_not_allowed(self.connection))
            self.end(None, NOT_A_PROXY)
            return
        about = self.connection, self._reception.transaction, event.verb, event.argument
        verdict = await self._chain.unrecognized(*about)
        if not self._say_verdict("unrecognized", verdict).is_positive:
            self._count_error()

    async def _quit(self, event: QuitReceived) -> None:
        if "quit" in self._chain.hooked:
            await self._chain.quit(self.connection, self._reception.transaction)
        self._say(replies.farewell(self._settings))
        self.end(None, "quit", linger=False)


_ANSWERS: Mapping[type, Callable[[Dialogue, Any], Awaitable[None]]] = {
    HelloReceived: tiring(Dialogue._hello),
    StartTLSReceived: Dialogue._start_tls,
    AuthReceived: tiring(Dialogue._authenticate),
    ResponseReceived: Dialogue._respond,
    MailReceived: Dialogue._mail,
    RcptReceived: Dialogue._rcpt,
    DataReceived: Dialogue._data,
    ChunkReceived: Dialogue._chunk,
    ChunkEnded: Dialogue._chunk_ended,
    BodyReceived: Dialogue._body,
    BodyEnded: Dialogue._body_ended,
    ResetReceived: tiring(Dialogue._reset),
    NoopReceived: tiring(Dialogue._noop),
    VerifyReceived: tiring(Dialogue._verify),
    HelpReceived: tiring(Dialogue._help),
    XClientReceived: Dialogue._xclient,
    UnrecognizedReceived: Dialogue._unrecognized,
    QuitReceived: Dialogue._quit,
}
