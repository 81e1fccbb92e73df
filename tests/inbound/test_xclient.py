"""XCLIENT in a conversation: a client takes the speaker's place."""

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harakatls.config.hosts import HostList
from harakatls.connection import Connection, Endpoint, Hello
from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.replies import TOO_MANY_OF_YOURS
from harakatls.interfaces import IRelayHook
from harakatls.plugins.xclient import XClientOffer
from harakatls.verdict import ACCEPT, Disconnect, Reject
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    ID,
    MAIL,
    MESSAGE,
    QUIT,
    RCPT,
    SETTINGS,
    RefusingTLS,
    Talk,
    queued,
)

XCLIENT = b"XCLIENT ADDR=203.0.113.9 NAME=client.example\r\n"
SPEAKER = Endpoint("192.0.2.10", 49152)


@implementer(IRelayHook)
class SpeakerRelays:
    """The speaker may relay."""

    async def relaying(self, connection: Connection) -> bool:
        """By its address."""
        return connection.peer == SPEAKER


class XClientTests(SynchronousTestCase):
    def talk(self, *plugins: object, **options: Any) -> Talk:
        """A conversation in which XCLIENT is offered, after EHLO."""
        offer = XClientOffer(HostList.parse([SPEAKER.host]))
        talk = Talk(offer, *plugins, **options)
        self.assertIn("XCLIENT NAME ADDR", talk.say(EHLO))
        return talk

    def connection(self, talk: Talk) -> Connection:
        return talk.conversation._dialogue.connection

    def test_greeting(self) -> None:
        """The answer is a banner with a new id, and all hooks are asked as at the start."""
        plugin = Everything()
        talk = self.talk(plugin)
        plugin.asked.clear()
        answer = talk.say(XCLIENT)
        connection = self.connection(talk)
        self.assertRegex(answer, r"^220 mx\.example ESMTP \S+ ready \([0-9A-F]{6}\)\r\n$")
        self.assertIn(connection.id[:6], answer)
        self.assertNotEqual(connection.id, ID)
        self.assertEqual(plugin.stages, ["disconnected", "connect", "relaying"])
        self.assertEqual(plugin.asked[0][1][0].id, ID)
        self.assertEqual(plugin.asked[1][1][0].peer, Endpoint("203.0.113.9", 0))

    def test_everything_told(self) -> None:
        """Each attribute is what hooks are told."""
        plugin = Everything()
        talk = self.talk(plugin)
        talk.say(
            b"XCLIENT ADDR=IPV6:2001:db8::1 PORT=4000 NAME=client.example HELO=c.example "
            b"PROTO=SMTP LOGIN=joe DESTADDR=198.51.100.7 DESTPORT=2525\r\n"
        )
        connection = next(a for stage, (a, *_) in plugin.asked[::-1] if stage == "connect")
        self.assertEqual(connection.peer, Endpoint("2001:db8::1", 4000))
        self.assertEqual(connection.local, Endpoint("198.51.100.7", 2525))
        self.assertEqual(connection.peer_name, "client.example")
        self.assertEqual(connection.hello, Hello("c.example", False))
        self.assertEqual(connection.authenticated_as, "joe")
        self.assertEqual(connection.xclient_by, SPEAKER)

    def test_nothing_is_left(self) -> None:
        """Neither the notes of plugins, nor the right to relay, is inherited."""
        talk = self.talk(SpeakerRelays())
        self.connection(talk).notes["karma"] = 10
        self.assertTrue(self.connection(talk).relaying)
        talk.say(XCLIENT)
        connection = self.connection(talk)
        self.assertEqual((connection.relaying, connection.notes), (False, {}))
        self.assertIsNone(connection.authenticated_as)
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT), ["250", "250", "550"])

    def test_mistakes_are_not_inherited(self) -> None:
        """Nor are errors, early words, and what was asked without giving us a message."""
        peers = PeerLimits(commands_without_message=5)
        talk = self.talk(settings=evolve(SETTINGS, peers=peers))
        talk.conversation._dialogue.talks_early()
        self.assertEqual(talk.codes(b"NONSENSE\r\n", *[b"NOOP\r\n"] * 4), ["500", *["250"] * 4])
        self.assertEqual(self.connection(talk).errors, 1)
        talk.say(XCLIENT)
        connection = self.connection(talk)
        self.assertEqual((connection.errors, connection.early_talker), (0, False))
        self.assertEqual(talk.codes(*[b"NOOP\r\n"] * 5), ["250"] * 5)

    def test_no_pipelining_yet(self) -> None:
        """What the speaker was offered, the client was not: it has to wait for its answers."""
        talk = self.talk()
        talk.say(XCLIENT)
        self.assertFalse(self.connection(talk).early_talker)
        talk.say(EHLO + MAIL)
        self.assertTrue(self.connection(talk).early_talker)

    def test_login_relays(self) -> None:
        """Whom the proxy has authenticated may do what it could after AUTH."""
        talk = self.talk(port=587)
        self.assertEqual(talk.codes(XCLIENT, EHLO, MAIL), ["220", "250", "530"])
        talk = self.talk(port=587)
        codes = talk.codes(b"XCLIENT ADDR=::1 LOGIN=joe\r\n", EHLO, MAIL, RCPT)
        self.assertEqual(codes, ["220", "250", "250", "250"])

    def test_shown(self) -> None:
        """Name and address are in the answer to EHLO and in the Received field."""
        talk = self.talk(Everything(rcpt=ACCEPT))
        talk.say(XCLIENT)
        self.assertIn("mx.example Hello client.example [203.0.113.9], ", talk.say(EHLO))
        talk.say(MAIL, RCPT, DATA, MESSAGE, END)
        ((_, _, message),) = queued(talk.spool)
        self.assertIn(b"from client.example (client.example [203.0.113.9])\r\n", message)
        self.assertIn(f" id {self.connection(talk).id}.1\r\n".encode(), message)
        self.assertNotIn(b"192.0.2.10", message)

    def test_refused(self) -> None:
        """A client that the hooks do not want is refused as if it had come by itself."""
        for verdict, text, closed in (
            (Reject(), "554 ", None),
            (Disconnect(), "421 ", "linger"),
        ):
            plugin = Everything()
            talk = self.talk(plugin)
            plugin.answers["connect"] = verdict
            self.assertEqual(talk.say(XCLIENT)[:4], text)
            self.assertEqual(talk.channel.closed, closed)

    def test_counted(self) -> None:
        """It is counted by the address that was told, and may be one too many."""
        talk = self.talk()
        talk.say(XCLIENT)
        self.assertIn("now from 203.0.113.9", talk.channel.log)
        talk = self.talk()
        talk.channel.refusal = TOO_MANY_OF_YOURS
        self.assertEqual(talk.say(XCLIENT)[:3], "421")
        self.assertEqual(talk.channel.closed, "linger")

    def test_not_allowed(self) -> None:
        """Others cannot even tell whether there is such a command."""
        offer = XClientOffer(HostList.parse(["127.0.0.1"]))
        for plugins in ((), (offer,)):
            talk = Talk(*plugins)
            self.assertNotIn("XCLIENT", talk.say(EHLO))
            self.assertEqual(talk.say(XCLIENT), "550 5.5.0 Not authorized\r\n")
            self.assertEqual(self.connection(talk).peer, SPEAKER)

    def test_in_transaction(self) -> None:
        """XCLIENT within a transaction is refused; after RSET it is taken."""
        talk = self.talk(Everything(rcpt=ACCEPT))
        self.assertEqual(
            talk.say(MAIL, XCLIENT).splitlines()[-1], "503 5.5.0 Mail transaction in progress"
        )
        self.assertEqual(
            talk.codes(RCPT, XCLIENT, b"RSET\r\n", XCLIENT), ["250", "503", "250", "220"]
        )

    def test_tls_required_of_the_client(self) -> None:
        """Whether TLS comes first is asked anew, of whom the speaker speaks for."""
        tls = RefusingTLS()
        talk = self.talk(tls=tls)
        tls.is_required = True
        self.assertEqual(talk.codes(XCLIENT, EHLO, MAIL), ["220", "250", "530"])
        tls.is_required = False
        talk = self.talk(tls=tls)
        self.assertEqual(talk.codes(XCLIENT, EHLO, MAIL), ["220", "250", "250"])

    def test_pipelined(self) -> None:
        """All of it may come in one segment."""
        talk = self.talk(Everything(rcpt=ACCEPT))
        one = XCLIENT + EHLO + MAIL + RCPT + DATA
        self.assertEqual(talk.codes(one), ["220", "250", "250", "250", "354"])
        self.assertEqual(talk.codes(MESSAGE + END, QUIT), ["250", "221"])
        self.assertEqual(len(queued(talk.spool)), 1)

    def test_by_the_client(self) -> None:
        """A client whose words the proxy passes on cannot make itself somebody else."""
        talk = self.talk()
        talk.say(XCLIENT)
        self.assertNotIn("XCLIENT", talk.say(EHLO))
        for before in (b"", MAIL + b"RSET\r\n", EHLO):
            said = talk.say(before, b"XCLIENT ADDR=127.0.0.1 LOGIN=joe\r\n")
            self.assertTrue(said.endswith("550 5.5.0 Not authorized\r\n"), said)
        self.assertEqual(self.connection(talk).peer.host, "203.0.113.9")
        self.assertFalse(self.connection(talk).relaying)
