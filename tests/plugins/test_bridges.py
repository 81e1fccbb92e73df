"""Tests for auth/auth_proxy, auth/auth_bridge and queue/smtp_bridge: clients' logins elsewhere."""

import base64
from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.connection import TLSSummary
from harakatls.interfaces import IPasswordHook, IQueueHook
from harakatls.plugins import auth_bridge, auth_proxy, smtp_bridge
from harakatls.testing.network import PretendedTLS
from harakatls.testing.peers import BREAK_OFF, ObligingPeer
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Reject, TempFail, Verdict
from tests.plugins.back_ends import FIRST, SECOND, BackEndCase
from tests.plugins.support import (
    Message,
    connection_from,
    recipient,
    result_of,
    site_of,
    staged,
    transaction_for,
)

YES, NO, LATER = "235 2.7.0 Welcome", "535 5.7.8 Wrong", "454 4.7.0 Later"
PROXY = "auth_without_tls=true\n[domains]\na.example=back1.example:2525, back2.example\n"
BRIDGE = "host=back1.example\nport=2525\nauth_without_tls=true\n"
USER, PASSWORD = "bob@a.example", "s3cret"


def plain(user: str, password: str = PASSWORD) -> str:
    """What is said to log in."""
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def knowing(*answers: str) -> ObligingPeer:
    """A server that gives these answers to AUTH."""
    return ObligingPeer("AUTH PLAIN", AUTH=list(answers))


class AuthProxyTests(BackEndCase):
    def password(self, user: str = USER, ini: str = PROXY) -> Verdict:
        plugin = auth_proxy.load(self.site(auth_proxy=ini))
        verifyObject(IPasswordHook, plugin)
        return self.ask(plugin.password(connection_from(), user, PASSWORD))

    def test_right(self) -> None:
        """The server of the domain says yes; it is left at once."""
        peer = knowing(YES)
        self.serve(FIRST, peer)
        self.assertIs(self.password(), ACCEPT)
        self.assertEqual(peer.commands[1:], [plain(USER), "QUIT"])
        self.assertEqual(self.network.attempts, [(FIRST, 2525)])

    def test_without_its_domain(self) -> None:
        """A server that does not know the whole name is asked for the first part of it."""
        peers = knowing(NO), knowing(YES)
        self.serve(FIRST, *peers)
        self.assertIs(self.password(), ACCEPT)
        said = [next(line for line in peer.commands if "AUTH" in line) for peer in peers]
        self.assertEqual(said, [plain(USER), plain("bob")])

    def test_wrong(self) -> None:
        """No server but the first that is there is asked: all know the same."""
        self.serve(FIRST, knowing(NO), knowing(NO))
        self.assertEqual(self.password(), Reject())
        self.assertEqual({host for host, _ in self.network.attempts}, {FIRST})

    def test_nothing_is_remembered(self) -> None:
        """A wrong password does not keep the right one, or itself, from being asked about."""
        plugin = auth_proxy.load(self.site(auth_proxy=PROXY))
        for answer, verdict in ((NO, Reject()), (NO, Reject()), (YES, ACCEPT)):
            self.serve(FIRST, knowing(answer), knowing(answer))
            asked = plugin.password(connection_from(), USER, PASSWORD)
            self.assertEqual(self.ask(asked), verdict)

    def test_next_server(self) -> None:
        """One that is gone, or cannot say, leaves it to the next; and in the end to later."""
        self.serve(FIRST, ObligingPeer(connect=BREAK_OFF))
        self.serve(SECOND, knowing(YES))
        self.assertIs(self.password(), ACCEPT)
        self.serve(FIRST, knowing(LATER))
        self.serve(SECOND, ObligingPeer())  # without AUTH
        self.assertEqual(self.password(), TempFail())

    def test_others(self) -> None:
        """Other domains, and names without one, are for other plugins."""
        for user in ("bob", "bob@b.example", "bob@", "@a.example", "bob@.."):
            self.assertIs(self.password(user), CONTINUE)
        self.assertEqual(self.network.attempts, [])

    def test_not_in_the_clear(self) -> None:
        """Without TLS no server hears a password, unless the operator says so."""
        peer = knowing(YES)
        self.serve(FIRST, peer)
        self.assertEqual(self.password(ini=PROXY.partition("\n")[2]), TempFail())
        self.assertNotIn("AUTH", " ".join(peer.commands))

    def test_mechanisms(self) -> None:
        """Without domains nothing is offered."""
        for ini, offered in ((PROXY, ("PLAIN", "LOGIN")), ("", ())):
            plugin = auth_proxy.load(self.site(auth_proxy=ini))
            self.assertEqual(result_of(self, plugin.mechanisms(connection_from())), offered)

    def test_secrets(self) -> None:
        """No password is in the log, whatever a server says."""
        self.serve(FIRST, knowing(f"535 5.7.8 {PASSWORD} is wrong"), knowing(NO))
        with capturedLogs() as events:
            self.password()
        told = " ".join(f"{formatEvent(event)} {event!r}" for event in events)
        self.assertIn("535", told)
        self.assertNotIn(PASSWORD, told)

    def test_mistakes(self) -> None:
        """Each is told with the file, the section and the key."""
        for line, words in (
            ("a..b=x\n", ("a..b", "is not a domain")),
            ("a.example=\n", ("a.example", "names no server", "host:port")),
            ("a.example=x:99999\n", ("a.example",)),
            ("a.example=smtp://u:p@x\n", ("a.example", "only a client")),
            ("a.example=x\nA.example=y\n", ("A.example", "twice")),
        ):
            with self.assertRaises(ConfigError) as caught:
                auth_proxy.load(self.site(auth_proxy=f"[domains]\n{line}"))
            for word in ("auth_proxy.ini", "[domains]", *words):
                self.assertIn(word, str(caught.exception))


class AuthBridgeTests(BackEndCase):
    def test_a_certificate_that_is_not_valid(self) -> None:
        """The operator hears of it once, not at each login of anybody."""
        plugin = auth_bridge.load(self.site(smtp_bridge=BRIDGE))
        pretended: Any = PretendedTLS(TLSSummary("TLSv1.3", "X", 256, verify_error="expired"))
        pretended.settings = self.back_ends._tls["smtp_bridge"]
        self.back_ends._clients["smtp_bridge"] = pretended
        users = ("bob@a.example", "amy@a.example", "bob@a.example")
        self.serve(FIRST, *(ObligingPeer("STARTTLS", "AUTH PLAIN", AUTH=YES) for _ in users))
        with capturedLogs() as events:
            for user in users:
                asked = plugin.password(connection_from(), user, PASSWORD)
                self.assertEqual(self.ask(asked), ACCEPT)
        told = [event for event in events if "could read it" in (formatEvent(event) or "")]
        self.assertEqual(len(told), 1)

    def test_answers(self) -> None:
        """The one server decides, and has the name as the client said it."""
        for answer, verdict in ((YES, ACCEPT), (NO, Reject()), (LATER, TempFail())):
            plugin = auth_bridge.load(self.site(smtp_bridge=BRIDGE))
            verifyObject(IPasswordHook, plugin)
            peer = knowing(answer)
            self.serve(FIRST, peer)
            asked = plugin.password(connection_from(), USER, PASSWORD)
            self.assertEqual(self.ask(asked), verdict)
            self.assertIn(plain(USER), peer.commands)
        offered = result_of(self, plugin.mechanisms(connection_from()))
        self.assertEqual(offered, ("PLAIN", "LOGIN"))

    def test_settings(self) -> None:
        """Mistakes are told, and what has no effect is warned of."""
        for ini, words in (
            ("host=a b\n", ("smtp_bridge.ini", "host", "'a b'")),
            ("host=x:25\n", ("smtp_bridge.ini", "host", "'x:25'")),
            ("port=0\n", ("smtp_bridge.ini", "port", "'0'")),
            ("auth_type=GSSAPI\n", ("smtp_bridge.ini", "auth_type", "'GSSAPI'", "CRAM-MD5")),
        ):
            with self.assertRaises(ConfigError) as caught:
                auth_bridge.load(self.site(smtp_bridge=ini))
            for word in words:
                self.assertIn(word, str(caught.exception))
        site = self.site(smtp_bridge="host=::1\nauth_type=login\npriority=5\n")
        settings = auth_bridge.load(site).settings
        self.assertEqual((settings.hop.host, settings.mechanism), ("::1", "LOGIN"))
        self.assertIn("priority", site.config.warnings[0])


class SMTPBridgeTests(BackEndCase):
    def queue(self, *answers: str, user: str | None = USER, **others: Any) -> Verdict:
        plugin = smtp_bridge.load(self.site(smtp_bridge=BRIDGE))
        verifyObject(IQueueHook, plugin)
        connection = connection_from()
        if user is not None:
            connection = connection.after_login(user, PASSWORD)
        self.peer = ObligingPeer("AUTH PLAIN", "SIZE 1000", AUTH=list(answers), **others)
        self.serve(FIRST, self.peer)
        self.message = Message()
        transaction = transaction_for("eve@world.example", "amy@world.example", relaying=True)
        return self.ask(plugin.queue(connection, transaction, staged(self.message)))

    def test_taken(self) -> None:
        """The message goes on with the client's own login; nothing is queued here."""
        verdict = self.queue(YES, end="250 2.0.0 Queued as 42")
        assert isinstance(verdict, Accept)
        self.assertEqual(str(verdict.reply), "250 2.0.0 Queued as 42")
        self.assertEqual(len(verdict.handed_on), 2)
        self.assertIn(plain(USER), self.peer.commands)
        self.assertEqual(self.peer.messages, [self.message.content])
        self.assertEqual(self.message.committed, [])

    def test_refused(self) -> None:
        """What the server refuses is refused; what it cannot do now the client tries again."""
        verdict = self.queue(YES, RCPT="550 5.1.1 Nobody")
        assert isinstance(verdict, Reject)
        self.assertEqual(str(verdict.reply), "550 5.1.1 Nobody")
        self.setUp()  # without the connection that was kept
        verdict = self.queue(LATER)
        assert isinstance(verdict, TempFail) and verdict.reply is not None
        self.assertEqual(verdict.reply.code // 100, 4)
        self.assertEqual(self.message.committed, [])

    def test_others(self) -> None:
        """Mail of those whose password we have not seen is for the other plugins."""
        self.assertIs(self.queue(YES, user=None), CONTINUE)
        connection = evolve(connection_from(), authenticated_as=USER)
        plugin = smtp_bridge.load(evolve(site_of(self, {}), back_ends=self.back_ends))
        transaction = transaction_for(str(recipient("eve@world.example").address))
        asked = plugin.queue(connection, transaction, staged(Message()))
        self.assertIs(self.ask(asked), CONTINUE)
