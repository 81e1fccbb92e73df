"""
Who knows users (AUTH, RFC 4954).

The server speaks all mechanisms by itself, inside of TLS alone, says all replies, and slows down
those that guess. A plugin says which mechanisms it can serve, and answers what they need to know:
whether a password is right, what is kept of a user, or whose a certificate is. All plugins that
know users are asked, in the order of config/plugins.
"""

from collections.abc import Collection

from zope.interface import Interface

from harakatls.connection import Connection
from harakatls.smtp.scram import ScramKeys
from harakatls.verdict import Verdict


class IUsersHook(Interface):
    """Knows users. Each plugin that does provides one or more of the three hooks below."""

    async def mechanisms(connection: Connection) -> Collection[str]:
        """
        Asked at EHLO inside of TLS, before all plugins' capabilities.

        @return: of PLAIN, LOGIN (for which `password` is asked), CRAM-MD5, SCRAM-SHA-256,
            SCRAM-SHA-256-PLUS (`secret`) and EXTERNAL (`certificate`) those that this peer may
            use; empty for none. What all plugins name together is offered. PLUS is left out where
            the connection has nothing to bind to.
        """


class IPasswordHook(IUsersHook):
    """Can tell whether a password is right."""

    async def password(connection: Connection, user: str, password: str) -> Verdict:
        """
        @param user: as *password* prepared by SASLprep (RFC 4013); neither is empty.
        @return: Accept where it is right, and Reject where it is wrong; Continue where the user is
            not known here, so that the next plugin is asked; TempFail where it cannot be found out
            now. Replies in them are not used. Continue should take as long as Reject.
        """


class ISecretHook(IUsersHook):
    """Keeps what CRAM-MD5 and SCRAM need to know of a user."""

    async def secret(connection: Connection, mechanism: str, user: str) -> ScramKeys | str | None:
        """
        @param mechanism: CRAM-MD5 or SCRAM-SHA-256, with binding or without.
        @param user: prepared by SASLprep.
        @return: for CRAM-MD5 the password, for SCRAM its keys; None where there is nothing such of
            the user, so that the next plugin is asked. To pretend keys like those of the others
            (`ScramKeys.pretended`) keeps it from a guesser that there is no such user; the next
            plugin is asked nevertheless.
        """


class ICertificateHook(IUsersHook):
    """Knows whose certificate it is (EXTERNAL)."""

    async def certificate(connection: Connection) -> str | None:
        """
        Only asked about a certificate that is verified: see L{TLSSummary}.

        @return: the name of the user; None where it is nobody's, so that the next plugin is asked.
        """
