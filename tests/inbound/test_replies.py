"""What each verdict sounds like at each stage."""

from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound import replies
from harakatls.inbound.replies import banner, farewell, reply_to, welcome
from harakatls.smtp.reply import Reply
from harakatls.testing.values import connection
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Disconnect, Reject, TempFail, Verdict
from tests.inbound.support import ID, SETTINGS

A = "alice@sender.example"

# Haraka's texts, which scripts of administrators look for; with enhanced codes (RFC 2034).
EXPECTED: list[tuple[str, Verdict, str, str]] = [
    ("connect", Reject(), "", "554 Your mail is not welcome here"),
    ("connect", TempFail(), "", "421 Come back later"),
    ("connect", Disconnect(), "", "421 Come back later"),
    ("hello", Reject(), "EHLO", "550 EHLO denied"),
    ("hello", TempFail(), "HELO", "450 HELO denied"),
    ("hello", Disconnect(), "HELO", "421 HELO denied"),
    ("mail", CONTINUE, A, f"250 2.1.0 sender <{A}> OK"),
    ("mail", ACCEPT, "", "250 2.1.0 sender <> OK"),
    ("mail", Reject(), A, f"550 5.7.1 sender <{A}> denied"),
    ("mail", TempFail(), A, f"450 4.7.1 sender <{A}> denied"),
    ("mail", Disconnect(), A, f"421 4.7.0 sender <{A}> denied"),
    ("rcpt", CONTINUE, A, f"550 5.7.1 I cannot deliver mail for <{A}>"),
    ("rcpt", ACCEPT, A, f"250 2.1.5 recipient <{A}> OK"),
    ("rcpt", Reject(), A, f"550 5.7.1 recipient <{A}> denied"),
    ("rcpt", TempFail(), A, f"450 4.7.1 recipient <{A}> denied"),
    ("rcpt", Disconnect(), A, f"421 4.7.0 recipient <{A}> denied"),
    ("data", CONTINUE, "", "354 go ahead, make my day"),
    ("data", ACCEPT, "", "354 go ahead, make my day"),
    ("data", Reject(), "", "554 5.7.1 Message denied"),
    ("data", TempFail(), "", "451 4.7.1 Message denied"),
    ("data", Disconnect(), "", "421 4.7.0 Message denied"),
    ("message", Reject(), "", "550 5.7.1 Message denied"),
    ("message", TempFail(), "", "450 4.7.1 Message denied temporarily"),
    ("message", Disconnect(), "", "421 4.7.0 Message denied"),
    ("queue", ACCEPT, "A1.1", "250 2.0.0 Message Queued (A1.1)"),
    ("queue", Reject(), "A1.1", "550 5.7.1 Message denied"),
    ("queue", TempFail(), "A1.1", "451 4.3.0 Message could not be queued, try later"),
    ("queue", Disconnect(), "A1.1", "421 4.3.0 Message could not be queued"),
]


class ReplyToTests(SynchronousTestCase):
    def test_each_stage_and_verdict(self) -> None:
        """The reply that the peer gets where a plugin gives none of its own."""
        for stage, verdict, about, text in EXPECTED:
            self.assertEqual(str(reply_to(stage, verdict, about)), text)

    def test_own_reply(self) -> None:
        """A plugin's own words are used, at every stage."""
        yes, no = Reply.of(251, "2.1.5", "mine"), Reply.of(553, "5.1.3", "mine")
        later = Reply.of(452, "4.2.2", "mine")
        for stage, verdict, about, _ in EXPECTED:
            own = {Accept: yes, Reject: no, TempFail: later, Disconnect: no}.get(type(verdict))
            if own is None or (stage, type(verdict)) in (("data", Accept), ("queue", Accept)):
                continue
            self.assertIs(reply_to(stage, type(verdict)(own), about), own)  # type: ignore[call-arg]
        go = Reply.of(354, None, "mine")
        self.assertIs(reply_to("data", Accept(go)), go)

    def test_queue_id(self) -> None:
        """The queue id stands behind a plugin's words too, for who looks for the message later."""
        reply = reply_to("queue", Accept(Reply.of(250, "2.0.0", "thanks", "taken")), "A1.1")
        self.assertEqual(reply.lines, ("thanks", "taken (A1.1)"))

    def test_reply_that_says_something_else(self) -> None:
        """A plugin cannot accept with words of refusal, nor refuse with words of acceptance."""
        yes, go = Reply.of(250, None, "x"), Reply.of(354, None, "x")
        no, later = Reply.of(550, None, "x"), Reply.of(450, None, "x")
        cases: list[tuple[str, Verdict, int]] = [
            ("mail", Accept(no), 250),
            ("mail", Accept(go), 250),
            ("data", Accept(yes), 354),
            ("rcpt", Reject(yes), 550),
            ("rcpt", Reject(later), 550),
            ("rcpt", TempFail(no), 450),
            ("message", Disconnect(yes), 421),
        ]
        for stage, verdict, code in cases:
            with capturedLogs() as logged:
                self.assertEqual(reply_to(stage, verdict, A).code, code)
            self.assertEqual([event["stage"] for event in logged], [stage])

    def test_reply_that_is_none(self) -> None:
        """A plugin's mistake changes the words, not the verdict: what was taken is not put off."""
        broken: Any = [
            "250 OK",
            250,
            Reply(250, None, ()),
            Reply(250, None, "OK"),  # type: ignore[arg-type]
            Reply("250", None, ("OK",)),  # type: ignore[arg-type]
            Reply(250, None, (b"OK",)),  # type: ignore[arg-type]
        ]
        for own in broken:
            with capturedLogs() as logged:
                reply = reply_to("queue", Accept(own), "A1.1")
            self.assertEqual(str(reply), "250 2.0.0 Message Queued (A1.1)")
            self.assertEqual([event["stage"] for event in logged], ["queue"])

    def test_enhanced_status_fits_the_code(self) -> None:
        """RFC 3463: its class is the first digit of the code."""
        ours = [reply_to(stage, verdict, about) for stage, verdict, about, _ in EXPECTED]
        ours += [value for value in vars(replies).values() if isinstance(value, Reply)]
        self.assertGreater(len(ours), 35)
        for reply in ours:
            if reply.enhanced is not None:
                self.assertEqual(reply.enhanced.severity, reply.code // 100, str(reply))
            else:
                self.assertIn(reply.code, (554, 421, 550, 450, 354), str(reply))


class TextTests(SynchronousTestCase):
    def test_banner(self) -> None:
        """Our name first (RFC 5321 section 4.2), and the beginning of the connection's id."""
        reply = banner(SETTINGS, ID)
        self.assertRegex(str(reply), r"^220 mx\.example ESMTP harakatls(/\S+)? ready \(4C1F2E\)$")

    def test_banner_without_version(self) -> None:
        """show_version=false tells nobody which version to attack."""
        reply = banner(evolve(SETTINGS, show_version=False), ID)
        self.assertEqual(str(reply), "220 mx.example ESMTP harakatls ready (4C1F2E)")

    def test_own_greeting(self) -> None:
        """The operator's lines stand behind our name."""
        reply = banner(evolve(SETTINGS, greeting=("No UCE.", "No UBE.")), ID)
        self.assertEqual(reply.lines, ("mx.example ESMTP No UCE. (4C1F2E)", "No UBE."))

    def test_welcome(self) -> None:
        """The peer sees the address it is seen with."""
        text = welcome(evolve(SETTINGS, helo="at your service."), connection())
        self.assertEqual(text, "mx.example Hello [192.0.2.10], at your service.")

    def test_farewell(self) -> None:
        """The text of [message] close."""
        reply = farewell(evolve(SETTINGS, close="bye"))
        self.assertEqual(str(reply), "221 2.0.0 mx.example bye")
