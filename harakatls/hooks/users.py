"""Asks the plugins that know users (AUTH), in the order of config/plugins."""

from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from harakatls.connection import Connection
from harakatls.hooks.asking import Hook, HookFailed, ask, nonsense
from harakatls.smtp.scram import ScramKeys
from harakatls.verdict import Accept, Continue, Disconnect, Reject, TempFail


class Users:
    """All of them together."""

    def __init__(self, hooks: Mapping[str, tuple[Hook, ...]], clock: IReactorTime) -> None:
        """@param hooks: by stage."""
        self._hooks = hooks
        self._clock = clock

    def __bool__(self) -> bool:
        """There is a plugin to log in with."""
        return bool(self._hooks["mechanisms"])

    async def mechanisms(self, connection: Connection) -> frozenset[str]:
        """What all plugins name together; one that fails names none."""
        names: set[str] = set()
        for hook in self._hooks["mechanisms"]:
            try:
                found = await ask(hook, self._clock, connection)
            except HookFailed:
                continue
            if isinstance(found, Collection) and not isinstance(found, str):
                names.update(name for name in found if isinstance(name, str))
            else:
                nonsense(hook, found, connection)
        return frozenset(names)

    async def password(self, connection: Connection, user: str, password: str) -> bool:
        """
        Whether anybody accepts it, before anybody rejects it: see `IPasswordHook.password`.

        @raise HookFailed: it cannot be found out now.
        """
        for hook in self._hooks["password"]:
            verdict = await ask(hook, self._clock, connection, user, password)
            if isinstance(verdict, (Accept, Reject)):
                return isinstance(verdict, Accept)
            if isinstance(verdict, Continue):
                continue
            if not isinstance(verdict, (TempFail, Disconnect)):
                nonsense(hook, type(verdict), connection)
            raise HookFailed(f"{hook.plugin} at {hook.stage}")
        return False

    async def secret(
        self, connection: Connection, mechanism: str, user: str
    ) -> ScramKeys | str | None:
        """
        As `ISecretHook.secret`.

        @raise HookFailed: it cannot be found out now.
        """
        pretended: ScramKeys | None = None
        for hook in self._hooks["secret"]:
            secret = await self._answer(hook, (ScramKeys, str), connection, mechanism, user)
            if isinstance(secret, ScramKeys) and secret.is_pretended:
                pretended = pretended or secret
            elif secret is not None:
                known: ScramKeys | str = secret
                return known
        return pretended

    async def certificate(self, connection: Connection) -> str | None:
        """
        As `ICertificateHook.certificate`.

        @raise HookFailed: it cannot be found out now.
        """
        for hook in self._hooks["certificate"]:
            user: str | None = await self._answer(hook, (str,), connection)
            if user is not None:
                return user
        return None

    async def _answer(self, hook: Hook, kinds: tuple[type, ...], *arguments: Any) -> Any:
        found = await ask(hook, self._clock, *arguments)
        if found is not None and not isinstance(found, kinds):
            nonsense(hook, type(found), *arguments)  # itself it may be a secret
            raise HookFailed(f"{hook.plugin} at {hook.stage}")
        return found
