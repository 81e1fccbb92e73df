"""Plugins that know users are asked in order, and none of them can open the door by mistake."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.hooks.asking import HookFailed
from harakatls.hooks.chain import HookChain
from harakatls.hooks.users import Users
from harakatls.smtp.scram import ScramKeys
from harakatls.verdict import ACCEPT, CONTINUE, Disconnect, Reject, TempFail
from tests.hooks.plugins import Everything, RcptOnly, loaded
from tests.plugins.support import connection_from

KEYS = ScramKeys(b"salt", 4096, b"stored", b"server")


class UsersTests(SynchronousTestCase):
    def users(self, *plugins: object) -> Users:
        return HookChain([loaded(plugin) for plugin in plugins], Clock()).users

    def answer(self, asked: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def fails(self, asked: Coroutine[Any, Any, Any]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(asked), HookFailed)

    def test_nobody(self) -> None:
        """Without such a plugin nobody logs in."""

        async def rcpt(*_: object) -> Any:
            return CONTINUE

        users = self.users(RcptOnly(rcpt))
        self.assertFalse(users)
        self.assertFalse(self.answer(users.password(connection_from(), "joe", "x")))
        self.assertIsNone(self.answer(users.secret(connection_from(), "CRAM-MD5", "joe")))
        self.assertIsNone(self.answer(users.certificate(connection_from())))
        self.assertTrue(self.users(Everything()))

    def test_passwords(self) -> None:
        """The first who knows the user decides; who fails, or talks nonsense, stops it."""
        for verdicts, expected in [
            ((CONTINUE, ACCEPT), True),
            ((CONTINUE, CONTINUE), False),
            ((Reject(), ACCEPT), False),
            ((ACCEPT, Reject()), True),
            ((TempFail(), ACCEPT), None),
            ((Disconnect(), ACCEPT), None),
            ((OSError(), ACCEPT), None),
            ((True, ACCEPT), None),
            ((None, ACCEPT), None),
        ]:
            users = self.users(*(Everything(password=verdict) for verdict in verdicts))
            asked = users.password(connection_from(), "joe", "x")
            if expected is None:
                self.fails(asked)
            else:
                self.assertIs(self.answer(asked), expected)
        self.flushLoggedErrors(OSError)

    def test_secrets_of_nobody(self) -> None:
        """Where all pretend, the first is asked for; who knows the user comes before."""
        pretended = [ScramKeys.pretended("joe", octets) for octets in (b"1", b"2")]
        for answers, expected in (
            ((*pretended, None), pretended[0]),
            ((*pretended, KEYS), KEYS),
            ((KEYS, *pretended), KEYS),
        ):
            users = self.users(*(Everything(secret=answer) for answer in answers))
            asked = users.secret(connection_from(), "SCRAM-SHA-256", "joe")
            self.assertEqual(self.answer(asked), expected)

    def test_secrets(self) -> None:
        """The first that has one; what is none stops it."""
        for method, arguments, good, bad in [
            ("secret", ("SCRAM-SHA-256", "joe"), KEYS, b"sesame"),
            ("secret", ("CRAM-MD5", "joe"), "sesame", 7),
            ("certificate", (), "joe", True),
        ]:
            for answers, expected in [
                ((None, good), good),
                ((None, None), None),
                ((bad, good), HookFailed),
                ((OSError(), good), HookFailed),
            ]:
                users = self.users(*(Everything(**{method: answer}) for answer in answers))
                asked = getattr(users, method)(connection_from(), *arguments)
                if expected is HookFailed:
                    self.fails(asked)
                else:
                    self.assertIs(self.answer(asked), expected)
        self.flushLoggedErrors(OSError)

    def test_mechanisms(self) -> None:
        """All together; nonsense names none."""
        for answers, expected in [
            ((("PLAIN",), {"LOGIN"}), {"PLAIN", "LOGIN"}),
            (("PLAIN", ["LOGIN"]), {"LOGIN"}),
            ((None, ["LOGIN", 7]), {"LOGIN"}),
            ((OSError(), ["LOGIN"]), {"LOGIN"}),
        ]:
            users = self.users(*(Everything(mechanisms=answer) for answer in answers))
            self.assertEqual(self.answer(users.mechanisms(connection_from())), expected)
        self.flushLoggedErrors(OSError)
