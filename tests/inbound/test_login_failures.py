"""Logins that fail, on one connection and on many, and those behind a proxy."""

from typing import Any

from attrs import evolve
from scramp import ScramClient
from twisted.internet.defer import Deferred

from harakatls.config.hosts import HostList
from harakatls.plugins.xclient import XClientOffer
from tests.inbound.support import EHLO, SETTINGS, SUMMARY
from tests.inbound.test_authentication import (
    EXPORTER,
    NO,
    PLAIN,
    WRONG,
    YES,
    LoginCase,
    challenge,
    line,
)
from tests.inbound.users import PASSWORD, Table


class FailureTests(LoginCase):
    def test_later_and_later(self) -> None:
        """Each failure waits twice as long as the one before; the fifth is the last."""
        talk = self.talk(Table("PLAIN"))
        for seconds in (1, 2, 4, 8):
            self.assertEqual(talk.say(b"AUTH PLAIN " + WRONG + b"\r\n"), "")
            talk.clock.advance(seconds - 0.1)
            self.assertEqual(talk.heard(), "")
            talk.clock.advance(0.2)
            self.assertEqual(talk.heard(), NO)
        talk.say(b"AUTH PLAIN " + WRONG + b"\r\n")
        talk.clock.advance(16)
        self.assertEqual(talk.heard(), "421 4.7.0 Too many failed logins\r\n")
        self.assertIsNotNone(talk.channel.closed)

    def test_peer_leaves_meanwhile(self) -> None:
        """Nothing waits for one who has gone."""
        talk = self.talk(Table("PLAIN"))
        talk.say(b"AUTH PLAIN " + WRONG + b"\r\n")
        talk.conversation.leave()
        self.assertEqual(talk.over, [None])
        self.assertEqual(talk.clock.getDelayedCalls(), [])

    def test_hurry(self) -> None:
        """Who does not wait for the answer, but tries on another connection, waits there."""
        users = Table("PLAIN")
        talk = self.talk(users)
        for _ in range(2):  # two others, whose answers wait for 1 and 2 seconds
            talk.conversation._dialogue._authentication._failed.add("192.0.2.10")
        self.assertEqual(talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n"), "")
        talk.clock.advance(1.9)
        self.assertNotIn("password", [asked[0] for asked in users.asked])
        talk.clock.advance(0.2)
        self.assertEqual(talk.heard(), YES)

    def test_leaves_before_its_turn(self) -> None:
        """Nothing waits for one who has gone while it had to wait for others."""
        talk = self.talk(Table("PLAIN"))
        talk.conversation._dialogue._authentication._failed.add("192.0.2.10")
        talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n")
        talk.conversation.leave()
        self.assertEqual((talk.over, talk.clock.getDelayedCalls()), ([None], []))

    def test_peer_leaves_in_between(self) -> None:
        """A login that is half done is forgotten with its connection."""
        asked: Deferred[Any] = Deferred(lambda _: cancelled.append(True))
        cancelled: list[bool] = []
        talk = self.talk(Table("PLAIN", password=asked))
        talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n")
        talk.conversation.leave()
        self.assertEqual((cancelled, talk.over), ([True], [None]))

    def test_unknown_user(self) -> None:
        """It sounds the same as a wrong password, in every mechanism."""
        talk = self.talk(Table("PLAIN", "CRAM-MD5", "SCRAM-SHA-256"))
        talk.say(b"AUTH PLAIN " + line(b"\0ann\0" + PASSWORD.encode()))
        talk.clock.advance(1)
        self.assertEqual(talk.heard(), NO)
        talk.say(b"AUTH CRAM-MD5\r\n")
        talk.say(line(b"ann " + b"0" * 32))
        talk.clock.advance(2)
        self.assertEqual(talk.heard(), NO)
        salts = set()
        for seconds in (4, 8):
            client = ScramClient(["SCRAM-SHA-256"], "ann", PASSWORD)
            first = line(client.get_client_first().encode())
            server_first = challenge(talk.say(b"AUTH SCRAM-SHA-256 " + first)).decode()
            salts.add(server_first.split(",")[1])
            client.set_server_first(server_first)
            talk.say(line(client.get_client_final().encode()))
            talk.clock.advance(seconds)
            self.assertEqual(talk.heard(), NO)
        self.assertEqual(len(salts), 1)

    def test_limit_is_configured(self) -> None:
        """connection.ini [max] failed_logins."""
        talk = self.talk(Table("PLAIN"), settings=evolve(SETTINGS, max_failed_logins=1))
        talk.say(b"AUTH PLAIN " + WRONG + b"\r\n")
        talk.clock.advance(1)
        self.assertEqual(talk.heard()[:3], "421")


class ProxyTests(LoginCase):
    def test_failures_of_another(self) -> None:
        """A client of a proxy is not sent away for the failed logins of the proxy itself."""
        offer = XClientOffer(HostList.parse(["192.0.2.10"]))
        talk = self.talk(Table("PLAIN"), offer, settings=evolve(SETTINGS, max_failed_logins=2))
        said = b"AUTH PLAIN " + WRONG + b"\r\n"
        for first in (b"NOOP\r\n", b"XCLIENT ADDR=203.0.113.9\r\n" + EHLO):
            talk.say(first)
            talk.say(said)
            talk.clock.advance(60)
            self.assertEqual(talk.heard(), NO)

    def test_certificate_of_the_proxy(self) -> None:
        """With the certificate of the proxy its clients cannot log in."""
        offer = XClientOffer(HostList.parse(["192.0.2.10"]))
        summary = evolve(SUMMARY, verified=True, peer_names=("proxy.example",), fingerprint="00")
        talk = self.talk(Table("EXTERNAL", "PLAIN"), offer, summary=summary)
        self.assertIn("AUTH PLAIN EXTERNAL\r\n", self.ehlo)
        talk.say(b"XCLIENT ADDR=203.0.113.9\r\n")
        self.assertIn("AUTH PLAIN\r\n", talk.say(EHLO))
        self.assertEqual(talk.say(b"AUTH EXTERNAL =\r\n")[:9], "504 5.5.4")
        self.assertEqual(talk.conversation._dialogue.connection.secured, SUMMARY)

    def test_channel_of_the_proxy(self) -> None:
        """Clients cannot be bound to it, and one that tried would be refused."""
        offer = XClientOffer(HostList.parse(["192.0.2.10"]))
        talk = self.talk(Table("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"), offer, exporter=EXPORTER)
        self.assertIn("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256\r\n", self.ehlo)
        talk.say(b"XCLIENT ADDR=203.0.113.9\r\n")
        self.assertIn("AUTH SCRAM-SHA-256\r\n", talk.say(EHLO))
