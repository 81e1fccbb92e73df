"""Keeps those who have logged in from giving their password away (prevent_credential_leaks)."""

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.interfaces import IMessageHook, IStagedMessage, Site
from harakatls.plugins.contents import Contents
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Reject, Verdict

log = Logger()

LEAK = Reject(
    Reply.of(
        550,
        "5.7.1",
        "Credential leak detected: never give out your username/password to anyone!",
    )
)


def load(site: Site) -> "CredentialLeaks":
    """There is nothing to configure."""
    return CredentialLeaks(Contents(site.call_in_thread))


@implementer(IMessageHook)
@frozen
class CredentialLeaks:
    """
    A message with both the name, with or without its domain, and the password is refused: it is
    the answer to somebody who asked for them.
    """

    contents: Contents

    async def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """Only of those who have logged in so that we have seen the password (PLAIN, LOGIN)."""
        user, password = connection.authenticated_as, connection.password
        if user is None or password is None:
            return CONTINUE
        name = user.partition("@")[0].lower().encode()
        if not await self.contents.ask(message, lambda t: _are_in(name, password.encode(), t)):
            return CONTINUE
        log.warn("{id} {user!r} gives a password away", id=transaction.id, user=user)
        return LEAK


def _are_in(name: bytes, password: bytes, texts: list[bytes]) -> bool:
    return any(_is_in(password, text) and _is_in(name, text.lower()) for text in texts)


def _is_in(word: bytes, text: bytes) -> bool:
    """
    As a word: a password of few letters is not to be found within others.

    A pattern would take thirty times as long, while nobody else is served, and stay in memory.
    """
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not text[max(0, at - 1) : at].isalnum() and not text[end : end + 1].isalnum():
            return True
        at = text.find(word, at + 1)
    return False
