"""Logging in to a next hop: with TLS, with its best mechanism, or not at all."""

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from attrs import evolve
from scramp import ScramMechanism
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from harakatls.mail.route import Credentials, NextHop
from harakatls.outbound.connector import Opened, Unusable
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Attempt
from harakatls.smtp.sasl import encoded
from harakatls.spool.codec import encode
from harakatls.testing.peers import Answer, ObligingPeer
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase

BOB = Credentials("bob", "s3cret")
HOP = NextHop(FIRST, DOMAIN, mx_name="mx1.example", source="route", credentials=BOB)
RESPONSE = encoded(b"\0bob\0s3cret")
PLAIN = f"AUTH PLAIN {RESPONSE}"
OFFERED = ("PIPELINING", "STARTTLS", "AUTH PLAIN LOGIN")
MANUAL = Path(__file__).parents[2] / "docs" / "outbound.rst"


class LoginPeer(ObligingPeer):
    """
    Knows bob's password.

    @ivar answers: what to say to the lines of a login, in order; then 235.
    """

    def __init__(self, *extensions: str, login: tuple[Answer, ...] = (), **answers: Any) -> None:
        super().__init__(*(extensions or OFFERED), **answers)
        self.login = list(login)

    def answer(self, command: str) -> Answer:
        """As `ScriptedPeer.answer`."""
        verb = command.split(" ")[0].upper()
        if verb == "AUTH" or (command and verb not in _VERBS):
            return self.login.pop(0) if self.login else "235 2.7.0 Welcome"
        return super().answer(command)


_VERBS = {"EHLO", "LHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT"}


class ScramPeer(LoginPeer):
    """Speaks SCRAM-SHA-256."""

    def __init__(self, password: str = BOB.password) -> None:
        super().__init__("STARTTLS", "AUTH PLAIN SCRAM-SHA-256")
        mechanism = ScramMechanism("SCRAM-SHA-256")
        known = mechanism.make_auth_info(password)
        self._server = mechanism.make_server(lambda user: known)
        self._steps = [self._first, self._final, lambda _: "235 2.7.0 Welcome"]

    def answer(self, command: str) -> Answer:
        """As `ScriptedPeer.answer`."""
        verb = command.split(" ")[0].upper()
        if verb == "AUTH" or verb not in {"", *_VERBS} or (not command and len(self.said) > 1):
            return self._steps.pop(0)(command.rpartition(" ")[2])
        return super().answer(command)

    def _first(self, text: str) -> str:
        self._server.set_client_first(decoded(text))
        return f"334 {encoded(self._server.get_server_first().encode())}"

    def _final(self, text: str) -> str:
        try:
            self._server.set_client_final(decoded(text))
        except Exception:
            return "535 5.7.8 Authentication failed"
        return f"334 {encoded(self._server.get_server_final().encode())}"


def decoded(text: str) -> str:
    """From base64."""
    return b64decode(text).decode()


class LoginTests(DeliveryTestCase):
    def open(self, peer: ObligingPeer, hop: NextHop = HOP) -> Opened | Unusable:
        self.network.serve(FIRST, peer)
        running = Deferred.fromCoroutine(self.connector().open(hop, 0))
        self.network.flush()
        return self.successResultOf(running)

    def refused(self, peer: ObligingPeer, hop: NextHop = HOP) -> str:
        unusable = self.open(peer, hop)
        assert isinstance(unusable, Unusable), unusable
        self.assertTrue(unusable.reply.is_transient)
        self.assertNotIn("s3cret", str(unusable.reply))
        return str(unusable.reply)

    def lines(self, peer: ObligingPeer) -> list[str]:
        return [said.line for said in peer.said]

    def test_plain(self) -> None:
        """Inside of TLS, behind its EHLO."""
        peer = LoginPeer()
        self.assertIsInstance(self.open(peer), Opened)
        self.assertEqual(
            [(said.line, said.secured) for said in peer.said],
            [
                ("EHLO mta.example", False),
                ("STARTTLS", False),
                ("EHLO mta.example", True),
                (PLAIN, True),
            ],
        )

    def test_scram(self) -> None:
        """The best of what is offered; the password is never said."""
        peer = ScramPeer()
        self.assertIsInstance(self.open(peer), Opened)
        self.assertIn("AUTH SCRAM-SHA-256", self.lines(peer)[3])
        self.assertNotIn(encoded(b"s3cret"), " ".join(self.lines(peer)))

    def test_scram_with_a_wrong_password(self) -> None:
        """The server does not know us; nor do we get to its proof."""
        told = self.refused(ScramPeer("another"))
        self.assertIn("mx1.example refused our login with SCRAM-SHA-256: 535", told)

    def test_login(self) -> None:
        """Two questions, two answers."""
        peer = LoginPeer("STARTTLS", "AUTH LOGIN", login=("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"))
        self.assertIsInstance(self.open(peer), Opened)
        self.assertEqual(self.lines(peer)[3:], ["AUTH LOGIN", "Ym9i", encoded(b"s3cret")])

    def test_no_credentials(self) -> None:
        """Who wants no login gets none, whatever is offered."""
        peer = LoginPeer()
        self.assertIsInstance(self.open(peer, evolve(HOP, credentials=None)), Opened)
        self.assertNotIn("AUTH", " ".join(self.lines(peer)))

    def test_not_in_the_clear(self) -> None:
        """Without TLS the password stays here, and so does the mail."""
        peer = LoginPeer("AUTH PLAIN")
        told = self.refused(peer)
        self.assertEqual(told, "451 4.7.11 mx1.example is not told our password without TLS")
        self.assertEqual(self.lines(peer), ["EHLO mta.example", "QUIT"])

    def test_in_the_clear_where_the_operator_says_so(self) -> None:
        """For a server on the same machine."""
        peer = LoginPeer("AUTH PLAIN")
        hop = evolve(HOP, credentials=evolve(BOB, without_tls=True))
        self.assertIsInstance(self.open(peer, hop), Opened)
        self.assertEqual(self.lines(peer)[1], PLAIN)

    def test_auth_type(self) -> None:
        """The mechanism that the operator names, or none."""
        peer = LoginPeer(login=("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"))
        self.assertIsInstance(self.open(peer, self.with_mechanism("LOGIN")), Opened)
        self.assertEqual(self.lines(peer)[3], "AUTH LOGIN")
        told = self.refused(LoginPeer(), self.with_mechanism("CRAM-MD5"))
        self.assertIn("offers no AUTH that we may use (CRAM-MD5)", told)

    def with_mechanism(self, name: str) -> NextHop:
        return evolve(HOP, credentials=evolve(BOB, mechanism=name))

    def test_no_auth_offered(self) -> None:
        """Mail that was to go with a login does not go without."""
        self.assertIn("offers no AUTH", self.refused(LoginPeer("STARTTLS")))

    def test_a_wrong_password(self) -> None:
        """5yz delays: it is the operator's mistake. What the server repeats of it is hidden."""
        said = f"535 5.7.8 bob/s3cret ({encoded(b's3cret')}) is unknown here"
        with capturedLogs() as events:
            told = self.refused(LoginPeer(login=(said,)))
        self.assertIn("451 4.7.8 mx1.example refused our login with PLAIN: 535 5.7.8 .../...", told)
        logged = " ".join(str(formatEvent(event)) for event in events)
        self.assertIn("refused our user name or password", logged)
        for secret in ("s3cret", "bob", encoded(b"s3cret")):
            self.assertNotIn(secret, logged + told)

    def test_what_is_repeated(self) -> None:
        """What a server repeats of a login gets into no log, and to no sender."""
        steps = "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"
        for extension, login in (
            ("AUTH PLAIN", (f"535 5.7.8 Wrong: {PLAIN}",)),
            ("AUTH PLAIN", (f"454 4.7.0 Not now: {PLAIN}",)),
            ("AUTH LOGIN", (*steps, f"535 5.7.8 Wrong: {encoded(b's3cret')}")),
        ):
            self.setUp()
            with capturedLogs() as events:
                told = self.refused(LoginPeer("STARTTLS", extension, login=login))
            told += "".join(formatEvent(event) for event in events)
            for secret in (RESPONSE, encoded(b"s3cret"), "s3cret"):
                self.assertNotIn(secret, told)
            self.assertIn("...", told)

    def test_a_passing_failure(self) -> None:
        """454: the server cannot look passwords up just now."""
        told = self.refused(LoginPeer(login=("454 4.7.0 Database is down",)))
        self.assertIn("does not take our login now: 454 4.7.0 Database is down", told)

    def test_bad_challenges(self) -> None:
        """They are answered with ``*`` (RFC 4954 section 4), and nothing is sent."""
        for login in (("334 ???",), ("334 ",) * 50, ("334 " + "A" * 6000,)[:1]):
            peer = LoginPeer("STARTTLS", "AUTH CRAM-MD5", login=login)
            opened = self.open(peer)
            assert isinstance(opened, Unusable)
            self.assertTrue(opened.reply.is_transient)
            self.assertNotIn("MAIL", " ".join(self.lines(peer)))
            self.assertLessEqual(len(self.lines(peer)), 8)

    def test_a_long_password(self) -> None:
        """A command line has 512 octets: the rest goes behind a 334 (RFC 4954 section 4)."""
        peer = LoginPeer(login=("334 ",))
        hop = evolve(HOP, credentials=Credentials("bob" * 80, "p" * 250))
        self.assertIsInstance(self.open(peer, hop), Opened)
        self.assertEqual(self.lines(peer)[3], "AUTH PLAIN")
        self.assertEqual(self.lines(peer)[4], encoded(b"\0" + b"bob" * 80 + b"\0" + b"p" * 250))

    def test_silence(self) -> None:
        """A server that says nothing to AUTH is left."""
        peer = LoginPeer()
        peer.login = [""]
        self.network.serve(FIRST, peer)
        running = Deferred.fromCoroutine(self.connector().open(HOP, 0))
        self.network.flush()
        self.pass_time(301)
        opened = self.successResultOf(running)
        assert isinstance(opened, Unusable)
        self.assertIn("no answer within 300 seconds", str(opened.reply))


class NothingIsShownTests(DeliveryTestCase):
    """A password is in the configuration and on the wire, and nowhere else."""

    def test_repr(self) -> None:
        """Not in a traceback, not in an event of the log."""
        for value in (BOB, HOP):
            self.assertNotIn("s3cret", repr(value) + str(value))
            self.assertNotIn("bob", repr(value))

    def test_history(self) -> None:
        """Not in what is kept of an attempt, nor in what is logged of it."""
        self.hops = (HOP,)
        self.serve(LoginPeer(login=("535 5.7.8 No s3cret",)))
        queued = queued_message()
        with capturedLogs() as events:
            result = self.attempt(queued)
        kept = encode(queued.after_attempt(result.outcomes, _attempt(result), 1.0))
        self.assertIn("4.7.8 mx1.example refused our login", self.only(result))
        self.assertIn("refused our login", kept)
        for secret in ("s3cret", "bob:", RESPONSE):
            self.assertNotIn(secret, kept + repr(events) + repr(result))

    def test_the_next_host(self) -> None:
        """A login that fails at one host is tried at the other one; then mail goes."""
        second = evolve(HOP, host="192.0.2.2", mx_name="mx2.example")
        self.hops = (HOP, second)
        peer = LoginPeer()
        self.serve(LoginPeer(login=("535 5.7.8 No",)), peer)
        self.assertIn("delivered", self.only(self.attempt()))
        self.assertEqual(len(peer.messages), 1)


class LogTests(DeliveryTestCase):
    """The line of a delivery, as Haraka's ``auth=Y``."""

    def line(self, peer: ObligingPeer, hop: NextHop) -> str:
        self.hops = (hop,)
        self.serve(peer)
        with capturedLogs() as events:
            self.attempt()
        (line,) = [str(formatEvent(e)) for e in events if " response=" in str(formatEvent(e))]
        return line

    def test_logged_in(self) -> None:
        """Y on a connection with a login, whatever became of the message."""
        self.assertIn(" auth=Y ", self.line(LoginPeer(), HOP))
        self.setUp()
        line = self.line(LoginPeer(MAIL="450 4.2.0 Later"), HOP)
        self.assertTrue(line.startswith("deferred "), line)
        self.assertIn(" auth=Y ", line)

    def test_not_logged_in(self) -> None:
        """N where none was wanted, and where it was refused."""
        self.assertIn(" auth=N ", self.line(LoginPeer(), evolve(HOP, credentials=None)))
        self.setUp()
        self.assertIn(" auth=N ", self.line(LoginPeer(login=("535 5.7.8 No",)), HOP))

    def test_documented(self) -> None:
        """The manual has the words of the line, in their order."""
        line = self.line(LoginPeer(), HOP)
        words = [word.partition("=")[0] for word in line.split() if "=" in word]
        (told,) = re.findall(r"^    delivered ID (.+)$", MANUAL.read_text("utf-8"), re.MULTILINE)
        self.assertEqual(told.replace("=", "").split(), words)


def _attempt(result: Any) -> Any:
    return Attempt(0.0, result.trials)


class KeptConnectionTests(DeliveryTestCase):
    """A connection that was logged in is for those who would have logged in the same way."""

    def open(self, hop: NextHop, connector: Any) -> Opened:
        running = Deferred.fromCoroutine(connector.open(hop, 0))
        self.network.flush()
        opened = self.successResultOf(running)
        assert isinstance(opened, Opened), opened
        connector.leave(opened)
        return opened

    def test_other_logins(self) -> None:
        """Mail of one customer never goes out with the login, name or address of another."""
        self.network.serve(FIRST, *(LoginPeer() for _ in range(5)))
        connector = self.connector(settings=OutboundSettings(pool_timeout=60.0))
        hops = (
            HOP,
            evolve(HOP, credentials=None),
            evolve(HOP, credentials=evolve(BOB, user="ann")),
            evolve(HOP, bind="192.0.2.77"),
            evolve(HOP, bind_helo="other.example"),
        )
        for hop in hops:
            self.assertEqual(self.open(hop, connector).earlier, 0)
        self.assertEqual(self.open(HOP, connector).earlier, 1)
        self.assertEqual(self.network.bound_to, [None, None, None, "192.0.2.77", None])
        self.assertEqual(self.network.transports[4].peer.said[0].line, "EHLO other.example")
        connector.close()
