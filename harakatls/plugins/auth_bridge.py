"""Asks the server of smtp_bridge.ini whether a password is right (Haraka's auth/auth_bridge)."""

from collections.abc import Collection

from attrs import frozen
from zope.interface import implementer

from harakatls.connection import Connection
from harakatls.interfaces import BackEndFailed, IBackEnds, IPasswordHook, Site
from harakatls.plugins.back_end_settings import ready_back_ends
from harakatls.plugins.bridge import SECTION, BridgeSettings, read_bridge
from harakatls.verdict import ACCEPT, Reject, TempFail, Verdict


def load(site: Site) -> "AuthBridge":
    """From smtp_bridge.ini."""
    settings = read_bridge(site.config)
    return AuthBridge(settings, ready_back_ends(site, SECTION))


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
