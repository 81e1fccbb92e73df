"""Keeps those who have logged in from giving their password away (prevent_credential_leaks)."""

import re

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
        name = _word(user.partition("@")[0], re.IGNORECASE)
        words = name, _word(password)
        if not await self.contents.ask(message, lambda texts: _are_in(words, texts)):
            return CONTINUE
        log.warn("{id} {user!r} gives a password away", id=transaction.id, user=user)
        return LEAK


def _are_in(words: tuple[re.Pattern[bytes], ...], texts: list[bytes]) -> bool:
    return any(all(word.search(text) for word in words) for text in texts)


def _word(text: str, flags: int = 0) -> re.Pattern[bytes]:
    """As a word: a password of few letters is not to be found within others."""
    letters = rb"[A-Za-z0-9]"
    return re.compile(rb"(?<!%b)%b(?!%b)" % (letters, re.escape(text.encode()), letters), flags)
