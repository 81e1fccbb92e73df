"""
Logins that next hops have refused, so that not every message that waits tries them again.

A server that counts bad passwords would lock the account in a minute, and would not open it again
as long as we go on. What is remembered of a login tells it apart from another one, and tells
nothing else: no password, and nothing that one could be guessed by.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from attrs import Factory, define
from twisted.internet.defer import DeferredLock

from harakatls.mail.route import Credentials, NextHop
from harakatls.outbound.dead_hosts import clock_time

FIRST_WAIT = 60.0  # seconds that a login which was refused is left alone, at first
LONGEST_WAIT = 3600.0
MOST_LOGINS = 10_000

_Key = tuple[str, int, bytes]


@define(eq=False)
class _Login:
    """
    @ivar problem: how it was refused; None where it was not, or not lately.
    @ivar at: when, in seconds since the epoch.
    @ivar wait: seconds from then on.
    @ivar works: the server took it the last time.
    """

    problem: str | None = None
    at: float = 0.0
    wait: float = 0.0
    works: bool = False
    turn: DeferredLock = Factory(DeferredLock)


class RefusedLogins:
    """
    By host, port and credentials: other ones are tried at once.

    A host goes by its name, since all its addresses know the same passwords.
    """

    def __init__(
        self, seconds: Callable[[], float], told_of: set[tuple[str, int]] | None = None
    ) -> None:
        """
        @param seconds: the time since the epoch.
        @param told_of: the hosts and ports of which the operator knows that logins are told there
            though their certificate is not verified; None for none.
        """
        self._seconds = seconds
        self._told_of = set() if told_of is None else told_of
        self._secret = os.urandom(32)
        self._logins: OrderedDict[_Key, _Login] = OrderedDict()

    def problem(self, hop: NextHop) -> str | None:
        """Why its login is not tried now; None to try it, or where it wants none."""
        login = self._logins.get(self._key(hop, hop.credentials)) if hop.credentials else None
        if login is None or login.problem is None:
            return None
        until = login.at + login.wait
        if self._seconds() >= until:
            return None
        return (
            f"not asked: it {login.problem} at {clock_time(login.at)}; asked again from"
            f" {clock_time(until)}, after a flush, or with another login"
        )

    @asynccontextmanager
    async def turn(self, hop: NextHop, credentials: Credentials) -> AsyncIterator[None]:
        """
        Log in alone, as long as it is not known to work: the others learn from what becomes of it.
        """
        login = self._login(hop, credentials)
        if login.works:
            yield
            return
        async with login.turn:
            yield

    def refused(self, hop: NextHop, credentials: Credentials, problem: str) -> None:
        """@param problem: what the host did, for those who are told of it."""
        login = self._login(hop, credentials)
        now = self._seconds()
        if login.problem is None:
            login.wait = FIRST_WAIT
        elif now >= login.at + login.wait:
            # Of several that were under way at once the first one counts.
            login.wait = min(2 * login.wait, LONGEST_WAIT)
        login.problem, login.at, login.works = problem, now, False

    def accepted(self, hop: NextHop, credentials: Credentials) -> None:
        """It works."""
        login = self._login(hop, credentials)
        login.problem, login.works = None, True

    def is_news(self, hop: NextHop) -> bool:
        """Nobody was warned of its certificate yet; from now on somebody was."""
        place = hop.name, hop.port
        news = place not in self._told_of
        self._told_of.add(place)
        return news

    def asking_alone(self) -> "RefusedLogins":
        """For one login that is not ours: what becomes of it is known to nobody else."""
        return RefusedLogins(self._seconds, self._told_of)

    def forget(self) -> None:
        """The operator wants all of them to be tried now."""
        for login in self._logins.values():
            login.problem = None

    def _login(self, hop: NextHop, credentials: Credentials) -> _Login:
        key = self._key(hop, credentials)
        login = self._logins.get(key)
        if login is None:
            login = self._logins[key] = _Login()
            if len(self._logins) > MOST_LOGINS:
                self._logins.popitem(last=False)
        return login

    def _key(self, hop: NextHop, credentials: Credentials) -> _Key:
        digest = hashlib.blake2b(key=self._secret)
        for word in (credentials.user, credentials.password, credentials.mechanism or ""):
            digest.update(word.encode() + b"\0")  # which is in none of them
        return hop.name, hop.port, digest.digest()
