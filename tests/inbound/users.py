"""Plugins that know users, for tests."""

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from harakatls.interfaces import ICertificateHook, IPasswordHook, ISecretHook
from harakatls.smtp.scram import ScramKeys
from harakatls.verdict import ACCEPT, CONTINUE, Reject, Verdict

PASSWORD = "pencil sharpener"
SALT = b"sixteen octets!!"


@implementer(IPasswordHook, ISecretHook, ICertificateHook)
class Table:
    """
    Knows joe@a.example, whose password is PASSWORD.

    @ivar asked: (method, arguments but the connection), in order.
    @ivar answers: by method, what is answered instead; a Deferred is waited for.
    """

    def __init__(self, *mechanisms: str, **answers: Any) -> None:
        self.names: Collection[str] = mechanisms
        self.asked: list[tuple[Any, ...]] = []
        self.answers = answers

    async def _answer(self, usual: Any, method: str, *arguments: Any) -> Any:
        self.asked.append((method, *arguments))
        answer = self.answers.get(method, usual)
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def mechanisms(self, connection: Any) -> Collection[str]:
        names: Collection[str] = await self._answer(self.names, "mechanisms")
        return names

    async def password(self, connection: Any, user: str, password: str) -> Verdict:
        usual: Verdict = CONTINUE
        if user == "joe@a.example":
            usual = ACCEPT if password == PASSWORD else Reject()
        verdict: Verdict = await self._answer(usual, "password", user, password)
        return verdict

    async def secret(self, connection: Any, mechanism: str, user: str) -> ScramKeys | str | None:
        usual: ScramKeys | str | None = None
        if user == "joe@a.example":
            usual = PASSWORD
            if mechanism != "CRAM-MD5":
                usual = ScramKeys.of(PASSWORD, SALT, 4096)
        secret: ScramKeys | str | None = await self._answer(usual, "secret", mechanism, user)
        return secret

    async def certificate(self, connection: Any) -> str | None:
        user: str | None = await self._answer("joe@a.example", "certificate")
        return user
