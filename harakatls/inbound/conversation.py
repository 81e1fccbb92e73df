"""One peer's conversation with us, from its beginning to its end; knows no transport."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from harakatls.connection import Connection
from harakatls.hooks.chain import HookChain
from harakatls.inbound import replies
from harakatls.inbound.admission import Admission
from harakatls.inbound.authentication import Authentication
from harakatls.inbound.channel import Channel
from harakatls.inbound.dialogue import Dialogue
from harakatls.inbound.failed_logins import FailedLogins
from harakatls.inbound.log import by_name, by_proxy
from harakatls.inbound.pace import Pace
from harakatls.inbound.reception import Reception
from harakatls.inbound.settings import InboundSettings
from harakatls.inbound.steps import run
from harakatls.interfaces import IServerTLS, ISpool
from harakatls.smtp.server import ServerSession

log = Logger()

UNREAD = 65536  # octets that may come while a hook or the spool is busy
_LF = 10  # a number is found in octets eight times as fast as octets are


class Conversation:
    """
    When something is said; `Dialogue` knows what.

    Whatever the peer has sent is answered by one coroutine. Most of the time it runs through
    without waiting, and then no Deferred is made. While it waits nothing else is answered.

    @ivar ended: fires when the peer has gone and nothing of the conversation is left.
    """

    def __init__(
        self,
        session: ServerSession,
        chain: HookChain,
        connection: Connection,
        settings: InboundSettings,
        spool: ISpool,
        tls: IServerTLS | None,
        me: str,
        clock: IReactorTime,
        channel: Channel,
        failed_logins: FailedLogins,
        admission: Admission | None = None,
    ) -> None:
        """@param admission: knows how much mail there may be at the same time; None for any."""
        self.ended: Deferred[None] = Deferred()
        self._session = session
        self._chain = chain
        self._settings = settings
        self._clock = clock
        self._channel = channel
        self._reception = Reception(chain, spool, settings, me, clock, admission)
        authentication = Authentication(chain.users, channel, clock, settings, failed_logins)
        self._dialogue = Dialogue(
            session, chain, connection, settings, self._reception, authentication, tls, channel
        )
        self._busy = False
        self._waiting: Deferred[Any] | None = None
        self._unread = 0
        self._input_ended = False
        self._gone = False
        self._octets = 0
        self._began = now = clock.seconds()
        self._pace = Pace(settings.peers, settings.inactivity_timeout, now)
        # One timer for all of the conversation; to set it anew for each line would cost more.
        self._look = clock.callLater(self._pace.next_look(now), self._look_at_pace)

    # -- what happens to us -----------------------------------------------------------------

    def begin(self) -> None:
        """The connection is there."""
        self._run(self._dialogue.open())

    def received(self, octets: bytes) -> None:
        """The peer said something; once we hang up nobody listens."""
        if self._dialogue.closing:
            return
        self._octets += len(octets)
        session, dialogue = self._session, self._dialogue
        if _LF in octets or session.is_receiving:
            self._pace.heard_at = self._clock.seconds()
        session.receive(octets)
        if not self._busy:
            self._run(dialogue.answer())
            return
        if dialogue.must_wait and not session.is_receiving:
            dialogue.talks_early()
        self._unread += len(octets)
        if self._unread > UNREAD:
            self._channel.pause()

    def input_ended(self) -> None:
        """The peer will say nothing more, but may still listen: what it said is answered."""
        self._input_ended = True
        if not self._busy and not self._gone:
            self._rest()

    def leave(self) -> None:
        """
        The peer has gone. What is waited for is cancelled, unless the message may be ours already.
        """
        if self._gone:
            return
        self._gone = self._dialogue.closing = True
        if self._look.active():
            self._look.cancel()
        self._reception.abandon()
        if not self._busy:
            self._finish()
        elif self._waiting is not None and not (
            self._reception.committing or self._dialogue.telling
        ):
            self._waiting.cancel()

    def stop(self) -> None:
        """The server is shutting down: the peer is told as soon as it has nothing under way."""
        self._dialogue.stopping = True
        if not self._busy and not self._dialogue.closing:
            self._rest()

    # -- running ----------------------------------------------------------------------------

    def _run(self, steps: Coroutine[Any, Any, None]) -> None:
        self._busy = True
        run(steps, self._wait, self._ran)

    def _wait(self, awaited: Deferred[Any]) -> None:
        """Whenever there is waiting to be done, the peer gets the replies that are ready."""
        self._waiting = awaited
        self._flush()

    def _ran(self, failure: Failure | None) -> None:
        try:
            if self._waiting is not None:
                # The time that went by was not the peer's to use.
                self._pace.heard_at = self._clock.seconds()
            if failure is None:
                self._rest()
            else:
                self._break_down(failure)
        except Exception:
            self._lose_thread(Failure())  # type: ignore[no-untyped-call]

    def _rest(self) -> None:
        """Nothing is under way; all that was heard is answered."""
        self._busy = False
        self._waiting = None
        if self._gone:
            self._finish()
            return
        dialogue = self._dialogue
        if not dialogue.closing:
            if dialogue.stopping and self._reception.transaction is None:
                dialogue.end(replies.SHUTTING_DOWN, "shutdown")
            elif self._input_ended:
                dialogue.end(None, "the peer ended", linger=False)
        if dialogue.closing:
            self._channel.close(dialogue.linger, dialogue.take_replies())
            return
        dialogue.flush()
        if self._unread:
            self._unread = 0
            self._channel.resume()

    def _break_down(self, failure: Failure) -> None:
        """The peer learns nothing but that it was not its fault."""
        if not (self._gone and isinstance(failure.value, CancelledError)):
            identity = self._dialogue.connection.id
            log.failure("{id}: a mistake of the server", failure=failure, id=identity)
            self._dialogue.end(replies.INTERNAL_ERROR, "internal error")
        self._rest()

    def _lose_thread(self, failure: Failure) -> None:
        log.failure(
            "{id}: a mistake while waiting", failure=failure, id=self._dialogue.connection.id
        )
        self._channel.abort()

    def _flush(self) -> None:
        if not self._gone:
            self._dialogue.flush()

    # -- ending -----------------------------------------------------------------------------

    def _look_at_pace(self) -> None:
        dialogue, now = self._dialogue, self._clock.seconds()
        overdue = self._pace.look(
            now,
            self._octets,
            self._reception.messages.total,
            self._session.is_receiving,
            is_ours=self._busy and not dialogue.resting,
        )
        if overdue is None:
            self._look = self._clock.callLater(self._pace.next_look(now), self._look_at_pace)
        elif dialogue.closing:
            self._channel.abort()
        elif self._busy:  # the peer does not take our replies
            dialogue.end(None, overdue.outcome)
            self._channel.abort()
        else:
            dialogue.end(overdue.reply, overdue.outcome)
            self._rest()

    def _finish(self) -> None:
        run(self._conclude(), lambda _: None, self._finished)

    def _finished(self, failure: Failure | None) -> None:
        if failure is not None:
            self._lose_thread(failure)
        self.ended.callback(None)

    async def _conclude(self) -> None:
        try:
            await self._reception.forget()
        finally:
            await self._chain.disconnected(self._dialogue.connection)
            self._log()

    def _log(self) -> None:
        dialogue, reception = self._dialogue, self._reception
        connection = dialogue.connection
        hello, secured = connection.hello, connection.secured
        log.info(
            "{id} {peer}{by_name}{by_proxy} helo={hello} tls={tls} cipher={cipher} "
            "verified={verified} messages={messages} recipients={recipients} errors={errors} "
            "octets={octets} seconds={seconds:.3f}{early}: {outcome}",
            id=connection.id,
            peer=connection.peer,
            local=connection.local,
            by_name=by_name(connection),
            peer_name=connection.peer_name,
            by_proxy=by_proxy(connection),
            proxied_by=connection.proxied_by,
            xclient_by=connection.xclient_by,
            hello=hello.name if hello is not None else "",
            tls=secured.protocol if secured is not None else "no",
            cipher=secured.cipher if secured is not None else "",
            verified=secured is not None and secured.verified,
            messages=reception.messages,
            recipients=reception.recipients,
            errors=connection.errors,
            octets=self._octets,
            seconds=self._clock.seconds() - self._began,
            early=" early=Y" if connection.early_talker else "",
            outcome=dialogue.outcome,
        )
