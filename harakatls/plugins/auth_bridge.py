"""Asks the server of smtp_bridge.ini whether a password is right (Haraka's auth/auth_bridge)."""

from collections.abc import Collection

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection
from harakatls.interfaces import BackEndFailed, IBackEnds, IPasswordHook, Site
from harakatls.plugins.bridge import SECTION, BridgeSettings, read_bridge
from harakatls.verdict import ACCEPT, Reject, TempFail, Verdict


def load(site: Site) -> "AuthBridge":
    """From smtp_bridge.ini."""
    assert site.back_ends is not None, "a server has them"
    settings = read_bridge(site.config)
    site.back_ends.prepare(SECTION)
    return AuthBridge(settings, site.back_ends)


@implementer(IPasswordHook)
@frozen
class AuthBridge:
    """Whoever may log in there may do so here."""

    settings: BridgeSettings
    back_ends: IBackEnds

    async def mechanisms(self, connection: Connection) -> Collection[str]:
        """Those that tell us the password."""
        return ("PLAIN", "LOGIN")

    async def password(self, connection: Connection, user: str, password: str) -> Verdict:
        """As the server says; not now, where it does not say."""
        hop = self.settings.hop_for(user, password)
        try:
            right = await self.back_ends.knows(hop, self.settings.options)
        except BackEndFailed:
            return TempFail()
        return ACCEPT if right else Reject()
