"""Logins of one connection (AUTH, RFC 4954): between the client, the mechanism and the plugins."""

import os
from secrets import token_hex
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from harakatls.connection import Connection
from harakatls.hooks.asking import HookCancelled, HookFailed
from harakatls.hooks.users import Users
from harakatls.inbound import replies
from harakatls.inbound.channel import Channel
from harakatls.inbound.failed_logins import FailedLogins
from harakatls.inbound.settings import InboundSettings
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.events import AuthReceived, ResponseReceived
from harakatls.smtp.reply import Reply
from harakatls.smtp.sasl import encoded
from harakatls.smtp.sasl_server import (
    MECHANISMS,
    NEED_BINDING,
    Challenge,
    LoggedIn,
    LoginDenied,
    LoginMalformed,
    PasswordQuestion,
    SecretQuestion,
    Step,
    Steps,
    Surroundings,
)

log = Logger()

SHOWN_OF_NAME = 100  # characters that the log is told
_KEY = os.urandom(32)  # see Surroundings
_VERIFIED_ONLY = frozenset({"EXTERNAL"})


@frozen
class LoginAnswer:
    """@ivar connection: as it is now, after a good end; else None."""

    reply: Reply
    connection: Connection | None = None


class Authentication:
    """
    One login after the other, until one succeeds.

    Failures are answered late, and the more of them there were the later; so long the next login
    from the same network has to wait.
    """

    __slots__ = (
        "_channel",
        "_clock",
        "_failed",
        "_failures",
        "_mechanism",
        "_settings",
        "_steps",
        "_users",
    )

    def __init__(
        self,
        users: Users,
        channel: Channel,
        clock: IReactorTime,
        settings: InboundSettings,
        failed: FailedLogins,
    ) -> None:
        self._users = users
        self._channel = channel
        self._clock = clock
        self._settings = settings
        self._failed = failed
        self._failures = 0
        self._mechanism = ""
        self._steps: Steps | None = None

    async def offer(self, connection: Connection, offered: Capabilities) -> Capabilities:
        """*offered* with AUTH, where there is anybody to log in with."""
        if not self._users:
            return offered
        if connection.secured is None:
            return offered.adding("AUTH")  # not to be shown, but what is not had is known by it
        names = await self._users.mechanisms(connection)
        if not connection.secured.verified:
            names -= _VERIFIED_ONLY
        if names & NEED_BINDING and (
            # A proxy that speaks by XCLIENT is the other end of the channel, not its client.
            connection.xclient_by is not None or self._channel.binding() is None
        ):
            names -= NEED_BINDING
        chosen = [name for name in MECHANISMS if name in names]
        return offered.adding("AUTH", " ".join(chosen)) if chosen else offered

    async def begin(
        self, connection: Connection, event: AuthReceived, offered: frozenset[str]
    ) -> LoginAnswer:
        """
        AUTH. The answer is a challenge, 334, or the end.

        @param offered: the names of all mechanisms that this client was offered.
        """
        mechanism = MECHANISMS.get(event.mechanism)
        if mechanism is None:  # a plugin has put it into the answer to EHLO
            return LoginAnswer(replies.NO_SUCH_MECHANISM)
        binding_offered = bool(offered & NEED_BINDING)
        around = Surroundings(
            self._settings.me,
            token_hex(),
            _KEY,
            self._channel.binding() if binding_offered else None,
            binding_offered,
        )
        self._mechanism = mechanism.name
        seconds = self._failed.owed(connection.peer.host)
        if seconds:
            await deferLater(self._clock, seconds)
        self._steps = mechanism.steps(event.initial, around)
        return await self._advance(connection, None)

    async def respond(self, connection: Connection, event: ResponseReceived) -> LoginAnswer:
        """The client's answer to the last challenge."""
        return await self._advance(connection, event.response)

    def forget(self) -> None:
        """The login under way, if there is one, has come to nothing."""
        self._steps = None

    def begin_anew(self) -> None:
        """It is another client that speaks from now on."""
        self.forget()
        self._failures = 0

    async def _advance(self, connection: Connection, known: Any) -> LoginAnswer:
        steps, self._steps = self._steps, None
        assert steps is not None, "there is no login under way"
        try:
            step: Step = steps.send(known)
            while not isinstance(step, Challenge):
                step = steps.send(await self._find_out(connection, step))
        except StopIteration as ended:
            return self._succeed(connection, ended.value)
        except LoginMalformed as problem:
            return LoginAnswer(Reply.of(501, "5.5.2", str(problem)))
        except LoginDenied as denied:
            return await self._fail(connection, denied.user)
        except HookCancelled:
            return LoginAnswer(replies.LOGIN_UNAVAILABLE)  # nobody hears it any more
        except HookFailed:
            log.warn(
                "{id} {peer} could not log in by {mechanism}: the users cannot be looked up now",
                id=connection.id,
                peer=connection.peer,
                mechanism=self._mechanism,
            )
            return LoginAnswer(replies.LOGIN_UNAVAILABLE)
        self._steps = steps
        return LoginAnswer(Reply.of(334, None, encoded(step.octets)))

    async def _find_out(self, connection: Connection, step: Step) -> Any:
        users = self._users
        if isinstance(step, PasswordQuestion):
            return await users.password(connection, step.user, step.password)
        if isinstance(step, SecretQuestion):
            return await users.secret(connection, self._mechanism, step.user)
        return await users.certificate(connection)

    def _succeed(self, connection: Connection, login: LoggedIn) -> LoginAnswer:
        self._log("logged in", connection, login.user)
        return LoginAnswer(replies.LOGGED_IN, connection.after_login(login.user, login.password))

    async def _fail(self, connection: Connection, user: str) -> LoginAnswer:
        self._log("failed to log in", connection, user)
        self._failures += 1
        seconds = self._failed.add(connection.peer.host)
        await deferLater(self._clock, seconds)
        if self._failures >= self._settings.max_failed_logins:
            return LoginAnswer(replies.TOO_MANY_FAILED_LOGINS)
        return LoginAnswer(replies.LOGIN_FAILED)

    def _log(self, outcome: str, connection: Connection, user: str) -> None:
        log.info(
            "{id} {peer} {outcome} as {user!r} by {mechanism}",
            id=connection.id,
            peer=connection.peer,
            outcome=outcome,
            user=user[:SHOWN_OF_NAME],
            mechanism=self._mechanism,
        )
