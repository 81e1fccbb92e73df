"""
TLS sessions with next hops, kept for the next connection (RFC 5077, RFC 8446 section 2.2).

A resumed session has no certificate that anybody looks at: it is as good as the handshake that made
it. So it is offered only where the same is demanded as then, and what that handshake found is kept
with it.
"""

from collections import OrderedDict

from attrs import frozen
from OpenSSL import SSL

from harakatls.mail.route import NextHop
from harakatls.tls.handshake import Judgement
from harakatls.tls.policy import Decision, SecurityLevel

MOST_SESSIONS = 2000
"""Of some 8 KiB each, with the certificates of the host."""

MOST_OCTETS = 16384
"""Of a session that is kept: a host may make its tickets and its chain as large as it likes."""

MOST_FOR_ONE = 4
"""As many connections to one host at once as find a session each."""

LONGEST_LIFE = 7200.0
"""Seconds since the handshake in which the certificate was looked at."""


@frozen
class SessionKey:
    """All that has to be the same: with whom, and how secure."""

    host: str
    port: int
    server_name: str | None
    reference: str | None
    level: SecurityLevel
    authenticated: bool
    identity: tuple[str, ...]

    @classmethod
    def of(cls, hop: NextHop, decision: Decision) -> "SessionKey":
        return cls(
            hop.host,
            hop.port,
            decision.server_name,
            decision.reference,
            decision.level,
            decision.authenticated,
            decision.identity,
        )


@frozen(eq=False)
class KeptSession:
    """
    @ivar judgement: what the handshake that made it found.
    @ivar expiry: seconds since the epoch.
    """

    session: SSL.Session
    judgement: Judgement
    expiry: float


class Sessions:
    """
    Those of one set of contexts: OpenSSL takes no session back into another context.

    A session is given out once: a ticket of TLS 1.3 is good for one connection (RFC 8446 appendix
    C.4), and after a handshake that failed it is gone. Whoever has used one brings it back, or the
    new one that the host has sent in its place.
    """

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._kept: OrderedDict[SessionKey, list[KeptSession]] = OrderedDict()
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def take(self, key: SessionKey, now: float) -> KeptSession | None:
        """The newest one that is not too old."""
        found = self._kept.pop(key, [])
        self._number -= len(found)
        fresh = [kept for kept in found if kept.expiry > now]
        if not fresh:
            return None
        taken = fresh.pop()
        if fresh:
            self._put(key, fresh)
        return taken

    def keep(self, key: SessionKey, kept: KeptSession) -> None:
        """The hosts not heard of for longest are forgotten, where there are too many."""
        before = self._kept.pop(key, [])
        self._number -= len(before)
        self._put(key, [*before, kept][-MOST_FOR_ONE:])
        while self._number > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._number -= len(oldest)

    def _put(self, key: SessionKey, kept: list[KeptSession]) -> None:
        self._kept[key] = kept
        self._number += len(kept)
