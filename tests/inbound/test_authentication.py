"""AUTH as a client hears it, with a plugin that knows one user."""

import hmac
from base64 import b64decode, b64encode
from typing import Any

from attrs import evolve
from scramp import ScramClient
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, Disconnect, TempFail
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    MAIL,
    MESSAGE,
    RCPT,
    SETTINGS,
    SUMMARY,
    Talk,
    queued,
)
from tests.inbound.users import PASSWORD, Table

EVERY = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL")
PLAIN = b64encode(b"\0joe@a.example\0" + PASSWORD.encode())
WRONG = b64encode(b"\0joe@a.example\0guess")
YES = "235 2.7.0 Authentication successful\r\n"
NO = "535 5.7.8 Authentication failed\r\n"
EXPORTER = bytes(range(32))


def line(octets: bytes) -> bytes:
    """As a client sends it."""
    return b64encode(octets) + b"\r\n"


def challenge(answer: str) -> bytes:
    """What the server wants to know."""
    assert answer.startswith("334 "), answer
    return b64decode(answer[4:])


class LoginCase(SynchronousTestCase):
    """Clients inside of TLS."""

    def talk(self, *plugins: Any, summary: Any = SUMMARY, exporter: Any = None, **how: Any) -> Talk:
        """After EHLO."""
        settings = how.pop("settings", SETTINGS)
        talk = Talk(*plugins, tls=_TLS(), implicit_tls=True, settings=settings, **how)
        talk.channel.exporter = exporter
        assert talk.channel.handshake is not None
        talk.channel.handshake.callback(summary)
        self.ehlo = talk.say(EHLO)
        return talk

    def logged_in(self, talk: Talk) -> bool:
        """As the hooks see it."""
        return talk.conversation._dialogue.connection.authenticated_as == "joe@a.example"


class _TLS:
    def ready(self) -> bool:
        return True

    def requires(self, connection: Any) -> bool:
        return False


class OfferTests(LoginCase):
    def test_order(self) -> None:
        """All that the plugins name is offered, best first."""
        self.talk(Table("LOGIN", "PLAIN"), Table("SCRAM-SHA-256", "X-OWN"))
        self.assertIn("250 AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n", self.ehlo)

    def test_nobody_knows_users(self) -> None:
        """Without such a plugin, or where it names nothing, there is no AUTH."""
        for plugins in ((), (Table(),), (Table(mechanisms=ValueError("no")),)):
            talk = self.talk(*plugins)
            self.assertNotIn("AUTH", self.ehlo)
            self.assertEqual(talk.codes(b"AUTH PLAIN\r\n"), ["503"])
        self.flushLoggedErrors(ValueError)

    def test_what_the_connection_has(self) -> None:
        """Channel binding needs a channel with a binding, EXTERNAL a verified certificate."""
        self.talk(Table(*EVERY))
        self.assertIn("AUTH SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5\r\n", self.ehlo)
        verified = evolve(SUMMARY, verified=True, fingerprint="00")
        self.talk(Table(*EVERY), summary=verified, exporter=EXPORTER)
        names = "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5 EXTERNAL"
        self.assertIn(f"AUTH {names}\r\n", self.ehlo)

    def test_in_the_clear(self) -> None:
        """Before TLS nothing is offered, asked or taken."""
        users = Table("PLAIN")
        talk = Talk(users)
        self.assertNotIn("AUTH", talk.say(EHLO))
        said = talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n")
        self.assertEqual(said, "538 5.7.11 AUTH needs encryption; use STARTTLS first\r\n")
        self.assertEqual(users.asked, [])

    def test_not_offered(self) -> None:
        """What was not offered to this client is not taken from it."""
        talk = self.talk(Table("SCRAM-SHA-256"))
        self.assertEqual(talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n")[:9], "504 5.5.4")
        self.assertEqual(talk.say(b"AUTH EXTERNAL =\r\n")[:9], "504 5.5.4")


class MechanismTests(LoginCase):
    def test_plain(self) -> None:
        """With and without an initial response."""
        talk = self.talk(Table("PLAIN"))
        self.assertEqual(talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n"), YES)
        self.assertTrue(self.logged_in(talk))
        talk = self.talk(Table("PLAIN"))
        self.assertEqual(talk.say(b"auth plain\r\n"), "334 \r\n")
        self.assertEqual(talk.say(PLAIN + b"\r\n"), YES)
        self.assertTrue(self.logged_in(talk))

    def test_login(self) -> None:
        """The user may come at once or when asked."""
        for first in (b"AUTH LOGIN\r\n", b"AUTH LOGIN " + line(b"joe@a.example")):
            talk = self.talk(Table("LOGIN"))
            answer = talk.say(first)
            if first == b"AUTH LOGIN\r\n":
                self.assertEqual(challenge(answer), b"Username:")
                answer = talk.say(line(b"joe@a.example"))
            self.assertEqual(challenge(answer), b"Password:")
            self.assertEqual(talk.say(line(PASSWORD.encode())), YES)

    def test_cram_md5(self) -> None:
        """A challenge that never comes again, with our name."""
        talk = self.talk(Table("CRAM-MD5"))
        asked = challenge(talk.say(b"AUTH CRAM-MD5\r\n"))
        self.assertRegex(asked, rb"^<[0-9a-f]{32,}@mx\.example>$")
        digest = hmac.new(PASSWORD.encode(), asked, "md5").hexdigest().encode()
        self.assertEqual(talk.say(line(b"joe@a.example " + digest)), YES)
        self.assertEqual(self.talk(Table("CRAM-MD5")).say(b"AUTH CRAM-MD5 =\r\n")[:9], "501 5.5.4")

    def test_scram(self) -> None:
        """Another implementation of the client believes us, and we it."""
        talk = self.talk(Table("SCRAM-SHA-256"))
        client = ScramClient(["SCRAM-SHA-256"], "joe@a.example", PASSWORD)
        first = line(client.get_client_first().encode())
        client.set_server_first(challenge(talk.say(b"AUTH SCRAM-SHA-256 " + first)).decode())
        last = challenge(talk.say(line(client.get_client_final().encode()))).decode()
        client.set_server_final(last)
        self.assertFalse(self.logged_in(talk))
        self.assertEqual(talk.say(b"\r\n"), YES)
        self.assertTrue(self.logged_in(talk))

    def test_external(self) -> None:
        """The certificate says who it is; to be someone else is refused."""
        summary = evolve(SUMMARY, verified=True, fingerprint="00")
        for said in (b"=", b64encode(b"joe@a.example")):
            talk = self.talk(Table("EXTERNAL"), summary=summary)
            self.assertEqual(talk.say(b"AUTH EXTERNAL " + said + b"\r\n"), YES)
            self.assertTrue(self.logged_in(talk))
        talk = self.talk(Table("EXTERNAL"), summary=summary)
        talk.say(b"AUTH EXTERNAL " + line(b"root@a.example"))
        talk.clock.advance(1)
        self.assertEqual(talk.heard(), NO)


class OutcomeTests(LoginCase):
    def test_hooks_are_told(self) -> None:
        """Who has logged in may send to any domain; hooks know as whom, and the trace that."""
        hooks = Everything()
        talk = self.talk(hooks, Table("PLAIN"))
        self.assertEqual(
            talk.codes(b"AUTH PLAIN ", PLAIN, b"\r\n", MAIL, RCPT), ["235", "250", "250"]
        )
        connection = hooks.asked[-1][1][0]
        self.assertEqual(connection.authenticated_as, "joe@a.example")
        self.assertTrue(connection.relaying)
        self.assertEqual(connection.password, PASSWORD)
        self.assertNotIn(PASSWORD, repr(connection))

    def test_submission(self) -> None:
        """Port 587 takes mail from those who have logged in alone, and says so in Received."""
        talk = self.talk(Table("PLAIN"), port=587)
        self.assertEqual(talk.say(MAIL)[:9], "530 5.7.0")
        talk.say(b"AUTH PLAIN ", PLAIN, b"\r\n")
        self.assertEqual(talk.codes(MAIL, RCPT, DATA, MESSAGE, END), ["250", "250", "354", "250"])
        ((_, _, octets),) = queued(talk.spool)
        self.assertIn(b"with ESMTPSA id", octets)

    def test_once(self) -> None:
        """Neither a second time nor within a transaction; another EHLO changes nothing."""
        talk = self.talk(Table("PLAIN"))
        auth = b"AUTH PLAIN " + PLAIN + b"\r\n"
        self.assertEqual(talk.codes(MAIL, auth, b"RSET\r\n", auth), ["250", "503", "250", "235"])
        self.assertEqual(talk.say(auth)[:9], "503 5.5.1")
        talk.say(EHLO)
        self.assertEqual(talk.say(auth)[:9], "503 5.5.1")
        self.assertTrue(self.logged_in(talk))

    def test_back_end_away(self) -> None:
        """Who cannot be asked says neither yes nor no."""
        for answer in (TempFail(Reply.of(450, "4.0.0", "x")), Disconnect(), ValueError("x"), "yes"):
            talk = self.talk(Table("PLAIN", password=answer), Table("PLAIN"))
            said = talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n")
            self.assertEqual(said, "454 4.7.0 Temporary authentication failure, try later\r\n")
            self.assertFalse(self.logged_in(talk))
        for unknown in (ValueError("x"), 7):
            talk = self.talk(Table("CRAM-MD5", secret=unknown))
            talk.say(b"AUTH CRAM-MD5\r\n")
            self.assertEqual(talk.say(line(b"joe@a.example " + b"0" * 32))[:9], "454 4.7.0")
        self.flushLoggedErrors(ValueError)

    def test_next_plugin(self) -> None:
        """Who does not know the user leaves him to the next; a no is a no."""
        second = Table("PLAIN", password=ACCEPT)
        talk = self.talk(Table("PLAIN"), second)
        self.assertEqual(talk.say(b"AUTH PLAIN " + line(b"\0ann\0guess")), YES)
        talk = self.talk(Table("PLAIN"), second)
        talk.say(b"AUTH PLAIN " + WRONG + b"\r\n")
        talk.clock.advance(1)
        self.assertEqual(talk.heard(), NO)


class HostileTests(LoginCase):
    def test_responses(self) -> None:
        """What is no answer ends the login, and nothing else."""
        for answer, reply in [
            (b"*", "501 5.7.0"),
            (b"not base64!", "501 5.5.2"),
            (b"AGpvZQB", "501 5.5.2"),
            (b"=", "501 5.5.2"),
            (b"A" * 12286, "501 5.5.2"),
            (b"A" * 12287, "500 5.5.6"),
            (b"A" * 30000, "500 5.5.6"),
            (b"", "501 5.5.2"),
            (b64encode(b"\0\0"), "501 5.5.2"),
            (b64encode(b"\0joe"), "501 5.5.2"),
            (b64encode(b"\0joe\0"), "501 5.5.2"),
            (b64encode(b"\0\0secret"), "501 5.5.2"),
            (b64encode(b"\0joe\0a\0b"), "501 5.5.2"),
            (b64encode(b"\0" * 500), "501 5.5.2"),
            (b64encode(b"\0jo\xff\0b"), "501 5.5.2"),
            (b"QUIT", "501 5.5.2"),
            (b"\xff\xfe", "501 5.5.2"),
        ]:
            users = Table("PLAIN")
            talk = self.talk(users)
            self.assertEqual(talk.say(b"AUTH PLAIN\r\n"), "334 \r\n")
            self.assertEqual(talk.say(answer + b"\r\n")[:9], reply, answer[:40])
            self.assertNotIn("password", [asked[0] for asked in users.asked])
            self.assertEqual(talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n"), YES, answer[:40])

    def test_initial_responses(self) -> None:
        """The same before there was a challenge."""
        for answer, reply in [
            (b"*", "501 5.5.2"),
            (b"=", "501 5.5.2"),
            (b"AGpv ZQBx", "501 5.5.2"),
            (b"A" * 12275, "501 5.5.2"),
            (b"A" * 12277, "500 5.5.6"),
        ]:
            talk = self.talk(Table("PLAIN"))
            self.assertEqual(talk.say(b"AUTH PLAIN " + answer + b"\r\n")[:9], reply, answer[:40])
            self.assertEqual(talk.say(b"AUTH PLAIN " + PLAIN + b"\r\n"), YES)

    def test_again_and_again(self) -> None:
        """Who never says anything that can be read is sent away like others who do not."""
        talk = self.talk(Table("PLAIN"), settings=evolve(SETTINGS, max_bad_commands=4))
        codes = talk.codes(*[b"AUTH PLAIN AAAA\r\n"] * 3, b"AUTH PLAIN\r\n", b"*\r\n", b"NOOP\r\n")
        self.assertEqual(codes, ["501", "501", "501", "334", "501", "421"])
        self.assertEqual(talk.conversation._dialogue.connection.errors, 5)

    def test_other_commands_stay_short(self) -> None:
        """A line as long as AUTH may be is refused in any other command."""
        talk = self.talk(Table("PLAIN"))
        self.assertEqual(talk.say(b"NOOP " + b"x" * 3000 + b"\r\n")[:9], "500 5.5.2")

    def test_wants_to_be_someone_else(self) -> None:
        """A right password gives nobody the rights of another user."""
        users = Table("PLAIN")
        talk = self.talk(users)
        talk.say(b"AUTH PLAIN " + line(b"root@a.example\0joe@a.example\0" + PASSWORD.encode()))
        talk.clock.advance(1)
        self.assertEqual(talk.heard(), NO)
        self.assertNotIn("password", [asked[0] for asked in users.asked])

    def test_pipelined(self) -> None:
        """What stands behind AUTH is answered in its order, and after it."""
        talk = self.talk(Table("PLAIN"))
        said = talk.codes(b"AUTH PLAIN " + PLAIN + b"\r\n", MAIL, RCPT)
        self.assertEqual(said, ["235", "250", "250"])
        talk = self.talk(Table("LOGIN"))
        # The answers to challenges not yet heard; and MAIL is taken for one of them.
        said = talk.codes(b"AUTH LOGIN\r\n", line(b"joe@a.example"), MAIL, b"NOOP\r\n")
        self.assertEqual(said, ["334", "334", "501", "250"])

    def test_ends_within(self) -> None:
        """A client that goes away, or falls silent, in the middle."""
        talk = self.talk(Table("LOGIN"))
        talk.say(b"AUTH LOGIN\r\n")
        talk.conversation.input_ended()
        self.assertIsNotNone(talk.channel.closed)
        talk = self.talk(Table("LOGIN"))
        talk.say(b"AUTH LOGIN\r\n")
        talk.clock.pump([100, 100, 101])
        self.assertEqual(talk.heard()[:9], "421 4.4.2")


class SecrecyTests(LoginCase):
    def test_nothing_secret_is_logged(self) -> None:
        """Whatever happens to a login, the log hears who it was, and no more."""
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        answers: list[Any] = [None, TempFail(), ValueError("x"), "nonsense", Deferred()]
        for answer in answers:
            given = {} if answer is None else {"password": answer}
            for said in (
                b"AUTH PLAIN " + PLAIN + b"\r\n",
                b"AUTH PLAIN " + line(b"\0ann\0" + PASSWORD.encode()),
                b"AUTH PLAIN " + PLAIN + b"x\r\n",
                b"AUTH PLAIN\r\n" + PLAIN + b"x\r\n",
                b"AUTH LOGIN\r\n" + line(b"ann") + line(PASSWORD.encode()),
                b"AUTH PLAIN\r\n*\r\n" + PLAIN + b"\r\n",
                b"AUTH LOGIN\r\n" + line(PASSWORD.encode()) + b"*\r\n",
            ):
                talk = self.talk(Table("PLAIN", "LOGIN", **given), timeouts=(3.0,))
                talk.say(said)
                talk.clock.pump([1.0] * 10)
                talk.conversation.leave()
        self.flushLoggedErrors(ValueError)
        told = repr(events) + "".join(
            event["log_failure"].getTraceback() for event in events if "log_failure" in event
        )
        self.assertIn("'ann'", told)
        self.assertIn("192.0.2.10:49152 logged in as", " ".join(map(formatEvent, events)))
        self.assertIn(
            "192.0.2.10:49152 failed to log in as 'ann'", " ".join(map(formatEvent, events))
        )
        for secret in (PASSWORD, b64encode(PASSWORD.encode()).decode(), PLAIN.decode()):
            self.assertNotIn(secret, told)
