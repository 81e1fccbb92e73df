"""Tests for harakatls.plugins.contents, signatures and credential_leaks."""

import base64
import quopri
import re

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.connection import Connection
from harakatls.interfaces import IMessageHook
from harakatls.plugins import credential_leaks, signatures
from harakatls.plugins.contents import (
    AT_A_TIME,
    LOOKED_INTO,
    MOST_MULTIPARTS,
    Contents,
    decoded_parts,
)
from harakatls.verdict import CONTINUE, Verdict
from tests.plugins.support import (
    Message,
    call_here,
    connection_from,
    result_of,
    site_of,
    staged,
    transaction_for,
)

WORDS = "Buy now: cheap pills, naïve offers"
PLAIN = f"Subject: x\r\n\r\n{WORDS}\r\n".encode()
BASE64 = b"Content-Transfer-Encoding: BASE64\r\n\r\n" + base64.encodebytes(WORDS.encode())
QUOTED = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quopri.encodestring(
    WORDS.encode()
)
MULTIPART = (
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n'
    + BASE64
    + b"\r\n--b--\r\n"
)
# Parts within parts, deeper than any stack.
DEEP = b"".join(
    b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(3000)
)


class PartsTests(SynchronousTestCase):
    def test_encodings(self) -> None:
        """What an encoding hides is found, wherever the part is."""
        for message in (BASE64, QUOTED, MULTIPART):
            (part,) = decoded_parts(message)
            self.assertIn(WORDS.encode(), part)
        self.assertEqual(list(decoded_parts(PLAIN)), [])

    def test_hostile(self) -> None:
        """Nothing that a peer sends ends in an exception."""
        for message in (
            b"",
            b"\0" * 100,
            DEEP,
            b"Content-Transfer-Encoding: base64\r\n\r\n!!!!=",
            b"Content-Type: multipart/mixed\r\n\r\n--\r\n",
            b"Content-Transfer-Encoding: =?x?q?\xff?=\r\n\r\nx",
            b"Content-Type: text/plain; charset*=nonsense''%zz\r\n\r\nx",
        ):
            list(decoded_parts(message))

    def test_bounded(self) -> None:
        """A message that is made to be costly is looked at as it came alone."""
        costly = MULTIPART.replace(b"Hello", b"multipart/x\r\n" * (MOST_MULTIPARTS + 1))
        self.assertEqual(list(decoded_parts(costly)), [])
        late = b"\r\n" * (LOOKED_INTO // 2)
        (part,) = decoded_parts(BASE64 + late + base64.encodebytes(b"too late"))
        self.assertEqual(part, WORDS.encode())

    def test_few_at_a_time(self) -> None:
        """Messages wait for their turn, so that memory is bounded; one that fails gives it back."""
        running: list[Deferred[None]] = []

        def in_thread(question: object) -> Deferred[None]:
            running.append(Deferred())
            return running[-1]

        contents = Contents(in_thread)
        asked = [
            Deferred.fromCoroutine(contents.ask(staged(Message()), len))
            for _ in range(AT_A_TIME + 1)
        ]
        self.assertEqual(len(running), AT_A_TIME)
        running[0].errback(OSError("gone"))
        self.failureResultOf(asked[0], OSError)
        self.assertEqual(len(running), AT_A_TIME + 1)
        for each in running[1:]:
            each.callback(None)

    def test_who_gives_up(self) -> None:
        """His message is in memory until the thread is done with it, and has its turn till then."""
        running: list[Deferred[None]] = []

        def in_thread(question: object) -> Deferred[None]:
            running.append(Deferred())
            return running[-1]

        contents = Contents(in_thread)
        asked = [
            Deferred.fromCoroutine(contents.ask(staged(Message()), len))
            for _ in range(AT_A_TIME + 1)
        ]
        asked[0].cancel()
        self.failureResultOf(asked[0])
        self.assertEqual(len(running), AT_A_TIME)
        running[0].callback(None)
        self.assertEqual(len(running), AT_A_TIME + 1)


class SignaturesTests(SynchronousTestCase):
    def verdict(self, lines: str, content: bytes) -> Verdict:
        plugin = signatures.load(site_of(self, {"data.signatures": lines}))
        verifyObject(IMessageHook, plugin)
        message = staged(Message(content, step=10))
        return result_of(self, plugin.message(connection_from(), transaction_for(), message))

    def test_found(self) -> None:
        """In the body, the header, or behind an encoding, and across what is read at once."""
        lines = "# words\nno such thing\ncheap pills, naïve\n"
        for content in (PLAIN, BASE64, QUOTED, MULTIPART, b"X: cheap pills, na\xc3\xafve\r\n\r\n"):
            self.assertIs(self.verdict(lines, content), signatures.KNOWN)

    def test_not_found(self) -> None:
        """All other mail goes on, and without signatures nothing is even read."""
        self.assertIs(self.verdict("CHEAP pills\n", PLAIN), CONTINUE)
        message = Message()
        plugin = signatures.load(site_of(self, {}))
        asked = plugin.message(connection_from(), transaction_for(), staged(message))
        self.assertIs(result_of(self, asked), CONTINUE)
        self.assertEqual(message.opened, [])


class CredentialLeaksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.plugin = credential_leaks.CredentialLeaks(Contents(call_here))

    def verdict(self, connection: Connection, content: bytes) -> Verdict:
        message = staged(Message(content))
        return result_of(self, self.plugin.message(connection, transaction_for(), message))

    def test_leaks(self) -> None:
        """Both are in it, in whatever order and encoding; the name may lack its domain."""
        verifyObject(IMessageHook, self.plugin)
        connection = connection_from().after_login("matt@example.com", "s3cret+")
        for text in (b"I am Matt, s3cret+", b"s3cret+ for matt@example.com", b"matt:s3cret+."):
            for content in (
                b"\r\n" + text,
                b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(text),
            ):
                with capturedLogs() as events:
                    verdict = self.verdict(connection, content)
                self.assertIs(verdict, credential_leaks.LEAK, text)
                told = " ".join(str(formatEvent(e)) + repr(e) for e in events)
                self.assertNotIn("s3cret", told + repr(connection))

    def test_edges(self) -> None:
        """At the start, at the end, and behind one that was part of another word."""
        connection = connection_from().after_login("matt", "let")
        for text in (b"let xmatt matt", b"matt:let", b"lets let MATT"):
            self.assertIs(self.verdict(connection, text), credential_leaks.LEAK, text)

    def test_password_is_not_kept(self) -> None:
        """It is not left behind where patterns are kept."""
        connection = connection_from().after_login("matt", "s3cret-of-matt")
        self.verdict(connection, b"matt s3cret-of-matt")
        self.assertNotIn("s3cret", repr(vars(re).values()))

    def test_others(self) -> None:
        """One alone, parts of other words, or a client that has not logged in: the mail goes on."""
        connection = connection_from().after_login("matt", "let")
        for text in (b"matt was here", b"let us go", b"formatted letters for matt"):
            self.assertIs(self.verdict(connection, b"\r\n" + text), CONTINUE, text)
        for stranger in (connection_from(), connection_from().after_login("matt", None)):
            self.assertIs(self.verdict(stranger, b"\r\nmatt let"), CONTINUE)
